"""Checks that read the description and the files, and run nothing. None of them uses the network."""

from collections.abc import Iterator
from typing import Final

from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.package_contents import FileReference, PackageContents, is_outside, is_remote
from s2d_zoo.data.written_description import is_old_format, listed, tensor_files, value_at
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.axes_checks import check_axes, check_dtypes, check_halo, check_sizes
from s2d_zoo.validate.card_checks import check_attribution, check_card, check_contract
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.description_checks import check_wording
from s2d_zoo.validate.file_checks import check_names, check_network_use, check_test_tensors
from s2d_zoo.validate.lineage_checks import FindBase, check_base, check_lineage
from s2d_zoo.validate.onnx_checks import check_onnx
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.processing_checks import check_processing
from s2d_zoo.validate.report import CheckResult
from s2d_zoo.validate.torchscript_checks import check_script_safety, check_torchscript
from s2d_zoo.validate.weights_files import check_formats, check_python_code

#: in the order of the catalogue
_DESCRIPTION_CHECKS: Final = (
    check_wording,
    check_names,
    check_test_tensors,
    check_axes,
    check_sizes,
    check_halo,
    check_dtypes,
    check_processing,
    check_contract,
    check_card,
    check_attribution,
    check_lineage,
    check_python_code,
    check_network_use,
    check_script_safety,
    check_formats,
    check_onnx,
    check_torchscript,
)
#: of these an address will do: no program needs them to run the model
_MAY_BE_REMOTE: Final = ("documentation", "covers", "icon")


def check_basis(contents: PackageContents) -> tuple[CheckResult, ...]:
    """F01 and F02, on which all others depend."""
    return _check_format(contents), _check_files(contents)


def open_model(contents: PackageContents) -> OpenedModel | None:
    """The model in a package whose description is valid (F01); None if it is not."""
    description = _read_description(contents)
    return OpenedModel(contents=contents, description=description) if isinstance(description, ModelDescr) else None


def check_description(model: OpenedModel, find_base: FindBase | None = None) -> Iterator[CheckResult]:
    """All other checks that run nothing."""
    for check in _DESCRIPTION_CHECKS:
        yield from check(model)
        if check is check_lineage:
            yield from check_base(model, find_base)


def _check_format(contents: PackageContents) -> CheckResult:
    """F01: what bioimageio.spec says about the description alone; the files have a check of their own."""
    description = _read_description(contents)
    if isinstance(description, ModelDescr):
        version = contents.rdf.get("format_version")
        return CheckResult(check=Check.F01, status="passed", message=f"model description, format {version}")
    return CheckResult(check=Check.F01, status="failed", message=description)


def _read_description(contents: PackageContents) -> ModelDescr | str:
    """The description in the latest format, or what is wrong with it."""
    try:
        return read_model_description(contents)
    except PackageError as error:
        return str(error)


def _check_files(contents: PackageContents) -> CheckResult:
    """F02: presence and SHA-256 of every file that the description names."""
    references = (*contents.references(), *_old_references(contents))
    faults = [fault for reference in references if (fault := _file_fault(contents, reference))]
    if faults:
        return CheckResult(check=Check.F02, status="failed", message="; ".join(faults))
    names = {reference.name for reference in references}
    return CheckResult(check=Check.F02, status="passed", message=f"{len(names)} files")


def _old_references(contents: PackageContents) -> Iterator[FileReference]:
    """Files that format 0.4 names in ways of its own."""
    rdf = contents.rdf
    if not is_old_format(rdf):
        return
    for where, name in tensor_files(rdf):
        if name is not None:
            yield FileReference(name=name, sha256=None, where=f"test tensor of {where}")
    entry = value_at(rdf, "weights", "pytorch_state_dict")
    architecture, sha256 = value_at(entry, "architecture"), value_at(entry, "architecture_sha256")
    if isinstance(architecture, str) and ":" in architecture:
        yield FileReference(
            name=architecture.rpartition(":")[0],
            sha256=sha256 if isinstance(sha256, str) else None,
            where="weights.pytorch_state_dict.architecture",
        )
    for key in ("sample_inputs", "sample_outputs"):
        for name in listed(rdf.get(key)):
            yield FileReference(name=str(name), sha256=None, where=key)


def _file_fault(contents: PackageContents, reference: FileReference) -> str | None:
    path = contents.folder / reference.name
    if is_remote(reference.name):
        if reference.where in _MAY_BE_REMOTE:
            return None
        return f"{reference.where} names {reference.name}, which is on the network; put the file into the package"
    if is_outside(reference.name) or not path.is_file():
        return f"{reference.where} names {reference.name}, which is not in the package"
    if reference.sha256 is None:
        return None
    found = sha256_of(path)
    if found == reference.sha256:
        return None
    return (
        f"{reference.where}: expected SHA-256 {reference.sha256[:12]}… of {reference.name}, found "
        f"{found[:12]}…: the file was changed after the export, or is damaged"
    )
