"""Zarr arrays and OME-Zarr images, format versions 2 and 3 (OME-Zarr 0.4 and 0.5)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import GzipCodec

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.axes import DIM_TO_LETTER, LETTER_TO_DIM
from s2d_zoo.data.image_metadata import check_declared_size, check_number_type, pixel_size_from, pixel_size_of
from s2d_zoo.data.stored import PutBlock, StoredArray, Window, chunks_of, index_of
from s2d_zoo.errors import ImageFileError
from s2d_zoo.types import CHANNEL

ZarrFormat: TypeAlias = Literal[2, 3]

_LOCATION: Final = re.compile(r"(?P<store>.+?\.zarr)(?:[/\\]+(?P<key>.*))?", re.IGNORECASE)
#: what marks a directory as Zarr
_MARKERS: Final = ("zarr.json", ".zarray", ".zgroup")


def split_location(location: str) -> tuple[Path, str | None] | None:
    """Split ``x.zarr/key`` into the store and the key; ``None`` if no part of the path ends with ``.zarr``."""
    match = _LOCATION.fullmatch(location)
    if match is None:
        return None
    return Path(match["store"]), (match["key"] or "").strip("/\\") or None


def is_zarr(path: Path) -> bool:
    """Whether a directory holds a Zarr array or group."""
    return any((path / marker).is_file() for marker in _MARKERS)


def find_array(path: Path, key: str | None = None) -> StoredArray:
    """Find an array, or the full resolution of an OME-Zarr image.

    Args:
        path: the store, a directory.
        key: array or group inside it; may be left out if the store is an image or holds only one.

    Raises:
        ImageFileError: if the key is missing, if there are several arrays and none was named, or if it is no image.
        OSError, ValueError, KeyError, TypeError, RuntimeError: from zarr and the codecs, for damaged stores; also
            when a part is read.
    """
    root = zarr.open(store=path, mode="r")
    node = _descend(root, key, path)
    multiscales = _multiscales(node) if isinstance(node, zarr.Group) else None
    pixel_size = None
    if isinstance(node, zarr.Group):
        if multiscales is None:
            node = _only_array(node, path)
        else:
            pixel_size = _ome_pixel_size(multiscales)
            node = _descend(node, str(multiscales["datasets"][0]["path"]), path)
    if not isinstance(node, zarr.Array):
        msg = f"{path} should hold the full resolution of an OME-Zarr image, but found a group {node.path!r}."
        raise ImageFileError(msg)
    found_axes = _array_axes(node) if multiscales is None else _ome_axes(multiscales)
    _check_image(node, path)
    found = node

    def read(index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        return np.asarray(found[index])

    return StoredArray(shape=node.shape, dtype=node.dtype, read=read, axes=found_axes, pixel_size=pixel_size)


@contextmanager
def create_ome_zarr(path: Path, image: xr.DataArray, *, zarr_format: ZarrFormat = 2) -> Iterator[PutBlock]:
    """Create an OME-Zarr image of one resolution, to be filled block by block.

    Args:
        path: the store to create; nothing is there yet.
        image: channel (z) y x; its sizes, number type and pixel size count, not its values.
        zarr_format: 2 gives OME-Zarr 0.4, which every consumer reads; 3 gives OME-Zarr 0.5.

    Yields:
        What puts a block to its place.
    """
    dims = [str(dim) for dim in image.dims]
    group = zarr.create_group(store=path, zarr_format=zarr_format, attributes=_ome_attributes(image, zarr_format))
    # deflate is read everywhere, and unlike Blosc it notices when a chunk is cut off
    deflate: Any = {"id": "zlib", "level": 5} if zarr_format == 2 else GzipCodec(level=5)
    array = group.create_array(
        "0",
        shape=image.shape,
        dtype=image.dtype,
        compressors=deflate,
        chunks=chunks_of(image),
        # nested folders, as OME-Zarr asks for; version 2 has dots otherwise
        chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
        dimension_names=dims if zarr_format == 3 else None,
    )

    def put(window: Window, block: xr.DataArray) -> None:
        array[index_of(window, image.dims)] = block.values

    yield put


def _ome_attributes(image: xr.DataArray, zarr_format: ZarrFormat) -> dict[str, Any]:
    pixel_size = pixel_size_of(image.attrs)
    axes: list[dict[str, str]] = []
    scale: list[float] = []
    for dim in map(str, image.dims):
        size = getattr(pixel_size, dim, None) if dim != CHANNEL else None
        axes.append({"name": DIM_TO_LETTER[dim], "type": CHANNEL if dim == CHANNEL else "space"})
        scale.append(size or 1.0)
        if size:
            axes[-1]["unit"] = pixel_size.unit if pixel_size else ""
    version = "0.4" if zarr_format == 2 else "0.5"
    image_entry: dict[str, Any] = {
        "name": "image",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    if zarr_format == 2:
        return {"multiscales": [{**image_entry, "version": version}]}
    return {"ome": {"version": version, "multiscales": [image_entry]}}


def _descend(node: Any, key: str | None, path: Path) -> Any:  # noqa: ANN401 (zarr.Array or zarr.Group)
    if key is None:
        return node
    if not isinstance(node, zarr.Group) or key not in node:
        there = _show([name for name, _ in _arrays(node)]) if isinstance(node, zarr.Group) else "one array at its root"
        msg = f"{path} has no array or group {key!r}; it holds {there}. Check the part after {path.name}."
        raise ImageFileError(msg)
    return node[key]


def _only_array(group: zarr.Group, path: Path) -> zarr.Array[Any]:
    arrays = _arrays(group)
    if len(arrays) == 1:
        return arrays[0][1]
    found = f"several: {_show([name for name, _ in arrays])}" if arrays else "none"
    example = f" Name one, e.g. {path}/{arrays[0][0]}." if arrays else " Check that it was written to the end."
    msg = f"{path} should hold one array or an OME-Zarr image; of arrays there are {found}.{example}"
    raise ImageFileError(msg)


def _arrays(group: zarr.Group) -> list[tuple[str, zarr.Array[Any]]]:
    members: Iterator[tuple[str, Any]] = iter(group.members(max_depth=None))
    return sorted(((name, node) for name, node in members if isinstance(node, zarr.Array)), key=lambda pair: pair[0])


def _show(names: list[str]) -> str:
    shown = ", ".join(names[:10]) or "no arrays"
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _check_image(array: zarr.Array[Any], path: Path) -> None:
    check_number_type(array.dtype, path)
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    check_declared_size(array.shape, array.dtype, stored=stored, path=path)


def _multiscales(group: zarr.Group) -> Mapping[str, Any] | None:
    attributes: Mapping[str, Any] = group.attrs.asdict()
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if found else None


def _ome_axes(multiscales: Mapping[str, Any]) -> str | None:
    axes = multiscales.get("axes")
    if not axes:
        return None
    # version 0.3 wrote the bare names
    return _letters([axis if isinstance(axis, str) else axis["name"] for axis in axes])


def _array_axes(array: zarr.Array[Any]) -> str | None:
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else array.attrs.get("_ARRAY_DIMENSIONS")
    return _letters(list(names)) if isinstance(names, (list, tuple)) and all(names) else None


def _letters(names: list[str]) -> str | None:
    letters = [DIM_TO_LETTER.get(name.lower(), name.lower()) for name in names]
    return "".join(letters) if set(letters) <= set(LETTER_TO_DIM) else None


def _ome_pixel_size(multiscales: Mapping[str, Any]) -> PixelSize | None:
    axes = [axis for axis in (multiscales.get("axes") or ()) if isinstance(axis, Mapping)]
    transformations = [
        *multiscales["datasets"][0].get("coordinateTransformations", ()),
        *multiscales.get("coordinateTransformations", ()),
    ]
    scales = [entry["scale"] for entry in transformations if entry.get("type") == "scale"]
    if not axes or not scales:
        return None
    sizes = dict(zip((axis["name"] for axis in axes), np.prod(scales, axis=0).tolist(), strict=True))
    units = {axis["name"]: axis.get("unit") for axis in axes}
    if units.get("y") != units.get("x"):
        return None
    kept = {dim: sizes[dim] for dim in ("z", "y", "x") if dim in sizes and units.get(dim) == units.get("x")}
    return pixel_size_from(kept, units.get("x"))
