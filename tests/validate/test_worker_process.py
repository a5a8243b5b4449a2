import json
import os
import signal
import sys
import threading

import pytest

from s2d_zoo.errors import PackageError
from s2d_zoo.validate import worker_process
from s2d_zoo.validate.worker_process import TIMED_OUT, WorkerProcess, end_of_log


@pytest.fixture
def process():
    """A worker of one's own, which is ended with the test."""
    made = WorkerProcess()
    yield made
    made.stop()


@pytest.fixture
def acting(monkeypatch):
    """Let a few lines of Python stand for the worker."""

    def act(code):
        monkeypatch.setattr(worker_process, "_COMMAND", (sys.executable, "-c", "import sys, time, os\n" + code))

    return act


READY = "print('{\"ready\": true}', flush=True)\n"


def write_request(folder, **changes):
    request = {"kind": "run", "weights_format": "onnx", "seconds": 30, "bytes": 2**33, "root": str(folder), **changes}
    (folder / "request.json").write_text(json.dumps({"file_name": "rdf.yaml", "description": {}, **request}))


def read_error(folder):
    return json.loads((folder / "result.json").read_text())["error"]


def test_the_worker_answers_again_and_again(process, tmp_path):
    write_request(tmp_path)
    assert process.ask(tmp_path, 30) == 0
    assert "does not fit its files" in read_error(tmp_path)
    (first,) = process._workers.values()
    (tmp_path / "request.json").write_text("no JSON")
    assert process.ask(tmp_path, 30) == 1
    assert "JSONDecodeError" in (tmp_path / "log.txt").read_text()
    assert process._workers == {os.getpid(): first}


def test_a_worker_that_was_ended_is_started_again(acting, process, tmp_path):
    acting(READY + "for line in sys.stdin: print('{\"exit_code\": 0}', flush=True)")
    assert process.ask(tmp_path, 30) == 0
    (first,) = process._workers.values()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert process.ask(tmp_path, 30) == 0
    assert process._workers != {os.getpid(): first}


def test_without_fork_the_worker_does_the_work_and_ends(process, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "CAN_FORK", False)
    write_request(tmp_path)
    assert process.ask(tmp_path, 30) == 0
    assert "does not fit its files" in read_error(tmp_path)
    assert not process._workers


def test_a_worker_that_cannot_start_says_why(acting, process, tmp_path):
    acting("sys.exit('no torch here')")
    with pytest.raises(PackageError, match="could not be started, so they cannot be checked: no torch here"):
        process.ask(tmp_path, 1)


def test_a_worker_that_does_not_answer_in_time_is_ended(acting, process, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "_SECONDS_OF_GRACE", 0.0)
    acting(READY + "time.sleep(100)")
    assert process.ask(tmp_path, 0.2) == TIMED_OUT
    assert not process._workers


def test_a_worker_that_dies_gives_its_signal(acting, process, tmp_path):
    acting(READY + "sys.stdin.readline()\nos.abort()")
    assert process.ask(tmp_path, 30) == -signal.SIGABRT


def test_a_worker_that_is_gone_already_gives_its_exit_code(acting, process, tmp_path, monkeypatch):
    acting(READY + "os._exit(3)")
    assert process.ask(tmp_path, 30) == 3


def test_after_an_interrupt_no_answer_is_taken_for_that_of_the_next_request(acting, process, tmp_path):
    acting(READY + "time.sleep(100)")
    # a shell that runs the tests in the background lets them ignore interrupts
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            process.ask(tmp_path, 30)
        interrupt.join()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not process._workers


def test_the_end_of_a_log_is_one_line():
    assert end_of_log("one\n  two\n") == "one two"
    assert end_of_log("a " * 1000).startswith("… ")
    assert len(end_of_log("a " * 1000)) < 700
