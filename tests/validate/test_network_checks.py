import warnings

import numpy as np
import pytest
import torch
from torch import nn

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate import network_checks
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.network_checks import check_network, skip_checks
from s2d_zoo.validate.report import CheckResult
from s2d_zoo.validate.sandbox import Limits, Sandbox, TimedRun
from s2d_zoo.validate.static_checks import open_model


def double(values):
    return np.concatenate([values, values], axis=1)


class FakeSandbox:
    """Networks that are functions of the one input."""

    def __init__(self, *, problem=None, reason=None, gives="float32", **functions):
        self.problem, self.reason, self.gives, self.functions = problem, reason, gives, functions

    def reason_not_to_run(self, weights_format):
        return self.reason

    def test(self, weights_format):
        return self.problem

    def timed_runs(self, weights_format, inputs, *, threads=None):
        function, seconds = self.functions[weights_format], 1.0 + list(self.functions).index(weights_format)
        return [
            TimedRun(
                outputs={"enhanced": function(*given.values()).astype("float32")},
                types={"enhanced": self.gives},
                seconds=seconds,
            )
            for given in inputs
        ]

    def run(self, weights_format, inputs, *, threads=None):
        return [run.outputs for run in self.timed_runs(weights_format, inputs)]


@pytest.fixture
def tiles(monkeypatch):
    """What the checks of tiles were asked; they pass."""
    asked = []

    def check_tiles(sizes, test_input, run, *, qupath_reads_halo):
        asked.append((sizes, run(test_input), qupath_reads_halo))
        yield CheckResult(check=Check.T01, status="passed", message="")

    monkeypatch.setattr(network_checks, "check_tiles", check_tiles)
    return asked


@pytest.fixture
def found(folder, tiles):
    """The results for `folder`, with fake networks."""

    def check(sandbox, *, tensors=None, both=False):
        for entry in folder.keep_weights(*sandbox.functions).rdf["weights"].values():
            entry.pop("parent", None)  # it may be gone
        with open_package(folder.save()) as contents:
            results = check_network(open_model(contents), sandbox, tensors=tensors)
            named = {(f"{result.check.name} {result.part}".strip(), result.status): result for result in results}
            return named if both else {name: result for (name, _), result in named.items()}

    return check


def test_a_good_network_passes_all(found, tiles):
    results = found(FakeSandbox(torchscript=double, onnx=double))
    assert {name: result.status for name, result in results.items()} == {
        "W01 torchscript": "passed",
        "W01 onnx": "passed",
        "W02": "passed",
        "W06": "skipped",
        "A01": "passed",
        "R01": "passed",
        "R02": "passed",
        "T01": "passed",
    }
    assert results["A01"].message.endswith(": torchscript, onnx")
    assert set(results["A01"].figures["seconds"]) == {"torchscript", "onnx"}
    assert all(len(seconds) == 3 for seconds in results["A01"].figures["seconds"].values())


def test_tiles_are_run_with_the_fastest_format(found, tiles, folder):
    found(FakeSandbox(onnx=lambda values: double(values) + 1e-6, torchscript=double))
    ((sizes, output, qupath_reads_halo),) = tiles
    assert set(sizes) == {"y", "x"}
    assert not qupath_reads_halo
    np.testing.assert_array_equal(output, double(np.load(folder.path / "test_input.npy")) + np.float32(1e-6))


def test_formats_that_disagree_fail(found):
    results = found(FakeSandbox(torchscript=double, onnx=lambda values: double(values) + 0.25))
    assert results["W02"].status == "failed"


def test_a_format_that_fails_concerns_its_users_and_leaves_the_others(found):
    class Broken(FakeSandbox):
        def test(self, weights_format):
            if weights_format == "onnx":
                msg = "onnx crashed: its process died of signal 11 (SIGSEGV)"
                raise PackageError(msg)

    results = found(Broken(torchscript=double, onnx=double))
    broken = results["W01 onnx"]
    assert (broken.status, broken.message) == ("failed", "onnx crashed: its process died of signal 11 (SIGSEGV)")
    assert {consumer.name for consumer in broken.consumers} == {"core", "deepimagej"}
    assert results["W01 torchscript"].status == "passed"
    assert results["W02"].message == "fewer than two weights formats passed W01"
    assert results["A01"].status == "passed"


@pytest.mark.parametrize(
    ("sandbox", "status", "message"),
    [
        (FakeSandbox(problem="does not reproduce", onnx=double), "failed", "does not reproduce"),
        (FakeSandbox(reason="is Python code", onnx=double), "skipped", "is Python code"),
        (FakeSandbox(onnx=lambda values: double(values) * np.nan), "failed", "values that are not finite"),
        (FakeSandbox(onnx=lambda values: double(values)[..., :0]), "failed", "the output enhanced is empty"),
    ],
)
def test_without_any_format_that_runs_all_is_skipped(found, sandbox, status, message):
    results = found(sandbox)
    first = results.pop("W01 onnx")
    assert first.status == status
    assert message in first.message
    assert {result.message for result in results.values()} == {"no weights format passed W01"}
    assert set(results) == {"W02", "W06", "A01", "R01", "R02", "T01", "T02", "T03", "T04"}


def test_of_format_0_4_qupath_reads_the_halo(tiles, old_format):
    with open_package(old_format.save()) as contents:
        list(check_network(open_model(contents), FakeSandbox(torchscript=double)))
    assert [qupath_reads_halo for *_, qupath_reads_halo in tiles] == [True]


def test_an_output_of_another_type_than_described_fails_for_deepimagej(found):
    results = found(FakeSandbox(gives="int64", onnx=double), both=True)
    passed, failed = results["W01 onnx", "passed"], results["W01 onnx", "failed"]
    assert failed.consumers == {Consumer.deepimagej}
    assert "gives enhanced as int64, the description says float32" in failed.message
    assert passed.consumers == {Consumer.core, Consumer.qupath}
    assert results["R02", "passed"]


def test_of_a_format_that_deepimagej_does_not_take_the_type_does_not_matter(found, folder):
    results = found(FakeSandbox(gives="int64", pytorch_state_dict=double, torchscript=double), both=True)
    assert ("W01 pytorch_state_dict", "failed") not in results
    assert Consumer.deepimagej not in results["W01 pytorch_state_dict", "passed"].consumers
    assert ("W01 torchscript", "failed") in results


def test_an_output_that_is_processed_may_leave_the_network_in_another_type(found, folder):
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "clip", "kwargs": {"min": 0.0, "max": 9.0}}]
    assert ("W01 onnx", "failed") not in found(FakeSandbox(gives="int64", onnx=double), both=True)


def test_without_a_test_input_it_cannot_be_tried(found, folder):
    del folder.rdf["inputs"][0]["test_tensor"]
    results = found(FakeSandbox(onnx=double))
    assert results["W01 onnx"].status == "failed"
    assert "no test tensor for the input probabilities" in results["W01 onnx"].message


def test_several_inputs_and_outputs_in_3d_are_compared_too(found, folder):
    class Adding(FakeSandbox):
        def timed_runs(self, weights_format, inputs, *, threads=None):
            more = self.functions[weights_format]
            return [
                TimedRun(outputs={"sum": a + b + more, "first": a}, types={}, seconds=1.0)
                for a, b in map(dict.values, inputs)
            ]

    def tensor(name):
        axes = [{"type": "space", "id": axis, "size": 4} for axis in "zyx"]
        return {"id": name, "axes": [{"type": "batch"}, *axes], "test_tensor": {"source": "cube.npy", "sha256": ""}}

    np.save(folder.path / "cube.npy", np.ones((1, 4, 4, 4), dtype="float32"))
    folder.rdf["inputs"], folder.rdf["outputs"] = [tensor("a"), tensor("b")], [tensor("sum"), tensor("first")]
    results = found(Adding(torchscript=np.float32(0), onnx=np.float32(0.5)))
    statuses = {name: result.status for name, result in results.items() if result.status != "skipped"}
    assert statuses == {
        "W01 torchscript": "passed",
        "W01 onnx": "passed",
        "W02": "failed",
        "R01 onnx": "failed",
        "R02": "passed",
    }
    figures = results["W02"].figures["torchscript-onnx"]
    assert [figures[name]["4x4x4"]["largest"] for name in ("sum", "first")] == [0.5, 0.0]
    assert results["A01"].message == "only for one input and one output, there are 2 and 2"


# ---- A01


def only_at_the_test_size(function):
    """At other sizes, something else."""
    return lambda values: double(values) if values.shape[2:] == (64, 64) else function(values)


@pytest.mark.parametrize(
    "function", [lambda values: double(values)[..., :-4, :], lambda values: double(values) * np.float32("nan")]
)
def test_an_output_of_another_size_or_not_finite_fails(found, function):
    results = found(FakeSandbox(torchscript=double, onnx=only_at_the_test_size(function)))
    failed = results["A01 onnx"]
    assert failed.status == "failed"
    assert "expected a finite output of batch = 1 channel = 2 y = " in failed.message
    assert {consumer.name for consumer in failed.consumers} == {"core", "deepimagej"}
    assert results["T01"].message == "A01 failed"
    assert results["W02"].status == "passed"  # at the test size


def test_a_network_that_cannot_run_on_other_sizes_fails(found):
    def fail(values):
        msg = "onnx cannot be run: sizes must match"
        raise PackageError(msg)

    results = found(FakeSandbox(onnx=only_at_the_test_size(fail)))
    assert (results["A01 onnx"].status, results["A01 onnx"].message) == (
        "failed",
        "onnx cannot be run: sizes must match",
    )


def test_what_has_no_other_sizes_is_compared_at_the_test_size(found, folder):
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 64
    results = found(FakeSandbox(torchscript=double, onnx=double))
    reason = "only for sizes given as min and step, found y = 64, x = 64"
    for name in ("A01", "T01", "T02", "T03", "T04"):
        assert (results[name].status, results[name].message) == ("skipped", reason)
    assert results["T04"].consumers == {Consumer.qupath}
    assert [results[name].status for name in ("W02", "R01", "R02")] == ["passed"] * 3


# ---- tiles


def test_an_output_with_other_axes_has_no_tiles(found, folder):
    axes = folder.rdf["outputs"][0]["axes"]
    axes[2], axes[3] = axes[3], axes[2]
    results = found(FakeSandbox(onnx=lambda values: double(values).swapaxes(2, 3)))
    assert results["T01"].message == "only for an output with the axes of the input, found batch channel x y"


def test_an_output_of_half_the_size_has_no_tiles(found, folder):
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["scale"] = 1.0
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["scale"] = 2.0
        axis.pop("halo", None)
    np.save(folder.path / "test_output.npy", double(np.load(folder.path / "test_input.npy"))[..., ::2, ::2])
    results = found(FakeSandbox(onnx=lambda values: double(values)[..., ::2, ::2]))
    assert results["A01"].status == "passed"
    assert results["T01"].message == "only for an output of the size of the input"


def test_skipped_checks_say_why():
    assert list(skip_checks((Check.W02,), "because")) == [
        CheckResult(check=Check.W02, status="skipped", message="because")
    ]


# ---- real networks, in the real sandbox


class NotANumber(nn.Module):
    """NaN, but for a small network that reproduces all but one element."""

    def __init__(self, expected):
        super().__init__()
        self.register_buffer("expected", expected)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image], dim=1) * float("nan") + self.expected[..., :1, :1]


def test_our_own_package_passes(folder, tiles, tmp_path):
    folder.keep_weights("torchscript", "onnx").rdf["weights"]["onnx"].pop("parent")
    with open_package(folder.save()) as contents:
        model = open_model(contents)
        results = list(check_network(model, Sandbox(model, Limits()), tensors=tmp_path / "kept"))
    assert {result.status for result in results if result.check is not Check.W06} == {"passed"}
    assert [result.part for result in results if result.check is Check.W01] == ["torchscript", "onnx"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["W02-torchscript-onnx.npz"]


def test_nan_fails_though_the_test_of_core_lets_it_pass(folder, tiles):
    module = NotANumber(torch.from_numpy(np.load(folder.path / "test_output.npy")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(folder.path / "weights.pt")
    with open_package(folder.keep_weights("torchscript").save()) as contents:
        model = open_model(contents)
        first = next(check_network(model, Sandbox(model, Limits())))
    assert first.status == "failed"
    assert "8192 values that are not finite (NaN or infinite), of 8192" in first.message
