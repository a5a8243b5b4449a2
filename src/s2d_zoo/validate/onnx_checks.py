"""W04: whether the runtimes that read a package's ONNX file know its versions and its types.

The file is parsed, not run. deepImageJ is what decides: it brings onnxruntime 1.13.1 at most.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from s2d_zoo.data.package_contents import is_outside
from s2d_zoo.data.written_description import local_file, source_of, value_at
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_CORE, _FIJI = Consumer.core, Consumer.deepimagej

#: what onnxruntime 1.12 and 1.13 read; versions of ai.onnx.ml are for trees
_HIGHEST_OPSET, _HIGHEST_IR, _HIGHEST_ML = 17, 8, 3
#: opsets for which deepImageJ installs a runtime
_ENGINES: Final = range(8, 19)
#: element types that deepImageJ takes over from an output
_OUTPUT_TYPES: Final = frozenset({"float", "double", "int8", "int32", "int64"})
_NUMPY_NAMES: Final[Mapping[str, str]] = {"float": "float32", "double": "float64"}
#: where a tensor holds its values, if not as bytes; of the smallest types there are two in each entry or byte
_TYPED: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_PER_ENTRY: Final = 2
#: of a parsed file; a network for images has a tenth of it
_MAX_BYTES: Final = 1024**3


def check_onnx(model: OpenedModel) -> Iterator[CheckResult]:
    """W04: versions, types and numbers of inputs and outputs, and the files that hold the values."""
    name = source_of(model.contents.rdf["weights"].get("onnx"))
    path = local_file(model.contents, name)
    if path is None or path.stat().st_size > _MAX_BYTES:
        reason = "there are no ONNX weights" if name is None else f"{name} is not in the package, or too large"
        yield CheckResult(check=Check.W04, status="skipped", message=reason)
        return
    try:
        network = _read_network(path)
    except Exception as error:  # noqa: BLE001 - protobuf raises what it likes on other content
        message = f"expected an ONNX file, but {name} cannot be read: {error}"
        yield from to_results(Check.W04, [fails(message, _CORE, _FIJI)], good="")
        return
    versions = {entry.domain or "ai.onnx": entry.version for entry in network.opset_import}
    findings = [*_versions(network.ir_version, versions), *_stated(model, versions), *_tensors(model, network)]
    findings += _external(model, network, path)
    false_size = _false_size(network)
    if false_size is not None:
        findings.append(fails(f"{name} {false_size}; do not use this file", *Consumer))
    shown = ", ".join(f"{domain} {version}" for domain, version in sorted(versions.items()))
    yield from to_results(Check.W04, findings, good=f"opsets {shown}, IR version {network.ir_version}")


def _versions(ir_version: int, versions: Mapping[str, int]) -> Iterator[Finding]:
    for found, highest, what in (
        (versions.get("ai.onnx", 0), _HIGHEST_OPSET, "opset"),
        (ir_version, _HIGHEST_IR, "IR version"),
        (versions.get("ai.onnx.ml", 0), _HIGHEST_ML, "opset of ai.onnx.ml"),
    ):
        if found > highest:
            yield fails(f"the file has {what} {found}, expected at most {highest}; export it again", _FIJI)


def _stated(model: OpenedModel, versions: Mapping[str, int]) -> Iterator[Finding]:
    """The description decides which runtime is started, whatever is in the file."""
    found = versions.get("ai.onnx", 0)
    stated = model.contents.rdf["weights"]["onnx"].get("opset_version")
    if stated is None:
        stated = _HIGHEST_OPSET  # so says deepImageJ
    if stated not in _ENGINES:
        yield fails(f"the description states opset {stated}, for which there is no runtime; expected at most 17", _FIJI)
    elif stated < found:
        yield fails(f"the description states opset {stated}, the file has {found}: a too old runtime is used", _FIJI)
    elif stated != found:
        yield limits(f"the description states opset {stated}, the file has {found}; correct the description")


def _tensors(model: OpenedModel, network: onnx.ModelProto) -> Iterator[Finding]:
    constants = {entry.name for entry in network.graph.initializer}
    inputs = [entry for entry in network.graph.input if entry.name not in constants]
    outputs, described = list(network.graph.output), model.description.outputs
    for entry in inputs:
        kind = _type_of(entry)
        if kind != "float":
            # every image is converted to float32 before it is fed
            yield fails(f"input {entry.name} is of type {kind}, expected float; convert inside of the network", _FIJI)
    for found, expected, what in (
        (inputs, model.description.inputs, "inputs"),
        (outputs, described, "outputs"),
    ):
        if len(found) != len(expected):
            # they are matched by their place
            yield fails(f"the file has {len(found)} {what}, the description {len(expected)}", _FIJI)
    for entry, tensor in zip(outputs, described, strict=False):
        kind = _type_of(entry)
        if kind not in _OUTPUT_TYPES:
            yield fails(f"output {entry.name} is of type {kind}, which is not read; expected float", _FIJI)
        elif _NUMPY_NAMES.get(kind, kind) != tensor.dtype:
            # space is reserved for the stated type
            yield fails(f"output {entry.name} is of type {kind}, the description says {tensor.dtype}", _FIJI)


def _type_of(entry: Any) -> str:  # noqa: ANN401 - protobuf has no types
    if not entry.type.HasField("tensor_type"):
        return str(entry.type.WhichOneof("value")).removesuffix("_type")
    return str(onnx.TensorProto.DataType.Name(entry.type.tensor_type.elem_type)).lower()


def _read_network(path: Path) -> onnx.ModelProto:
    """The graph without values from other files, read as onnxruntime reads it, whatever the file is called."""
    return onnx.load(path, format="protobuf", load_external_data=False)


def reason_not_to_run_onnx(path: Path) -> str | None:
    """Why an ONNX file must not be loaded here: it names files of the user, or lies about sizes. None if it may."""
    if path.stat().st_size > _MAX_BYTES:
        return f"expected an ONNX file of at most {_MAX_BYTES // 1024**2} MiB, {path.name} is larger"
    try:
        network = _read_network(path)
    except Exception as error:  # noqa: BLE001 - as above
        return f"expected an ONNX file, but {path.name} cannot be read: {error}"
    for name in _locations(network):
        if not (_stays_inside(name, path) and (path.parent / name).is_file()):
            return f"{path.name} is to read values from {name[:80]}, which is not in the package"
    reason = _false_size(network)
    return None if reason is None else f"{path.name} {reason}"


def _false_size(network: onnx.ModelProto) -> str | None:
    """Which tensor declares values that it does not hold, for which room would be made; None if none does."""
    for tensor in _tensors_in(network):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        declared = math.prod(tensor.dims)
        held = _PER_ENTRY * max(len(tensor.raw_data), *(len(getattr(tensor, field)) for field in _TYPED))
        if not 0 <= declared <= held:
            return f"declares {declared:.4g} values in {tensor.name or 'a tensor'}, and holds at most {held}"
    return None


def _external(model: OpenedModel, network: onnx.ModelProto, path: Path) -> Iterator[Finding]:
    """Values beside the file: they must be in the package, nowhere else, and the description must say so."""
    declared = local_file(model.contents, source_of(value_at(model.contents.rdf, "weights", "onnx", "external_data")))
    for name in _locations(network):
        message = f"values are to be read from {name[:80]}"
        if not _stays_inside(name, path):
            yield fails(f"{message}, outside of the package; do not use this file", *Consumer)
        elif not (path.parent / name).is_file():
            yield fails(f"{message}, which is not beside the ONNX file", _CORE, _FIJI)
        elif (path.parent / name).resolve() != declared:
            # bioimageio.core takes along only what is declared; Fiji finds it, but nothing tells if it is damaged
            message += "; declare it as external_data of the ONNX weights"
            yield fails(message, _CORE) if model.formats == ("onnx",) else limits(message, _CORE)
            yield limits(message)


def _locations(network: onnx.ModelProto) -> list[str]:
    """The files that hold values of tensors, as they are named."""
    return sorted(
        {
            pair.value
            for tensor in _tensors_in(network)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for pair in tensor.external_data
            if pair.key == "location"
        }
    )


def _tensors_in(message: Any) -> Iterator[onnx.TensorProto]:  # noqa: ANN401 - protobuf has no types
    """Every tensor, wherever it is: initializers, attributes of nodes, sparse ones, subgraphs, functions."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto):
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


def _stays_inside(name: str, path: Path) -> bool:
    """Whether a file that holds values lies beside an ONNX file or below, links followed."""
    try:
        (path.parent / name).is_file()  # asks the file system whether this can be a name at all
        found = (path.parent / name).resolve()
    except (OSError, RuntimeError, ValueError):  # it cannot, or is a link to itself
        return False
    return not is_outside(name) and found.is_relative_to(path.parent.resolve())
