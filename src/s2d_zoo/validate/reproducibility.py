"""Whether outputs stay the same: across formats, sizes and threads (R01), and from one run to the next (R02)."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.consumers import users_of
from s2d_zoo.validate.differences import (
    Difference,
    axes_of,
    core_tolerance,
    difference,
    has_stated_tolerance,
    same_shapes,
)
from s2d_zoo.validate.format_runs import FormatRuns, Tensors
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult, Status
from s2d_zoo.validate.sandbox import Sandbox

#: between two runs with the same input: what threads that add up in another order can make
_LARGEST_JITTER: Final = 1e-5
#: what bioimage.io allows to state
_LARGEST_ABSOLUTE: Final = 1e-3
_LARGEST_SHARE: Final = 5000


def check_reproducible(model: OpenedModel, sandbox: Sandbox, running: Sequence[FormatRuns]) -> Iterator[CheckResult]:
    """R01: every format, at the test size and one more, with one thread and with all.

    They are compared with the format that bioimageio.core prefers, run with all threads, by its own rule and the
    tolerance that the package states.
    """
    reference = running[0]
    found: dict[str, list[Difference]] = {}
    figures: dict[str, Any] = {}
    for runs in running:
        users = users_of(runs.weights_format, model.formats)
        try:
            compared = dict(_variants(model, sandbox, runs, reference))
        except PackageError as error:
            yield CheckResult(
                check=Check.R01, status="failed", message=str(error), part=runs.weights_format, consumers=users
            )
        else:
            found[runs.weights_format] = list(compared.values())
            figures[runs.weights_format] = {variant: entry.figures for variant, entry in compared.items()}
    figures = {"reference": reference.weights_format, "measured": figures}
    if len(found) == len(running):
        yield from _judge(model, found, figures)


def _variants(
    model: OpenedModel, sandbox: Sandbox, runs: FormatRuns, reference: FormatRuns
) -> Iterator[tuple[str, Difference]]:
    """Differences from the reference, each with its name: output, size and threads.

    Raises:
        PackageError: if the network does not run with one thread, or an output has another shape.
    """
    sizes = list(runs.inputs)[:2]
    single = sandbox.run(runs.weights_format, [runs.inputs[size] for size in sizes], threads=1)
    for size, alone in zip(sizes, single, strict=True):
        expected = reference.outputs[size]
        yield from _differences(model, runs, alone, expected, f"{size}, 1 thread")
        if runs is not reference:
            yield from _differences(model, runs, runs.outputs[size], expected, f"{size}, {os.cpu_count()} threads")


def _differences(
    model: OpenedModel, runs: FormatRuns, found: Tensors, expected: Tensors, variant: str
) -> Iterator[tuple[str, Difference]]:
    if not same_shapes(found, expected):
        msg = f"{runs.weights_format} gives outputs of another shape ({variant}) than the format that core prefers"
        raise PackageError(msg)
    for name, values in found.items():
        tolerance = core_tolerance(model.description, name, runs.weights_format)
        axes = axes_of(model.description)[name]
        yield f"{name}, {variant}", difference(values, expected[name], axes, tolerance)


def _judge(
    model: OpenedModel, found: Mapping[str, Sequence[Difference]], figures: Mapping[str, Any]
) -> Iterator[CheckResult]:
    every = [entry for differences in found.values() for entry in differences]
    worst = max(every, key=lambda entry: entry.largest)
    measured = f"largest difference {worst.largest:.1e} across formats, sizes and threads ({', '.join(found)})"
    if not has_stated_tolerance(model.description):
        message = f"no tolerance is stated; {measured}. {_advice(every)}"
        yield CheckResult(check=Check.R01, status="limited", message=message, consumers=frozenset(), figures=figures)
        return
    exceeding = {name: [entry for entry in entries if not entry.tolerable] for name, entries in found.items()}
    if not any(exceeding.values()):
        message = f"{measured}, stated {worst.tolerance}"
        yield CheckResult(check=Check.R01, status="passed", message=message, figures=figures)
    for name, entries in exceeding.items():
        if entries:
            entry = max(entries, key=lambda entry: entry.largest)
            message = (
                f"expected differences of at most {entry.tolerance}, as stated; found up to {entry.largest:.1e}, with "
                f"{entry.mismatched_per_million:.0f} elements in a million farther apart. {_advice(every)}"
            )
            users = users_of(name, model.formats)
            yield CheckResult(
                check=Check.R01, status="failed", message=message, part=name, consumers=users, figures=figures
            )


def _advice(measured: Sequence[Difference]) -> str:
    """Which tolerance to write: twice what was measured, in round numbers."""
    largest = max(entry.largest for entry in measured)
    if math.isfinite(largest) and largest <= _LARGEST_ABSOLUTE / 2:
        absolute = max(1e-6, 10.0 ** math.ceil(math.log10(2 * largest))) if largest > 0 else 1e-6
        return _entry(absolute, relative=0, share=0)
    # few elements that jump, as those of a forest do; core's own defaults for the others
    share = math.ceil(max(entry.mismatched_per_million for entry in measured) * 2 / 100) * 100
    if share <= _LARGEST_SHARE:
        return _entry(_LARGEST_ABSOLUTE, relative=1e-3, share=share)
    return "No tolerance that bioimage.io allows covers this: export the formats again from the same network"


def _entry(absolute: float, *, relative: float, share: int) -> str:
    return (
        "Write config.bioimageio.reproducibility_tolerance: "
        f"[{{absolute_tolerance: {absolute:g}, relative_tolerance: {relative:g}, "
        f"mismatched_elements_per_million: {share}}}]"
    )


def check_repeatable(model: OpenedModel, running: Sequence[FormatRuns]) -> Iterator[CheckResult]:
    """R02: the test input twice, with the network loaded once: bit by bit the same."""
    deviating = [runs for runs in running if not _same(runs.first, runs.again)]
    if not deviating:
        message = f"bit by bit the same: {', '.join(runs.weights_format for runs in running)}"
        yield CheckResult(check=Check.R02, status="passed", message=message)
    for runs in deviating:
        users = users_of(runs.weights_format, model.formats)
        if same_shapes(runs.first, runs.again):
            largest = max(float(np.abs(runs.again[name] - values).max()) for name, values in runs.first.items())
            message = f"the second output for the same input differs from the first by up to {largest:.1e}"
        else:
            largest = np.inf
            message = "the second output for the same input has another shape than the first"
        status: Status = "limited" if largest <= _LARGEST_JITTER else "failed"
        if status == "failed":
            message += "; something random is left in the network (dropout, noise), or it remembers its inputs"
        yield CheckResult(check=Check.R02, status=status, message=message, part=runs.weights_format, consumers=users)


def _same(one: Tensors, two: Tensors) -> bool:
    return same_shapes(one, two) and all(np.array_equal(values, two[name]) for name, values in one.items())
