"""All checks of a package, one after another."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from s2d_zoo.data.package_contents import PackageContents, open_package
from s2d_zoo.validate.checks import Check, select_checks
from s2d_zoo.validate.network_checks import check_network, skip_checks
from s2d_zoo.validate.parity import undisturbed
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.static_checks import check_contract, check_files, check_format

#: those that run the network, and take seconds
_NETWORK: Final = (Check.W01, Check.W02, Check.A01, Check.T01)


def validate_package(path: Path, *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> ValidationReport:
    """Run the checks on a package, without the network and without Python code from the package.

    TorchScript and ONNX weights are run: they are programs of their own, in the sandbox that torch and onnxruntime
    give them, which is not one against malice. Check packages of unknown origin with ``ignore=("W", "A", "T")``.

    A check that fails is a result, not an exception; one whose precondition does not hold is skipped, and says so.

    Args:
        path: a ``.zip``, or the folder of an unpacked package.
        select: IDs of checks (``"T01"``) or their first letters (``"W"``); all if empty.
        ignore: the same, to leave out.

    Raises:
        UserInputError: if there is nothing at the path, or an ID is unknown.
        PackageError: if the package cannot be opened.
        UnsafePackageError: if it must not be.
    """
    chosen = select_checks(select, ignore)
    with open_package(path) as contents, undisturbed():
        results = tuple(result for result in _run(contents, chosen) if result.check in chosen)
    return ValidationReport(package=str(path), results=results)


def _run(contents: PackageContents, chosen: frozenset[Check]) -> Iterator[CheckResult]:
    """Everything that is chosen, and what it depends on."""
    basis = check_format(contents), check_files(contents)
    yield from basis
    if basis[0].status == "failed":
        yield from skip_checks((Check.C01,), "F01 failed")
    else:
        yield check_contract(contents)
    if not chosen & set(_NETWORK):
        return
    failed = [result.check.name for result in basis if result.status == "failed"]
    if failed:
        yield from skip_checks(_NETWORK, f"{' and '.join(failed)} failed")
    else:
        yield from check_network(contents)
