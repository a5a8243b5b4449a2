"""A validation report as text, Markdown, JSON and HTML.

Messages quote what stands in the package, and that may come from anybody: nothing of it may become a control
sequence of the terminal, a table cell of Markdown, or a tag of HTML.
"""

import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from s2d_zoo import _version
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.errors import ConfigError
from s2d_zoo.validate.checks import ALL_CONSUMERS, Consumer
from s2d_zoo.validate.report import CheckResult, Status, ValidationReport

#: of the JSON; raise it when a key changes its meaning. 2: verdicts, consumers, figures, and the status "limited"
_FORMAT_VERSION: Final = 2
_TEMPLATE: Final = "validation.html.jinja"

#: first letter of the ID → name, in the order in which they are shown
_GROUPS: Final[Mapping[str, str]] = {
    "F": "Format",
    "A": "Axes, sizes, halo",
    "W": "Weights",
    "R": "Reproducibility",
    "T": "Tiles",
    "C": "Contract and card",
    "L": "Lineage and licence",
    "S": "Safety",
}
#: what would begin a tag, a link, a format or a cell
_MARKDOWN: Final = str.maketrans({"<": "&lt;", "&": "&amp;", **{letter: f"\\{letter}" for letter in "\\|[]`*_"}})

#: worst first
_STATUSES: Final[tuple[Status, ...]] = ("failed", "limited", "passed", "skipped")


def to_text(report: ValidationReport) -> str:
    """Groups with one line for each result, a verdict for each program, and a last line with the sum."""
    lines = []
    for name, results in _grouped(report.results).items():
        lines += [name, *(f"  {_line(result)}" for result in results), ""]
    for (word, reasons), verdicts in itertools.groupby(report.verdicts, key=lambda one: (one.word, one.reasons)):
        lines.append(f"{', '.join(verdict.consumer.value for verdict in verdicts)}: {word}")
        lines += [f"    {_one_line(reason)}" for reason in reasons]
    lines += [""] if report.verdicts else ["No verdicts: only some checks were chosen.", ""]
    return "\n".join([*lines, f"{_one_line(report.package)}: {_sum(report)}"]) + "\n"


def to_markdown(report: ValidationReport) -> str:
    """A heading, a table of the verdicts, one of the results, and the sum."""
    lines = [f"# Validation of {_cell(report.package)}", ""]
    if report.verdicts:
        lines += ["| program | verdict | because |", "|---|---|---|"]
        lines += [
            f"| {verdict.consumer.value} | {verdict.word} | {_cell('; '.join(verdict.reasons))} |"
            for verdict in report.verdicts
        ]
        lines.append("")
    lines += ["| check | part | status | concerns | what must hold | found |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {result.check.name} | {_cell(result.part)} | {result.status} | {_concerned(result)} "
        f"| {result.check.value} | {_cell(result.message)} |"
        for results in _grouped(report.results).values()
        for result in results
    ]
    return "\n".join([*lines, "", f"{_sum(report)}.", ""])


def to_json(report: ValidationReport) -> str:
    """The same for programs, with the figures and the version of its format; figures that JSON lacks are texts."""
    content: dict[str, Any] = {
        "format": "s2d-zoo validation report",
        "format_version": _FORMAT_VERSION,
        "s2d_zoo_version": _version.__version__,
        "package": report.package,
        "passed": report.passed,
        "verdicts": [
            {"consumer": verdict.consumer.name, "verdict": verdict.word, "reasons": list(verdict.reasons)}
            for verdict in report.verdicts
        ],
        "results": [
            {
                "check": result.check.name,
                "title": result.check.value,
                "part": result.part,
                "status": result.status,
                "message": result.message,
                "consumers": [consumer.name for consumer in Consumer if consumer in result.consumers],
                "figures": _plain(result.figures),
            }
            for result in report.results
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_html(report: ValidationReport) -> str:
    """One page that stands alone: verdicts, then the groups, worst results first in each."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: _printable(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = (resources.files("s2d_zoo.validate") / _TEMPLATE).read_text(encoding="utf-8")
    groups = {
        name: sorted(results, key=lambda result: _STATUSES.index(result.status))
        for name, results in _grouped(report.results).items()
    }
    return environment.from_string(template).render(
        report=report,
        groups=groups,
        counts=Counter(result.status for result in report.results),
        statuses=_STATUSES,
        concerned=_concerned,
        figures=lambda result: json.dumps(_plain(result.figures), indent=2, ensure_ascii=False),
        version=_version.__version__,
    )


#: format → how a report is written in it
RENDERINGS: Final[Mapping[str, Callable[[ValidationReport], str]]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "html": to_html,
}


def _grouped(results: tuple[CheckResult, ...]) -> dict[str, list[CheckResult]]:
    """Name of a group → its results by ID; groups without any are left out."""
    by_id = sorted(results, key=lambda result: result.check.name)
    groups = {name: [one for one in by_id if one.check.name[0] == letter] for letter, name in _GROUPS.items()}
    return {name: found for name, found in groups.items() if found}


def _line(result: CheckResult) -> str:
    title = f"{result.check.name} {_one_line(result.part)}".rstrip()
    concerned = _concerned(result)
    return f"{result.status:7}  {title}: {_one_line(result.message)}" + (f" [{concerned}]" if concerned else "")


def _concerned(result: CheckResult) -> str:
    """Whom a result that did not pass concerns, in words; empty if everybody."""
    if result.status not in {"failed", "limited"} or result.consumers == ALL_CONSUMERS:
        return ""
    return ", ".join(consumer.value for consumer in Consumer if consumer in result.consumers) or "advice"


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    """Without what a terminal obeys instead of showing it; lines stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _cell(text: str) -> str:
    return _one_line(text).translate(_MARKDOWN)


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sum(report: ValidationReport) -> str:
    counts = Counter(result.status for result in report.results)
    return ", ".join(f"{counts[status]} {status}" for status in ("passed", "limited", "failed", "skipped"))


@contextmanager
def report_file(
    path: Path | None, package: Path, *, overwrite: bool = False
) -> Iterator[tuple[Path | None, Path | None]]:
    """Places to write a report to, and differences between outputs; both are moved into place at the end.

    Args:
        path: of the report; the differences go into ``<stem>-tensors`` beside it. Two None are given if it is None.
        package: what is validated, which must not be replaced by a report on it.
        overwrite: whether files that are there are replaced.

    Yields:
        A file and a folder to write to; the folder need not be made.

    Raises:
        ConfigError: if one of both is there already, or is the package; before anything is computed.
        OSError: if they cannot be written.
    """
    if path is None:
        yield None, None
        return
    kept = path.with_name(f"{path.stem}-tensors")
    for place in (path, kept):
        if place.exists() and package.exists() and place.samefile(package):
            msg = f"{place} is the package itself and would be lost. Give the report another name."
            raise ConfigError(msg)
        if place.exists() and not overwrite:
            msg = f"{place} exists already. Give another name, or --overwrite to replace it."
            raise ConfigError(msg)
    with atomic_write(path) as file:
        tensors = file.with_name(kept.name)
        yield file, tensors
        if kept.is_dir():  # of an earlier report
            shutil.rmtree(kept)
        if tensors.is_dir():
            tensors.replace(kept)


def in_words(report: ValidationReport) -> str:
    """Whether a package passed, and which programs have something against it, in one line."""
    words = ["passed" if report.passed else "FAILED"]
    for word in ("refused", "runs with limits"):
        programs = [verdict.consumer.value for verdict in report.verdicts if verdict.word == word]
        words += [f"{word} in {', '.join(programs)}"] if programs else []
    return "; ".join(words)
