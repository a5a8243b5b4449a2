"""Checks that run the network: each weights format by itself, against the others, at other sizes, in tiles.

What is run, runs in the sandbox; what comes back is compared here (see also `agreement` and `reproducibility`).
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from s2d_zoo.data.written_description import is_old_format
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.agreement import check_fused, compare_formats
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.consumers import users_of
from s2d_zoo.validate.format_runs import FormatRuns, flaw_of
from s2d_zoo.validate.input_sizes import (
    other_inputs,
    read_sizes,
    read_test_inputs,
    reason_against_other_sizes,
    size_label,
)
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult, Status
from s2d_zoo.validate.reproducibility import check_repeatable, check_reproducible
from s2d_zoo.validate.sandbox import RUNNABLE, FloatArray, Sandbox, TimedRun
from s2d_zoo.validate.tiles import check_tiles, skip_tiles

_AFTER_W01: Final = (Check.W02, Check.W06, Check.A01, Check.R01, Check.R02)


def check_network(model: OpenedModel, sandbox: Sandbox, *, tensors: Path | None = None) -> Iterator[CheckResult]:
    """W01, W02, W06, A01, R01, R02 and T01 to T04, in this order; the description and files must be good.

    A network that crashes, hangs or takes all memory makes the check fail in which it does.

    Args:
        model: the package.
        sandbox: where its networks are run.
        tensors: a folder for ``W02-FORMAT-FORMAT.npz``: the differences between the outputs of two formats,
            element by element, by ``OUTPUT-SIZE``; made if it is not there. None to keep none.
    """
    running = []
    for name in sorted(model.formats, key=_core_order):
        results, runs = _check_format(model, sandbox, name)
        yield from results
        if runs is not None:
            running.append(runs)
    if not running:
        yield from skip_checks(_AFTER_W01, "no weights format passed W01")
        yield from skip_tiles("no weights format passed W01")
        return
    by_size, running = _check_sizes(model, sandbox, running)
    yield compare_formats(model, running, tensors)
    yield from check_fused(model, running)
    yield from by_size
    yield from check_reproducible(model, sandbox, running)
    yield from check_repeatable(model, running)
    reason = _reason_against_tiles(model, by_size)
    if reason is None:
        yield from _check_tiles(model, sandbox, running)
    else:
        yield from skip_tiles(reason)


def skip_checks(checks: Sequence[Check], reason: str) -> Iterator[CheckResult]:
    """Results of checks whose precondition does not hold."""
    for check in checks:
        yield CheckResult(check=check, status="skipped", message=reason)


def _core_order(name: str) -> tuple[int, str]:
    """The formats in the order in which bioimageio.core prefers them; those that do not run here at the end."""
    return (RUNNABLE.index(name) if name in RUNNABLE else len(RUNNABLE), name)


def _check_format(model: OpenedModel, sandbox: Sandbox, name: str) -> tuple[tuple[CheckResult, ...], FormatRuns | None]:
    """W01 of one format, and the runs on the test input if it passed."""
    users = users_of(name, model.formats)

    def result(status: Status, message: str, consumers: frozenset[Consumer] = users) -> CheckResult:
        return CheckResult(check=Check.W01, status=status, message=message, part=name, consumers=consumers)

    reason = sandbox.reason_not_to_run(name)
    if reason is not None:
        return (result("skipped", reason),), None
    try:
        problem = sandbox.test(name)
        if problem is None:
            runs, types = _run_twice(model, sandbox, name)
            problem = flaw_of(runs.first)
    except PackageError as error:
        problem = str(error)
    if problem is not None:
        return (result("failed", problem),), None
    passed = "reproduces the test output"
    wrong = _wrong_types(model, types)
    if wrong is None or Consumer.deepimagej not in users:
        return (result("passed", passed),), runs
    fiji = frozenset({Consumer.deepimagej})
    return (result("passed", passed, users - fiji), result("failed", wrong, fiji)), runs


def _wrong_types(model: OpenedModel, found: Mapping[str, str]) -> str | None:
    """What deepImageJ stumbles over, since it makes room for outputs of the types that are described."""
    for tensor in model.description.outputs:
        name = str(tensor.id)
        converted = any(step.id != "ensure_dtype" for step in tensor.postprocessing)
        if name in found and found[name] != tensor.dtype and not converted:
            return (
                f"the network gives {name} as {found[name]}, the description says {tensor.dtype}; convert it inside of "
                "the network, or correct the description"
            )
    return None


def _run_twice(model: OpenedModel, sandbox: Sandbox, name: str) -> tuple[FormatRuns, Mapping[str, str]]:
    """The test input, twice with the same loaded network; and the types of the outputs.

    Raises:
        PackageError: if it does not run.
    """
    inputs = read_test_inputs(model)
    label = size_label(model.description, inputs)
    first, second = sandbox.timed_runs(name, [inputs, inputs], threads=os.cpu_count())
    runs = FormatRuns(
        weights_format=name,
        inputs={label: inputs},
        outputs={label: first.outputs},
        again=second.outputs,
        seconds={label: second.seconds},  # the first run also sets things up
    )
    return runs, first.types


def _check_sizes(
    model: OpenedModel, sandbox: Sandbox, running: Sequence[FormatRuns]
) -> tuple[list[CheckResult], list[FormatRuns]]:
    """A01: outputs of the stated size, finite; and if all are, the runs with those at other sizes added."""
    reason = reason_against_other_sizes(model.description)
    if reason is not None:
        return [CheckResult(check=Check.A01, status="skipped", message=reason)], list(running)
    ((input_id, test_input),) = running[0].inputs[running[0].test_size].items()
    inputs = {label: {input_id: values} for label, values in other_inputs(model, test_input).items()}
    failed, extended = [], []
    for runs in running:
        try:
            found = sandbox.timed_runs(runs.weights_format, list(inputs.values()), threads=os.cpu_count())
            _check_outputs(model, inputs, found)
        except PackageError as error:
            users = users_of(runs.weights_format, model.formats)
            failed.append(
                CheckResult(
                    check=Check.A01, status="failed", message=str(error), part=runs.weights_format, consumers=users
                )
            )
        else:
            extended.append(_extended(runs, inputs, found))
    if failed:
        return failed, list(running)
    shown = " and ".join(f"{label.replace('x', ' x ')} px" for label in inputs)
    message = f"runs on {shown}: {', '.join(runs.weights_format for runs in running)}"
    seconds = {runs.weights_format: dict(runs.seconds) for runs in extended}
    return [CheckResult(check=Check.A01, status="passed", message=message, figures={"seconds": seconds})], extended


def _check_outputs(
    model: OpenedModel, inputs: Mapping[str, Mapping[str, FloatArray]], found: Sequence[TimedRun]
) -> None:
    """Compare sizes with what the description says.

    Raises:
        PackageError: if an output has another size, or holds values that are not finite.
    """
    source, target = model.description.inputs[0], model.description.outputs[0]
    for (label, given), run in zip(inputs.items(), found, strict=True):
        shape = given[source.id].shape
        sizes = {source.id: {axis.id: size for axis, size in zip(source.axes, shape, strict=True)}}
        stated = model.description.get_output_tensor_sizes(sizes)[target.id]
        output = run.outputs[target.id]
        named = {axis.id: size for axis, size in zip(target.axes, output.shape, strict=True)}
        flaw = flaw_of(run.outputs)
        wrong = {axis: size for axis, size in named.items() if isinstance(stated[axis], int) and stated[axis] != size}
        if flaw or wrong:
            expected = " ".join(f"{axis} = {size}" for axis, size in stated.items())
            reason = flaw or f"found {' '.join(f'{axis} = {size}' for axis, size in named.items())}"
            msg = f"expected a finite output of {expected} for an input of {label.replace('x', ' x ')} px; {reason}"
            raise PackageError(msg)


def _extended(
    runs: FormatRuns, inputs: Mapping[str, Mapping[str, FloatArray]], found: Sequence[TimedRun]
) -> FormatRuns:
    outputs = dict(zip(inputs, (run.outputs for run in found), strict=True))
    seconds = dict(zip(inputs, (run.seconds for run in found), strict=True))
    return dataclasses.replace(
        runs,
        inputs={**runs.inputs, **inputs},
        outputs={**runs.outputs, **outputs},
        seconds={**runs.seconds, **seconds},
    )


def _reason_against_tiles(model: OpenedModel, by_size: Sequence[CheckResult]) -> str | None:
    if by_size[0].status == "failed":
        return "A01 failed"
    if by_size[0].status == "skipped":
        return by_size[0].message
    source, target = model.description.inputs[0], model.description.outputs[0]
    axes = [[axis.id for axis in tensor.axes] for tensor in (source, target)]
    if axes[0] != axes[1]:
        return f"only for an output with the axes of the input, found {' '.join(axes[1])}"
    return None


def _check_tiles(model: OpenedModel, sandbox: Sandbox, running: Sequence[FormatRuns]) -> Iterator[CheckResult]:
    """T01 to T04 with the fastest format, which stands for all, since they agree (W02)."""
    fastest = min(running, key=lambda runs: runs.seconds[runs.test_size])
    ((input_id, test_input),) = fastest.inputs[fastest.test_size].items()
    output_id = str(model.description.outputs[0].id)
    if fastest.first[output_id].shape[2:] != test_input.shape[2:]:
        yield from skip_tiles("only for an output of the size of the input")
        return

    def run(values: FloatArray) -> FloatArray:
        return sandbox.run(fastest.weights_format, [{input_id: values}])[0][output_id]

    sizes, old = read_sizes(model.description), is_old_format(model.contents.rdf)
    yield from check_tiles(sizes, test_input, run, qupath_reads_halo=old)
