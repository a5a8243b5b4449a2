"""Whether the weights formats give the same (W02), and a fused network what its parts give (W06)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.written_description import local_file, own_config, value_at
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.consumers import users_of
from s2d_zoo.validate.differences import (
    FORMAT_TOLERANCE,
    Difference,
    Tolerance,
    axes_of,
    difference,
    same_shapes,
    stated_tolerance,
)
from s2d_zoo.validate.file_checks import as_float, open_array
from s2d_zoo.validate.format_runs import FormatRuns
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

#: a fused network that may be farther from its parts than this is not the same network; outputs are in [0, 1]
_LARGEST_TOLERANCE: Final = Tolerance(absolute=0.05, mismatched_per_million=5000)


def compare_formats(model: OpenedModel, running: Sequence[FormatRuns], tensors: Path | None) -> CheckResult:
    """W02: each pair of formats, each output, each size; differences go into files in a folder, if there is one.

    Within the stated reproducibility tolerance, so that the few elements of a forest that jump are forgiven if the
    package says so; without one, within `FORMAT_TOLERANCE`.
    """
    if len(running) < 2:
        return CheckResult(check=Check.W02, status="skipped", message="fewer than two weights formats passed W01")
    found: dict[tuple[str, str], list[Difference]] = {}
    figures: dict[str, Any] = {}
    for one, two in combinations(running, 2):
        pair = (one.weights_format, two.weights_format)
        if not all(same_shapes(one.outputs[size], two.outputs[size]) for size in one.outputs):
            message = f"{' and '.join(pair)} give outputs of different shapes: {_shapes(one)} and {_shapes(two)}"
            return CheckResult(check=Check.W02, status="failed", message=message)
        compared = _compare(model, one, two)
        found[pair] = [entry for by_size in compared.values() for entry in by_size.values()]
        figures["-".join(pair)] = {
            output: {size: entry.figures for size, entry in by_size.items()} for output, by_size in compared.items()
        }
        if tensors is not None:
            _keep(tensors / f"W02-{'-'.join(pair)}.npz", one, two)
    return _judge_pairs(found, figures)


def _compare(model: OpenedModel, one: FormatRuns, two: FormatRuns) -> dict[str, dict[str, Difference]]:
    """By output and size; the one that bioimageio.core prefers is what is expected."""
    axes = axes_of(model.description)
    return {
        name: {
            size: difference(
                two.outputs[size][name],
                one.outputs[size][name],
                axes[name],
                stated_tolerance(model.description, name, two.weights_format, otherwise=FORMAT_TOLERANCE),
            )
            for size in one.outputs
        }
        for name in one.first
    }


def _judge_pairs(found: Mapping[tuple[str, str], Sequence[Difference]], figures: Mapping[str, Any]) -> CheckResult:
    entries = [(pair, entry) for pair, differences in found.items() for entry in differences]
    # what fails goes before what is large
    pair, worst = max(entries, key=lambda entry: (not entry[1].tolerable, entry[1].largest))
    message = f"largest difference {worst.largest:.1e} ({' and '.join(pair)}), at most {worst.tolerance}"
    if worst.tolerable:
        return CheckResult(check=Check.W02, status="passed", message=message, figures=figures)
    message += (
        f"; {worst.mismatched_per_million:.0f} elements in a million are farther apart. Export the formats again from "
        "the same network, or state a reproducibility_tolerance if this is what they can do"
    )
    return CheckResult(check=Check.W02, status="failed", message=message, figures=figures)


def _shapes(runs: FormatRuns) -> str:
    return ", ".join(f"{name} {values.shape}" for name, values in runs.first.items())


def _keep(path: Path, one: FormatRuns, two: FormatRuns) -> None:
    arrays = {
        f"{name}-{size}": values - two.outputs[size][name]
        for size, outputs in one.outputs.items()
        for name, values in outputs.items()
    }
    with atomic_write(path) as written:
        np.savez_compressed(written, allow_pickle=False, **arrays)


def check_fused(model: OpenedModel, running: Sequence[FormatRuns]) -> Iterator[CheckResult]:
    """W06: each format on the test input, against what filters, forest and enhancer gave one after another.

    ``config.s2d_zoo.fused`` says where that is, and how far it may be: ``{"unfused_output": "unfused_output.npy",
    "tolerance": {"absolute": …, "mismatched_per_million": …}}``.
    """
    fused = value_at(own_config(model.contents.rdf), "fused")
    if not isinstance(fused, Mapping):
        yield CheckResult(check=Check.W06, status="skipped", message="not a fused package")
        return
    try:
        tolerance, expected = _read_tolerance(fused.get("tolerance")), _open_unfused(model, fused.get("unfused_output"))
        found = {runs.weights_format: _compare_with_unfused(model, runs, expected, tolerance) for runs in running}
    except PackageError as error:
        yield CheckResult(check=Check.W06, status="failed", message=str(error))
        return
    figures = {name: entry.figures for name, entry in found.items()}
    worst = max(found.values(), key=lambda entry: entry.largest)
    if all(entry.tolerable for entry in found.values()):
        message = f"largest difference {worst.largest:.1e}, at most {tolerance}: {', '.join(found)}"
        yield CheckResult(check=Check.W06, status="passed", message=message, figures=figures)
    for name, entry in found.items():
        if not entry.tolerable:
            message = (
                f"largest difference from filters, forest and enhancer {entry.largest:.1e}, at most {tolerance}; "
                f"{entry.mismatched_per_million:.0f} elements in a million are farther apart. Export the package again"
            )
            users = users_of(name, model.formats)
            yield CheckResult(
                check=Check.W06, status="failed", message=message, part=name, consumers=users, figures=figures
            )


def _read_tolerance(stated: object) -> Tolerance:
    """The tolerance of a fused package.

    Raises:
        PackageError: if it is missing, malformed, or so large that anything would pass.
    """
    absolute = _number(stated, "absolute", _LARGEST_TOLERANCE.absolute)
    share = _number(stated, "mismatched_per_million", _LARGEST_TOLERANCE.mismatched_per_million)
    if absolute is not None and share is not None:
        return Tolerance(absolute=absolute, mismatched_per_million=share)
    msg = (
        "config.s2d_zoo.fused states a tolerance that says nothing: expected absolute from 0 to "
        f"{_LARGEST_TOLERANCE.absolute} and mismatched_per_million from 0 to "
        f"{_LARGEST_TOLERANCE.mismatched_per_million:g}, found {stated}"
    )
    raise PackageError(msg)


def _number(stated: object, key: str, largest: float) -> float | None:
    """A number from 0 to the largest, else None."""
    value = value_at(stated, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= largest else None


def _open_unfused(model: OpenedModel, name: object) -> np.ndarray[Any, Any]:
    """What filters, forest and enhancer gave; its values stay in the file.

    Raises:
        PackageError: if that is not a file of the package, or no array.
    """
    files = {reference.name for reference in model.contents.references()}
    path = local_file(model.contents, name) if isinstance(name, str) and name in files else None
    if path is None:
        msg = (
            "expected config.s2d_zoo.fused.unfused_output to name one of the package's attachments, which holds what "
            f"filters, forest and enhancer give for the test input; found {name!r}"
        )
        raise PackageError(msg)
    return open_array(path)


def _compare_with_unfused(
    model: OpenedModel, runs: FormatRuns, expected: np.ndarray[Any, Any], tolerance: Tolerance
) -> Difference:
    """Compare the first output.

    Raises:
        PackageError: if the shapes differ.
    """
    name = str(model.description.outputs[0].id)
    found = runs.first[name]
    if found.shape != expected.shape:
        msg = (
            f"expected what filters, forest and enhancer give to have the shape of the output {name}, {found.shape}; "
            f"found {expected.shape}"
        )
        raise PackageError(msg)
    return difference(found, as_float(expected), axes_of(model.description)[name], tolerance)
