"""ONNX weights in the oldest onnxruntime that there is for this Python, beside the newest."""

import numpy as np
import onnxruntime
import pytest


def newest(weights, inputs):
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    return [session.run(None, {session.get_inputs()[0].name: values})[0] for values in inputs]


def test_the_newest_gives_what_the_network_gives(model_package):
    inputs = model_package.inputs
    for output, values in zip(newest(model_package.weights("onnx"), inputs), inputs, strict=True):
        model_package.assert_close(output, model_package.expected(values))


def test_the_oldest_gives_what_the_newest_gives(model_package, oldest_onnxruntime, tmp_path):
    weights, inputs = model_package.weights("onnx"), model_package.inputs
    outputs, version = oldest_onnxruntime.run(weights, inputs, tmp_path)
    assert version != onnxruntime.__version__
    for old, new in zip(outputs, newest(weights, inputs), strict=True):
        model_package.assert_close(old, new)


def test_the_newest_runs_trees_as_sklearn_does(tree_model):
    [output] = newest(tree_model.path, [tree_model.inputs])
    np.testing.assert_allclose(output, tree_model.expected, atol=1e-6)


def test_the_oldest_runs_trees_as_sklearn_does(tree_model, oldest_onnxruntime, tmp_path):
    [output], _ = oldest_onnxruntime.run(tree_model.path, [tree_model.inputs], tmp_path)
    np.testing.assert_allclose(output, tree_model.expected, atol=1e-6)


def test_a_file_that_is_no_network_is_noticed(oldest_onnxruntime, tmp_path):
    (tmp_path / "weights.onnx").write_bytes(b"nothing")
    with pytest.raises(AssertionError, match="InvalidProtobuf"):
        oldest_onnxruntime.run(tmp_path / "weights.onnx", [], tmp_path)
