"""The weights of a package: state dict, TorchScript and ONNX, in the versions that consumers can read.

The bytes depend on the weights only, so that two exports of one model are equal.
"""

import copy
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import onnx
import torch
from torch import nn

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.sources import PIXEL_FOREST_FILE, UNET_FILE, packaged_source
from s2d_zoo.data.network import Network
from s2d_zoo.errors import PackageError
from s2d_zoo.export.fused import TREE_DOMAIN, TREE_OPSET, for_onnx

STATE_DICT_FILE: Final = "weights_state_dict.pt"
#: Fiji finds TorchScript by the part before the first ``.pt``
TORCHSCRIPT_FILE: Final = "weights.pt"
ONNX_FILE: Final = "weights.onnx"

#: the newest that onnxruntime 1.12, as found in Fiji, can read
ONNX_OPSET: Final = 17
ONNX_IR: Final = 8

_MANGLED: Final = re.compile(rb"___torch_mangle_(\d+)")


def torch_version() -> str:
    """Version of torch as bioimage.io writes it, without the build (``+cpu``)."""
    return str(torch.__version__).split("+", maxsplit=1)[0]


def architecture_file(model: Network) -> str:
    """Name of the file with the network's architecture."""
    return PIXEL_FOREST_FILE if isinstance(model, PixelForest) else UNET_FILE


def for_export(model: Network) -> Network:
    """A copy of the network on the CPU, in evaluation mode.

    Raises:
        PackageError: if a weight is not finite.
    """
    model = copy.deepcopy(model).cpu().eval()
    broken = [name for name, values in model.state_dict().items() if _is_broken(name, values)]
    if broken:
        msg = (
            f"Expected finite weights, found NaN or infinity in {', '.join(broken[:3])}"
            f"{' and others' if len(broken) > 3 else ''}. The training has diverged; repeat it with a lower "
            "learning rate."
        )
        raise PackageError(msg)
    return model


def write_weights(model: Network, folder: Path, *, example: torch.Tensor, input_name: str, output_name: str) -> None:
    """Write all weights files and the architecture into a folder.

    Args:
        model: as `for_export` gives it.
        folder: exists; takes the files named by the constants of this module.
        example: input to trace with, ``(1, channel, y, x)`` float32.
        input_name: name of the graph's input in ONNX.
        output_name: name of the graph's output in ONNX.

    Raises:
        PackageError: if the ONNX file came out in another version than asked for.
    """
    # into memory first: on a full disk torch's own writer raises what nobody can tell from a bug
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    (folder / STATE_DICT_FILE).write_bytes(buffer.getvalue())
    architecture = architecture_file(model)
    (folder / architecture).write_bytes(packaged_source(architecture))
    trees = {TREE_DOMAIN: TREE_OPSET} if isinstance(model, PixelForest) else {}
    with deprecated_on_purpose(), torch.no_grad():
        (folder / TORCHSCRIPT_FILE).write_bytes(trace_network(model, example))
    export_onnx(
        for_onnx(model) if isinstance(model, PixelForest) else model,
        folder / ONNX_FILE,
        example=example,
        names=(input_name, output_name),
        free={0: "batch", 2: "y", 3: "x"},
        trees=trees,
    )


def export_onnx(
    model: nn.Module,
    path: Path,
    *,
    example: torch.Tensor,
    names: tuple[str, str],
    free: Mapping[int, str],
    trees: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write a network as ONNX, in the versions that Fiji reads.

    Args:
        model: in evaluation mode, on the CPU.
        path: the file to write.
        example: input to follow through the network, ``(1, channel, …)`` float32.
        names: of the graph's input and output.
        free: axes whose size is not fixed, by their position.
        trees: version of the operators for trees, by domain.

    Raises:
        PackageError: if the file came out in another version than asked for.
    """
    with deprecated_on_purpose(), torch.no_grad():
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=False,
            opset_version=ONNX_OPSET,
            custom_opsets=dict(trees),
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: dict(free) for name in names},
        )
    check_onnx(path, trees=trees)


def _is_broken(name: str, values: torch.Tensor) -> bool:
    """Whether there is NaN or infinity; the thresholds of a forest's leaves are infinite on purpose."""
    return bool(torch.isnan(values).any()) if name == "forest.threshold" else not bool(torch.isfinite(values).all())


def check_onnx(path: Path, *, trees: Mapping[str, int] = MappingProxyType({})) -> None:
    """Read back which versions an ONNX file has: exporters are known to write others than asked for.

    Raises:
        PackageError: naming the versions expected and found.
    """
    graph = onnx.load(path)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    if opsets != {"ai.onnx": ONNX_OPSET, **trees} or graph.ir_version != ONNX_IR:
        msg = (
            f"Expected ONNX opset {ONNX_OPSET} and IR version {ONNX_IR} (the newest that Fiji reads), found "
            f"{opsets} and IR version {graph.ir_version} in {path.name}, written by torch {torch_version()}. "
            "Install another version of torch."
        )
        raise PackageError(msg)


@contextmanager
def deprecated_on_purpose() -> Iterator[None]:
    """TorchScript and the ONNX exporter based on it are deprecated, and the only formats that ilastik and Fiji read.

    Traced as if training had to be deterministic, whatever was set before.
    """
    flags = torch.backends.cudnn
    before = flags.deterministic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding")  # what is not folded is computed
        flags.deterministic = True  # a trace records it, and a training before may have set it or not
        try:
            yield
        finally:
            flags.deterministic = before


def trace_network(model: nn.Module, example: torch.Tensor) -> bytes:
    """TorchScript, traced: a scripted network cannot be loaded by the older libtorch in Fiji and QuPath.

    Args:
        model: in evaluation mode, on the CPU.
        example: input to trace with, ``(1, channel, …)`` float32.
    """
    # Names of classes that this process has traced before get a number. A first trace sees to it that all have
    # been, so that the second is numbered throughout, whatever was done before.
    torch.jit.trace(model, example, check_trace=False)  # type: ignore[no-untyped-call]
    return script_bytes(torch.jit.trace(model, example, check_trace=False))  # type: ignore[no-untyped-call]


def script_bytes(script: nn.Module) -> bytes:
    """A network of TorchScript as a file; equal networks give equal bytes."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    return _with_stable_bytes(buffer.getvalue())


def _with_stable_bytes(script: bytes) -> bytes:
    """The same TorchScript, numbered from 0 on, and without the debug records.

    Class names are numbered in the order of tracing, by a counter of the process; debug records hold the
    paths of source files on the machine that traced.
    """
    with zipfile.ZipFile(io.BytesIO(script)) as archive:
        members = {
            name: archive.read(name)
            for name in archive.namelist()
            if not name.endswith(".debug_pkl") and "/.data/" not in name
        }
    texts = [text for name, content in members.items() if "/data/" not in name for text in (name.encode(), content)]
    used = sorted({int(number) for text in texts for number in _MANGLED.findall(text)})
    renumbered = {str(number).encode(): str(index).encode() for index, number in enumerate(used)}

    def stable(text: bytes) -> bytes:
        return _MANGLED.sub(lambda found: b"___torch_mangle_" + renumbered[found[1]], text)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(
                zipfile.ZipInfo(stable(name.encode()).decode()), content if "/data/" in name else stable(content)
            )
    return buffer.getvalue()
