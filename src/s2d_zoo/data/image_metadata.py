"""What image files say about themselves: pixel sizes in many units, and declared shapes that need a check."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import ValidationError

from s2d_zoo.contract import PixelSize
from s2d_zoo.errors import ImageFileError

Unit: TypeAlias = Literal["nanometer", "micrometer", "millimeter"]

#: unit as files write it (lower case) → the contract's unit, and how many of those it is
_UNITS: Final[Mapping[str, tuple[Unit, float]]] = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), ("nanometer", 1.0)),
    **dict.fromkeys(("å", "angstrom"), ("nanometer", 0.1)),
    # the micro sign, the Greek mu, and the escape that ImageJ writes
    **dict.fromkeys(("µm", "μm", "\\u00b5m", "um", "micron", "microns"), ("micrometer", 1.0)),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre"), ("micrometer", 1.0)),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre"), ("millimeter", 1.0)),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), ("millimeter", 10.0)),
    **dict.fromkeys(("in", "inch"), ("millimeter", 25.4)),
    **dict.fromkeys(("m", "meter", "metre"), ("millimeter", 1000.0)),
}

#: smaller declared arrays are simply allocated, in bytes
_HARMLESS_BYTES: Final = 2**28
#: no codec in use here packs images of a microscope tighter than this; deflate cannot exceed 1032
_MAX_COMPRESSION: Final = 5000


def pixel_size_from(sizes: Mapping[str, float | None], unit: str | None) -> PixelSize | None:
    """Pixel size from what a file says.

    Args:
        sizes: size of a pixel along ``y``, ``x`` and, if known, ``z``, in ``unit``.
        unit: as the file writes it, e.g. ``"um"``.

    Returns:
        The pixel size, or ``None`` where the unit is missing or no length, or y or x is missing or not positive.
    """
    name, factor = _UNITS.get((unit or "").strip().lower(), (None, 1.0))
    if name is None:
        return None
    scaled = {dim: _positive(size, factor) for dim, size in sizes.items() if dim in ("z", "y", "x")}
    try:
        return PixelSize.model_validate({**scaled, "unit": name})
    except ValidationError:
        return None


def pixel_size_of(attrs: Mapping[Any, Any]) -> PixelSize | None:
    """The pixel size that an array carries in its attrs, if any."""
    found = attrs.get("pixel_size")
    return found if isinstance(found, PixelSize) else None


def check_declared_size(shape: tuple[int, ...], dtype: np.dtype[Any], *, stored: int, path: Path) -> None:
    """Refuse to allocate what a file declares but cannot hold.

    Args:
        shape: declared shape.
        dtype: declared type.
        stored: size of the file in bytes.
        path: named in the message.

    Raises:
        ImageFileError: if the array would be large and thousands of times larger than the file.
    """
    declared = math.prod(shape) * dtype.itemsize
    if declared > _HARMLESS_BYTES and declared > stored * _MAX_COMPRESSION:
        msg = (
            f"{path} declares an array of shape {shape} and type {dtype}, {declared / 2**30:.1f} GiB, but holds only "
            f"{stored} bytes: it is truncated or damaged. Copy or export it again."
        )
        raise ImageFileError(msg)


def check_number_type(dtype: np.dtype[Any], path: Path) -> None:
    """Refuse what is no image: text, records, complex numbers.

    Raises:
        ImageFileError: naming the type found.
    """
    if dtype.kind not in "buif":
        msg = f"{path} should hold integers or floating point numbers, but holds the type {dtype}. Export real numbers."
        raise ImageFileError(msg)


def _positive(size: float | None, factor: float) -> float | None:
    return size * factor if size is not None and math.isfinite(size) and size > 0 else None
