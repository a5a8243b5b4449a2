"""Results of a validation, as data, and as text, Markdown and JSON."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from s2d_zoo import _version
from s2d_zoo.validate.checks import Check

Status: TypeAlias = Literal["passed", "failed", "skipped"]

#: of the JSON; raise it when a key changes its meaning
_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What came out of one check, for one part of the package."""

    check: Check
    status: Status
    message: str  #: what was found; of a failed check, with what was expected
    part: str = ""  #: the weights format, where there is one result for each


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What came out of all checks of one package."""

    package: str  #: its path, as given
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A skipped check has not failed, but says why it is missing."""
        return all(result.status != "failed" for result in self.results)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 1 otherwise."""
        return 0 if self.passed else 1


def to_text(report: ValidationReport) -> str:
    """One line for each result, and a last one with the sum."""
    lines = [f"{result.status:7}  {_title(result)}: {_one_line(result.message)}" for result in report.results]
    return "\n".join([*lines, f"{report.package}: {_sum(report)}"]) + "\n"


def to_markdown(report: ValidationReport) -> str:
    """A heading, a table of the results, and the sum."""
    rows = (
        f"| {result.check.name} | {result.part} | {result.status} | {result.check.value} "
        f"| {_one_line(result.message).replace('|', chr(92) + '|')} |"
        for result in report.results
    )
    head = ("| check | part | status | what must hold | found |", "|---|---|---|---|---|")
    return "\n".join([f"# Validation of {report.package}", "", *head, *rows, "", f"{_sum(report)}.", ""])


def to_json(report: ValidationReport) -> str:
    """The same for programs, with the version of its format."""
    content: dict[str, Any] = {
        "format": "s2d-zoo validation report",
        "format_version": _FORMAT_VERSION,
        "s2d_zoo_version": _version.__version__,
        "package": report.package,
        "passed": report.passed,
        "results": [
            {
                "check": result.check.name,
                "title": result.check.value,
                "part": result.part,
                "status": result.status,
                "message": result.message,
            }
            for result in report.results
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _title(result: CheckResult) -> str:
    return f"{result.check.name} {result.part}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sum(report: ValidationReport) -> str:
    counts = Counter(result.status for result in report.results)
    order: tuple[Status, ...] = ("passed", "failed", "skipped")
    return ", ".join(f"{counts[status]} {status}" for status in order)
