"""What a check found, each with the programs that it concerns, gathered into results."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.report import CheckResult


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    status: Literal["limited", "failed"]
    message: str
    consumers: frozenset[Consumer]  #: empty for what is only advice


def fails(message: str, *consumers: Consumer) -> Finding:
    """These programs cannot run the package, or give wrong results without saying so."""
    return Finding("failed", message, frozenset(consumers))


def limits(message: str, *consumers: Consumer) -> Finding:
    """These programs run the package with a limit; without any program it is advice."""
    return Finding("limited", message, frozenset(consumers))


def to_results(check: Check, findings: Iterable[Finding], *, good: str) -> Iterator[CheckResult]:
    """One result if all findings concern the same programs, else one for each program, and one for the advice.

    Args:
        check: which check found them.
        findings: empty if all is well.
        good: what to say then.
    """
    found = sorted(findings, key=lambda finding: finding.status)  # failures first; the order stays otherwise
    concerned = {finding.consumers for finding in found}
    if not found:
        yield CheckResult(check=check, status="passed", message=good)
    elif len(concerned) == 1:
        yield _join(check, found, concerned.pop())
    else:
        for consumer in Consumer:
            own = [finding for finding in found if consumer in finding.consumers]
            if own:
                yield _join(check, own, frozenset({consumer}))
        advice = [finding for finding in found if not finding.consumers]
        if advice:
            yield _join(check, advice, frozenset())


def _join(check: Check, findings: list[Finding], consumers: frozenset[Consumer]) -> CheckResult:
    return CheckResult(
        check=check,
        status=findings[0].status,
        message="; ".join(dict.fromkeys(finding.message for finding in findings)),
        part=next(iter(consumers)).name if len(consumers) == 1 else "",
        consumers=consumers,
    )
