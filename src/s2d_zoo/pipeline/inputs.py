"""What a user gives to `adapt`: files, read and checked together before anything long begins."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import xarray as xr

from s2d_zoo.data.axes import check_same_space
from s2d_zoo.data.images import read_image, read_labels
from s2d_zoo.data.scribbles import count_classes, read_scribbles
from s2d_zoo.errors import AxesError, ConfigError
from s2d_zoo.types import CHANNEL

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptInputs:
    """Files to work on.

    Raises:
        ConfigError: if files that belong together are not equally many.
    """

    images: tuple[Path, ...]
    scribbles: tuple[Path, ...]  #: one for each image
    enhancer: str  #: id of a bundled model, or path of a package
    ground_truth: tuple[Path, ...] = ()  #: none, or one for each image; for scores only
    test_images: tuple[Path, ...] = ()  #: further images, never trained on
    test_ground_truth: tuple[Path, ...] = ()  #: none, or one for each test image
    axes: str | None = None  #: of the images, e.g. "yxc", where the files do not tell

    def __post_init__(self) -> None:
        if not self.images:
            msg = "No image was given. Use --image FILE, once for each image."
            raise ConfigError(msg)
        pairs = (
            ("--scribbles", self.scribbles, "--image", self.images, True),
            ("--ground-truth", self.ground_truth, "--image", self.images, False),
            ("--test-ground-truth", self.test_ground_truth, "--test-image", self.test_images, False),
        )
        for option, files, of, partners, needed in pairs:
            if len(files) != len(partners) and (needed or files):
                msg = f"{option} was given {len(files)} times and {of} {len(partners)} times: give one for each."
                raise ConfigError(msg)

    def named_hashes(self) -> dict[str, str]:
        """SHA-256 of images and strokes by kind, number and file name: folders are nobody's business."""
        kinds = (("image", self.images), ("scribbles", self.scribbles))
        return {
            f"{kind} {number}, {path.name}": hash_path(path)
            for kind, paths in kinds
            for number, path in enumerate(paths, start=1)
        }

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file that was given, by path (of folders: over their files in order of name)."""
        files = (*self.images, *self.scribbles, *self.ground_truth, *self.test_images, *self.test_ground_truth)
        return {str(path): hash_path(path) for path in files}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptData:
    """The same files, read."""

    images: tuple[xr.DataArray, ...]  #: channel y x
    scribbles: tuple[xr.DataArray, ...]  #: y x, uint8
    ground_truth: tuple[xr.DataArray, ...]  #: y x, integers, 0 = background
    test_images: tuple[xr.DataArray, ...]  #: channel y x
    test_ground_truth: tuple[xr.DataArray, ...]  #: y x, integers, 0 = background
    n_classes: int


def read_inputs(inputs: AdaptInputs) -> AdaptData:
    """Read all files and check them against each other.

    Raises:
        ImageFileError: for a file that cannot be read.
        ScribbleError: for strokes that nothing can be learnt from.
        AxesError: for files that do not cover the same pixels, or differ in channels or dimensions.
        UserInputError: for NaN in an image, or labels that are no integers.
    """
    images = _read_images(inputs.images, inputs.axes)
    test_images = _read_images(inputs.test_images, inputs.axes)
    scribbles = tuple(read_scribbles(path) for path in inputs.scribbles)
    ground_truth = tuple(read_labels(path) for path in inputs.ground_truth)
    test_ground_truth = tuple(read_labels(path) for path in inputs.test_ground_truth)
    _check_pairs(inputs.images, images, inputs.scribbles, scribbles)
    _check_pairs(inputs.images, images, inputs.ground_truth, ground_truth)
    _check_pairs(inputs.test_images, test_images, inputs.test_ground_truth, test_ground_truth)
    first = images[0]
    for path, image in zip((*inputs.images, *inputs.test_images), (*images, *test_images), strict=True):
        if image.dims != first.dims or image.sizes[CHANNEL] != first.sizes[CHANNEL]:
            msg = (
                f"All images must have the same axes and channels: {inputs.images[0]} has {dict(first.sizes)}, "
                f"{path} has {dict(image.sizes)}."
            )
            raise AxesError(msg)
    return AdaptData(
        images=images,
        scribbles=scribbles,
        ground_truth=ground_truth,
        test_images=test_images,
        test_ground_truth=test_ground_truth,
        n_classes=count_classes(scribbles),
    )


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder in order of name; of ``file.h5:/key``, of the file."""
    if not path.exists() and ":" in str(path):
        path = Path(str(path).rsplit(":", maxsplit=1)[0])
    digest = hashlib.sha256()
    members = sorted(member for member in path.rglob("*") if member.is_file()) if path.is_dir() else [path]
    for member in members:
        if path.is_dir():
            digest.update(str(member.relative_to(path)).encode())
        with member.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _read_images(paths: Sequence[Path], axes: str | None) -> tuple[xr.DataArray, ...]:
    return tuple(read_image(path, axes=axes) for path in paths)


def _check_pairs(
    paths: Sequence[Path], images: Sequence[xr.DataArray], label_paths: Sequence[Path], labels: Sequence[xr.DataArray]
) -> None:
    for path, image, label_path, label in zip(paths, images, label_paths, labels, strict=False):
        check_same_space(image, label, names=(f"image {path}", f"labels {label_path}"))
