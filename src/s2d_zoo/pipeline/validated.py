"""Packages that are validated before they are final, so that their card can say what was found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import xarray as xr

from s2d_zoo.data.network import Network
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts, Finding
from s2d_zoo.export.package import write_package
from s2d_zoo.export.tolerance import FloatArray
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.validation import validate_package, verdicts_for

#: groups of checks that read what changes when the card is written anew
_READING: Final = ("S", "F", "C", "L")


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
    reports = []

    def judge(draft: Path) -> tuple[Finding, ...]:
        report = validate_package(draft, tensors=tensors, progress=progress)
        reports.append(report)
        return tuple(
            Finding(program=verdict.consumer.value, verdict=verdict.word, reasons=verdict.reasons)
            for verdict in report.verdicts
        )

    write_package(
        model,
        details,
        example_input,
        output,
        facts=facts,
        overwrite=overwrite,
        unfused=unfused,
        judge=judge,
    )
    read_again: dict[Check, list[CheckResult]] = {}
    for result in validate_package(output, select=_READING).results:
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
