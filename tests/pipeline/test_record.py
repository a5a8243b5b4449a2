"""What is kept of a run."""

import hashlib
import json
import time

import pytest

from s2d_zoo._version import __version__
from s2d_zoo.contract import PixelSize
from s2d_zoo.pipeline.record import Clock, describe_run, to_plain, training_details
from s2d_zoo.trainer import TrainingSettings


@pytest.fixture(scope="module")
def record(run):
    return json.loads((run.output / "run.json").read_text())


def test_the_record_has_the_hash_of_every_input(run, record, package):
    inputs = run.inputs
    files = (*inputs.images, *inputs.scribbles, *inputs.ground_truth, *inputs.test_images, *inputs.test_ground_truth)
    expected = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    expected[f"enhancer {package}"] = hashlib.sha256(package.read_bytes()).hexdigest()
    assert record["inputs"] == expected


def test_the_record_has_every_option(run, record):
    assert record["options"]["settings"] == json.loads(json.dumps(to_plain(run.result.job.settings)))
    assert record["options"]["inputs"]["enhancer"] == run.inputs.enhancer
    assert record["options"]["settings"]["segmentor"]["training"]["steps"] == 5
    assert record["options"]["settings"]["attribution"]["authors"][0]["name"] == "Ada"


def test_the_record_has_seed_versions_and_machine(record):
    assert record["seed"] == 4
    assert record["versions"]["s2d-zoo"] == __version__
    assert {"python", "torch", "numpy", "scikit-learn", "lightning", "bioimage-cpp"} <= set(record["versions"])
    assert record["machine"]["cores"] >= 1
    assert (record["format"], record["format_version"], record["command"]) == ("s2d-zoo/run", 1, "adapt")


def test_anything_becomes_plain_json(tmp_path):
    plain = to_plain({"a": (1, tmp_path), 2: [PixelSize(y=1, x=2)], "c": None})
    assert plain["a"] == [1, str(tmp_path)]
    assert plain["2"][0]["x"] == 2
    assert json.loads(json.dumps(plain)) == plain


def test_inputs_are_described_in_the_order_of_their_names():
    assert list(describe_run("x", options={}, hashes={"b": "1", "a": "2"}, seed=0)["inputs"]) == ["a", "b"]


def test_a_clock_goes_on_counting_where_it_stopped(tmp_path, monkeypatch):
    times = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("s2d_zoo.pipeline.record.time.perf_counter", lambda: next(times))
    path = tmp_path / "seconds.json"
    for _ in range(2):
        clock = Clock(path)
        with clock.stage("work"):
            pass
    assert clock.seconds == {"work": 5.0}
    assert json.loads(path.read_text()) == {"work": 5.0}


def test_what_is_done_anew_each_time_is_not_added_up(tmp_path, monkeypatch):
    times = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("s2d_zoo.pipeline.record.time.perf_counter", lambda: next(times))
    for _ in range(2):
        clock = Clock(tmp_path / "seconds.json")
        with clock.stage("evaluation", resumed=False):
            pass
    assert clock.seconds == {"evaluation": 3.0}


def test_epochs_are_those_that_were_trained():
    settings = TrainingSettings(steps=3000, steps_per_epoch=200)
    assert training_details(settings)["training_epochs"] == 15
    assert training_details(settings, steps=1400)["training_epochs"] == 7


def test_a_stage_that_fails_is_timed_too():
    clock = Clock()
    with pytest.raises(KeyError), clock.stage("work"):
        raise KeyError
    assert "work" in clock.seconds


def test_the_time_of_a_run_that_is_killed_is_kept_but_for_the_last_minute(tmp_path, monkeypatch):
    monkeypatch.setattr("s2d_zoo.pipeline.record._SECONDS_BETWEEN_NOTES", 0.01)
    path = tmp_path / "seconds.json"
    clock = Clock(path)
    with clock.stage("training"):
        while not path.exists():
            time.sleep(0.01)
        noted = json.loads(path.read_text())["training"]  # all that is left of it after a kill
    assert 0 < noted <= clock.seconds["training"]
