import numpy as np
import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.format_runs import FormatRuns
from s2d_zoo.validate.reproducibility import check_repeatable, check_reproducible
from s2d_zoo.validate.static_checks import open_model

VALUES = np.random.default_rng(0).random((1, 2, 64, 64), dtype="float32")


def runs_of(name, *, first=0.0, again=0.0):
    """Runs that give the values and something more."""
    outputs = {size: {"enhanced": VALUES + np.float32(first)} for size in ("64x64", "68x68", "76x68")}
    return FormatRuns(
        weights_format=name,
        inputs={size: {} for size in outputs},
        outputs=outputs,
        again={"enhanced": VALUES + np.float32(again)},
        seconds=dict.fromkeys(outputs, 1.0),
    )


class OneThread:
    """A sandbox whose networks give the values and something more when they have one thread."""

    def __init__(self, **more):
        self.more = more
        self.asked = []

    def run(self, weights_format, inputs, *, threads):
        self.asked.append((weights_format, len(inputs), threads))
        more = self.more.get(weights_format, 0.0)
        if isinstance(more, Exception):
            raise more
        return [{"enhanced": VALUES + np.asarray(more, dtype="float32")} for _ in inputs]


@pytest.fixture
def reproduced(folder):
    """R01 of `folder`, which states some tolerances."""

    def check(sandbox, *running, stated=()):
        folder.rdf["config"]["bioimageio"]["reproducibility_tolerance"] = list(stated)
        with open_package(folder.save()) as contents:
            return list(check_reproducible(open_model(contents), sandbox, running))

    return check


@pytest.fixture
def repeated(folder):
    """R02 of `folder`."""

    def check(*running):
        with open_package(folder.save()) as contents:
            return list(check_repeatable(open_model(contents), running))

    return check


TIGHT = {"absolute_tolerance": 1e-4, "relative_tolerance": 0, "mismatched_elements_per_million": 0}


# ---- R01


def test_what_stays_within_the_stated_tolerance_passes(reproduced):
    sandbox = OneThread(onnx=5e-5)
    (found,) = reproduced(sandbox, runs_of("pytorch_state_dict"), runs_of("onnx", first=2e-5), stated=[TIGHT])
    assert found.status == "passed"
    assert found.message.startswith("largest difference 5.0e-05 across formats, sizes and threads")
    assert found.message.endswith("stated 1e-04")
    assert sandbox.asked == [("pytorch_state_dict", 2, 1), ("onnx", 2, 1)]
    assert found.figures["reference"] == "pytorch_state_dict"
    assert found.figures["measured"]["onnx"]["enhanced, 68x68, 1 thread"]["largest"] == pytest.approx(5e-5, rel=0.01)


def test_the_format_that_exceeds_it_fails_for_its_users(reproduced):
    running = (runs_of("pytorch_state_dict"), runs_of("torchscript"), runs_of("onnx", first=2e-4))
    (found,) = reproduced(OneThread(), *running, stated=[TIGHT])
    assert (found.status, found.part) == ("failed", "onnx")
    assert {consumer.name for consumer in found.consumers} == {"core", "deepimagej"}
    assert "expected differences of at most 1e-04, as stated; found up to 2.0e-04" in found.message
    assert "absolute_tolerance: 0.001" in found.message


def test_a_difference_by_threads_alone_fails_too(reproduced):
    (found,) = reproduced(OneThread(pytorch_state_dict=2e-4), runs_of("pytorch_state_dict"), stated=[TIGHT])
    assert (found.status, found.part) == ("failed", "pytorch_state_dict")


def test_without_a_stated_tolerance_it_is_advice_what_to_write(reproduced):
    (found,) = reproduced(OneThread(onnx=3e-6), runs_of("torchscript"), runs_of("onnx"))
    assert (found.status, found.consumers) == ("limited", frozenset())
    assert "no tolerance is stated; largest difference 3.0e-06" in found.message
    assert "absolute_tolerance: 1e-05, relative_tolerance: 0, mismatched_elements_per_million: 0" in found.message


def test_equal_outputs_need_the_smallest_tolerance(reproduced):
    (found,) = reproduced(OneThread(), runs_of("onnx"))
    assert "absolute_tolerance: 1e-06" in found.message


def test_a_few_elements_that_jump_are_advised_as_such(reproduced):
    jump = np.zeros_like(VALUES)
    jump[0, 0, 0, :4] = 0.5
    (found,) = reproduced(OneThread(onnx=jump), runs_of("onnx"))
    assert (
        "absolute_tolerance: 0.001, relative_tolerance: 0.001, mismatched_elements_per_million: 1000" in found.message
    )


def test_no_tolerance_can_be_advised_for_what_differs_everywhere(reproduced):
    (found,) = reproduced(OneThread(onnx=0.5), runs_of("onnx"))
    assert "No tolerance that bioimage.io allows covers this" in found.message


def test_nan_with_one_thread_fails(reproduced):
    (found,) = reproduced(OneThread(onnx=np.nan), runs_of("onnx"), stated=[TIGHT])
    assert found.status == "failed"


def test_a_network_that_does_not_run_with_one_thread_fails(reproduced):
    sandbox = OneThread(onnx=PackageError("onnx did not end within 2 s"))
    (found,) = reproduced(sandbox, runs_of("torchscript"), runs_of("onnx"), stated=[TIGHT])
    assert (found.status, found.part, found.message) == ("failed", "onnx", "onnx did not end within 2 s")


def test_another_shape_with_one_thread_fails(reproduced):
    class Narrow(OneThread):
        def run(self, weights_format, inputs, *, threads):
            return [{"enhanced": VALUES[..., :8]} for _ in inputs]

    (found,) = reproduced(Narrow(), runs_of("onnx"), stated=[TIGHT])
    assert found.status == "failed"
    assert "outputs of another shape (64x64, 1 thread)" in found.message


# ---- R02


def test_the_same_twice_passes_once_for_all(repeated):
    (found,) = repeated(runs_of("torchscript"), runs_of("onnx"))
    assert (found.status, found.message) == ("passed", "bit by bit the same: torchscript, onnx")


def test_a_small_difference_is_a_limit(repeated):
    (found,) = repeated(runs_of("torchscript"), runs_of("onnx", again=3e-6))
    assert (found.status, found.part) == ("limited", "onnx")
    assert "differs from the first by up to 3.0e-06" in found.message
    assert {consumer.name for consumer in found.consumers} == {"core", "deepimagej"}


@pytest.mark.parametrize("more", [0.1, np.nan])
def test_a_large_difference_fails(repeated, more):
    (found,) = repeated(runs_of("torchscript", again=more))
    assert found.status == "failed"
    assert "something random is left" in found.message


def test_another_shape_fails(repeated):
    runs = runs_of("torchscript")
    object.__setattr__(runs, "again", {"enhanced": VALUES[:, :1]})
    (found,) = repeated(runs)
    assert found.status == "failed"
    assert "another shape than the first" in found.message
