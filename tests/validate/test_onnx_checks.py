"""W04: versions and types in the ONNX file, and files that it reads."""

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from s2d_zoo.validate import onnx_checks
from s2d_zoo.validate.onnx_checks import check_onnx, reason_not_to_run_onnx

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


# ---- values in other files


def elsewhere(location):
    """A tensor whose values are in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def as_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def as_sparse_initializer(model, tensor):
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [1]))


def as_constant(model, tensor):
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_a_subgraph(model, tensor):
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["cast"], ["d"], then_branch=branch, else_branch=branch))


def in_a_function(model, tensor):
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor)]
    model.functions.append(helper.make_function("own", "f", [], ["c"], nodes, [helper.make_opsetid("", 17)]))


PLACES = [as_initializer, as_sparse_initializer, as_constant, in_a_subgraph, in_a_function]


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize("location", ["../other.data", "/etc/hostname", "C:\\x", "a\0b", "a" * 300])
def test_values_outside_of_the_package_are_refused_by_all(folder, found, put, location):
    (folder.path.parent / "other.data").write_bytes(bytes(4))
    model = network()
    put(model, elsewhere(location))
    status, message = found(model)["all"]
    assert status == "failed"
    assert "outside of the package" in message
    assert "which is not in the package" in reason_not_to_run_onnx(folder.path / "weights.onnx")


@pytest.mark.parametrize("target", ["../other.data", "link.data"])
def test_values_behind_a_link_out_of_the_package_are_refused_by_all(folder, found, target):
    (folder.path.parent / "other.data").write_bytes(bytes(4))
    (folder.path / "link.data").symlink_to(target)
    model = network()
    as_initializer(model, elsewhere("link.data"))
    status, message = found(model)["all"]
    assert status == "failed"
    assert "outside of the package" in message


@pytest.mark.parametrize("put", PLACES)
def test_values_that_are_missing_are_told(folder, found, put):
    model = network()
    put(model, elsewhere("other.data"))
    results = found(model)
    assert {program: status for program, (status, _) in results.items()} == {CORE: "failed", FIJI: "failed"}
    assert "not beside" in results[FIJI][1]
    assert "which is not in the package" in reason_not_to_run_onnx(folder.path / "weights.onnx")


@pytest.fixture
def beside(folder):
    """A network with values in a file beside it."""
    (folder.path / "other.data").write_bytes(bytes(4))
    model = network()
    as_initializer(model, elsewhere("other.data"))
    return model


def test_values_in_a_declared_file_are_fine(folder, found, beside):
    folder.rdf["weights"]["onnx"]["external_data"] = {"source": "other.data", "sha256": ""}
    assert found(beside)["all"][0] == "passed"
    assert reason_not_to_run_onnx(folder.path / "weights.onnx") is None


def test_values_in_a_file_that_is_not_declared_are_not_found_by_core(folder, found, beside):
    results = found(beside)
    assert {program: status for program, (status, _) in results.items()} == {CORE: "limited", "advice": "limited"}
    assert "values are to be read from other.data; declare it as external_data" in results[CORE][1]
    folder.keep_weights("onnx")
    assert found(beside)[CORE][0] == "failed"


def test_a_file_is_read_as_onnxruntime_does_whatever_it_is_called(folder):
    model = network()
    as_initializer(model, elsewhere("../other.data"))
    path = folder.path / "weights.json"
    path.write_bytes(model.SerializeToString())
    assert "is to read values from ../other.data" in reason_not_to_run_onnx(path)


def test_a_file_that_cannot_be_looked_at_is_not_run(folder, monkeypatch):
    path = folder.path / "weights.onnx"
    assert reason_not_to_run_onnx(path) is None
    monkeypatch.setattr(onnx_checks, "_MAX_BYTES", 10)
    assert "weights.onnx is larger" in reason_not_to_run_onnx(path)
    path.write_bytes(b"no graph")
    assert "weights.onnx cannot be read" in reason_not_to_run_onnx(path)


def test_another_file_fails_for_those_who_would_run_it(folder, judged):
    (folder.path / "weights.onnx").write_bytes(b"no network")
    found = judged(check_onnx)
    assert set(found) == {CORE, FIJI}
    assert "weights.onnx cannot be read" in found[FIJI][1]


def test_without_onnx_weights_there_is_nothing_to_check(folder, judged):
    assert judged(check_onnx, folder.keep_weights("torchscript").save())["all"] == (
        "skipped",
        "there are no ONNX weights",
    )


@pytest.mark.parametrize("dims", [[50_000, 50_000], [-1, 3], [2]])
def test_a_constant_that_declares_more_than_it_holds_is_not_loaded(folder, found, dims):
    model = network()
    model.graph.initializer.append(TensorProto(name="large", data_type=TensorProto.FLOAT, dims=dims))
    results = found(model)
    assert set(results) == {"all"}
    status, message = results["all"]
    assert status == "failed"
    assert "weights.onnx declares" in message
    assert "values in large, and holds at most 0" in message
    assert "weights.onnx declares" in reason_not_to_run_onnx(folder.path / "weights.onnx")


@pytest.mark.parametrize("raw", [True, False])
def test_constants_of_every_type_are_in_order(found, raw):
    model = network()
    for kind, values in (("FLOAT", [1.0, 2.0]), ("FLOAT16", [1.0, 2.0]), ("INT64", [1, 2]), ("BOOL", [1, 0])):
        numbers = helper.make_tensor(kind, TensorProto.DataType.Value(kind), [2], values)
        model.graph.initializer.append(
            numpy_helper.from_array(numpy_helper.to_array(numbers), kind) if raw else numbers
        )
    model.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0], []))
    assert found(model)["all"][0] == "passed"
