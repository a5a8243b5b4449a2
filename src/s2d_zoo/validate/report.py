"""Results of a validation, as data: of each check, and for each program whether it can run the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from s2d_zoo.validate.checks import ALL_CONSUMERS, Check, Consumer

#: limited: it holds, but with a limit that a user should know
Status: TypeAlias = Literal["passed", "limited", "failed", "skipped"]
Word: TypeAlias = Literal["runs", "runs with limits", "refused", "not tried"]

#: checks without which something is not known of a program that runs the package, and what that is
_GAPS: Final[Mapping[Check, str]] = {
    Check.W01: "{part} was not tried",
    **dict.fromkeys((Check.T02, Check.T03, Check.T04), "tiles were not measured"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What came out of one check, for one part of the package."""

    check: Check
    status: Status
    message: str  #: what was found; of a failed check, with what was expected and what to do
    part: str = ""  #: weights format, program, …, where there are several results of one check
    #: whom it concerns: a failure makes these refuse the package (see `judge`); empty for what is only advice
    consumers: frozenset[Consumer] = ALL_CONSUMERS
    #: whether a failure keeps these from running the package: not if it is a difference in values, of which they tell
    #: nobody
    hinders: bool = True
    #: figures behind the message, plain JSON: for each pair of formats and each tensor its differences, …
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one program can run the package."""

    consumer: Consumer
    word: Word
    reasons: tuple[str, ...]  #: limits, or why it is refused; each begins with the check's ID


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What came out of all checks of one package."""

    package: str  #: its path, as given
    results: tuple[CheckResult, ...]
    verdicts: tuple[Verdict, ...] = ()  #: one for each program that was asked about

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A skipped check has not failed, but says why it is missing."""
        return all(result.status != "failed" for result in self.results)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 1 otherwise."""
        return 0 if self.passed else 1


def judge(consumer: Consumer, results: Sequence[CheckResult]) -> Verdict:
    """What the results mean for one program.

    Refused if a check that concerns it failed and hinders; not tried if none of its weights formats was run (W01);
    else it runs, with the limits that were found: other failures, limits, and what is not known of it, because a
    weights format or tiles were skipped.
    """
    own = [result for result in results if consumer in result.consumers]
    failed = tuple(_reason(result) for result in own if result.status == "failed" and result.hinders)
    if failed:
        return Verdict(consumer=consumer, word="refused", reasons=failed)
    if not any(result.check is Check.W01 and result.status == "passed" for result in own):
        skipped = tuple(_reason(result) for result in own if result.check is Check.W01) or ("W01: was not run",)
        return Verdict(consumer=consumer, word="not tried", reasons=skipped)
    limits = tuple(limit for result in own if (limit := _limit(result)) is not None)
    return Verdict(consumer=consumer, word="runs with limits" if limits else "runs", reasons=limits)


def _limit(result: CheckResult) -> str | None:
    """What a result means for a program that runs the package, or None."""
    if result.status in {"limited", "failed"}:
        return _reason(result)
    if result.status == "skipped" and result.check in _GAPS:
        return f"{result.check.name}: {_GAPS[result.check].format(part=result.part)}: {result.message}"
    return None


def _reason(result: CheckResult) -> str:
    return f"{result.check.name}: {result.message}"
