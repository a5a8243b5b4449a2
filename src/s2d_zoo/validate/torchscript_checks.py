"""W05 and S04: whether older versions of torch load a package's TorchScript file without a GPU, and what it may do.

The file is a zip with code as text. That text is read, and nothing is loaded or run.
"""

import re
from collections.abc import Iterator
from typing import Final

from s2d_zoo.data.torchscript_file import read_code, reason_not_to_run
from s2d_zoo.data.written_description import local_file, source_of, value_at
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_FIJI, _QUPATH, _ILASTIK = Consumer.deepimagej, Consumer.qupath, Consumer.ilastik

#: operations that torch 2.7 does not know, which is what ilastik and QuPath bring. The first stands in the code of
#: every scripted `interpolate`, whether it is used or not
_NEWER_THAN_2_7: Final = frozenset({"_upsample_lanczos2d_aa"})
#: operations that torch 2.0 does not know, which is what deepImageJ brings
_NEWER_THAN_2_0: Final = _NEWER_THAN_2_7 | {
    "_batch_norm_no_update",
    "_batch_norm_with_update",
    "_int_mm",
    "_safe_softmax",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_mm",
    "_unsafe_index",
    "_unsafe_index_put",
    "_unsafe_masked_index",
    "empty_permuted",
    "nonzero_static",
    "rms_norm",
}
_CALL: Final = re.compile(r"(?<![\w.])torch\.(\w+)\(")
_CUDA_IN_CODE: Final = re.compile(r"""torch\.device\(["']cuda""")
#: the device of a tensor among the stored attributes, as text with its length before it
_CUDA_IN_DATA: Final = re.compile(rb"X.\0\0\0cuda:\d")
_BARE_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?")


def check_torchscript(model: OpenedModel) -> Iterator[CheckResult]:
    """W05: operations, devices, and the version that the description states."""
    entry = model.contents.rdf["weights"].get("torchscript")
    name = source_of(entry)
    path = local_file(model.contents, name)
    if path is None:
        reason = "there are no TorchScript weights" if name is None else f"{name} is not in the package"
        yield CheckResult(check=Check.W05, status="skipped", message=reason)
        return
    findings = [*_stated_version(value_at(entry, "pytorch_version"))]
    try:
        code, data = read_code(path)
    except Exception as error:  # noqa: BLE001 - zipfile and zlib raise many kinds on a damaged file
        message = f"expected a TorchScript file, but {name} cannot be read: {error}"
        findings.append(fails(f"{message}. Save it with torch.jit.save", *Consumer))
    else:
        findings += [*_operations(code), *_devices(code, data)]
    yield from to_results(Check.W05, findings, good="known operations, saved from the CPU")


def check_script_safety(model: OpenedModel) -> Iterator[CheckResult]:
    """S04: operations that read or write files, which TorchScript may do with those of whoever runs it."""
    name = source_of(model.contents.rdf["weights"].get("torchscript"))
    path = local_file(model.contents, name)
    if path is None:
        message = "there are no TorchScript weights" if name is None else f"{name} is not in the package"
        yield CheckResult(check=Check.S04, status="skipped", message=message)
        return
    reason = reason_not_to_run(path)
    findings = [] if reason is None else [fails(f"{reason}. Do not run this file", *Consumer)]
    yield from to_results(Check.S04, findings, good="no operation on files in its code")


def _operations(code: str) -> Iterator[Finding]:
    used = set(_CALL.findall(code))
    advice = "export it with torch.jit.trace, not torch.jit.script"
    if newer := sorted(used & _NEWER_THAN_2_7):
        yield fails(
            f"torch 2.7 does not know {', '.join(newer)}, and cannot load the file; {advice}", _ILASTIK, _QUPATH
        )
    if newer := sorted(used & _NEWER_THAN_2_0):
        yield fails(f"torch 2.0 does not know {', '.join(newer)}, and cannot load the file; {advice}", _FIJI)


def _devices(code: str, data: bytes) -> Iterator[Finding]:
    if _CUDA_IN_CODE.search(code):
        message = "a GPU is written into the code, which runs nowhere else; make tensors on the device of the input"
        yield fails(message, *Consumer)
    elif _CUDA_IN_DATA.search(data):
        # neither says where to put the tensors when it loads the file
        message = "it was saved from a GPU, without which it cannot be loaded; move the network to the CPU and save it"
        yield fails(message, Consumer.core, _ILASTIK)
        yield limits("it was saved from a GPU; move the network to the CPU and save it again", _FIJI, _QUPATH)


def _stated_version(stated: object) -> Iterator[Finding]:
    if stated is None:
        yield limits(
            "pytorch_version is not stated, and is taken for 1.13; state the one that it was saved with", _FIJI
        )
        return
    major = str(stated).partition(".")[0]
    if major not in {"1", "2"}:
        yield fails(f"pytorch_version is {stated}, for which there is no engine; expected 1.x or 2.x", _FIJI)
    elif not _BARE_VERSION.fullmatch(str(stated)):
        yield limits(f"pytorch_version is {stated}; write the bare number, such as 2.7.1")
