"""Arrays in files, of which parts can be read and written without the whole in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.axes import label_axes
from s2d_zoo.types import CHANNEL

#: where a block lies in an image, by dim; a dim that is missing is there as a whole
Window: TypeAlias = Mapping[str, slice]
#: a piece of an image: where it belongs, and channel (z) y x
PlacedBlock: TypeAlias = tuple[Window, xr.DataArray]
#: puts a block (channel (z) y x) to its place in a file
PutBlock: TypeAlias = Callable[[Window, xr.DataArray], None]

#: largest chunk that is written to chunked files, in px
CHUNKS: Final[Mapping[str, int]] = {CHANNEL: 1, "z": 16, "y": 512, "x": 512}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array in a file.

    Attributes:
        shape: as stored.
        dtype: as stored, byte order included.
        read: reads a part, given one slice (step 1) for each dimension as stored.
        axes: one letter for each dimension as stored, where the file says.
        pixel_size: where the file says.
        n_alpha: how many of the last channels are transparency, not image.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[tuple[slice, ...]], np.ndarray[Any, Any]]
    axes: str | None = None
    pixel_size: PixelSize | None = None
    n_alpha: int = 0

    def load(self, axes: str | None = None) -> xr.DataArray:
        """The whole array with its dims, in the order in which it is stored; alpha is dropped.

        Args:
            axes: one letter for each dimension as stored; overrides what the file says, alpha included.

        Returns:
            ``attrs["pixel_size"]`` is there where known.

        Raises:
            AxesError: if the axes are neither known nor to be guessed.
        """
        return self._describe(self.read(tuple(slice(0, size) for size in self.shape)), axes)

    def outline(self, axes: str | None = None) -> xr.DataArray:
        """As `load`, but zeros that take no memory."""
        return self._describe(np.broadcast_to(np.zeros((), self.dtype), self.shape), axes)

    def _describe(self, values: np.ndarray[Any, Any], axes: str | None) -> xr.DataArray:
        array = label_axes(values, axes or self.axes)
        if axes is None and self.n_alpha:
            array = array.isel({CHANNEL: slice(None, -self.n_alpha)})
        if self.pixel_size is not None:
            array.attrs["pixel_size"] = self.pixel_size
        return array


def outline_of(sizes: Mapping[str, int], dtype: np.dtype[Any], attrs: Mapping[Any, Any]) -> xr.DataArray:
    """What an image of these sizes would be, as zeros that take no memory."""
    values = np.broadcast_to(np.zeros((), dtype), tuple(sizes.values()))
    return xr.DataArray(values, dims=tuple(sizes), attrs=dict(attrs))


def chunks_of(image: xr.DataArray) -> tuple[int, ...]:
    """Shape of the chunks in which an image (channel (z) y x) is written."""
    return tuple(min(CHUNKS[str(dim)], size) for dim, size in image.sizes.items())


def index_of(window: Window, dims: tuple[Any, ...]) -> tuple[slice, ...]:
    """The slices of a window in the order of the dims."""
    return tuple(window.get(dim, slice(None)) for dim in dims)
