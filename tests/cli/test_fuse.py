"""`s2d-zoo fuse`: a forest in a file and an enhancer become a package."""

import zipfile

import pytest
import yaml

from s2d_zoo.rf_adapter.persistence import save_classifier
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport


@pytest.fixture
def arguments(files, package, classifier, tmp_path):
    """Make the arguments of a call, some of them changed (left out where None)."""
    save_classifier(classifier, tmp_path / "forest.safetensors")

    def make(*flags, **changes):
        chosen = {
            "classifier": tmp_path / "forest.safetensors",
            "enhancer": package,
            "image": files.image,
            "output": tmp_path / "mine.zip",
            "id": "mine",
            "name": "My fused model",
            "authors": "Ada; Analytical Engine",
            "license": "MIT",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        pairs = ((f"--{name}", value) for name, value in chosen.items() if value is not None)
        return ["fuse", *(part for pair in pairs for part in pair), *flags]

    return make


def description_of(path):
    with zipfile.ZipFile(path) as archive:
        return yaml.safe_load(archive.read("rdf.yaml"))


def test_a_package_is_written_and_its_validation_told(call, arguments, tmp_path):
    outcome = call(*arguments(), "--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert "F01" in outcome.stdout
    assert "limited from" not in outcome.stdout
    assert outcome.stderr == ""
    rdf = description_of(tmp_path / "mine.zip")
    assert (rdf["id"], rdf["name"], rdf["license"]) == ("mine", "My fused model", "MIT")
    assert rdf["authors"] == [{"name": "Ada", "affiliation": "Analytical Engine"}]
    assert rdf["config"]["s2d_zoo"]["fused"]["trees"] == 8


def test_what_the_forest_lost_is_told(call, arguments, tmp_path):
    outcome = call(*arguments(fused_trees=3, max_depth=2))
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-1].startswith("The forest was limited from 8 to 3 trees and from ")
    fused = description_of(tmp_path / "mine.zip")["config"]["s2d_zoo"]["fused"]
    assert (fused["trees"], fused["depth"]) == (3, 2)


def test_a_package_that_fails_a_check_is_there_and_ends_with_1(call, arguments, tmp_path, monkeypatch):
    def fail(path, **_):
        failed = CheckResult(check=Check.T01, status="failed", message="a seam")
        return ValidationReport(package=str(path), results=(failed,))

    monkeypatch.setattr("s2d_zoo.pipeline.validated.validate_package", fail)
    outcome = call(*arguments())
    assert outcome.exit_code == 1
    assert "a seam" in outcome.stdout
    assert (tmp_path / "mine.zip").is_file()


@pytest.mark.parametrize(
    ("changes", "exit_code", "words"),
    [
        ({"classifier": None}, 2, "--classifier"),
        ({"authors": None, "license": None}, 2, "missing: authors"),
        ({"fused_trees": 0}, 2, "--fused-trees must be at least 1, got 0"),
        ({"max_depth": 0}, 2, "--max-depth must be at least 1, got 0"),
        ({"id": "Not An Id"}, 2, "The model id must be"),
        ({"name": "abc"}, 2, "The model name must be"),
        ({"output": "mine.pt"}, 2, "ending in .zip"),
        ({"enhancer": "nonsense"}, 1, "No model 'nonsense'"),
        ({"classifier": "nowhere.safetensors"}, 1, "nowhere.safetensors"),
        ({"image": "nowhere.tif"}, 1, "There is no file"),
    ],
    ids=str,
)
def test_misuse_and_files_that_cannot_be_used_write_nothing(
    call, arguments, tmp_path, monkeypatch, contents, changes, exit_code, words
):
    monkeypatch.chdir(tmp_path)
    given = arguments(**changes)
    before = contents(tmp_path)
    outcome = call(*given)
    assert outcome.exit_code == exit_code, outcome
    assert words in outcome.message
    assert outcome.stdout == ""
    assert contents(tmp_path) == before


def test_a_package_that_is_there_is_replaced_only_when_asked(call, arguments, tmp_path):
    (tmp_path / "mine.zip").write_text("mine")
    outcome = call(*arguments())
    assert outcome.exit_code == 2
    assert "--overwrite" in outcome.message
    assert (tmp_path / "mine.zip").read_text() == "mine"
    assert call(*arguments("--overwrite")).exit_code == 0
    assert zipfile.is_zipfile(tmp_path / "mine.zip")


def test_a_forest_for_other_classes_is_misuse(call, arguments, folder, tmp_path):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["classes"][1]["role"] = "other"
    outcome = call(*arguments(enhancer=folder.save()))
    assert outcome.exit_code == 2
    assert "one channel each of other" in outcome.message
    assert not (tmp_path / "mine.zip").exists()
