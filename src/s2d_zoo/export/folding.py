"""A network that does fixed steps of its pre- and postprocessing by itself, in torch and in ONNX."""

from collections.abc import Sequence
from typing import Any, Final

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from s2d_zoo.export.processing import Operation, SplitProcessing

_TORCH: Final[dict[str, Any]] = {
    "Sub": torch.sub,
    "Div": torch.div,
    "Mul": torch.mul,
    "Add": torch.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
}
#: the first with which all operators broadcast
_OLDEST_OPSET: Final = 8


class FoldedNetwork(nn.Module):
    """A network between fixed operations. It is meant to be traced, so that its loops cost nothing.

    Args:
        network: gives one tensor, or a list of one.
        processing: what is done before and after it.
    """

    def __init__(self, network: nn.Module, processing: SplitProcessing) -> None:
        super().__init__()
        self.network = network
        self._before = self._register(processing.before, "before")
        self._after = self._register(processing.after, "after")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Apply the operations, the network, and the operations behind it."""
        output = self.network(self._run(image, self._before))
        return self._run(output[0] if isinstance(output, list | tuple) else output, self._after)

    def _register(self, operations: Sequence[Operation], where: str) -> tuple[tuple[str, str], ...]:
        """Keep the constants as buffers, so that they go where the network goes."""
        named = tuple((operation.operator, f"{where}_{index}") for index, operation in enumerate(operations))
        for operation, (_, name) in zip(operations, named, strict=True):
            if operation.constant is not None:
                self.register_buffer(name, torch.tensor(operation.constant, dtype=torch.float32))
        return named

    def _run(self, image: torch.Tensor, operations: Sequence[tuple[str, str]]) -> torch.Tensor:
        for operator, name in operations:
            image = torch.sigmoid(image) if operator == "Sigmoid" else _TORCH[operator](image, getattr(self, name))
        return image


def fold_into_onnx(model: onnx.ModelProto, processing: SplitProcessing, *, names: tuple[str, str]) -> None:
    """Put operations before and after the graph of an ONNX file.

    Args:
        model: with one input and one output; it is changed.
        processing: what is to be done before and after.
        names: of the new input and output.

    Raises:
        ValueError: if there are several inputs or outputs, or the opset is too old for it.
    """
    if not (processing.before or processing.after):
        return
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        msg = f"expected one input and one output, found {len(inputs)} and {len(graph.output)}"
        raise ValueError(msg)
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < _OLDEST_OPSET:
        msg = f"expected opset {_OLDEST_OPSET} or newer, found {opset}"
        raise ValueError(msg)
    (taken,), (given,) = inputs, graph.output
    taken_before, given_before = taken.name, given.name
    used = {name for node in graph.node for name in (*node.input, *node.output)} | constants
    new_input, new_output = (_unused(name, used) for name in names)
    before = after = []
    if processing.before:
        taken.name = new_input
        before = _chain(graph, processing.before, new_input, taken_before)
    if processing.after:
        given.name = new_output
        after = _chain(graph, processing.after, given_before, new_output)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _unused(name: str, used: set[str]) -> str:
    return name if name not in used else _unused(f"{name}_", used)


def _chain(graph: Any, operations: Sequence[Operation], source: str, target: str) -> list[onnx.NodeProto]:  # noqa: ANN401
    """Nodes from one name to another; their constants are added to the graph."""
    names = [source, *(f"{target}_folded_{index}" for index in range(len(operations) - 1)), target]
    nodes = []
    for operation, taken, given in zip(operations, names, names[1:], strict=False):
        inputs = [taken]
        if operation.constant is not None:
            inputs.append(f"{given}_constant")
            graph.initializer.append(numpy_helper.from_array(operation.constant, inputs[-1]))
        nodes.append(helper.make_node(operation.operator, inputs, [given]))
    return nodes
