"""What a person might paint for a source forest: strokes, a dense crop, or tiles where a forest was wrong."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.data.scribbles import count_classes
from s2d_zoo.data.simulated_scribbles import Brush, simulate_scribbles
from s2d_zoo.errors import ScribbleError

#: px, side of the tiles that later stages add
TILE: Final = 25
_SMALLEST_CROP: Final = 32


def has_both_classes(painted: Mapping[int, xr.DataArray]) -> bool:
    """Whether a forest can be fitted on what was painted (y x, 0 = not painted, 1 = background, 2 = foreground)."""
    try:
        return count_classes(list(painted.values())) == 2
    except ScribbleError:
        return False


def strokes(classes: xr.DataArray, generator: np.random.Generator, *, between: tuple[int, int]) -> xr.DataArray:
    """Few or many strokes, thin or thick, short or long."""
    brush = Brush(width=int(generator.integers(1, 6)), length=int(generator.integers(10, 41)))
    fewest, most = np.log(between)
    n_strokes = round(float(np.exp(generator.uniform(fewest, most))))
    return simulate_scribbles(
        classes,
        n_strokes=n_strokes,
        brush=brush,
        near_border=float(generator.random()),
        seed=int(generator.integers(2**31)),
    )


def dense_crop(classes: xr.DataArray, generator: np.random.Generator, *, most: int | None = None) -> xr.DataArray:
    """All pixels of the rarer class in a random crop, but no more than ``most``, and as many of the other one."""
    windows = []
    for size in classes.shape:
        length = int(generator.integers(min(_SMALLEST_CROP, size), max(_SMALLEST_CROP, size // 2) + 1))
        start = int(generator.integers(max(1, size - length + 1)))
        windows.append(slice(start, start + length))
    crop = np.zeros(classes.shape, dtype=np.uint8)
    crop[tuple(windows)] = classes.values[tuple(windows)]
    counts = [np.flatnonzero(crop == label) for label in (1, 2)]
    rarer = min([*map(len, counts), *([] if most is None else [most])])
    balanced = np.zeros(classes.size, dtype=np.uint8)
    for label, pixels in enumerate(counts, start=1):
        balanced[generator.choice(pixels, size=rarer, replace=False)] = label
    return classes.copy(data=balanced.reshape(classes.shape))


def worst_tiles(error: np.ndarray[Any, Any], count: int) -> list[tuple[slice, slice]]:
    """Windows around the highest local means of the error that do not overlap."""
    mean = ndimage.uniform_filter(error, TILE, mode="nearest")
    windows = []
    for _ in range(count):
        y, x = np.unravel_index(int(np.argmax(mean)), mean.shape)
        if mean[y, x] <= 0:
            break
        window = tuple(slice(max(0, int(c) - TILE // 2), int(c) + TILE // 2 + 1) for c in (y, x))
        windows.append((window[0], window[1]))
        mean[max(0, y - TILE) : y + TILE + 1, max(0, x - TILE) : x + TILE + 1] = 0
    return windows
