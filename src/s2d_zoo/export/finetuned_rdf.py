"""The description of a finetuned package: that of its base, in the form that every consumer reads."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bioimageio.spec.model.v0_5 import (
    InputTensorDescr,
    IntervalOrRatioDataDescr,
    ModelDescr,
    OutputTensorDescr,
    ParameterizedSize,
)

from s2d_zoo.export import weights
from s2d_zoo.export.card_fields import Architecture, build_card_fields
from s2d_zoo.export.description import FinetunedDetails
from s2d_zoo.export.finetuned_weights import read_opset
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.model_card import BaseFacts, CardFacts, known_limits
from s2d_zoo.export.processing import SplitProcessing, write_steps
from s2d_zoo.export.rdf import PROGRAM_TAGS, write_file, write_head, write_own_config
from s2d_zoo.export.reference_tensors import TEST_INPUT_FILE, TEST_OUTPUT_FILE
from s2d_zoo.export.tolerance import Tolerance
from s2d_zoo.types import CHANNEL, ENHANCER_TAG

_SIGN: Final = re.compile(r"\W", re.ASCII)
_LONGEST_DESCRIPTION: Final = 128


def build_finetuned_rdf(
    base: ModelDescr,
    details: FinetunedDetails,
    geometry: TileGeometry,
    processing: SplitProcessing,
    folder: Path,
    *,
    facts: CardFacts,
    changes: BaseFacts,
    parameters: int,
    tolerance: Tolerance,
) -> dict[str, Any]:
    """The description of a package, as plain dicts, lists, strings and numbers.

    Args:
        base: description of the base, in the latest format.
        details: what is said about the new model, with authors and citations of the base.
        geometry: sizes that it takes.
        processing: which steps are in the network.
        folder: holds all other files of the package.
        facts: what the model card says.
        changes: what it says about the base.
        parameters: of the network, how many.
        tolerance: how far outputs may differ.

    Raises:
        ConfigError: if `details.config` is not plain JSON.
    """
    (taken,), (given,) = base.inputs, base.outputs
    stated = base.config.bioimageio
    architecture = Architecture(
        type=stated.architecture_type,
        description=stated.architecture_description or f"That of {base.name}, with other weights.",
        parameters=parameters,
    )
    training_data = {"training_data": {"id": details.training_data_id}} if details.training_data_id else {}
    extra = {"finetuned": {"folded": list(processing.folded), "weights_difference": changes.difference.to_json()}}
    return {
        **write_head(details, _tags(base, details)),
        **training_data,
        "inputs": [_input(taken, processing, folder)],
        "outputs": [_output(given, str(taken.id), processing, folder)],
        "weights": _weights(folder),
        "config": {
            "bioimageio": build_card_fields(
                details.kind,
                architecture,
                facts,
                limits=(*known_limits(details, geometry, changes), *facts.limits),
                tolerance=tolerance,
            ),
            "s2d_zoo": write_own_config(details, geometry, folder, extra),
        },
    }


def channel_names(tensor: InputTensorDescr | OutputTensorDescr) -> list[str]:
    """Names of a tensor's channels that format 0.5.9 takes: identifiers, each once."""
    axis = next(axis for axis in tensor.axes if axis.type == CHANNEL)
    names: list[str] = []
    for stated in axis.channel_names:
        name = _SIGN.sub("_", str(stated))
        name = name if name.isidentifier() else f"channel_{name}"
        while name in names:
            name += "_"
        names.append(name)
    return names


def _tags(base: ModelDescr, details: FinetunedDetails) -> list[str]:
    """Those of the base; but ilastik must offer enhancers, and nothing else, for probabilities."""
    kept = [tag for tag in map(str, base.tags) if tag.lower() != ENHANCER_TAG]
    return [*((ENHANCER_TAG,) if details.kind == "enhancer" else ()), "s2d-zoo", *kept, *PROGRAM_TAGS]


def _input(tensor: InputTensorDescr, processing: SplitProcessing, folder: Path) -> dict[str, Any]:
    steps = write_steps(processing.left_before, tensor)
    return {
        **_head(tensor),
        "axes": [
            *_first_axes(tensor),
            *({"type": "space", "id": str(axis.id), **_size(axis)} for axis in _space(tensor)),
        ],
        "data": {"type": "float32", **_range(tensor)},
        **({"preprocessing": steps} if steps else {}),
        "test_tensor": write_file(folder, TEST_INPUT_FILE),
    }


def _output(tensor: OutputTensorDescr, source: str, processing: SplitProcessing, folder: Path) -> dict[str, Any]:
    steps = write_steps(processing.left_after, tensor)
    return {
        **_head(tensor),
        "axes": [*_first_axes(tensor), *(_output_axis(axis, source) for axis in _space(tensor))],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        **({"postprocessing": steps} if steps else {}),
        "test_tensor": write_file(folder, TEST_OUTPUT_FILE),
    }


def _head(tensor: InputTensorDescr | OutputTensorDescr) -> dict[str, Any]:
    words = str(tensor.description)[:_LONGEST_DESCRIPTION]
    return {"id": str(tensor.id), **({"description": words} if words else {})}


def _first_axes(tensor: InputTensorDescr | OutputTensorDescr) -> list[dict[str, Any]]:
    """Batch and channel. The batch has no id: older Fiji takes an explicit one for a letter."""
    single = {"size": 1} if tensor.axes[0].size == 1 else {}
    return [
        {"type": "batch", **single},
        {"type": "channel", "id": CHANNEL, "channel_names": channel_names(tensor)},
    ]


def _space(tensor: InputTensorDescr | OutputTensorDescr) -> Sequence[Any]:
    return [axis for axis in tensor.axes if axis.type == "space"]


def _size(axis: Any) -> dict[str, Any]:  # noqa: ANN401 - axes of several kinds
    if isinstance(axis.size, ParameterizedSize):
        return {"size": {"min": axis.size.min, "step": axis.size.step}, "concatenable": True}
    return {"size": int(axis.size)}


def _output_axis(axis: Any, source: str) -> dict[str, Any]:  # noqa: ANN401 - axes of several kinds
    halo = int(getattr(axis, "halo", 0) or 0)
    return {
        "type": "space",
        "id": str(axis.id),
        # QuPath takes a missing offset for 1; Fiji cuts wrongly if a fixed size with a halo stands here
        "size": {"tensor_id": source, "axis_id": str(axis.id), "offset": 0},
        **({"halo": halo} if halo else {}),
    }


def _range(tensor: InputTensorDescr) -> dict[str, Any]:
    """As the base states it, if it states one for all channels."""
    data = tensor.data
    if not isinstance(data, IntervalOrRatioDataDescr):
        return {}
    low, high = data.range
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return {}
    return {"range": [float(low), float(high)]}


def _weights(folder: Path) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "torchscript": {
            **write_file(folder, weights.TORCHSCRIPT_FILE),
            "pytorch_version": weights.torch_version(),
        }
    }
    path = folder / weights.ONNX_FILE
    if path.is_file():
        entries["onnx"] = {
            **write_file(folder, weights.ONNX_FILE),
            "parent": "torchscript",
            "opset_version": read_opset(path),
        }
    return entries
