"""Public datasets for training and evaluation: fetched from their original hosts, or read from a folder.

A folder (argument ``data_dir``, or the environment variable ``S2D_ZOO_DATA``) holds one subfolder for each dataset:

    nuclei_gowt1/{train,test}/raw/NAME.tif  and  label/NAME.tif      one file for each image
    mito_vnc/{train,test}/raw.tif  and  mito.tif, membrane.tif, …    one stack of sections

Without a folder, the original is downloaded once, checked against its SHA-256, and brought into the same layout in
the cache (environment variable ``S2D_ZOO_CACHE``, else the user's cache directory). No dataset is shipped.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pooch
import requests
import xarray as xr

from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.axes import check_same_space
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.data.dataset_originals import prepare
from s2d_zoo.data.dataset_registry import DatasetDescription, Original, dataset_names, describe_dataset
from s2d_zoo.data.images import read_image, read_labels
from s2d_zoo.errors import DownloadError, UserInputError

__all__ = ["LabelledImage", "dataset_names", "describe_dataset", "load_dataset"]

_DATA_VARIABLE: Final = "S2D_ZOO_DATA"
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """An image with what is known about its pixels."""

    name: str
    image: xr.DataArray  #: channel y x, as stored; attrs["pixel_size"] where known
    labels: xr.DataArray  #: y x, unsigned: instance ids or classes, 0 = background
    dataset: str = ""  #: where it comes from


def load_dataset(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label: str | None = None,
    without_rim: bool = False,
) -> tuple[LabelledImage, ...]:
    """Load one split of a dataset.

    Args:
        name: one of `dataset_names`.
        split: ``"train"`` or ``"test"``.
        data_dir: folder with the datasets; without it, the one in ``S2D_ZOO_DATA`` if it has this dataset; else the
            original is downloaded and prepared once.
        label: kind of label, e.g. ``"membrane"``; by default the first of ``describe_dataset(name).labels``.
        without_rim: cut off the rim where objects may be unlabelled (``describe_dataset(name).unlabelled_rim``), so
            that background is background everywhere; else images are whole.

    Returns:
        The images in the order of their names; for a stack, its sections.

    Raises:
        UserInputError: for an unknown name, split or label, if ``data_dir`` does not have the dataset, or if nothing
            is left of an image without its rim.
        DownloadError: if the original cannot be fetched, is not the expected file, or has no known checksum.
        ImageFileError: if a file is missing or damaged.
    """
    description = describe_dataset(name)
    if split not in description.splits:
        msg = f"{name} has the splits {', '.join(description.splits)}; there is no {split!r}."
        raise UserInputError(msg)
    label = label or description.labels[0]
    if label not in description.labels:
        msg = f"{name} has the labels {', '.join(description.labels)}; there is no {label!r}."
        raise UserInputError(msg)
    folder = _local_folder(name, data_dir) or _fetched_folder(description, label)
    load = _load_images if description.layout == "images" else _load_sections
    found = tuple(replace(entry, dataset=name) for entry in load(folder / split, label))
    for entry in found:
        check_same_space(entry.image, entry.labels, names=(f"image {entry.name} of {name}", "labels"))
        if description.pixel_size is not None:
            entry.image.attrs["pixel_size"] = description.pixel_size
    if without_rim and description.unlabelled_rim:
        return tuple(_cut(entry, description.unlabelled_rim) for entry in found)
    return found


def _cut(entry: LabelledImage, rim: int) -> LabelledImage:
    inner = {axis: slice(rim, -rim) for axis in "yx"}
    if min(entry.labels.sizes[axis] for axis in inner) <= 2 * rim:
        msg = (
            f"Image {entry.name} of {entry.dataset} should be larger than its rim of {rim} px on each side, where "
            f"objects may be unlabelled; it is {dict(entry.labels.sizes)}. Check the folder with the datasets."
        )
        raise UserInputError(msg)
    return replace(entry, image=entry.image.isel(inner), labels=entry.labels.isel(inner))


def _local_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Path | None:
    if data_dir is not None:
        folder = Path(data_dir) / name
        if not folder.is_dir():
            there = "but does not" if Path(data_dir).is_dir() else f"but {data_dir} is not there"
            msg = f"{data_dir} should hold a folder {name} with train and test, {there}. Check --data-dir."
            raise UserInputError(msg)
        return folder
    from_environment = os.environ.get(_DATA_VARIABLE)
    folder = Path(from_environment or "") / name
    return folder if from_environment and folder.is_dir() else None


def _fetched_folder(description: DatasetDescription, label: str) -> Path:
    original = description.original
    if original is None:
        msg = (
            f"{description.name} cannot be downloaded: no original with a known SHA-256 was found. Get it from "
            f"{description.homepage}, bring it into the layout FOLDER/{description.name}/{{train,test}}/raw.tif and "
            f"{label}.tif (stacks of sections), and pass --data-dir FOLDER or set {_DATA_VARIABLE}."
        )
        raise DownloadError(msg)
    if label not in original.labels:
        msg = (
            f"From the original of {description.name} the labels {', '.join(original.labels)} can be prepared, not "
            f"{label!r}. Pass --data-dir FOLDER, where FOLDER/{description.name}/train/{label}.tif is there."
        )
        raise DownloadError(msg)
    # the checksum in the name: another original is another folder
    folder = cache_dir() / "datasets" / f"{description.name}-{original.sha256[:12]}"
    if not folder.is_dir():
        archive = _fetch(original)
        with atomic_write(folder) as written:
            prepare(description, archive, written)
    return folder


def _fetch(original: Original) -> Path:
    try:
        fetched = pooch.retrieve(
            original.url,
            known_hash=f"sha256:{original.sha256}",
            fname=original.file_name,
            path=cache_dir() / "originals",
            downloader=pooch.HTTPDownloader(chunk_size=_CHUNK_BYTES),
        )
    except (ValueError, OSError, requests.exceptions.RequestException) as error:
        # pooch raises ValueError for a wrong hash, with the one found, after it has deleted the file
        msg = (
            f"Could not fetch {original.url} (expected SHA-256 {original.sha256}): {error} Nothing was kept. Try again "
            f"later, or get the data by hand and pass --data-dir (or set {_DATA_VARIABLE})."
        )
        raise DownloadError(msg) from error
    return Path(fetched)


def _load_images(folder: Path, _label: str) -> tuple[LabelledImage, ...]:
    # such datasets have one kind of label, in one folder
    return tuple(
        LabelledImage(name=path.stem, image=read_image(path), labels=read_labels(folder / "label" / path.name))
        for path in sorted((folder / "raw").glob("*.tif"))
    )


def _load_sections(folder: Path, label: str) -> tuple[LabelledImage, ...]:
    images, labels = read_image(folder / "raw.tif"), read_labels(folder / f"{label}.tif")
    check_same_space(images, labels, names=(f"stack {folder / 'raw.tif'}", f"labels {label}.tif"))
    return tuple(
        LabelledImage(
            name=f"{z:03d}",
            image=images.isel(z=z, missing_dims="ignore"),
            labels=labels.isel(z=z, missing_dims="ignore"),
        )
        for z in range(images.sizes.get("z", 1))
    )
