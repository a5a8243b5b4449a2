"""How far two outputs of a network are apart, and how far they may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from bioimageio.spec.model.v0_5 import InputTensorDescr, ModelDescr, OutputTensorDescr, ReproducibilityTolerance

from s2d_zoo.validate.sandbox import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """bioimage.io's rule: ``|a - b| <= absolute + relative * |b|`` for all elements but so many in a million."""

    absolute: float
    relative: float = 0.0
    mismatched_per_million: float = 0.0

    def __str__(self) -> str:
        """In words, as part of a message."""
        words = f"{self.absolute:.0e}"
        if self.relative:
            words += f" and {self.relative:.0e} of the value"
        if self.mismatched_per_million:
            words += f", but for {self.mismatched_per_million:g} elements in a million"
        return words


#: between two formats, where none is stated: other orders of summation make about 1e-6 of the value
FORMAT_TOLERANCE: Final = Tolerance(absolute=1e-4, relative=1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two outputs, element by element."""

    largest: float
    mean: float
    p99: float  #: 99 % of the elements are not farther apart
    where: dict[str, int]  #: the largest, by axis
    mismatched_per_million: float  #: elements that are farther apart than the tolerance
    tolerance: Tolerance

    @property
    def tolerable(self) -> bool:
        """Whether the elements that are too far apart are few enough."""
        return self.mismatched_per_million <= self.tolerance.mismatched_per_million

    @property
    def figures(self) -> dict[str, Any]:
        """For a report, plain JSON."""
        return {
            "largest": _plain(self.largest),
            "mean": _plain(self.mean),
            "p99": _plain(self.p99),
            "where": self.where,
            "mismatched_per_million": self.mismatched_per_million,
        }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def difference(found: FloatArray, expected: FloatArray, axes: Sequence[str], tolerance: Tolerance) -> Difference:
    """Compare two arrays of the same shape, not empty, whose axes have these ids; NaN is never tolerable."""
    distance = np.abs(found.astype(np.float64) - expected)
    allowed = tolerance.absolute + tolerance.relative * np.abs(expected.astype(np.float64))
    place = np.unravel_index(int(distance.argmax()), distance.shape)
    return Difference(
        largest=float(distance[place]),
        mean=float(distance.mean()),
        p99=float(np.percentile(distance, 99)),
        where={axis: int(index) for axis, index in zip(axes, place, strict=True)},
        mismatched_per_million=float(np.count_nonzero(~(distance <= allowed)) / distance.size * 1e6),
        tolerance=tolerance,
    )


def same_shapes(one: Mapping[str, FloatArray], two: Mapping[str, FloatArray]) -> bool:
    """Whether two runs gave the same tensors, of the same shapes."""
    return {name: values.shape for name, values in one.items()} == {name: values.shape for name, values in two.items()}


def axes_of(description: ModelDescr) -> Mapping[str, tuple[str, ...]]:
    """The ids of the axes of every tensor, by its id."""
    tensors: list[InputTensorDescr | OutputTensorDescr] = [*description.inputs, *description.outputs]
    return {str(tensor.id): tuple(str(axis.id) for axis in tensor.axes) for tensor in tensors}


def has_stated_tolerance(description: ModelDescr) -> bool:
    """Whether the package says how far an output may be from the test output."""
    return bool(description.config.bioimageio.reproducibility_tolerance)


def stated_tolerance(description: ModelDescr, output_id: str, weights_format: str, otherwise: Tolerance) -> Tolerance:
    """The first tolerance that is stated for an output and a format, as bioimageio.core chooses it."""
    for entry in description.config.bioimageio.reproducibility_tolerance:
        if _matches(entry.output_ids, output_id) and _matches(entry.weights_formats, weights_format):
            return _as_tolerance(entry)
    return otherwise


def core_tolerance(description: ModelDescr, output_id: str, weights_format: str) -> Tolerance:
    """What bioimageio.core compares with: what is stated, else its default."""
    return stated_tolerance(description, output_id, weights_format, _as_tolerance(ReproducibilityTolerance()))


def _matches(listed: Sequence[str], name: str) -> bool:
    return not listed or name in {str(entry) for entry in listed}


def _as_tolerance(entry: ReproducibilityTolerance) -> Tolerance:
    return Tolerance(
        absolute=entry.absolute_tolerance,
        relative=entry.relative_tolerance,
        mismatched_per_million=entry.mismatched_elements_per_million,
    )
