"""Pre- and postprocessing of a description: what of it is fixed, and how the rest is written for every reader.

A step with fixed numbers beside the network can be done by the network. One that looks at the image, as for its mean,
cannot, nor what lies beyond it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from bioimageio.spec.model.v0_5 import (
    ClipDescr,
    EnsureDtypeDescr,
    FixedZeroMeanUnitVarianceDescr,
    InputTensorDescr,
    OutputTensorDescr,
    ScaleLinearDescr,
    SigmoidDescr,
)

from s2d_zoo.types import CHANNEL

Operator: TypeAlias = Literal["Sub", "Div", "Mul", "Add", "Max", "Min", "Sigmoid"]

#: what bioimageio.core adds to every fixed deviation
_EPSILON: Final = 1e-6
_BATCH: Final = "batch"
#: those that look at the image, along their axes
_STATISTICS: Final = frozenset({"zero_mean_unit_variance", "scale_range"})


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Done with every value: an operator, by its name in ONNX, and its constant."""

    operator: Operator
    constant: np.ndarray[Any, np.dtype[np.float32]] | None = None  #: broadcasts to the image; None if it takes none


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitProcessing:
    """The steps of a description, some of them folded into the network."""

    left_before: tuple[Any, ...] = ()  #: preprocessing that stays in the description
    before: tuple[Operation, ...] = ()  #: what the network does first
    after: tuple[Operation, ...] = ()  #: what it does last
    left_after: tuple[Any, ...] = ()  #: postprocessing that stays in the description
    folded: tuple[str, ...] = ()  #: names of the steps that are in the network

    @classmethod
    def of(cls, taken: InputTensorDescr, given: OutputTensorDescr) -> "SplitProcessing":
        """Split the processing of a description's only input and output."""
        axes = [[str(axis.id) for axis in tensor.axes] for tensor in (taken, given)]
        steps = list(taken.preprocessing)
        first = len(steps)
        while first and fixed_operations(steps[first - 1], axes[0]) is not None:
            first -= 1
        follow = list(given.postprocessing)
        last = 0
        while last < len(follow) and fixed_operations(follow[last], axes[1]) is not None:
            last += 1
        return cls(
            left_before=tuple(step for step in steps[:first] if not _does_nothing(step)),
            before=tuple(one for step in steps[first:] for one in fixed_operations(step, axes[0]) or ()),
            after=tuple(one for step in follow[:last] for one in fixed_operations(step, axes[1]) or ()),
            left_after=tuple(step for step in follow[last:] if not _does_nothing(step)),
            folded=tuple(str(step.id) for step in (*steps[first:], *follow[:last]) if not _does_nothing(step)),
        )


def fixed_operations(step: object, axes: Sequence[str]) -> tuple[Operation, ...] | None:
    """What a step does, as operations with constants; None if that depends on the image, or is not known.

    Args:
        step: of a description.
        axes: of its tensor.
    """
    made: tuple[Operation, ...] | None = None
    if _does_nothing(step):
        made = ()
    elif isinstance(step, SigmoidDescr):
        made = (Operation("Sigmoid"),)
    elif isinstance(step, ClipDescr) and step.kwargs.min_percentile is None and step.kwargs.max_percentile is None:
        bounds: tuple[tuple[Operator, float | None], ...] = (("Max", step.kwargs.min), ("Min", step.kwargs.max))
        made = tuple(Operation(name, np.asarray(bound, np.float32)) for name, bound in bounds if bound is not None)
    elif isinstance(step, FixedZeroMeanUnitVarianceDescr):
        deviation = np.asarray(step.kwargs.std) + _EPSILON
        made = _along(step, axes, ("Sub", step.kwargs.mean), ("Div", deviation))
    elif isinstance(step, ScaleLinearDescr):
        made = _along(step, axes, ("Mul", step.kwargs.gain), ("Add", step.kwargs.offset))
    return made


def _does_nothing(step: object) -> bool:
    """Whether it is a conversion to what the values are anyway."""
    return isinstance(step, EnsureDtypeDescr) and step.kwargs.dtype == "float32"


def _along(step: Any, axes: Sequence[str], *parts: tuple[Operator, Any]) -> tuple[Operation, ...]:  # noqa: ANN401
    """Operations whose constants lie along the axis of a step, if it has one."""
    axis = getattr(step.kwargs, "axis", None)
    behind = 0 if axis is None else len(axes) - 1 - axes.index(str(axis))
    made = []
    for operator, numbers in parts:
        values = np.asarray(numbers, dtype=np.float32)
        made.append(Operation(operator, values.reshape(-1, *[1] * behind) if axis is not None else values))
    return tuple(made)


def write_steps(steps: Sequence[Any], tensor: InputTensorDescr | OutputTensorDescr) -> list[dict[str, Any]]:
    """Steps as they stand in a description, in the forms that Fiji and QuPath read as well.

    Statistics name their axes: with one channel all but the batch, which gives the same values, and of a data set
    those of the image, as in training. `scale_linear` has lists: QuPath reads nothing else. What ends as another type
    is converted back, since every network here takes float32.
    """
    channels = next(int(axis.size) for axis in tensor.axes if axis.type == CHANNEL)
    names = [str(axis.id) for axis in tensor.axes]
    written = [_written(step.model_dump(mode="json", exclude_unset=True), names, channels) for step in steps]
    converted = bool(steps) and isinstance(steps[-1], EnsureDtypeDescr)
    return [*written, {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}] if converted else written


def _written(step: Mapping[str, Any], axes: Sequence[str], channels: int) -> dict[str, Any]:
    name, kwargs = str(step["id"]), dict(step.get("kwargs") or {})
    if name in _STATISTICS:
        stated = kwargs.get("axes") or axes
        joint = channels == 1 and {"y", "x"} <= set(stated)
        kwargs["axes"] = [axis for axis in axes if axis != _BATCH and (joint or axis in stated)]
    elif name == "scale_linear" and kwargs.get("axis", CHANNEL) == CHANNEL:
        lists = {key: np.ravel(kwargs.get(key, value)).tolist() for key, value in (("gain", 1.0), ("offset", 0.0))}
        kwargs = {"axis": CHANNEL} | {key: values * (channels // len(values)) for key, values in lists.items()}
    return {"id": name, "kwargs": kwargs} if kwargs else {"id": name}
