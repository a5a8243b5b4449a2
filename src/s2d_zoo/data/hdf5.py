"""HDF5 as ilastik reads and writes it: ``file.h5:/key``, axes in the attribute ``axistags``."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import xarray as xr

from s2d_zoo.contract import TO_MICROMETER
from s2d_zoo.data.axes import DIM_TO_LETTER
from s2d_zoo.data.image_metadata import (
    check_declared_size,
    check_number_type,
    pixel_size_from,
    pixel_size_of,
)
from s2d_zoo.data.stored import PutBlock, StoredArray, Window, chunks_of, index_of
from s2d_zoo.errors import ImageFileError

#: ilastik's own name for what it exports
DEFAULT_KEY: Final = "exported_data"
_LOCATION: Final = re.compile(r"(?P<file>.+?\.(?:h5|hdf5|hdf))(?::(?P<key>.*))?", re.IGNORECASE)
#: vigra's kinds of axes
_TYPE_FLAGS: Final = {"c": 1, "z": 2, "y": 2, "x": 2, "t": 8}
#: the convention of Fiji's HDF5 plugin: z, y, x in micrometer
_ELEMENT_SIZE: Final = "element_size_um"


def split_location(location: str) -> tuple[Path, str | None] | None:
    """Split ``file.h5:/key`` into the file and the key; ``None`` if this is no HDF5 location."""
    match = _LOCATION.fullmatch(location)
    if match is None:
        return None
    return Path(match["file"]), (match["key"] or "").strip("/") or None


def find_dataset(path: Path, key: str | None = None) -> StoredArray:
    """Find one dataset. The file is open only while it is looked at, and later while parts are read.

    Args:
        path: the file.
        key: the dataset; may be left out if there is only one.

    Raises:
        ImageFileError: if the key is missing, if there are several datasets and none was named, or if it is no image.
        OSError, KeyError, RuntimeError: from h5py, for damaged files; also when a part is read.
    """
    with h5py.File(path, "r") as file:
        dataset = _find(file, key, path)
        check_number_type(dataset.dtype, path)
        check_declared_size(dataset.shape, dataset.dtype, stored=path.stat().st_size, path=path)
        name, shape, dtype, axes = dataset.name, dataset.shape, dataset.dtype, _axes_of(dataset)
        sizes = np.ravel(dataset.attrs.get(_ELEMENT_SIZE, ()))

    def read(index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][index])

    pixel_size = pixel_size_from(dict(zip("zyx", sizes.tolist(), strict=True)), "um") if sizes.size == 3 else None
    return StoredArray(shape=shape, dtype=dtype, read=read, axes=axes, pixel_size=pixel_size)


@contextmanager
def create_hdf5(path: Path, key: str | None, image: xr.DataArray) -> Iterator[PutBlock]:
    """Create one gzipped dataset that ilastik reads, to be filled block by block; no timestamps.

    Args:
        path: the file to create.
        key: the dataset.
        image: channel (z) y x; its sizes, number type and pixel size count, not its values.

    Yields:
        What puts a block to its place.
    """
    with h5py.File(path, "w", track_order=False) as file:
        dataset = file.create_dataset(
            key or DEFAULT_KEY,
            shape=image.shape,
            dtype=image.dtype,
            chunks=chunks_of(image),
            compression="gzip",
            shuffle=True,
            track_times=False,
        )
        dataset.attrs["axistags"] = _axistags([DIM_TO_LETTER[str(dim)] for dim in image.dims])
        pixel_size = pixel_size_of(image.attrs)
        if pixel_size is not None:
            factor = TO_MICROMETER[pixel_size.unit]
            # without a z, a section is taken as thick as its pixels are wide
            sizes = (pixel_size.z or pixel_size.x, pixel_size.y, pixel_size.x)
            dataset.attrs[_ELEMENT_SIZE] = np.array(sizes) * factor

        def put(window: Window, block: xr.DataArray) -> None:
            dataset[index_of(window, image.dims)] = block.values

        yield put


def check_nothing_lost(path: Path, key: str | None) -> None:
    """Refuse to replace a file that holds more than the dataset about to be written.

    Raises:
        ImageFileError: listing the datasets that would be lost.
        OSError: if the file is there but is no HDF5 file.
    """
    if not path.is_file():
        return
    with h5py.File(path, "r") as file:
        lost = sorted(set(_datasets(file)) - {key or DEFAULT_KEY})
    if lost:
        msg = (
            f"Writing to {path} would replace the whole file, and with it the datasets {_show(lost)}. "
            "Write to a file of its own."
        )
        raise ImageFileError(msg)


def _find(file: h5py.File, key: str | None, path: Path) -> h5py.Dataset:
    there = _datasets(file)
    if not there:
        msg = f"{path} holds no dataset. Check that it was written to the end."
        raise ImageFileError(msg)
    if key is None and len(there) > 1:
        msg = f"{path} holds several datasets: {_show(there)}. Name one, e.g. {path}:/{there[0]}."
        raise ImageFileError(msg)
    key = key or there[0]
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        msg = f"{path} has no dataset {key!r}; it holds {_show(there)}. Try {path}:/{there[0]}."
        raise ImageFileError(msg)
    return found


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return found


def _show(names: list[str]) -> str:
    shown = ", ".join(f"/{name}" for name in names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _axes_of(dataset: h5py.Dataset) -> str | None:
    tags = dataset.attrs.get("axistags")
    if tags is None:
        return None
    letters = "".join(axis["key"] for axis in json.loads(tags)["axes"])
    return letters if len(letters) == dataset.ndim else None


def _axistags(letters: list[str]) -> str:
    axes: list[dict[str, Any]] = [
        {"key": letter, "typeFlags": _TYPE_FLAGS[letter], "resolution": 0, "description": ""} for letter in letters
    ]
    return json.dumps({"axes": axes})
