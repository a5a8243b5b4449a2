"""Images of which only what is asked for is read, so that they may be larger than memory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from s2d_zoo.data import hdf5, ome_zarr, tiff
from s2d_zoo.data.axes import as_image
from s2d_zoo.data.images import read_image
from s2d_zoo.data.reading import check_there, reading
from s2d_zoo.data.stored import StoredArray
from s2d_zoo.types import CHANNEL


def open_image(path: str | os.PathLike[str], *, axes: str | None = None) -> xr.DataArray:
    """Open an image; `s2d_zoo.data.blockwise.iterate_blocks` reads it block by block.

    Of Zarr, HDF5 and TIFF, an ``isel`` with slices reads only the chunks that it touches (of a TIFF in one piece, only
    the rows), once ``values`` are asked for, and each time anew. Pictures and NPY are read at once.

    Args:
        path: as for `s2d_zoo.data.images.read_image`.
        axes: as for `s2d_zoo.data.images.read_image`.

    Returns:
        As `s2d_zoo.data.images.read_image`, but values that are not finite are not looked for.

    Raises:
        ImageFileError: as `s2d_zoo.data.images.read_image`; of damaged files possibly not before they are read.
        AxesError: as `s2d_zoo.data.images.read_image`.
    """
    location = os.fspath(path)
    file: Path
    find: Callable[[], StoredArray]
    if (zarr_place := ome_zarr.split_location(location)) is not None:
        file, find = zarr_place[0], lambda: ome_zarr.find_array(*zarr_place)
    elif (hdf5_place := hdf5.split_location(location)) is not None:
        file, find = hdf5_place[0], lambda: hdf5.find_dataset(*hdf5_place)
    elif Path(location).suffix.lower() in {".tif", ".tiff"}:
        file, find = Path(location), lambda: tiff.find_image(Path(location))
    else:
        return read_image(path, axes=axes)
    check_there(file, location)
    with reading(location):
        stored = find()
        found = stored.outline(axes)
        outline = as_image(found, what=f"image {path}")
    lazy = indexing.LazilyIndexedArray(_LazyImage(stored, tuple(map(str, found.dims)), outline, location))
    return xr.DataArray(xr.Variable(outline.dims, lazy), attrs=outline.attrs)


class _LazyImage(xr.backends.BackendArray):
    """A stored array in the order ``channel (z) y x``, of which xarray reads parts."""

    def __init__(self, stored: StoredArray, dims: tuple[str, ...], outline: xr.DataArray, location: str) -> None:
        self.shape = outline.shape
        # as `read_image` gives them: bool as uint8, native byte order
        self.dtype = np.dtype(np.uint8) if outline.dtype == bool else outline.dtype.newbyteorder("=")
        self._stored = stored
        self._stored_dims = dims
        self._dims = outline.dims
        self._location = location

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:  # noqa: ANN401 - as xarray has it
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Read a part.

        Args:
            key: a slice or a number for each dim of the image.

        Raises:
            ImageFileError: if the file is damaged there, or has gone.
        """
        wanted = {
            dim: slice(*part.indices(size)) if isinstance(part, slice) else slice(part, part + 1)
            for dim, part, size in zip(self._dims, key, self.shape, strict=True)
        }
        # a dim that the image has not is a single z or time
        index = tuple(wanted.get(dim, slice(0, 1)) for dim in self._stored_dims)
        with reading(self._location):
            values = xr.DataArray(self._stored.read(index), dims=self._stored_dims)
        dropped = {dim: 0 for dim in self._stored_dims if dim not in self._dims}
        values = values.isel(dropped)
        if CHANNEL not in values.dims:
            values = values.expand_dims(CHANNEL)
        numbers = tuple(slice(None) if isinstance(part, slice) else 0 for part in key)
        part: np.ndarray[Any, Any] = values.transpose(*self._dims).values[numbers]
        return part.astype(self.dtype, copy=False)
