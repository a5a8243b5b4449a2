"""A06: what becomes of pre- and postprocessing in each program.

bioimageio.core does as described. ilastik has it done tile by tile; deepImageJ and QuPath have operations of their
own by the same names. What they do is in the comments: found by running their code.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from bioimageio.spec.model.v0_5 import (
    AnyAxis,
    BinarizeDescr,
    ClipDescr,
    EnsureDtypeDescr,
    FixedZeroMeanUnitVarianceDescr,
    ScaleLinearDescr,
    ScaleRangeDescr,
    SigmoidDescr,
    ZeroMeanUnitVarianceDescr,
)

from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_FIJI, _QUPATH, _ILASTIK = Consumer.deepimagej, Consumer.qupath, Consumer.ilastik

#: those that look at the whole image, so that they depend on what is given at once
_STATISTICS: Final = frozenset({"zero_mean_unit_variance", "scale_range", "scale_mean_variance"})
#: arguments with which deepImageJ gives right values
_TRIED_WITH: Final = {"scale_range": ("axes",), "clip": ("min", "max"), "binarize": ("threshold",)}
_ADVICE: Final = "put it into the network"


def check_processing(model: OpenedModel) -> Iterator[CheckResult]:
    """A06: every operation, but for the conversion of data types, which is harmless."""
    before = [(step, tensor.axes) for tensor in model.description.inputs for step in tensor.preprocessing]
    after = [(step, tensor.axes) for tensor in model.description.outputs for step in tensor.postprocessing]
    steps: list[tuple[object, Sequence[AnyAxis]]] = [
        (step, axes) for step, axes in (*before, *after) if not isinstance(step, EnsureDtypeDescr)
    ]
    findings = [
        finding for step, axes in steps for finding in (*_in_fiji(step, axes), *_in_qupath(step), *_in_ilastik(step))
    ]
    names = dict.fromkeys(_name(step) for step, _ in steps)
    good = f"every program does {' and '.join(names)} alike" if names else "there are none"
    yield from to_results(Check.A06, findings, good=good)


def _in_ilastik(step: object) -> Iterator[Finding]:
    if _takes_statistics(step):
        yield limits(f"{_name(step)} is computed for every tile by itself; {_ADVICE} with fixed values", _ILASTIK)


def _takes_statistics(step: object) -> bool:
    percentiles = isinstance(step, ClipDescr) and (
        step.kwargs.min_percentile is not None or step.kwargs.max_percentile is not None
    )
    return percentiles or _name(step) in _STATISTICS


def _name(step: object) -> str:
    return str(getattr(step, "id", ""))


def _in_qupath(step: object) -> Iterator[Finding]:
    name = _name(step)
    if not isinstance(
        step,
        BinarizeDescr | ClipDescr | ScaleLinearDescr | ScaleRangeDescr | SigmoidDescr | ZeroMeanUnitVarianceDescr,
    ):
        # with a warning in the log only
        yield fails(f"{name} is left out without a message; {_ADVICE}", _QUPATH)
        return
    if isinstance(step, ScaleRangeDescr | ZeroMeanUnitVarianceDescr) and step.kwargs.axes is None:
        yield fails(f"{name} needs its axes to be written", _QUPATH)
    if _takes_statistics(step):
        yield limits(f"{name} is computed for every tile by itself; {_ADVICE} with fixed values", _QUPATH)


def _in_fiji(step: object, axes: Sequence[AnyAxis]) -> Iterator[Finding]:
    name = _name(step)
    if isinstance(step, ZeroMeanUnitVarianceDescr):
        yield from _variance_in_fiji(step, axes)
    elif isinstance(step, FixedZeroMeanUnitVarianceDescr | ScaleLinearDescr):
        yield from _channels_in_fiji(step)
    elif isinstance(step, ScaleRangeDescr | ClipDescr | BinarizeDescr):
        values = {key: getattr(step.kwargs, key, None) for key in _TRIED_WITH[name]}
        if any(value is None or (isinstance(value, list | tuple) and key != "axes") for key, value in values.items()):
            yield limits(f"{name} was tried with {' and '.join(values)} only, the same for all channels", _FIJI)
    elif not isinstance(step, SigmoidDescr):
        yield fails(f"{name} is not known, and the model is refused; {_ADVICE}", _FIJI)


def _channels_in_fiji(step: FixedZeroMeanUnitVarianceDescr | ScaleLinearDescr) -> Iterator[Finding]:
    """One value for all channels is right."""
    if isinstance(step, FixedZeroMeanUnitVarianceDescr):
        if not isinstance(step.kwargs.mean, int | float):
            # runs over the end of its lists
            yield fails(f"{_name(step)} stops if there is a value for each channel; {_ADVICE}", _FIJI)
    elif any(len(value) > 1 for value in (step.kwargs.gain, step.kwargs.offset) if isinstance(value, Sequence)):
        # the index of the channel never advances
        yield fails(f"{_name(step)} takes the first value for every channel; {_ADVICE}", _FIJI)


def _variance_in_fiji(step: ZeroMeanUnitVarianceDescr, axes: Sequence[AnyAxis]) -> Iterator[Finding]:
    """Normalises the whole tensor once for every plane, whatever the axes."""
    given = None if step.kwargs.axes is None else {str(axis) for axis in step.kwargs.axes}
    planes = [axis for axis in axes if given is not None and axis.type != "batch" and str(axis.id) not in given]
    if not planes:
        return
    left_out = ", ".join(str(axis.id) for axis in planes)
    if all(axis.type == "channel" and axis.size == 1 for axis in planes):
        yield limits(f"{_name(step)} was tried with all axes only; add {left_out}, which changes nothing here", _FIJI)
        return
    yield fails(f"{_name(step)} gives wrong values if done for each {left_out} by itself; {_ADVICE}", _FIJI)
