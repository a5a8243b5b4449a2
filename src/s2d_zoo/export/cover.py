"""The cover of a package: what goes in, beside what comes out."""

from pathlib import Path
from typing import Any, Final

import imageio.v3 as iio
import numpy as np

COVER_FILE: Final = "cover.png"
#: px; two squares side by side give the zoo's 2:1, and 400 kB even without any compression
_SIDE: Final = 256

#: colours of foreground and boundary (RGB in [0, 1])
_FOREGROUND: Final = np.array([0.13, 0.67, 0.80], dtype=np.float32)
_BOUNDARY: Final = np.array([0.98, 0.65, 0.10], dtype=np.float32)


def write_cover(
    folder: Path,
    test_input: np.ndarray[Any, np.dtype[np.float32]],
    test_output: np.ndarray[Any, np.dtype[np.float32]],
) -> None:
    """Write a PNG of 512 x 256 px.

    Args:
        folder: exists.
        test_input: ``(1, channel, y, x)`` float32; its first channel is shown, stretched to its own range.
        test_output: ``(1, 2, y, x)`` float32 in [0, 1], foreground in blue and boundary in orange; y and x equal,
            a power of two between 1 and 512 px.
    """
    grey = _at_cover_size(test_input[0, 0])
    low, high = np.percentile(grey, (1, 99))
    left = np.repeat(np.clip((grey - low) / max(high - low, 1e-6), 0, 1)[..., np.newaxis], 3, axis=-1)
    foreground, boundary = (_at_cover_size(plane)[..., np.newaxis] for plane in test_output[0])
    right = np.clip(foreground * _FOREGROUND + boundary * _BOUNDARY, 0, 1)
    picture = np.concatenate([left, right], axis=1)
    iio.imwrite(folder / COVER_FILE, np.round(picture * 255).astype(np.uint8))


def _at_cover_size(plane: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Repeat or average the pixels of a square, the side of which is a power of two."""
    size = plane.shape[0]
    if size <= _SIDE:
        return plane.repeat(_SIDE // size, axis=0).repeat(_SIDE // size, axis=1)
    block = size // _SIDE
    averaged: np.ndarray[Any, np.dtype[np.float32]] = plane.reshape(_SIDE, block, _SIDE, block).mean(axis=(1, 3))
    return averaged
