"""Packages whose card says what validation found."""

import zipfile

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline import validated
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.validation import validate_package, verdicts_for
from s2d_zoo.zoo.collection import find_at_hand


@pytest.fixture
def write(tmp_path):
    """Write a tiny segmentor, and validate it."""
    torch.manual_seed(0)
    details = ModelDetails(
        id="mine",
        name="My model",
        description="Segments.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        kind="segmentor",
    )
    facts = CardFacts(training_data="cells", training_data_license="CC0-1.0", strokes="few", seed=0)
    example = xr.DataArray(np.random.default_rng(0).random((1, 40, 40)), dims=("channel", "y", "x"))

    def run(**options):
        return write_validated(
            UNet(features=1, depth=1), details, example, tmp_path / "mine.zip", facts=facts, **options
        )

    return run


def result(check, message, status="passed", **details):
    return CheckResult(check=check, status=status, message=message, **details)


@pytest.fixture
def pretended(monkeypatch):
    """Pretend to validate: what is asked for, and what the package held then; the second time fewer checks are run."""
    calls = []

    def pretend(path, **options):
        with zipfile.ZipFile(path) as archive:
            calls.append((path, options, archive.read("README.md").decode()))
        draft = len(calls) == 1
        word = "draft" if draft else "final"
        results = [result(Check.F01, word), result(Check.C02, f"{word} 1"), result(Check.C02, f"{word} 2")]
        if draft:
            seams = result(Check.T04, "seams", "failed", consumers=frozenset({Consumer.qupath}))
            results[1:1] = [result(Check.W01, "runs", part="onnx"), seams]
        verdicts = verdicts_for(results) if draft else ()
        return ValidationReport(package=str(path), results=tuple(results), verdicts=verdicts)

    monkeypatch.setattr(validated, "validate_package", pretend)
    return calls


def test_all_checks_look_at_the_draft_and_those_that_read_at_the_package(write, pretended, tmp_path):
    write(tensors=tmp_path / "tensors")
    (draft, options, card), (final, again, written) = pretended
    assert draft != final == tmp_path / "mine.zip"
    assert options == {"tensors": tmp_path / "tensors", "progress": False, "find_base": find_at_hand}
    assert again == {"select": ("S", "F", "C", "L"), "find_base": find_at_hand}
    assert "QuPath**: refused" not in card
    assert "- **QuPath**: refused\n  - T04: seams\n" in written


def test_the_report_is_on_the_package_as_it_lies_there(write, pretended, tmp_path):
    report = write()
    assert report.package == str(tmp_path / "mine.zip")
    assert [(one.check.name, one.message) for one in report.results] == [
        ("F01", "final"),
        ("W01", "runs"),
        ("T04", "seams"),
        ("C02", "final 1"),
        ("C02", "final 2"),
    ]
    assert [one.word for one in report.verdicts] == ["runs", "runs", "runs", "refused"]


def test_what_is_only_wrong_in_the_package_itself_is_in_the_verdicts(write, monkeypatch, tmp_path):
    found = {"passed": [result(Check.W01, "runs", part="onnx"), result(Check.F01, "valid")], "failed": []}
    found["failed"].append(result(Check.F01, "<wrong>", "failed"))

    def pretend(path, **_):
        results = found["failed" if path == tmp_path / "mine.zip" else "passed"]
        return ValidationReport(package=str(path), results=tuple(results), verdicts=verdicts_for(results))

    monkeypatch.setattr(validated, "validate_package", pretend)
    assert {(one.word, one.reasons) for one in write().verdicts} == {("refused", ("F01: <wrong>",))}


@pytest.mark.usefixtures("pretended")
def test_a_check_that_fails_is_a_result_and_the_package_is_written(write, tmp_path):
    assert not write().passed
    assert (tmp_path / "mine.zip").is_file()


def test_a_validation_that_cannot_go_on_leaves_no_package(write, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(validated, "validate_package", fail)
    with pytest.raises(OSError, match="no space"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-segmentor", "tiny-segmentor-fused"])
def test_what_a_run_has_made_runs_in_every_program(run, name):
    report = validate_package(run.output / "packages" / f"{name}.zip")
    assert report.passed, [one for one in report.results if one.status == "failed"]
    assert {verdict.consumer: verdict.word for verdict in report.verdicts}.keys() == set(Consumer)
    assert {verdict.word for verdict in report.verdicts} <= {"runs", "runs with limits"}
    fused = next(one for one in report.results if one.check is Check.W06)
    assert fused.status == ("passed" if name.endswith("fused") else "skipped")
