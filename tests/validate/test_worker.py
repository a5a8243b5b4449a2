"""What can be tried without a process of its own; the rest is in test_sandbox.py and test_worker_process.py."""

import io
import json
import resource
import signal
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from bioimageio.spec.utils import read_yaml

from s2d_zoo.validate import worker

#: bioimageio.spec leaves the closing of files to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def request_of(folder):
    """A request to run the ONNX weights of `folder`."""

    def make(**changes):
        folder.keep_weights("onnx").save()
        keys = ("type", "format_version", "name", "inputs", "outputs", "weights")
        description = {key: value for key, value in read_yaml(folder.path / "rdf.yaml").items() if key in keys}
        return {
            "kind": "run",
            "weights_format": "onnx",
            "root": str(folder.path),
            "file_name": "rdf.yaml",
            "description": description,
            "inputs": [["probabilities"]],
            **changes,
        }

    return make


def test_a_run_writes_outputs_and_tells_its_seconds(folder, request_of, tmp_path):
    np.save(tmp_path / "input-0-0.npy", np.load(folder.path / "test_input.npy"))
    (run,) = worker.execute(tmp_path, request_of())["runs"]
    assert run["outputs"] == ["enhanced"]
    assert run["types"] == {"enhanced": "float32"}
    assert run["seconds"] > 0
    expected = np.load(folder.path / "test_output.npy")
    np.testing.assert_allclose(np.load(tmp_path / "output-0-0.npy"), expected, atol=1e-6)


def test_a_missing_input_is_an_error(request_of, tmp_path):
    assert worker.execute(tmp_path, request_of())["error"].startswith("FileNotFoundError: ")


def test_a_pickled_input_is_refused(request_of, tmp_path):
    np.save(tmp_path / "input-0-0.npy", np.array([{}]), allow_pickle=True)
    assert "ValueError: Object arrays cannot be loaded" in worker.execute(tmp_path, request_of())["error"]


def test_a_description_that_is_no_model_is_an_error(request_of, tmp_path):
    found = worker.execute(tmp_path, request_of(description={"type": "model"}))["error"]
    assert found.startswith("The description does not fit its files: ")


def test_of_a_group_of_errors_the_errors_are_told(request_of, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])

    monkeypatch.setattr(worker, "_open_pipeline", fail)
    assert worker.execute(tmp_path, request_of())["error"] == "ValueError: one; KeyError: 'two'"


def test_threads_are_those_of_torch_and_of_onnxruntime(folder, request_of, tmp_path, monkeypatch):
    opened = []

    def open_session(source, *, sess_options, providers):
        opened.append((sess_options.intra_op_num_threads, providers))
        raise ValueError

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    before = torch.get_num_threads()
    try:
        worker.execute(tmp_path, request_of(threads=3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert opened == [(3, ["CPUExecutionProvider"])]


def test_time_is_limited_by_an_alarm(monkeypatch):
    called = []
    monkeypatch.setattr(signal, "signal", lambda *given: called.append(given))
    monkeypatch.setattr(signal, "setitimer", lambda *given: called.append(given))
    worker.limit_seconds(2.5)
    assert called == [(signal.SIGALRM, signal.SIG_DFL), (signal.ITIMER_REAL, 2.5)]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_memory_is_limited_above_what_is_taken(monkeypatch):
    limits = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.update({kind: pair}))
    worker.limit_memory(2**30)
    soft, hard = limits[resource.RLIMIT_AS]
    assert soft == hard > 2**30
    assert limits[resource.RLIMIT_CORE] == (0, 0)


def test_answers_are_lines_of_json():
    answers = io.StringIO()
    worker._answer(answers, {"exit_code": 0})
    assert json.loads(answers.getvalue()) == {"exit_code": 0}
    assert answers.getvalue().endswith("\n")
