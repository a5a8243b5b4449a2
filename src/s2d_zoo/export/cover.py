"""The cover of a package: what goes in, beside what comes out."""

from pathlib import Path
from typing import Any, Final

import imageio.v3 as iio
import numpy as np

COVER_FILE: Final = "cover.png"
#: px; two squares side by side give the zoo's 2:1, and 400 kB even without any compression
_SIDE: Final = 256

#: colours of the output's channels, foreground and boundary first (RGB in [0, 1])
_COLOURS: Final = np.array([[0.13, 0.67, 0.80], [0.98, 0.65, 0.10], [0.80, 0.27, 0.60]], dtype=np.float32)


def write_cover(
    folder: Path,
    test_input: np.ndarray[Any, np.dtype[np.float32]],
    test_output: np.ndarray[Any, np.dtype[np.float32]],
) -> None:
    """Write a PNG of 512 x 256 px.

    Args:
        folder: exists.
        test_input: ``(1, channel, (z), y, x)`` float32; its first channel is shown, stretched to its own range.
        test_output: ``(1, channel, (z), y, x)`` float32 in [0, 1]: the first channel in blue, the second in orange,
            the third in purple; y and x equal. Of a volume its middle plane is shown.
    """
    grey = _at_cover_size(_plane(test_input[0, 0]))
    low, high = np.percentile(grey, (1, 99))
    left = np.repeat(np.clip((grey - low) / max(high - low, 1e-6), 0, 1)[..., np.newaxis], 3, axis=-1)
    planes = [_at_cover_size(_plane(channel))[..., np.newaxis] for channel in test_output[0][: len(_COLOURS)]]
    right = np.clip(sum(plane * colour for plane, colour in zip(planes, _COLOURS, strict=False)), 0, 1)
    picture = np.concatenate([left, right], axis=1)
    iio.imwrite(folder / COVER_FILE, np.round(picture * 255).astype(np.uint8))


def _plane(values: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return values[len(values) // 2] if values.ndim == 3 else values


def _at_cover_size(plane: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A square, of the cover's size: its pixels repeated, averaged if that divides its side, or else left out."""
    size = plane.shape[0]
    if size > _SIDE and size % _SIDE == 0:
        block = size // _SIDE
        averaged: np.ndarray[Any, np.dtype[np.float32]] = plane.reshape(_SIDE, block, _SIDE, block).mean(axis=(1, 3))
        return averaged
    nearest = np.arange(_SIDE) * size // _SIDE
    return plane[np.ix_(nearest, nearest)]
