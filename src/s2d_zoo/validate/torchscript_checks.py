"""W05 and S04: whether older versions of torch load a package's TorchScript file without a GPU, and what it may do.

The file is a zip with code as text. That text is read, and nothing is loaded or run.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult
from s2d_zoo.validate.written_description import local_file, source_of, value_at

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
#: operations of torch, torchvision and torch's own tools that take the name of a file. Any prefix will do, since what
#: they hang on can be renamed; `save` and `load` alone are common names of variables
_FILE_OPERATION: Final = re.compile(
    r"\b(?:from_file|read_file|write_file|load_tensor)\b|\.(?:[\s\\]|#[^\n]*\n)*(?:save|load)\b"
)
#: how torch writes submodules whose names are no words; strings in parts or with escapes could spell anything
_PLAIN_GETATTR: Final = re.compile(r"""\bgetattr\([\w.]+, ["']([^"'\\\n]*)["']\)""")
#: where torch looks for code, whatever the case of the letters
_CODE_OR_DATA: Final = re.compile(r"[^/]*/(code/.+\.py|data\.pkl|constants\.pkl)", re.IGNORECASE | re.DOTALL)
#: unpacked; the code of a large network has a hundredth of it
_MAX_BYTES: Final = 64 * 1024**2


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
        code, data = _read_members(path)
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
    reason = reason_not_to_run_torchscript(path)
    findings = [] if reason is None else [fails(f"{reason}. Do not run this file", *Consumer)]
    yield from to_results(Check.S04, findings, good="no operation on files in its code")


def reason_not_to_run_torchscript(path: Path) -> str | None:
    """Why a TorchScript file must not be loaded here, which may already run its code; None if it may."""
    try:
        code, _ = _read_members(path)
    except Exception as error:  # noqa: BLE001 - as above
        return f"expected a TorchScript file whose code can be looked at, but {path.name} cannot be read: {error}"
    found = {match.group().rpartition(".")[2].split()[-1] for match in _FILE_OPERATION.finditer(code)}
    found |= {match.group(1) for match in _PLAIN_GETATTR.finditer(code) if match.group(1) in {"save", "load"}}
    if found:
        return f"the code of {path.name} reads or writes files of the user ({', '.join(sorted(found))})"
    if len(_PLAIN_GETATTR.findall(code)) < len(re.findall(r"\bgetattr\b", code)):
        return f"the code of {path.name} hides the names of operations (getattr), as torch never writes it"
    return None


def _read_members(path: Path) -> tuple[str, bytes]:
    """The code, and the list of what is stored."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            msg = "it is no zip"  # `zipfile` would take one behind something else, where torch looks first
            raise ValueError(msg)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.filename.lower().endswith("/model.json") for member in members):
            msg = "it is of a version of torch before 1.4, which keeps code anywhere; save it again"
            raise ValueError(msg)
        wanted = [member for member in members if _CODE_OR_DATA.fullmatch(member.filename)]
        if sum(member.file_size for member in wanted) > _MAX_BYTES:
            msg = f"its code takes more than {_MAX_BYTES // 1024**2} MiB"
            raise ValueError(msg)
        texts = [archive.read(member) for member in wanted if member.filename.lower().endswith(".py")]
        stored = [archive.read(member) for member in wanted if member.filename.lower().endswith(".pkl")]
    if not texts or not stored:
        msg = "there is no code in it; it may be a state dict"
        raise ValueError(msg)
    return b"\n".join(texts).decode("utf-8"), b"".join(stored)


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
