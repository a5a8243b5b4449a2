"""The test tensors of a package: a real input of the smallest size, and what the network makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import xarray as xr

from s2d_zoo.data.axes import as_image, space_dims
from s2d_zoo.data.network import Network
from s2d_zoo.errors import AxesError, UserInputError
from s2d_zoo.types import CHANNEL, SPACE

TEST_INPUT_FILE: Final = "test_input.npy"
TEST_OUTPUT_FILE: Final = "test_output.npy"
#: of a fused package: what filters, forest and enhancer gave one after another for the test input
UNFUSED_OUTPUT_FILE: Final = "unfused_output.npy"


def make_test_input(
    example: xr.DataArray, *, channels: int, shape: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The middle of a real input, mirrored at its borders where it is too small.

    Args:
        example: axes channel (z) y x (a missing channel axis is added), any number type, finite.
        channels: how many the network takes.
        shape: sizes of (z) y x, in px.

    Returns:
        ``(1, channel, *shape)`` float32, C order.

    Raises:
        AxesError: if the example has other dimensions or another number of channels.
        UserInputError: if it holds NaN or infinity.
    """
    example = as_image(example, what="example input")
    dims = SPACE[-len(shape) :]
    if space_dims(example) != dims or example.sizes[CHANNEL] != channels:
        msg = (
            f"The example input must have the axes channel {' '.join(dims)} with {channels} channel(s), as the network "
            f"takes; found {dict(example.sizes)}. Give one image of the kind that the network was trained on."
        )
        raise AxesError(msg)
    values = np.asarray(example.values, dtype=np.float32)
    for axis, size in enumerate(shape, start=1):
        values = _fitted(values, axis=axis, size=size)
    if not np.isfinite(values).all():
        msg = "The example input must be finite, but holds NaN or infinity. Give another one."
        raise UserInputError(msg)
    return np.ascontiguousarray(values[np.newaxis])


def make_test_output(
    model: Network, test_input: np.ndarray[Any, np.dtype[np.float32]]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a network in evaluation mode, on the CPU, gives: ``(1, channel, y, x)`` float32 in [0, 1], C order."""
    with torch.no_grad():
        output: np.ndarray[Any, np.dtype[np.float32]] = model(torch.from_numpy(test_input)).numpy()
    return np.ascontiguousarray(output)


def write_test_tensors(
    folder: Path,
    test_input: np.ndarray[Any, np.dtype[np.float32]],
    test_output: np.ndarray[Any, np.dtype[np.float32]],
) -> None:
    """Write both as .npy, under the names of this module's constants."""
    np.save(folder / TEST_INPUT_FILE, test_input, allow_pickle=False)
    np.save(folder / TEST_OUTPUT_FILE, test_output, allow_pickle=False)


def _fitted(
    values: np.ndarray[Any, np.dtype[np.float32]], *, axis: int, size: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    excess = values.shape[axis] - size
    if excess >= 0:
        return values.take(range(excess // 2, excess // 2 + size), axis=axis)
    padding = [(0, 0)] * values.ndim
    padding[axis] = (-excess // 2, -excess - (-excess // 2))
    return np.pad(values, padding, mode="symmetric")
