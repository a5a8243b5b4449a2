import numpy as np
import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate import network_checks
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.network_checks import AxisSizes, check_network, mirrored, read_sizes
from s2d_zoo.validate.parity import undisturbed


def run(path):
    with open_package(path) as contents, undisturbed():
        return {(result.check, result.part): result for result in check_network(contents)}


@pytest.fixture
def quick(monkeypatch):
    """Weights formats that are not run: those that are named give what a function makes of an input."""

    def use(**functions):
        monkeypatch.setattr(network_checks, "run_core_test", lambda contents, name: None)

        class Opened:
            def __init__(self, contents, name):
                self.name = name

            def __enter__(self):
                return functions[self.name]

            def __exit__(self, *error):
                return None

        monkeypatch.setattr(network_checks, "open_format", Opened)

    return use


def identity(values):
    return np.concatenate([values, values], axis=1)


def test_formats_that_disagree_fail_with_the_largest_difference(folder, quick):
    quick(onnx=lambda values: identity(values) + np.float32(0.25), torchscript=identity)
    found = run(folder.keep_weights("torchscript", "onnx").save())[Check.W02, ""]
    assert found.status == "failed"
    assert "largest difference 2.5e-01 (torchscript and onnx)" in found.message


def test_formats_of_different_shapes_fail(folder, quick):
    quick(onnx=lambda values: identity(values)[:, :1], torchscript=identity)
    found = run(folder.keep_weights("torchscript", "onnx").save())
    assert found[Check.W02, ""].status == "failed"
    assert found[Check.W02, ""].message == "the formats give outputs of different shapes"


def test_one_format_has_nothing_to_agree_with(folder, quick):
    quick(onnx=identity)
    found = run(folder.keep_weights("onnx").save())
    assert found[Check.W02, ""].status == "skipped"
    assert found[Check.A01, ""].message == "runs on 68 x 68 px and 76 x 68 px: onnx"
    assert found[Check.T01, ""].status == "passed"


@pytest.mark.parametrize(
    "output", [lambda values: identity(values)[..., :-4, :], lambda values: identity(values) * np.float32("nan")]
)
def test_an_output_of_another_size_or_not_finite_fails(folder, quick, output):
    quick(onnx=output)
    found = run(folder.keep_weights("onnx").save())
    assert found[Check.A01, ""].status == "failed"
    assert "onnx: expected a finite output of 64 x 64 px" in found[Check.A01, ""].message
    assert found[Check.T01, ""].message == "A01 failed"


def test_a_network_that_cannot_run_on_other_sizes_fails(folder, quick):
    def only_square(values):
        if values.shape[2] != values.shape[3]:
            msg = "onnx cannot be run: sizes must match"
            raise PackageError(msg)
        return identity(values)

    quick(onnx=only_square)
    found = run(folder.keep_weights("onnx").save())
    assert (found[Check.A01, ""].status, found[Check.A01, ""].message) == (
        "failed",
        "onnx cannot be run: sizes must match",
    )
    assert found[Check.T01, ""].status == "skipped"


def test_a_network_that_looks_at_the_whole_tile_fails(folder, quick):
    quick(onnx=lambda values: identity(values) - values.mean())
    found = run(folder.keep_weights("onnx").save())[Check.T01, ""]
    assert found.status == "failed"
    assert "normalisation depends on the tile" in found.message


def test_a_halo_that_leaves_nothing_fails(folder, quick):
    quick(onnx=identity)
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 32
    assert "nothing is left" in run(folder.keep_weights("onnx").save())[Check.T01, ""].message


def drop_test_input(rdf):
    del rdf["inputs"][0]["test_tensor"]


def fix_size(rdf):
    rdf["inputs"][0]["axes"][2]["size"] = 64


def reorder(rdf):
    axes = rdf["inputs"][0]["axes"]
    axes[1], axes[3] = axes[3], axes[1]


def add_input(rdf):
    rdf["inputs"].append(rdf["inputs"][0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_test_input, "no test input"),
        (fix_size, "min and step"),
        (reorder, "only for the axes batch channel y x, found batch x y channel"),
        (add_input, "there are 2 and 1"),
    ],
)
def test_what_cannot_be_tiled_is_skipped(folder, quick, change, reason):
    quick(onnx=identity)
    change(folder.keep_weights("onnx").rdf)
    found = run(folder.save())
    for check in (Check.W02, Check.A01, Check.T01):
        assert found[check, ""].status == "skipped"
        assert reason in found[check, ""].message


def test_without_any_format_that_runs_all_is_skipped(folder):
    with (folder.path / "unet.py").open("a") as file:
        file.write("#")
    found = run(folder.keep_weights("pytorch_state_dict").save())
    assert {result.status for result in found.values()} == {"skipped"}
    assert found[Check.T01, ""].message == "no weights format passed W01"


def test_sizes_are_read_with_their_defaults():
    rdf = {
        "inputs": [{"axes": [{"type": "batch"}, {"type": "space", "size": {"min": 64, "step": 4}}]}],
        "outputs": [{"axes": [{"type": "space"}]}],
    }
    assert read_sizes(rdf) == {"x": AxisSizes(min_size=64, step=4, halo=0)}


def test_mirroring_grows_and_cuts():
    values = np.arange(6, dtype="float32").reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(mirrored(values, 3, 2)[0, 0], [[0, 1], [3, 4], [3, 4]])
