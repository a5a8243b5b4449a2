"""A network between fixed operations, in torch and in ONNX."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from s2d_zoo.export.folding import FoldedNetwork, fold_into_onnx
from s2d_zoo.export.processing import Operation, SplitProcessing


def number(value):
    return np.asarray(value, dtype=np.float32)


PROCESSING = SplitProcessing(
    before=(
        Operation("Sub", number([[[1.0]], [[2.0]]])),
        Operation("Div", number(4.0)),
        Operation("Max", number(-0.5)),
        Operation("Min", number(0.5)),
    ),
    after=(Operation("Mul", number(3.0)), Operation("Add", number(-0.1)), Operation("Sigmoid")),
)


class Double(nn.Module):
    def forward(self, image):
        return image * 2


def make_onnx(inner="x", names=("in", "out"), opset=17):
    """Doubles its input."""
    shape = [None, 2, None, None]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    two = onnx.numpy_helper.from_array(number(2.0), "two")
    nodes = [
        helper.make_node("Identity", [names[0]], [inner]),
        helper.make_node("Mul", [inner, "two"], [names[1]]),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected_of(image):
    fed = np.clip((image - np.array([1.0, 2.0]).reshape(1, 2, 1, 1)) / 4, -0.5, 0.5)
    return 1 / (1 + np.exp(-(fed * 2 * 3 - 0.1)))


IMAGE = np.random.default_rng(0).normal(size=(2, 2, 5, 6)).astype(np.float32) * 3


def test_in_torch_the_operations_are_done_before_and_after():
    network = FoldedNetwork(Double(), PROCESSING)
    np.testing.assert_allclose(network(torch.from_numpy(IMAGE)), expected_of(IMAGE), atol=1e-6)
    assert len(network.state_dict()) == 6
    assert next(network.cpu().buffers()).dtype == torch.float32


@pytest.mark.parametrize("inner", ["x", "raw", "map"])
def test_in_onnx_the_operations_are_done_before_and_after(inner):
    model = make_onnx(inner)
    fold_into_onnx(model, PROCESSING, names=("raw", "map"))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: IMAGE})[0]
    np.testing.assert_allclose(found, expected_of(IMAGE), atol=1e-6)


def test_constants_among_the_inputs_are_none():
    model = make_onnx()
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, []))
    fold_into_onnx(model, SplitProcessing(after=(Operation("Sigmoid"),)), names=("raw", "map"))
    assert [entry.name for entry in model.graph.input] == ["in", "two"]
    assert [entry.name for entry in model.graph.output] == ["map"]


def test_operations_before_only_leave_the_output_as_it_is():
    model = make_onnx()
    fold_into_onnx(model, SplitProcessing(before=PROCESSING.before), names=("raw", "map"))
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["raw", "out"]
    onnx.checker.check_model(model, full_check=True)


def test_without_operations_the_graph_stays_as_it_is():
    model = make_onnx(opset=7)
    before = model.SerializeToString()
    fold_into_onnx(model, SplitProcessing(), names=("raw", "map"))
    assert model.SerializeToString() == before


def test_an_old_opset_is_refused():
    with pytest.raises(ValueError, match="opset 8 or newer, found 7"):
        fold_into_onnx(make_onnx(opset=7), PROCESSING, names=("raw", "map"))
