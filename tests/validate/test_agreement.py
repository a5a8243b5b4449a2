import hashlib

import numpy as np
import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate import agreement
from s2d_zoo.validate.agreement import check_fused, compare_formats
from s2d_zoo.validate.format_runs import FormatRuns
from s2d_zoo.validate.static_checks import open_model

VALUES = np.random.default_rng(0).random((1, 2, 64, 64), dtype="float32")


def runs_of(name, values=VALUES, **sizes):
    outputs = {"64x64": {"enhanced": values}, **{size: {"enhanced": entry} for size, entry in sizes.items()}}
    return FormatRuns(
        weights_format=name,
        inputs={size: {} for size in outputs},
        outputs=outputs,
        again=outputs["64x64"],
        seconds=dict.fromkeys(outputs, 1.0),
    )


def changed(amount, *, elements=1):
    """The values, of which some are larger."""
    values = VALUES.copy()
    values[0, 1, 5, 3 : 3 + elements] += np.float32(amount)
    return values


@pytest.fixture
def compared(folder):
    """W02 of `folder`."""

    def compare(*running, tensors=None):
        with open_package(folder.save()) as contents:
            return compare_formats(open_model(contents), running, tensors)

    return compare


@pytest.fixture
def fused(folder):
    """W06 of `folder`, with what it says of its parts."""

    def check(*running, unfused=VALUES, **stated):
        np.save(folder.path / "unfused_output.npy", unfused)
        digest = hashlib.sha256((folder.path / "unfused_output.npy").read_bytes()).hexdigest()
        folder.rdf["attachments"] = [{"source": "unfused_output.npy", "sha256": digest}]
        folder.rdf["config"]["s2d_zoo"]["fused"] = {
            "unfused_output": "unfused_output.npy",
            "tolerance": {"absolute": 0.001, "mismatched_per_million": 500},
            **stated,
        }
        with open_package(folder.save()) as contents:
            return list(check_fused(open_model(contents), running))

    return check


def state(folder, *tolerances):
    folder.rdf["config"]["bioimageio"]["reproducibility_tolerance"] = list(tolerances)


# ---- W02


def test_formats_that_agree_pass_with_all_figures(folder, compared):
    state(folder)
    found = compared(runs_of("torchscript"), runs_of("onnx", changed(5e-5)))
    assert found.status == "passed"
    assert found.message.startswith("largest difference 5.0e-05 (torchscript and onnx), at most 1e-04")
    figures = found.figures["torchscript-onnx"]["enhanced"]["64x64"]
    assert figures["where"] == {"batch": 0, "channel": 1, "y": 5, "x": 3}
    assert figures["largest"] == pytest.approx(5e-5, rel=0.01)
    assert figures["p99"] == 0


def test_formats_that_disagree_fail_with_the_largest_difference(folder, compared):
    state(folder)
    found = compared(runs_of("pytorch_state_dict"), runs_of("torchscript"), runs_of("onnx", VALUES + np.float32(0.25)))
    assert found.status == "failed"
    assert "largest difference 2.5e-01 (" in found.message
    assert "onnx" in found.message
    assert "1000000 elements in a million are farther apart" in found.message


def test_every_size_is_compared(folder, compared):
    state(folder)
    other = VALUES[..., :32]
    found = compared(runs_of("torchscript", **{"64x32": other}), runs_of("onnx", **{"64x32": other + np.float32(1)}))
    assert found.status == "failed"
    assert found.figures["torchscript-onnx"]["enhanced"]["64x64"]["largest"] == 0
    assert found.figures["torchscript-onnx"]["enhanced"]["64x32"]["largest"] == pytest.approx(1)


def test_a_few_elements_may_jump_if_the_package_says_so(folder, compared):
    state(folder, {"absolute_tolerance": 1e-4, "mismatched_elements_per_million": 500})
    assert compared(runs_of("torchscript"), runs_of("onnx", changed(0.5, elements=4))).status == "passed"
    assert compared(runs_of("torchscript"), runs_of("onnx", changed(0.5, elements=5))).status == "failed"


def test_formats_of_different_shapes_fail(compared):
    found = compared(runs_of("torchscript"), runs_of("onnx", VALUES[:, :1]))
    assert found.status == "failed"
    assert "torchscript and onnx give outputs of different shapes" in found.message


def test_one_format_has_nothing_to_agree_with(compared):
    found = compared(runs_of("onnx"))
    assert (found.status, found.message) == ("skipped", "fewer than two weights formats passed W01")


def test_differences_are_kept_element_by_element(compared, tmp_path):
    other = VALUES[..., :32]
    compared(
        runs_of("torchscript", **{"64x32": other}),
        runs_of("onnx", changed(0.5), **{"64x32": other}),
        tensors=tmp_path / "kept",
    )
    with np.load(tmp_path / "kept" / "W02-torchscript-onnx.npz", allow_pickle=False) as kept:
        assert sorted(kept) == ["enhanced-64x32", "enhanced-64x64"]
        assert kept["enhanced-64x64"][0, 1, 5, 3] == pytest.approx(-0.5, abs=1e-6)
        assert np.count_nonzero(kept["enhanced-64x64"]) == 1


# ---- W06


def test_a_package_that_is_not_fused_is_skipped(folder):
    with open_package(folder.save()) as contents:
        (found,) = check_fused(open_model(contents), [runs_of("onnx")])
    assert (found.status, found.message) == ("skipped", "not a fused package")


def test_a_fused_network_that_equals_its_parts_passes(fused):
    (found,) = fused(runs_of("torchscript"), runs_of("onnx", changed(0.5, elements=4)))
    assert found.status == "passed"
    assert found.message == (
        "largest difference 5.0e-01, at most 1e-03, but for 500 elements in a million: torchscript, onnx"
    )
    assert found.figures["torchscript"]["largest"] == 0


def test_the_format_that_differs_from_the_parts_fails_for_its_users(fused):
    (found,) = fused(runs_of("torchscript"), runs_of("onnx", changed(0.5, elements=5)))
    assert (found.status, found.part) == ("failed", "onnx")
    assert {consumer.name for consumer in found.consumers} == {"core", "deepimagej"}
    assert "610 elements in a million are farther apart" in found.message


@pytest.mark.parametrize(
    "tolerance",
    [
        None,
        "small",
        {"absolute": 0.06, "mismatched_per_million": 0},
        {"absolute": 0.01, "mismatched_per_million": 5001},
        {"absolute": -0.01, "mismatched_per_million": 0},
        {"absolute": True, "mismatched_per_million": 0},
        {"absolute": 0.01},
        {"absolute": float("nan"), "mismatched_per_million": 0},
    ],
)
def test_a_tolerance_that_says_nothing_fails(fused, tolerance):
    (found,) = fused(runs_of("onnx"), tolerance=tolerance)
    assert found.status == "failed"
    assert "states a tolerance that says nothing" in found.message


@pytest.mark.parametrize("name", [None, 3, "other.npy", "../outside.npy"])
def test_what_the_parts_give_must_be_a_file_of_the_package(fused, name):
    (found,) = fused(runs_of("onnx"), unfused_output=name)
    assert found.status == "failed"
    assert "to name one of the package's attachments" in found.message


def header_of(shape):
    """A .npy file that holds no values."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode()


HOSTILE = {
    "text": b"no array",
    "empty": b"",
    "zip": b"PK\x03\x04" + bytes(100),
    "huge": header_of((10**13,)),
    "negative": header_of((-1, 4)),
    "unclosed": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'shape': (".ljust(118),
}


@pytest.fixture
def fused_with(folder, fused):
    """W06 of `folder`, whose file of the parts has this content."""

    def check(content):
        (folder.path / "parts.npy").write_bytes(content)
        folder.rdf["icon"] = "parts.npy"  # one more file that the description names
        return fused(runs_of("onnx"), unfused_output="parts.npy")

    return check


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_the_parts_give_must_be_an_array(fused_with, content):
    (found,) = fused_with(content)
    assert found.status == "failed"
    assert "expected an array of numbers (.npy) in parts.npy" in found.message


def test_what_the_parts_give_must_be_real_numbers(fused):
    (found,) = fused(runs_of("onnx"), unfused=VALUES.astype("complex64"))
    assert found.status == "failed"
    assert "found the type complex64" in found.message


def test_what_has_another_shape_is_not_loaded(fused, monkeypatch):
    monkeypatch.setattr(agreement, "as_float", lambda _: pytest.fail("it was loaded"))
    (found,) = fused(runs_of("onnx"), unfused=VALUES.astype("float64")[:, :1])
    assert found.status == "failed"


def test_what_the_parts_give_must_have_the_shape_of_the_output(fused):
    (found,) = fused(runs_of("onnx"), unfused=VALUES[:, :1])
    assert found.status == "failed"
    assert "(1, 2, 64, 64); found (1, 1, 64, 64)" in found.message
