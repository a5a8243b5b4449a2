"""The weights of a finetuned network of anybody's: TorchScript, and ONNX where there is a way to it."""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import version_converter
from torch import nn

from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.errors import PackageError
from s2d_zoo.export import weights
from s2d_zoo.export.folding import FoldedNetwork, fold_into_onnx
from s2d_zoo.export.lineage import local_weights
from s2d_zoo.export.onnx_weights import replace_weights
from s2d_zoo.export.processing import SplitProcessing
from s2d_zoo.export.tolerance import FloatArray, onnx_runner

#: a format that differs more from the network than this is not that network
LARGEST_DIFFERENCE: Final = 1e-3


def fold_network(model: PackagedModel, processing: SplitProcessing) -> FoldedNetwork:
    """A copy of a model's network on the CPU that does the fixed steps of its description by itself."""
    with torch.no_grad():
        network = copy.deepcopy(model.network.network).cpu().eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return FoldedNetwork(network, processing).eval()


def write_torchscript(
    network: FoldedNetwork, processing: SplitProcessing, folder: Path, *, example: FloatArray
) -> None:
    """Write the network: as it is if it is TorchScript already and nothing was folded into it, else traced.

    Args:
        network: as `fold_network` gives it.
        processing: what was folded.
        folder: takes the file.
        example: input to trace with, ``(1, channel, (z), y, x)`` float32.
    """
    image = torch.from_numpy(example)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what a trace cannot follow shows when the formats are compared
        bare = isinstance(network.network, torch.jit.ScriptModule) and not (processing.before or processing.after)
        if bare and isinstance(network.network(image), torch.Tensor):
            script = weights.script_bytes(network.network)
        else:
            script = weights.trace_network(network, image)
    (folder / weights.TORCHSCRIPT_FILE).write_bytes(script)


def write_onnx(
    network: FoldedNetwork,
    base: PackagedModel,
    contents: PackageContents,
    processing: SplitProcessing,
    folder: Path,
    *,
    inputs: Sequence[FloatArray],
) -> str:
    """Write the network as ONNX: the base's own file with other weights, else exported if it is Python code.

    Args:
        network: as `fold_network` gives it.
        base: before the training.
        contents: its package, opened.
        processing: what was folded.
        folder: takes the file.
        inputs: on which the file must give what the network gives, ``(1, channel, (z), y, x)`` float32.

    Returns:
        Why there is none, in words; empty if it was written.
    """
    path = folder / weights.ONNX_FILE
    names = (str(base.description.inputs[0].id), str(base.description.outputs[0].id))
    source = local_weights(contents, "onnx")
    reason = "the base has none"
    if source is not None:
        reason = _replace(source, path, network, base, processing, names)
    if reason and not isinstance(network.network, torch.jit.ScriptModule):
        reason = _export(network, base, path, example=inputs[0], names=names)
    elif reason:
        reason = f"{reason}, and from TorchScript none can be made"
    reason = reason or _flaw(path, network, inputs)
    if reason:
        path.unlink(missing_ok=True)
    return reason


def read_opset(path: Path) -> int:
    """The opset of an ONNX file."""
    return next(int(entry.version) for entry in onnx.load(path).opset_import if not entry.domain)


def _replace(
    source: Path,
    target: Path,
    network: FoldedNetwork,
    base: PackagedModel,
    processing: SplitProcessing,
    names: tuple[str, str],
) -> str:
    before, after = (_arrays(one) for one in (base.network.network, network.network))
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        replaced = Path(name) / target.name
        try:
            if not replace_weights(source, replaced, before=before, after=after):
                return "the weights were joined with others in the base's file, so that they cannot be replaced"
            model = onnx.load(replaced)
            fold_into_onnx(model, processing, names=names)
            model = _lowered(model)
            onnx.checker.check_model(model)
        except Exception as error:  # noqa: BLE001 - onnx raises what it likes on a file that it does not understand
            return f"the base's file cannot be changed ({' '.join(str(error).split())[:200]})"
    onnx.save(model, target)
    return ""


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in versions that Fiji reads, if it is newer.

    Raises:
        Exception: of many kinds, if an operator has no older form.
    """
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if opset > weights.ONNX_OPSET:
        model = version_converter.convert_version(model, weights.ONNX_OPSET)
    model.ir_version = min(model.ir_version, weights.ONNX_IR)
    return model


def _arrays(network: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {name: values.detach().cpu().numpy() for name, values in network.state_dict().items()}


def _export(
    network: FoldedNetwork, base: PackagedModel, path: Path, *, example: FloatArray, names: tuple[str, str]
) -> str:
    taken = base.description.inputs[0]
    free = {
        index: str(axis.id)
        for index, axis in enumerate(taken.axes)
        if axis.type in {"batch", "space"} and not isinstance(axis.size, int)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a trace cannot follow; the formats are compared
        try:
            weights.export_onnx(network, path, example=torch.from_numpy(example), names=names, free=free)
        except Exception as error:  # noqa: BLE001 - the exporter raises many kinds, of its own and of the network
            return f"the network cannot be exported ({' '.join(str(error).split())[:200]})"
    return ""


def _flaw(path: Path, network: nn.Module, inputs: Sequence[FloatArray]) -> str:
    """Why an ONNX file is not the network, in words."""
    try:
        run = onnx_runner(path, threads=0)
        differences = [_largest_difference(network, run(values), values) for values in inputs]
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many kinds
        return f"the file made from the base's does not run ({' '.join(str(error).split())[:200]})"
    if max(differences) > LARGEST_DIFFERENCE:
        return f"the file made from the base's gives other values, by up to {max(differences):.2g}"
    return ""


def check_torchscript(network: nn.Module, folder: Path, *, inputs: Sequence[FloatArray]) -> None:
    """Run the TorchScript that was written.

    Raises:
        PackageError: if it does not give what the network gives, at every size that the description allows.
    """
    with weights.deprecated_on_purpose(), torch.inference_mode():
        script = torch.jit.load(str(folder / weights.TORCHSCRIPT_FILE))  # type: ignore[no-untyped-call]
        for values in inputs:
            size = " x ".join(map(str, values.shape[2:]))
            try:
                difference = _largest_difference(network, script(torch.from_numpy(values)).numpy(), values)
            except (RuntimeError, ValueError, TypeError) as error:
                msg = f"The description allows an input of {size} px, but the network does not take it: {error}"
                raise PackageError(msg) from error
            if difference > LARGEST_DIFFERENCE:
                msg = (
                    f"The network gives other values as TorchScript than by its code, by up to {difference:.2g} at "
                    f"{size} px: a trace cannot follow it. Finetune a package that has TorchScript weights."
                )
                raise PackageError(msg)


def _largest_difference(network: nn.Module, found: FloatArray, values: FloatArray) -> float:
    with torch.inference_mode():
        expected = network(torch.from_numpy(values)).numpy()
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
