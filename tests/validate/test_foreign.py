"""Packages of other tools: their validation finds what is wrong with them, and nothing else.

After a change that is meant, write the golden files anew with S2D_ZOO_REGENERATE_GOLDEN=1, and read the difference:
every line is a promise about what a user is told.
"""

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.sandbox import Limits, Sandbox
from s2d_zoo.validate.validation import validate_package

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
#: the package without a fault, whose limits and skipped checks the others share and do not repeat
USUAL = "as_it_was"
REGENERATE = "S2D_ZOO_REGENERATE_GOLDEN" in os.environ


def load_beside(name):
    """A module of this folder, which is no package; torch's scripting looks for it among the loaded ones."""
    spec = importlib.util.spec_from_file_location(f"s2d_zoo_tests_{name}", HERE / f"{name}.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STATUSES = ("failed", "limited", "skipped")


def summarised(report, usual):
    """What did not pass and is not usual, what is usual and missing, and the verdicts: no figures, no words."""
    found = {
        status: {f"{one.check.name} {one.part}".rstrip() for one in report.results if one.status == status}
        for status in STATUSES
    }
    return {
        "verdicts": {one.consumer.name: one.word for one in report.verdicts},
        **{status: sorted(found[status] - set(usual.get(status, ()))) for status in STATUSES},
        "missing": sorted(
            f"{title} {status}" for status in STATUSES for title in set(usual.get(status, ())) - found[status]
        ),
    }


def written(summary):
    """One line for each status."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in summary.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


FOREIGN = load_beside("foreign").FOREIGN


@pytest.fixture(scope="module")
def memory():
    """What networks of earlier tests gave."""
    return {}


@pytest.fixture
def remembered(monkeypatch, memory):
    """Run a network once only on the same input, in whichever package it lies: most have the same one, to save time."""
    run = Sandbox.timed_runs

    def timed_runs(self, weights_format, inputs, *, threads=None):
        description = self._model.description
        weights = self._model.contents.folder / str(getattr(description.weights, weights_format).source)
        processing = [one.model_dump_json(include={"preprocessing"}) for one in description.inputs]
        arrays = [(*one, values.shape, values.tobytes()) for run in inputs for *one, values in run.items()]
        key = hashlib.sha256(repr((weights.read_bytes(), processing, threads, arrays)).encode()).digest()
        if key not in memory:
            memory[key] = run(self, weights_format, inputs, threads=threads)
        return memory[key]

    monkeypatch.setattr(Sandbox, "timed_runs", timed_runs)


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_exactly_the_planted_fault_is_found(folder, make):
    limits = Limits(seconds=5 if make.__name__ == "hanging" else 120, memory_gib=4)
    victim = folder.path.with_name("victim.txt")
    victim.write_text("untouched", encoding="utf-8")
    report = validate_package(make(folder), limits=limits)
    assert victim.read_text(encoding="utf-8") == "untouched"
    assert {one.check for one in report.results} == set(Check)
    path = GOLDEN / f"{make.__name__}.json"
    usual = {} if make.__name__ == USUAL else json.loads((GOLDEN / f"{USUAL}.json").read_text(encoding="utf-8"))
    found = summarised(report, usual)
    if REGENERATE:
        path.write_text(written(found), encoding="utf-8")
        pytest.skip(f"{path.name} was written anew: review it by eye")
    assert found == json.loads(path.read_text(encoding="utf-8")), report


def test_what_is_usual_and_missing_is_noticed():
    usual = {"limited": ["A04 deepimagej", "T04"], "skipped": ["W06"]}
    limited = CheckResult(check=Check.A04, status="limited", message="", part="deepimagej")
    failed = CheckResult(check=Check.T04, status="failed", message="")
    report = ValidationReport(package="model.zip", results=(limited, failed))
    assert summarised(report, usual) == {
        "verdicts": {},
        "failed": ["T04"],
        "limited": [],
        "skipped": [],
        "missing": ["T04 limited", "W06 skipped"],
    }


def test_there_is_no_golden_file_without_its_package():
    assert {path.stem for path in GOLDEN.iterdir()} == {make.__name__ for make in FOREIGN}
