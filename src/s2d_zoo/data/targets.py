"""What networks are to say of a labelled image: foreground and boundary."""

from typing import Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

#: a pixel is boundary if a window of this size around it holds two different labels
_BOUNDARY_WINDOW: Final = 3


def foreground_and_boundary(instances: xr.DataArray) -> xr.DataArray:
    """Turn instance labels into training targets.

    Args:
        instances: (z) y x, integers, 0 = background, each object its own number.

    Returns:
        channel (z) y x, uint8 in {0, 1}: foreground, and boundary (2 px wide: the outermost pixels of each
        object and those just outside of it, or on both sides of a border between two objects).
    """
    values = instances.values
    highest = ndimage.maximum_filter(values, size=_BOUNDARY_WINDOW, mode="nearest")
    lowest = ndimage.minimum_filter(values, size=_BOUNDARY_WINDOW, mode="nearest")
    targets = np.stack([values > 0, highest != lowest]).astype(np.uint8)
    return xr.DataArray(targets, dims=(CHANNEL, *instances.dims), coords={CHANNEL: list(OUTPUT_CHANNELS)})


def binary_classes(instances: xr.DataArray) -> xr.DataArray:
    """Turn instance labels into classes as strokes number them: 1 = background, 2 = foreground ((z) y x, uint8)."""
    return instances.copy(data=np.where(instances.values > 0, 2, 1).astype(np.uint8))
