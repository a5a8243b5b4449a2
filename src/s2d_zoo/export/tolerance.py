"""How far outputs may differ that ought to be equal: measured before it is stated."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnxruntime
import torch
from torch import nn

from s2d_zoo.export import weights

logger = logging.getLogger(__name__)

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

#: absolute tolerances that are stated; bioimage.io takes none above 0.01
_LADDER: Final = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
#: other processors differ more than the formats on one of them
_MARGIN: Final = 10
#: elements per million that may differ more; a forest's output jumps at its thresholds (bioimage.io takes 5000)
_FEWEST, _MOST = 100, 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """All elements but some per million differ by no more than this."""

    absolute: float
    mismatched_per_million: int
    largest_measured: float  #: largest difference that was found

    def __str__(self) -> str:
        return (
            f"{self.absolute:g}, but for {self.mismatched_per_million} elements in a million "
            f"(largest difference found: {self.largest_measured:g})"
        )

    @classmethod
    def covering(cls, differences: Sequence[FloatArray], *, largest: float = 1.0) -> "Tolerance":
        """The smallest tolerance that has room for ten times the differences that were measured.

        Where even bioimage.io's widest has not, that one is stated, and a warning logged.

        Args:
            differences: absolute differences of elements that ought to be equal, in arrays of any shape.
            largest: of the elements; bioimage.io takes no tolerance above a hundredth of it.
        """
        values = np.concatenate([difference.ravel() for difference in differences])
        steps = [step for step in _LADDER if step <= 0.01 * largest] or [_LADDER[0]]

        def mismatched(tolerance: float) -> int:
            return round(1e6 * np.count_nonzero(values > tolerance) / values.size)

        found = float(f"{values.max():.1e}")
        for step in steps:
            if mismatched(step / _MARGIN) <= _FEWEST:
                return cls(absolute=step, mismatched_per_million=_FEWEST, largest_measured=found)
        rest = _rounded_up(_MARGIN * mismatched(steps[-1]))
        if rest > _MOST:
            logger.warning(
                "%d of a million elements differ by more than %g, the most that bioimage.io takes; %d can be stated. "
                "Are the raw values far larger than their differences? Filters of float32 are inexact then.",
                mismatched(steps[-1]),
                steps[-1],
                _MOST,
            )
        allowed = min(max(rest, _FEWEST), _MOST)
        return cls(absolute=steps[-1], mismatched_per_million=allowed, largest_measured=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Differences that a package states."""

    formats: Tolerance  #: between formats, sizes and threads
    unfused: Tolerance | None = None  #: of a fused package: from its parts one after another


def measure_formats(
    model: nn.Module, folder: Path, test_input: FloatArray, *, steps: Sequence[int]
) -> list[FloatArray]:
    """Absolute differences from the network itself, of every format: at several sizes, on one thread and on all.

    Args:
        model: in evaluation mode, on the CPU.
        folder: holds its TorchScript, and ONNX if there is any.
        test_input: ``(1, channel, (z), y, x)`` float32, as the network takes it.
        steps: by how much each space axis may grow; 0 for one that is fixed.

    Returns:
        One array for each format, size and number of threads.
    """
    inputs = grow(test_input, steps)
    differences = []
    with torch.inference_mode():
        expected = [model(torch.from_numpy(values)).numpy() for values in inputs]
        for threads, several in ((1, inputs[:1]), (os.cpu_count() or 1, inputs)):
            path = folder / weights.ONNX_FILE
            run_onnx = onnx_runner(path, threads) if path.is_file() else None
            with _torch_threads(threads), weights.deprecated_on_purpose():
                script = torch.jit.load(str(folder / weights.TORCHSCRIPT_FILE))  # type: ignore[no-untyped-call]
                for values, wanted in zip(several, expected, strict=False):
                    outputs = [model(torch.from_numpy(values)).numpy(), script(torch.from_numpy(values)).numpy()]
                    outputs += [] if run_onnx is None else [run_onnx(values)]
                    differences += [np.abs(output - wanted) for output in outputs]
    return differences


def grow(values: FloatArray, steps: Sequence[int]) -> list[FloatArray]:
    """An image, and that image continued by its mirror image to two other sizes, if it may be larger.

    Args:
        values: ``(1, channel, (z), y, x)`` float32.
        steps: as in `measure_formats`.
    """
    if not any(steps):
        return [values]
    return [values, *(_grown(values, (factor * steps[0], *steps[1:])) for factor in (1, 3))]


def onnx_runner(path: Path, threads: int) -> Callable[[FloatArray], FloatArray]:
    """An ONNX file with one input and one output, loaded to be run on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(values: FloatArray) -> FloatArray:
        output: FloatArray = session.run(None, {name: values})[0]
        return output

    return run


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _grown(values: FloatArray, by: Sequence[int]) -> FloatArray:
    """The same image, continued by its mirror image."""
    return np.ascontiguousarray(np.pad(values, [(0, 0), (0, 0), *((0, more) for more in by)], mode="symmetric"))


def _rounded_up(number: int) -> int:
    """To 1, 2 or 5 times a power of ten, so that the last bits of a measurement are not stated."""
    power = int(10 ** max(0, len(str(number)) - 1))
    return next(first * power for first in (1, 2, 5, 10) if number <= first * power)
