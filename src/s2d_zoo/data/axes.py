"""Axes: named, checked and put in order here, and nowhere else.

One letter per axis in strings such as ``"zyxc"``: ``c`` channel, ``z``, ``y``, ``x`` space, ``t`` time.
Arrays inside s2d-zoo have the dims ``channel (z) y x`` (images, probabilities) or ``(z) y x`` (strokes,
labels, weights); see `s2d_zoo.types`.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final, Literal

import numpy as np
import xarray as xr

from s2d_zoo.errors import AxesError
from s2d_zoo.types import CHANNEL, SPACE

LETTER_TO_DIM: Final[Mapping[str, str]] = {"c": CHANNEL, "z": "z", "y": "y", "x": "x", "t": "time"}

DIM_TO_LETTER: Final[Mapping[str, str]] = {dim: letter for letter, dim in LETTER_TO_DIM.items()}

#: default reading of an array without axes, by number of dimensions
_DEFAULT_AXES: Final[Mapping[int, str]] = {2: "yx", 3: "zyx", 4: "czyx"}
#: a last axis of at most this many planes is read as colour
_MAX_COLOURS: Final = 4


def parse_axes(axes: str, ndim: int) -> tuple[str, ...]:
    """Turn ``"zyx"`` into ``("z", "y", "x")``.

    Raises:
        AxesError: for an unknown or repeated letter, or a length other than ``ndim``.
    """
    unknown = sorted(set(axes) - set(LETTER_TO_DIM))
    if unknown or len(set(axes)) != len(axes):
        msg = (
            f"Axes are written with the letters {''.join(LETTER_TO_DIM)!r}, each at most once; got {axes!r}. "
            "Example: 'zyxc' for a colour stack."
        )
        raise AxesError(msg)
    if len(axes) != ndim:
        msg = (
            f"Axes {axes!r} name {len(axes)} dimensions, but the array has {ndim}. Give one letter for each dimension."
        )
        raise AxesError(msg)
    return tuple(LETTER_TO_DIM[letter] for letter in axes)


def guess_axes(shape: tuple[int, ...]) -> str:
    """Axes of an array that came without any: 2D ``yx``, colour ``yxc``, else ``zyx`` and ``czyx``.

    Raises:
        AxesError: if the array has fewer than 2 or more than 4 dimensions.
    """
    if len(shape) == 3 and shape[-1] in (3, _MAX_COLOURS) and min(shape[:2]) > _MAX_COLOURS:
        return "yxc"
    try:
        return _DEFAULT_AXES[len(shape)]
    except KeyError:
        msg = f"Cannot tell the axes of shape {shape}: expected 2 to 4 dimensions. Name them, e.g. --axes tyx."
        raise AxesError(msg) from None


def label_axes(values: np.ndarray[Any, Any], axes: str | None = None) -> xr.DataArray:
    """Give an array its axes (guessed when ``None``)."""
    return xr.DataArray(values, dims=parse_axes(axes or guess_axes(values.shape), values.ndim))


def space_dims(array: xr.DataArray) -> tuple[str, ...]:
    """The spatial dims of an array, in the project's order (z y x)."""
    return tuple(dim for dim in SPACE if dim in array.dims)


def count_space_dims(array: xr.DataArray) -> Literal[2, 3]:
    """2 for a plane, 3 for a volume."""
    return 3 if len(space_dims(array)) == 3 else 2


def space_shape(array: xr.DataArray) -> dict[str, int]:
    """Size of each spatial dim, in px, in the project's order (z y x)."""
    return {dim: array.sizes[dim] for dim in space_dims(array)}


def as_image(array: xr.DataArray, *, what: str = "image") -> xr.DataArray:
    """Order as ``channel (z) y x``, adding a channel axis where there is none; a single ``z`` or ``time`` is dropped.

    Raises:
        AxesError: if ``y`` or ``x`` is missing, a dim is unknown, or there are several time points.
    """
    array = _without_singletons(array, what)
    if CHANNEL not in array.dims:
        array = array.expand_dims(CHANNEL)
    return array.transpose(CHANNEL, *space_dims(array))


def as_labels(array: xr.DataArray, *, what: str = "labels") -> xr.DataArray:
    """Order as ``(z) y x``; a single channel is dropped.

    Raises:
        AxesError: if there is more than one channel or time point, or ``y`` or ``x`` is missing.
    """
    array = _without_singletons(array, what)
    if array.sizes.get(CHANNEL, 1) > 1:
        msg = (
            f"The {what} must have one value per pixel (axes (z) y x), but there are {array.sizes[CHANNEL]} channels "
            f"in shape {dict(array.sizes)}. Save it as a single-channel label image, not as a colour picture."
        )
        raise AxesError(msg)
    if CHANNEL in array.dims:
        array = array.isel({CHANNEL: 0})
    return array.transpose(*space_dims(array))


def check_same_space(first: xr.DataArray, second: xr.DataArray, *, names: tuple[str, str]) -> None:
    """Check that two arrays cover the same pixels.

    Raises:
        AxesError: naming both shapes.
    """
    shapes = space_shape(first), space_shape(second)
    if shapes[0] != shapes[1]:
        msg = (
            f"The {names[0]} and the {names[1]} must cover the same pixels: the {names[0]} has {_show(shapes[0])}, "
            f"the {names[1]} {_show(shapes[1])}. Check that they belong together and were not resized or cropped."
        )
        raise AxesError(msg)


def _without_singletons(array: xr.DataArray, what: str) -> xr.DataArray:
    known: tuple[Hashable, ...] = (CHANNEL, "time", *SPACE)
    unknown = [dim for dim in array.dims if dim not in known]
    if unknown or "y" not in array.dims or "x" not in array.dims:
        msg = (
            f"The {what} needs the axes y and x, and may have channel and z; found {tuple(map(str, array.dims))}. "
            "Name them, e.g. --axes zyx."
        )
        raise AxesError(msg)
    empty = [str(dim) for dim, size in array.sizes.items() if size == 0]
    if empty:
        msg = f"The {what} is empty along {', '.join(empty)} (shape {dict(array.sizes)})."
        raise AxesError(msg)
    if array.sizes.get("time", 1) > 1:
        msg = (
            f"The {what} has {array.sizes['time']} time points; s2d-zoo works on one at a time. "
            "Save the one you mean as an image of its own."
        )
        raise AxesError(msg)
    return array.isel({dim: 0 for dim in ("time", "z") if array.sizes.get(dim) == 1}, drop=True)


def _show(shape: Mapping[str, int]) -> str:
    return " x ".join(f"{dim}={size}" for dim, size in shape.items())
