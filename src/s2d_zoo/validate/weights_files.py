"""W03 and S02: which weights formats there are, who runs them, and which of them are Python code."""

from collections.abc import Iterator
from typing import Final

from bioimageio.spec.model.v0_5 import ArchitectureFromLibraryDescr, CustomProcessingDescr

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.network import own_architectures
from s2d_zoo.data.state_dict_file import read_state_dict
from s2d_zoo.data.written_description import local_file, source_of
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.consumers import users_of
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

#: formats that a program runs as it is installed. ilastik makes a package of one of these two out of every other;
#: deepImageJ has engines for these three; QuPath is built with PyTorch and TensorFlow
_RUN_BY: Final = {
    Consumer.ilastik: ("torchscript", "pytorch_state_dict"),
    Consumer.deepimagej: ("torchscript", "onnx", "tensorflow_saved_model_bundle"),
    Consumer.qupath: ("torchscript", "tensorflow_saved_model_bundle"),
}


def check_formats(model: OpenedModel) -> Iterator[CheckResult]:
    """W03: one format at least for each program."""
    there = ", ".join(model.formats) or "none"
    findings: list[Finding] = []
    for consumer, formats in _RUN_BY.items():
        if set(formats) & set(model.formats):
            continue
        message = f"expected weights as {' or '.join(formats)}, found {there}"
        if consumer is Consumer.deepimagej and model.formats == ("pytorch_state_dict",):
            # run through an environment of Python that it downloads
            findings.append(limits(f"{message}, which needs a Python environment inside of Fiji", consumer))
        elif consumer is Consumer.qupath and "onnx" in model.formats:
            findings.append(fails(f"{message}: ONNX runs in a QuPath built for it only", consumer))
        else:
            findings.append(fails(f"{message}; add TorchScript weights", consumer))
    yield from to_results(Check.W03, findings, good=there)


def check_python_code(model: OpenedModel) -> Iterator[CheckResult]:
    """S02: whether somebody who opens the package runs Python code that came with it."""
    findings = [*_code_in_state_dict(model)]
    reason = foreign_architecture(model)
    if reason is not None:
        others = [name for name in model.formats if name != "pytorch_state_dict"]
        if others:
            findings.append(limits(f"{reason}; {' and '.join(others)} can be run without"))
        else:
            message = f"{reason}, and there is no other format: who runs the model runs that code"
            findings.append(limits(f"{message}. Add TorchScript weights", *Consumer))
    if any(isinstance(step, CustomProcessingDescr) for one in model.description.outputs for step in one.postprocessing):
        message = "the postprocessing is Python code from the package, which is run without being asked for"
        findings.append(limits(message, Consumer.core, Consumer.ilastik))
    yield from to_results(Check.S02, findings, good="no Python code but architectures of s2d-zoo")


def _code_in_state_dict(model: OpenedModel) -> Iterator[Finding]:
    """A state dict is a pickle: it may call anything, unless it is read as tensors only."""
    path = local_file(model.contents, source_of(model.contents.rdf["weights"].get("pytorch_state_dict")))
    if path is None:
        return
    try:
        read_state_dict(path, shapes_only=True)
    except PackageError as error:
        yield fails(str(error), *users_of("pytorch_state_dict", model.formats))


def foreign_architecture(model: OpenedModel) -> str | None:
    """In words, which code of others the PyTorch weights need; None if there is none."""
    entry = model.description.weights.pytorch_state_dict
    if entry is None:
        return None
    architecture = entry.architecture
    if isinstance(architecture, ArchitectureFromLibraryDescr):
        return f"the PyTorch weights need the Python package {architecture.import_from}"
    name = str(architecture.source)
    path = local_file(model.contents, name)
    if path is not None and sha256_of(path) in own_architectures():
        return None
    return f"the PyTorch weights need Python code from the package ({name})"
