"""Packages that are validated before they are final, so that their card can say what was found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import xarray as xr

from s2d_zoo.data.network import Network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.finetuned import write_finetuned
from s2d_zoo.export.model_card import CardFacts, Finding
from s2d_zoo.export.package import write_package
from s2d_zoo.export.tolerance import FloatArray
from s2d_zoo.pipeline.base_models import OpenedBase, finetuned_details
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.validation import validate_package, verdicts_for
from s2d_zoo.zoo.collection import find_at_hand

#: groups of checks that read what changes when the card is written anew
_READING: Final = ("S", "F", "C", "L")

_Judge: TypeAlias = Callable[[Path], tuple[Finding, ...]]


def write_validated(
    model: Network,
    details: ModelDetails,
    example_input: xr.DataArray,
    output: Path,
    *,
    facts: CardFacts,
    overwrite: bool = False,
    unfused: Callable[[FloatArray], FloatArray] | None = None,
    tensors: Path | None = None,
    progress: bool = False,
) -> ValidationReport:
    """Write a package and validate it; see `write_package` for what may be wrong.

    Args:
        model: as in `write_package`, like all that follow but the last.
        details: what the package says about it.
        example_input: a real input.
        output: the file to write, ``*.zip``.
        facts: what the card says.
        overwrite: replace an existing file.
        unfused: the parts of a fused model.
        tensors: folder for the differences between the weights formats; not kept when ``None``.
        progress: show on stderr which check is running.

    Returns:
        The report on the package as it lies there.
    """

    def write(judge: _Judge) -> Path:
        return write_package(
            model, details, example_input, output, facts=facts, overwrite=overwrite, unfused=unfused, judge=judge
        )

    return _validate(write, output, tensors=tensors, progress=progress)


def write_finetuned_validated(
    base: OpenedBase,
    trained: PackagedModel,
    details: ModelDetails,
    example_input: xr.DataArray,
    output: Path,
    *,
    facts: CardFacts,
    overwrite: bool = False,
    tensors: Path | None = None,
    progress: bool = False,
) -> ValidationReport:
    """Write a model of anybody's package as it is after training, and validate it; see `write_finetuned`.

    Args:
        base: what the training began from.
        trained: the same model with other weights.
        details: what the package says about it.
        example_input: a real input, before any preprocessing: channel y x.
        output: the file to write, ``*.zip``.
        facts: what the card says.
        overwrite: replace an existing file.
        tensors: folder for the differences between the weights formats; not kept when ``None``.
        progress: show on stderr which check is running.
    """
    with open_package(base.package) as contents:

        def write(judge: _Judge) -> Path:
            return write_finetuned(
                trained,
                base.model,
                contents,
                finetuned_details(base, details),
                example_input,
                output,
                facts=facts,
                overwrite=overwrite,
                judge=judge,
            )

        return _validate(write, output, tensors=tensors, progress=progress)


def _validate(
    write: Callable[[_Judge], Path], output: Path, *, tensors: Path | None, progress: bool
) -> ValidationReport:
    """Write a package whose card says what validation found, and report on it as it lies there."""
    reports = []

    def judge(draft: Path) -> tuple[Finding, ...]:
        report = validate_package(draft, tensors=tensors, find_base=find_at_hand, progress=progress)
        reports.append(report)
        return tuple(
            Finding(program=verdict.consumer.value, verdict=verdict.word, reasons=verdict.reasons)
            for verdict in report.verdicts
        )

    write(judge)
    read_again: dict[Check, list[CheckResult]] = {}
    for result in validate_package(output, select=_READING, find_base=find_at_hand).results:
        read_again.setdefault(result.check, []).append(result)
    results = []
    for result in reports[0].results:
        if result.check not in read_again:
            results.append(result)
        else:
            results += read_again[result.check]
            read_again[result.check] = []
    verdicts = verdicts_for(tuple(results)) if reports[0].verdicts else ()
    return replace(reports[0], package=str(output), results=tuple(results), verdicts=verdicts)
