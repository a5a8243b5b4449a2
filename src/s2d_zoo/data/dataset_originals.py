"""From a dataset's original archive to the layout in which datasets are read (see `s2d_zoo.data.datasets`).

None of the originals could be opened where this was written; the preparations follow their published layouts, are
tested on archives of that layout, and stop with an error where an original differs.
"""

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.data.dataset_registry import DatasetDescription
from s2d_zoo.data.images import read_image, read_labels, write_image
from s2d_zoo.errors import DownloadError, ImageFileError, UserInputError
from s2d_zoo.types import CHANNEL

#: of a dataset's images, so many must be in the original
_SMALLEST_SHARE: Final = 0.8
#: where bright 16 bit originals become white
_WHITE_PERCENTILE: Final = 99.9


def prepare(description: DatasetDescription, archive: Path, folder: Path) -> None:
    """Bring an original into the layout in which datasets are read.

    Args:
        description: of the dataset; its splits name the images.
        archive: the original, its checksum verified.
        folder: to be created.

    Raises:
        DownloadError: if the original is not built as expected, or has unsafe names.
    """
    if description.original is None:
        msg = f"{description.name} has no original to be prepared from; see describe_dataset({description.name!r})."
        raise DownloadError(msg)
    try:
        _PREPARATIONS[description.original.preparation](description, archive, folder)
    except (ImageFileError, UserInputError, zipfile.BadZipFile) as error:
        raise _unexpected(description.name, archive, str(error)) from error


def _prepare_ctc(description: DatasetDescription, archive: Path, folder: Path) -> None:
    """Cell Tracking Challenge: ``ROOT/01/t021.tif`` with ``ROOT/01_GT/SEG/man_seg021.tif``, two sequences."""
    with _Archive.opened(archive, description.name) as members:
        images = members.matching(r"[^/]+/(\d\d)/t(\d+)\.tif")
        labels = members.matching(r"[^/]+/(\d\d)_GT/SEG/man_seg(\d+)\.tif")
        sequences = sorted({key[0] for key in labels})
        by_frame = {(sequence, int(frame)): member for (sequence, frame), member in images.items()}
        labels_by_frame = {(sequence, int(frame)): member for (sequence, frame), member in labels.items()}
        for split, names in description.splits.items():
            frames = {name: int(name.removeprefix("t")) for name in names}
            fitting = [
                sequence for sequence in sequences if all((sequence, f) in labels_by_frame for f in frames.values())
            ]
            if len(fitting) != 1:
                found = f"{len(fitting)} sequences with labels for all of {', '.join(names)}, expected one"
                raise _unexpected(description.name, archive, found)
            for name, frame in frames.items():
                image = members.read(by_frame[fitting[0], frame])
                _write_pair(folder / split, name, _to_uint8(image), members.read(labels_by_frame[fitting[0], frame]))


def _prepare_dsb(description: DatasetDescription, archive: Path, folder: Path) -> None:
    """Data Science Bowl: ``ROOT/ID/images/ID.png`` with one ``ROOT/ID/masks/*.png`` for each nucleus."""
    with _Archive.opened(archive, description.name) as members:
        images = members.matching(r"[^/]+/([0-9a-f]{12})[0-9a-f]*/images/[^/]+\.png")
        masks = members.matching(r"[^/]+/([0-9a-f]{12})[0-9a-f]*/masks/([^/]+)\.png")
        for split, names in description.splits.items():
            there = [name for name in names if (name,) in images]
            if len(there) < _SMALLEST_SHARE * len(names):
                raise _unexpected(description.name, archive, f"{len(there)} of {len(names)} images of split {split}")
            for name in there:
                image = members.read(images[name,])
                labels = np.zeros((image.sizes["y"], image.sizes["x"]), np.uint16)
                own = (masks[key] for key in sorted(masks) if key[0] == name)
                for instance, member in enumerate(own, start=1):
                    labels[(members.read(member) > 0).any(CHANNEL).values] = instance
                _write_pair(folder / split, name, _single_if_grey(image), xr.DataArray(labels, dims=("y", "x")))


def _prepare_vnc(description: DatasetDescription, archive: Path, folder: Path) -> None:
    """Drosophila VNC: ``ROOT/stack1/raw/*.tif`` with ``ROOT/stack1/mitochondria/*.png``, section by section."""
    with _Archive.opened(archive, description.name) as members:
        sections = members.matching(r"[^/]+/stack1/raw/(\d+)\.tif")
        masks = members.matching(r"[^/]+/stack1/mitochondria/(\d+)\.png")
        n_expected = sum(map(len, description.splits.values()))
        if sections.keys() != masks.keys() or len(sections) != n_expected:
            found = (
                f"{len(sections)} raw sections and {len(masks)} masks of mitochondria, expected {n_expected} of each"
            )
            raise _unexpected(description.name, archive, found)
        keys = sorted(sections)
        raw = xr.concat([members.read(sections[key]) for key in keys], "z")
        mito = xr.concat([(members.read(masks[key]) > 0).any(CHANNEL) for key in keys], "z")
    _write_stacks(description, folder, {"raw": raw, "mito": mito})


def _prepare_isbi(description: DatasetDescription, archive: Path, folder: Path) -> None:
    """ISBI 2012: one HDF5 file with ``raw`` and ``labels/membranes``."""
    raw = read_image(f"{archive}:/raw", axes="zyx")
    labels = read_labels(f"{archive}:/labels/membranes", axes="zyx")
    values, counts = np.unique(labels.values, return_counts=True)
    n_expected = sum(map(len, description.splits.values()))
    if len(values) != 2 or raw.sizes.get("z") != n_expected or labels.sizes != raw.isel({CHANNEL: 0}).sizes:
        found = f"raw {dict(raw.sizes)} and membranes {dict(labels.sizes)} with {len(values)} values"
        raise _unexpected(description.name, archive, found)
    # membranes take about a fifth of the pixels; whether they are written as 0 or 1 is not documented
    _write_stacks(description, folder, {"raw": raw, "membrane": labels == values[counts.argmin()]})


_PREPARATIONS: Final[Mapping[str, Callable[[DatasetDescription, Path, Path], None]]] = {
    "ctc": _prepare_ctc,
    "dsb": _prepare_dsb,
    "vnc": _prepare_vnc,
    "isbi": _prepare_isbi,
}


class _Archive:
    """A zip file whose members are read one at a time; names that lead out of it are refused."""

    def __init__(self, file: zipfile.ZipFile, workplace: Path, name: str) -> None:
        self._file = file
        self._workplace = workplace
        unsafe = [member for member in file.namelist() if _leads_out(member)]
        if unsafe:
            msg = (
                f"The original of {name}, {file.filename}, has names that lead out of it, e.g. {unsafe[0]!r}, expected "
                "plain relative ones. It was not unpacked; report this, and use --data-dir."
            )
            raise DownloadError(msg)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, name: str) -> "Iterator[_Archive]":
        with zipfile.ZipFile(path) as file, tempfile.TemporaryDirectory() as workplace:
            yield cls(file, Path(workplace), name)

    def matching(self, pattern: str) -> dict[tuple[str, ...], str]:
        """Members whose whole name fits, by what the groups of the pattern caught."""
        matches = ((re.fullmatch(pattern, member), member) for member in self._file.namelist())
        return {match.groups(): member for match, member in matches if match}

    def read(self, member: str) -> xr.DataArray:
        """One member as an image (channel y x)."""
        path = self._workplace / f"member{PurePosixPath(member).suffix}"
        path.write_bytes(self._file.read(member))
        return read_image(path)


def _leads_out(member: str) -> bool:
    posix, windows = PurePosixPath(member), PureWindowsPath(member)
    return posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts)


def _write_pair(folder: Path, name: str, image: xr.DataArray, labels: xr.DataArray) -> None:
    write_image(folder / "raw" / f"{name}.tif", image)
    write_image(folder / "label" / f"{name}.tif", labels)


def _write_stacks(description: DatasetDescription, folder: Path, stacks: Mapping[str, xr.DataArray]) -> None:
    start = 0
    for split, names in description.splits.items():
        for kind, stack in stacks.items():
            write_image(folder / split / f"{kind}.tif", stack.isel(z=slice(start, start + len(names))))
        start += len(names)


def _single_if_grey(image: xr.DataArray) -> xr.DataArray:
    first = image.isel({CHANNEL: slice(1)})
    return first if bool((image.values == first.values).all()) else image


def _to_uint8(image: xr.DataArray) -> xr.DataArray:
    if image.dtype == np.uint8:
        return image
    black, white = float(image.min()), float(np.percentile(image.values, _WHITE_PERCENTILE))
    scaled = (image.astype(np.float64) - black) * (255 / max(white - black, 1.0))
    return scaled.round().clip(0, 255).astype(np.uint8)


def _unexpected(name: str, archive: Path, found: str) -> DownloadError:
    return DownloadError(
        f"The original of {name}, {archive}, is not built as expected: found {found}. "
        "Prepare it by hand and pass --data-dir; please report this."
    )
