"""Resizing in plane, linearly: how probabilities are brought to the size that an enhancer knows, and back."""

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.types import CHANNEL


def resize_by(array: xr.DataArray, factor: float) -> xr.DataArray:
    """Resize an array ((channel) (z) y x) by a factor, to at least 1 px; float32, unless nothing changes."""
    return resize_to(array, **{dim: max(1, round(array.sizes[dim] * factor)) for dim in ("y", "x")})


def resize_to(array: xr.DataArray, *, y: int, x: int) -> xr.DataArray:
    """Resize an array ((channel) (z) y x) to so many px; float32, unless nothing changes."""
    wanted = {"y": y, "x": x}
    if all(array.sizes[dim] == size for dim, size in wanted.items()):
        return array
    zoom = [wanted[str(dim)] / array.sizes[dim] if dim in wanted else 1.0 for dim in array.dims]
    resized = ndimage.zoom(array.values, zoom, order=1, mode="nearest", grid_mode=True).astype(np.float32)
    return xr.DataArray(resized, dims=array.dims, coords={CHANNEL: array[CHANNEL]} if CHANNEL in array.coords else {})
