"""W04: versions and types in the ONNX file."""

import onnx
import pytest
from onnx import TensorProto, helper

from s2d_zoo.validate.onnx_checks import check_onnx

CORE, FIJI = "core", "deepimagej"


def network(*, opset=17, ir_version=8, source=TensorProto.FLOAT, target=TensorProto.FLOAT, outputs=1, trees=None):
    """One that doubles its input."""
    shape = [None, 1, None, None]
    names = [f"output{index}" for index in range(outputs)]
    nodes = [
        helper.make_node("Cast", ["input"], ["cast"], to=target),
        *(helper.make_node("Add", ["cast", "cast"], [name]) for name in names),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", source, shape)],
        [helper.make_tensor_value_info(name, target, shape) for name in names],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", trees)] if trees else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


@pytest.fixture
def found(folder, judged):
    def run(model, stated=17):
        onnx.save(model, folder.path / "weights.onnx")
        folder.rdf["weights"]["onnx"]["opset_version"] = stated
        return judged(check_onnx)

    return run


def test_our_own_file_passes(judged):
    assert judged(check_onnx)["all"] == ("passed", "opsets ai.onnx 17, IR version 8")


def test_trees_of_version_3_pass(found):
    assert found(network(trees=3))["all"] == ("passed", "opsets ai.onnx 17, ai.onnx.ml 3, IR version 8")


@pytest.mark.parametrize(
    ("model", "stated", "words"),
    [
        (network(opset=18), 18, "the file has opset 18, expected at most 17"),
        (network(ir_version=10), 17, "the file has IR version 10, expected at most 8"),
        (network(trees=4), 17, "the file has opset of ai.onnx.ml 4, expected at most 3"),
        (network(opset=17), 20, "states opset 20, for which there is no runtime"),
        (network(opset=17), 12, "states opset 12, the file has 17: a too old runtime"),
        (network(source=TensorProto.UINT8), 17, "input input is of type uint8, expected float"),
        (network(outputs=2), 17, "the file has 2 outputs, the description 1"),
        (network(target=TensorProto.DOUBLE), 17, "of type double, the description says float32"),
        (network(target=TensorProto.UINT8), 17, "of type uint8, which is not read"),
    ],
)
def test_what_deepimagej_cannot_run_is_told(found, model, stated, words):
    results = found(model, stated)
    assert set(results) == {FIJI}
    assert results[FIJI][0] == "failed"
    assert words in results[FIJI][1]


def test_a_higher_number_than_in_the_file_is_advice(found):
    status, message = found(network(opset=15), stated=17)["advice"]
    assert status == "limited"
    assert "states opset 17, the file has 15" in message


@pytest.mark.parametrize(("location", "words"), [("other.data", "not beside"), ("../other.data", "outside of")])
def test_values_that_are_not_in_the_package_are_told(folder, found, location, words):
    (folder.path.parent / "other.data").write_bytes(bytes(4))
    model = network()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    results = found(model)
    assert {program: status for program, (status, _) in results.items()} == {CORE: "failed", FIJI: "failed"}
    assert words in results[FIJI][1]


def test_values_beside_the_file_are_fine(folder, found):
    (folder.path / "other.data").write_bytes(bytes(4))
    model = network()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.data")
    assert found(model)["all"][0] == "passed"


def test_another_file_fails_for_those_who_would_run_it(folder, judged):
    (folder.path / "weights.onnx").write_bytes(b"no network")
    found = judged(check_onnx)
    assert set(found) == {FIJI}
    assert "weights.onnx cannot be read" in found[FIJI][1]
    assert set(judged(check_onnx, folder.keep_weights("onnx").save())) == {CORE, FIJI}


def test_without_onnx_weights_there_is_nothing_to_check(folder, judged):
    assert judged(check_onnx, folder.keep_weights("torchscript").save())["all"] == (
        "skipped",
        "there are no ONNX weights",
    )
