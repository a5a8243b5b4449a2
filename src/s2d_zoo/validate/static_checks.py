"""Checks that read the description and the files, and run nothing. None of them uses the network."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from bioimageio.spec import load_description
from bioimageio.spec.common import InvalidDescr
from bioimageio.spec.model.v0_5 import ModelDescr
from pydantic import ValidationError

from s2d_zoo.contract import RFContract
from s2d_zoo.data.package_contents import PackageContents, is_remote
from s2d_zoo.types import ENHANCER_TAG
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult

#: ilastik's Trainable Domain Adaptation lists the models that carry this tag
_SPACE: Final = frozenset("zyx")


def check_format(contents: PackageContents) -> CheckResult:
    """F01: what bioimageio.spec says about the description alone; the files have a check of their own."""
    version = str(contents.rdf.get("format_version"))
    if not version.startswith("0.5."):
        message = (
            f"expected format version 0.5.x, found {version}. For an older one, run "
            "'bioimageio update-format' on the unpacked package."
        )
        return CheckResult(check=Check.F01, status="failed", message=message)
    try:
        description = load_description(contents.folder / contents.rdf_name, perform_io_checks=False)
    except ValueError as error:
        return CheckResult(check=Check.F01, status="failed", message=str(error))
    if isinstance(description, ModelDescr):
        return CheckResult(check=Check.F01, status="passed", message=f"model description, format {version}")
    if isinstance(description, InvalidDescr):
        entries = (f"{'.'.join(map(str, entry.loc))}: {entry.msg}" for entry in description.validation_summary.errors)
        return CheckResult(check=Check.F01, status="failed", message="; ".join(entries))
    message = f"expected a model, found type {description.type}"
    return CheckResult(check=Check.F01, status="failed", message=message)


def check_files(contents: PackageContents) -> CheckResult:
    """F02: presence and SHA-256 of every file that the description names."""
    faults = tuple(_file_faults(contents))
    if faults:
        return CheckResult(check=Check.F02, status="failed", message="; ".join(faults))
    names = {reference.name for reference in contents.references()}
    return CheckResult(check=Check.F02, status="passed", message=f"{len(names)} files")


def _file_faults(contents: PackageContents) -> Iterator[str]:
    for reference in contents.references():
        path = contents.folder / reference.name
        if is_remote(reference.name):
            yield f"{reference.where} names {reference.name}, which is on the network; put the file into the package"
        elif not path.is_file():
            yield f"{reference.where} names {reference.name}, which is not in the package"
        elif reference.sha256 is not None:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != reference.sha256:
                yield (
                    f"{reference.where}: expected SHA-256 {reference.sha256[:12]}… of {reference.name}, found "
                    f"{found[:12]}…: the file was changed after the export, or is damaged"
                )


def check_contract(contents: PackageContents) -> CheckResult:
    """C01: the RF contract under ``config.s2d_zoo.rf_contract``, of packages that ilastik takes for enhancers."""
    tagged = ENHANCER_TAG in _listed(contents.rdf.get("tags"))
    written = _value_at(contents.rdf, "config", "s2d_zoo", "rf_contract")
    if not tagged and written is None:
        return CheckResult(check=Check.C01, status="skipped", message="not an enhancer")
    if not tagged:
        message = f"there is an RF contract, but no tag {ENHANCER_TAG!r}: ilastik would not list this enhancer"
        return CheckResult(check=Check.C01, status="failed", message=message)
    if written is None:
        message = f"tagged {ENHANCER_TAG!r}, but there is no RF contract under config.s2d_zoo.rf_contract"
        return CheckResult(check=Check.C01, status="failed", message=message)
    try:
        contract = RFContract.model_validate(written)
    except ValidationError as error:
        entries = (f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        return CheckResult(check=Check.C01, status="failed", message=f"invalid RF contract: {'; '.join(entries)}")
    return _compare_with_input(contract, contents)


def _compare_with_input(contract: RFContract, contents: PackageContents) -> CheckResult:
    """Number of channels and of spatial axes, as far as the description states them."""
    inputs = _listed(contents.rdf.get("inputs"))
    axes = [axis for axis in _listed(_value_at(inputs[0], "axes")) if isinstance(axis, dict)] if inputs else []
    ndim = sum(axis.get("type") == "space" and axis.get("id", "x") in _SPACE for axis in axes)
    channels = sum(len(_listed(axis.get("channel_names"))) for axis in axes if axis.get("type") == "channel")
    if (ndim, channels) != (contract.ndim, len(contract.channels)):
        message = (
            f"the RF contract speaks of {len(contract.channels)} channel(s) in {contract.ndim}D, "
            f"the input has {channels} in {ndim}D"
        )
        return CheckResult(check=Check.C01, status="failed", message=message)
    return CheckResult(check=Check.C01, status="passed", message=f"takes the roles {', '.join(contract.roles)}")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _value_at(value: object, *keys: str) -> object:
    """What lies below some keys, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
