"""All checks of a package, one after another, and what they mean for each program."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from tqdm import tqdm

from s2d_zoo.data.package_contents import PackageContents, open_package
from s2d_zoo.errors import PackageError, UnsafePackageError
from s2d_zoo.validate.checks import ALL_CONSUMERS, Check, Consumer, select_checks
from s2d_zoo.validate.lineage_checks import FindBase
from s2d_zoo.validate.network_checks import check_network
from s2d_zoo.validate.report import CheckResult, ValidationReport, Verdict, judge
from s2d_zoo.validate.sandbox import Limits, Sandbox
from s2d_zoo.validate.static_checks import check_basis, check_description, open_model

#: those that run the network, and take up to a minute
_NETWORK: Final = frozenset(
    {Check.W01, Check.W02, Check.W06, Check.A01, Check.R01, Check.R02, Check.T01, Check.T02, Check.T03, Check.T04}
)
#: programs that do not read a description with bioimageio.spec
_WITH_READERS: Final = frozenset({Consumer.deepimagej, Consumer.qupath})


def validate_package(
    path: Path,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    consumers: Sequence[Consumer] = tuple(Consumer),
    limits: Limits | None = None,
    tensors: Path | None = None,
    find_base: FindBase | None = None,
    progress: bool = False,
) -> ValidationReport:
    """Run the checks on a package, without the network and without Python code from the package.

    TorchScript and ONNX weights are run, in a process of their own with limited time and memory. That holds against
    accidents, not against malice: check packages of unknown origin with ``ignore=("W", "A01", "R", "T")``.

    A check that fails is a result, not an exception; one whose precondition does not hold is skipped, and says so.
    Checks that others depend on are run even if they are not chosen, and then not reported.

    Args:
        path: a ``.zip``, or the folder of an unpacked package.
        select: IDs of checks (``"T01"``) or their first letters (``"W"``); all if empty.
        ignore: the same, to leave out.
        consumers: programs that it is for; what concerns none of them is left out, and only they get a verdict.
        limits: what each test or run of the network may take; two minutes and 8 GiB if None.
        tensors: folder to keep the differences between outputs of two formats in; made if needed. Not kept if None.
        find_base: finds the package of the model that this one was made from, by its id and version, to compare their
            weights; None where it is not at hand. Only hashes are compared without.
        progress: whether to tell on stderr how far it is.

    Returns:
        The results, and a verdict for each program; no verdicts if only some checks are chosen.

    Raises:
        UserInputError: if there is nothing at the path, or an ID is unknown.
    """
    chosen = select_checks(select, ignore)
    wanted = frozenset(consumers)
    results: list[CheckResult] = []
    with tqdm(disable=not progress, bar_format="{desc} [{elapsed}]", leave=False) as bar:
        bar.set_description_str("opening the package")
        for result in _run(path, chosen, limits or Limits(), tensors, find_base):
            bar.set_description_str(f"checking, after {result.check.name} {result.part}".rstrip())
            if result.check in chosen and (not result.consumers or result.consumers & wanted):
                results.append(result)
    verdicts = verdicts_for(results, consumers) if chosen == frozenset(Check) else ()
    return ValidationReport(package=str(path), results=tuple(results), verdicts=verdicts)


def verdicts_for(
    results: Sequence[CheckResult], consumers: Sequence[Consumer] = tuple(Consumer)
) -> tuple[Verdict, ...]:
    """A verdict for each program, in their usual order, on the results of all checks; also on merged ones."""
    return tuple(judge(one, results) for one in Consumer if one in consumers)


def _run(
    path: Path, chosen: frozenset[Check], limits: Limits, tensors: Path | None, find_base: FindBase | None
) -> Iterator[CheckResult]:
    """Everything that is chosen, and what it depends on."""
    with ExitStack() as stack:
        try:
            contents = stack.enter_context(open_package(path))
        except UnsafePackageError as error:
            yield CheckResult(check=Check.S01, status="failed", message=str(error))
            yield from _skip_all_but({Check.S01}, "S01 failed")
        except PackageError as error:
            yield CheckResult(check=Check.F00, status="failed", message=str(error))
            yield from _skip_all_but({Check.F00}, "F00 failed")
        else:
            yield from _check_contents(contents, chosen, limits, tensors, find_base)


def _check_contents(
    contents: PackageContents,
    chosen: frozenset[Check],
    limits: Limits,
    tensors: Path | None,
    find_base: FindBase | None,
) -> Iterator[CheckResult]:
    """Of a package that could be opened: first what all else rests on, then what is read, then what is run."""
    found = "a folder, nothing to unpack" if contents.source.is_dir() else "unpacks into a folder of its own"
    basis = (
        CheckResult(check=Check.S01, status="passed", message=found),
        CheckResult(check=Check.F00, status="passed", message=f"the description is {contents.rdf_name}"),
        *chain.from_iterable(map(_leave_readers_out, check_basis(contents))),
    )
    yield from basis
    model = open_model(contents)
    if model is None:
        yield from _skip_all_but({result.check for result in basis}, "F01 failed")
        return
    yield from check_description(model, find_base)
    if any(result.status == "failed" for result in basis):
        yield from _skip(_NETWORK, "F02 failed")
    elif chosen & _NETWORK:
        yield from check_network(model, Sandbox(model, limits), tensors=tensors)


def _leave_readers_out(result: CheckResult) -> Iterator[CheckResult]:
    """Of a description that bioimageio.spec refuses, Fiji and QuPath may think otherwise."""
    if result.check is not Check.F01 or result.status != "failed":
        yield result
        return
    yield replace(result, consumers=ALL_CONSUMERS - _WITH_READERS)
    message = "Fiji and QuPath have readers of their own, which were not tried on what bioimageio.spec refuses"
    yield CheckResult(check=Check.F01, status="skipped", message=message, consumers=_WITH_READERS)


def _skip_all_but(checks: Collection[Check], reason: str) -> Iterator[CheckResult]:
    return _skip([check for check in Check if check not in checks], reason)


def _skip(checks: Collection[Check], reason: str) -> Iterator[CheckResult]:
    for check in Check:
        if check in checks:
            yield CheckResult(check=check, status="skipped", message=reason)
