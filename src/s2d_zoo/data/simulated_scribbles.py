"""Strokes as a person might paint them, drawn from dense labels: for source forests, tests and benchmarks."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.data.scribbles import MAX_CLASSES
from s2d_zoo.errors import ConfigError, ScribbleError

#: px; a stroke that begins this close to another class is near the border
BORDER: Final = 6
#: px between two strokes, so that they remain two
_GAP: Final = 3
#: places tried for each stroke before giving up on it
_TRIES: Final = 100
#: how sharply the brush turns, standard deviation in radians per px
_TURN: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Brush:
    """How strokes look.

    Raises:
        ConfigError: if a value is below 1 px.
    """

    width: int = 3  #: px
    length: int = 25  #: px, at most; shorter where the class ends

    def __post_init__(self) -> None:
        if self.width < 1 or self.length < 1:
            msg = f"A brush is at least 1 px wide and 1 px long, got width {self.width} and length {self.length}."
            raise ConfigError(msg)


def simulate_scribbles(
    classes: xr.DataArray, *, n_strokes: int, brush: Brush | None = None, near_border: float = 0.5, seed: int = 0
) -> xr.DataArray:
    """Paint curved strokes inside each class.

    A stroke begins at a random pixel of its class, keeps its direction but for small random turns, and stays
    inside the class with its whole width. Strokes of a class never touch. People who correct a classifier paint
    where it errs, which is beside the other class; so a share of the strokes begins there.

    Args:
        classes: y x, integers, 0 = unknown (never painted), 1…n = class.
        n_strokes: strokes per class. Where a class has no room for as many, there are fewer, at least one.
        brush: width and length of the strokes.
        near_border: share of the strokes of each class that begin within `BORDER` px of another class, in [0, 1].
        seed: decides where.

    Returns:
        y x, uint8, 0 = unlabelled.

    Raises:
        ConfigError: if n_strokes is below 1, or the share not in [0, 1].
        ScribbleError: if the labels hold no class, or are no classes.
    """
    if n_strokes < 1:
        msg = f"At least one stroke per class is needed, got {n_strokes}."
        raise ConfigError(msg)
    if not 0 <= near_border <= 1:
        msg = f"The share of strokes near a border must lie in [0, 1], got {near_border}."
        raise ConfigError(msg)
    brush = brush or Brush()
    labels = [int(label) for label in np.unique(classes.values) if label]
    if labels and not 0 < labels[0] <= labels[-1] <= MAX_CLASSES:
        msg = f"Classes must be numbered 1…{MAX_CLASSES}, found {labels[0]} to {labels[-1]}. Are these instances?"
        raise ScribbleError(msg)
    if not labels:
        msg = "The labels to draw strokes from are 0 (unknown) everywhere."
        raise ScribbleError(msg)
    generator = np.random.default_rng(seed)
    painted = np.zeros(classes.shape, dtype=np.uint8)
    for label in labels:
        mask = classes.values == label
        distance = ndimage.distance_transform_edt(np.isin(classes.values, (0, label)))
        close = distance <= BORDER + brush.width
        painted[_paint_class(mask, close, n_strokes, round(near_border * n_strokes), brush, generator)] = label
    return classes.copy(data=painted)


def _paint_class(
    mask: np.ndarray[Any, Any],
    close: np.ndarray[Any, Any],
    n_strokes: int,
    n_close: int,
    brush: Brush,
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Paint the strokes of one class, the first of them close to another class: y x, bool."""
    disk = _disk(brush.width)
    inside = ndimage.binary_erosion(mask, disk) if brush.width > 1 else mask
    if not inside.any():  # the class is thinner than the brush: paint what there is
        inside = mask
    painted = np.zeros_like(mask)
    free = inside.copy()
    for number in range(n_strokes):
        starts = free & close if number < n_close and (free & close).any() else free
        stroke = _place_stroke(free, starts, brush, generator)
        if stroke is None:
            break
        covered = ndimage.binary_dilation(stroke, disk) & mask
        painted |= covered
        free &= ~ndimage.binary_dilation(covered, _disk(2 * _GAP + brush.width))
    return painted


def _place_stroke(
    free: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], brush: Brush, generator: np.random.Generator
) -> np.ndarray[Any, Any] | None:
    """The longest of a few random walks, or the first that is long enough to be called a stroke."""
    candidates = np.flatnonzero(starts)
    if len(candidates) == 0:
        return None
    best: list[tuple[int, int]] = []
    for _ in range(_TRIES):
        walk = _walk(free, int(generator.choice(candidates)), brush.length, generator)
        if len(walk) > len(best):
            best = walk
        if len(best) >= min(brush.length, 2 * brush.width):
            break
    stroke = np.zeros_like(free)
    stroke[tuple(np.transpose(best))] = True
    return stroke


def _walk(free: np.ndarray[Any, Any], start: int, length: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Pixels of a curve that begins at ``start`` and ends where it would leave ``free``."""
    position = np.array(np.unravel_index(start, free.shape), dtype=float)
    angle = generator.uniform(0, 2 * np.pi)
    pixels = [(int(position[0]), int(position[1]))]
    for _ in range(length - 1):
        angle += generator.normal(0, _TURN)
        position += np.array([np.sin(angle), np.cos(angle)])
        y, x = np.round(position).astype(int)
        if not (0 <= y < free.shape[0] and 0 <= x < free.shape[1] and free[y, x]):
            break
        pixels.append((int(y), int(x)))
    return pixels


def _disk(width: int) -> np.ndarray[Any, Any]:
    radius = (width - 1) / 2
    offsets = np.arange(width) - radius
    disk: np.ndarray[Any, Any] = offsets[:, np.newaxis] ** 2 + offsets**2 <= (radius + 0.25) ** 2
    return disk
