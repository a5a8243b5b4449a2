"""`s2d-zoo adapt` and `s2d-zoo demo`: results, exit codes, and errors after which nothing is lost."""

import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from safetensors import SafetensorError

from s2d_zoo.data.images import read_image
from s2d_zoo.data.patches import PatchDataset
from s2d_zoo.finetune import finetuning as training_loop
from s2d_zoo.rf_adapter.persistence import load_classifier


def test_results_go_to_stdout_and_progress_to_stderr(call, adapt_arguments, files, tmp_path):
    outcome = call(*adapt_arguments(ground_truth=files.truth))
    assert outcome.exit_code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "IoU, training images, RF",
        "IoU, training images, enhanced",
        "IoU, training images, fused",
        "IoU, training images, pseudo-labels",
        "IoU, training images, segmentor",
        "IoU, training images, segmentor, strokes only",
        "pseudo-labels kept",
        "IoU, held-out strokes, segmentor",
        "package",
        "package",
        "package",
        "report",
    ]
    for name in ("tiny-segmentor", "tiny-segmentor-fused"):
        assert f"package: {tmp_path / 'out' / 'packages' / f'{name}.zip'} (passed)" in lines
    assert "No fused package" not in outcome.stderr
    assert "segmentor" in outcome.stderr
    assert "it/s" in outcome.stderr or "step" in outcome.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert f"IoU, training images, RF: {report['scores']['training']['RF']['iou']:.3f}" in lines
    assert (tmp_path / "out" / "report.html").is_file()


def test_quiet_writes_results_only(call, adapt_arguments):
    outcome = call(*adapt_arguments("--quiet"))
    assert outcome.exit_code == 0
    assert outcome.stderr == ""
    assert "report:" in outcome.stdout


def test_every_option_is_kept_in_the_record(call, adapt_arguments, tmp_path):
    options = {"seed": 7, "confidence": 0.7, "class_names": "sky,cloud", "rescale": 0.5, "foreground": 2}
    options |= {"fused_trees": 3, "max_depth": 6}
    assert call(*adapt_arguments("--quiet", **options)).exit_code == 0
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["options"]["settings"]
    assert settings["seed"] == settings["segmentor"]["training"]["seed"] == 7
    assert settings["pseudo_labels"]["confidence"] == 0.7
    assert settings["pseudo_labels"]["n_forests"] == 2
    assert settings["class_names"] == ["sky", "cloud"]
    assert settings["rescale"] == 0.5
    assert settings["forest"]["n_estimators"] == 5
    assert settings["segmentor"]["features"] == 2
    assert settings["segmentor"]["training"]["steps"] == 4
    assert settings["attribution"]["license"] == "MIT"
    assert settings["attribution"]["authors"][0]["affiliation"] == "Analytical Engine"
    assert settings["model_name"] == "Tiny segmentor"
    assert settings["fusion"] == {"trees": 3, "max_depth": 6}


def test_a_forest_that_cannot_be_fused_is_no_failure_and_is_told(call, adapt_arguments, tmp_path):
    outcome = call(*adapt_arguments("--quiet", rescale=0.5))
    assert outcome.exit_code == 0
    assert outcome.message.startswith("No fused package: probabilities are rescaled by 0.5 before the enhancer")
    assert outcome.stdout.count("package: ") == 2
    assert not list((tmp_path / "out").rglob("*fused*"))


def test_a_forest_is_limited_for_the_fused_package_only(call, adapt_arguments, tmp_path):
    assert call(*adapt_arguments("--quiet", fused_trees=2, max_depth=3)).exit_code == 0
    with zipfile.ZipFile(tmp_path / "out" / "packages" / "tiny-segmentor-fused.zip") as archive:
        fused = yaml.safe_load(archive.read("rdf.yaml"))["config"]["s2d_zoo"]["fused"]
    assert (fused["trees"], fused["depth"]) == (2, 3)
    assert "loss" in fused
    assert load_classifier(tmp_path / "out" / "classifier.safetensors").forest.n_trees == 5


def values_of(path):
    return read_image(path).values[0]


def strokes_of_another_shape(files, path):
    tifffile.imwrite(path, values_of(files.strokes)[:-3])
    return {"scribbles": path}


def strokes_with_one_class(files, path):
    values = values_of(files.strokes)
    tifffile.imwrite(path, np.where(values == 1, 0, values))
    return {"scribbles": path}


def no_strokes(files, path):
    tifffile.imwrite(path, np.zeros_like(values_of(files.strokes)))
    return {"scribbles": path}


def float_strokes(files, path):
    tifffile.imwrite(path, values_of(files.strokes).astype(np.float32))
    return {"scribbles": path}


def empty_file(_files, path):
    path.write_bytes(b"")
    return {"image": path}


def truncated_file(files, path):
    path.write_bytes(files.image.read_bytes()[:900])
    return {"image": path}


def no_image(_files, path):
    path.write_text("Dear diary")
    return {"image": path}


def missing_image(_files, path):
    return {"image": path}


def nan_in_the_image(files, path):
    values = values_of(files.image).astype(np.float32)
    values[5, 6] = np.nan
    tifffile.imwrite(path, values)
    return {"image": path}


def volume(_files, path):
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype(np.uint8)
    strokes = np.ones_like(values)
    strokes[:, 20:] = 2
    tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(path.with_suffix(".strokes.tif"), strokes, photometric="minisblack", metadata={"axes": "ZYX"})
    return {"image": path, "scribbles": path.with_suffix(".strokes.tif")}


MISUSES = [
    pytest.param(strokes_of_another_shape, 2, "must cover the same pixels", id="strokes of another shape"),
    pytest.param(strokes_with_one_class, 2, "two classes are needed", id="one class"),
    pytest.param(no_strokes, 2, "There are no strokes", id="no strokes"),
    pytest.param(float_strokes, 2, "float32", id="float strokes"),
    pytest.param(empty_file, 1, "is empty (0 bytes)", id="empty file"),
    pytest.param(truncated_file, 1, "damaged, cut off", id="truncated file"),
    pytest.param(no_image, 1, "damaged, cut off or of another kind", id="no image"),
    pytest.param(missing_image, 1, "There is no file", id="missing"),
    pytest.param(nan_in_the_image, 2, "1 of 9216 values are NaN", id="NaN"),
    pytest.param(volume, 2, "the forest delivers 3D", id="3D"),
    pytest.param(lambda *_: {"authors": None}, 2, "missing: authors", id="no authors"),
    pytest.param(lambda *_: {"license": None}, 2, "a licence", id="no licence"),
    pytest.param(lambda *_: {"license": "CC-BY"}, 2, "Did you mean CC-BY", id="unknown licence"),
    pytest.param(lambda *_: {"enhancer": "nonsense"}, 1, "No model 'nonsense'", id="no enhancer"),
    pytest.param(lambda files, _: {"enhancer": files.image}, 1, "Expected a zip file", id="no package"),
    pytest.param(lambda *_: {"rescale": "much"}, 2, "--rescale takes a factor", id="factor"),
    pytest.param(lambda *_: {"rescale": "auto"}, 2, "pixel size of the enhancer is unknown", id="unknown sizes"),
    pytest.param(lambda *_: {"rescale": 100}, 2, "rescaling factor must lie in", id="absurd factor"),
    pytest.param(lambda *_: {"name": "abc"}, 2, "The model name must be", id="name"),
    pytest.param(lambda *_: {"steps": 0}, 2, "must be positive", id="steps"),
    pytest.param(lambda *_: {"trees": 0}, 2, "at least 1", id="trees"),
    pytest.param(lambda *_: {"fused_trees": 0}, 2, "--fused-trees must be at least 1", id="fused trees"),
    pytest.param(lambda *_: {"max_depth": -1}, 2, "--max-depth must be at least 1", id="depth"),
    pytest.param(lambda *_: {"max_depth": "deep"}, 2, "not a valid integer", id="depth in words"),
    pytest.param(lambda *_: {"forests": 0}, 2, "At least one forest", id="forests"),
    pytest.param(lambda *_: {"confidence": 1}, 2, "confidence must lie in", id="confidence"),
    pytest.param(lambda *_: {"segmentor_features": 0}, 2, "at least 1 channel", id="features"),
    pytest.param(lambda *_: {"foreground": 3}, 2, "must be one of the labels", id="foreground"),
    pytest.param(lambda *_: {"class_names": "a,,b"}, 2, "needs a name", id="empty name"),
]


@pytest.mark.parametrize(("change", "exit_code", "words"), MISUSES)
def test_an_error_is_told_once_and_nothing_is_written(
    call, adapt_arguments, files, tmp_path, contents, change, exit_code, words
):
    changes = change(files, tmp_path / "changed.tif")
    before = contents(tmp_path)
    outcome = call(*adapt_arguments(**changes))
    assert outcome.exit_code == exit_code, outcome
    assert words in outcome.message
    assert outcome.stdout == ""
    assert contents(tmp_path) == before


def test_missing_authors_and_licence_are_named_together(call, adapt_arguments):
    outcome = call(*adapt_arguments(authors=None, license=None))
    assert outcome.exit_code == 2
    assert "--authors" in outcome.message
    assert "--license" in outcome.message


def test_an_enhancer_for_other_classes_is_refused(call, adapt_arguments, folder):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["classes"][1]["role"] = "other"
    outcome = call(*adapt_arguments(enhancer=folder.save()))
    assert outcome.exit_code == 2
    assert "one channel each of other" in outcome.message


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(call, adapt_arguments, tmp_path, contents):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("an old report")
    outcome = call(*adapt_arguments())
    assert outcome.exit_code == 2
    assert "--overwrite" in outcome.message
    assert contents(tmp_path) == {"out/report.html": b"an old report"}
    assert call(*adapt_arguments("--overwrite", "--quiet")).exit_code == 0
    assert (tmp_path / "out" / "report.html").read_text() != "an old report"


def test_overwrite_and_resume_contradict_each_other(call, adapt_arguments):
    outcome = call(*adapt_arguments("--overwrite", "--resume"))
    assert outcome.exit_code == 2
    assert "Choose one" in outcome.message


def test_there_must_be_a_run_to_resume(call, adapt_arguments):
    outcome = call(*adapt_arguments("--resume"))
    assert outcome.exit_code == 2
    assert "no run to resume" in outcome.message


def test_an_interrupted_run_is_resumed_to_the_same_result(call, adapt_arguments, monkeypatch, tmp_path, contents):
    ask = PatchDataset.__getitem__

    def interrupted(patches, index):
        if index >= 2:
            raise KeyboardInterrupt
        return ask(patches, index)

    with monkeypatch.context() as patch:
        patch.setattr(PatchDataset, "__getitem__", interrupted)
        outcome = call(*adapt_arguments("--quiet"))
    assert outcome.exit_code == 1
    assert "Abort" in outcome.stderr
    other = call(*adapt_arguments("--resume", seed=1))
    assert other.exit_code == 2
    assert "is of a run with other" in other.message
    assert call(*adapt_arguments("--resume", "--quiet")).exit_code == 0
    assert call(*adapt_arguments("--quiet", output=tmp_path / "whole")).exit_code == 0
    resumed, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert set(resumed) == set(whole)
    for name in whole:
        if name.endswith((".safetensors", ".tif", ".zip")):
            assert resumed[name] == whole[name], name


@pytest.fixture
def full_disk(monkeypatch):
    """Let the disk be full as soon as a file with a certain name is moved into its place."""
    move = os.replace

    def fill(name):
        def refuse(source, target, *arguments, **options):
            if Path(target).name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            move(source, target, *arguments, **options)

        monkeypatch.setattr(os, "replace", refuse)

    return fill


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "classifier.safetensors",
        "enhanced.tif",
        "segmentor.safetensors",
        "tiny-segmentor.zip",
        "tiny-segmentor-fused.zip",
        "report.html",
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_temporary(call, adapt_arguments, tmp_path, full_disk, name):
    folder = "images/01-cells" if name.endswith(".tif") else "packages" if name.endswith(".zip") else ""
    old = tmp_path / "out" / folder / name
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    full_disk(name)
    outcome = call(*adapt_arguments("--overwrite", "--quiet"))
    assert outcome.exit_code == 1
    assert "No space left on device" in outcome.message
    assert outcome.stdout == ""
    assert old.read_bytes() == b"old"
    assert not list(tmp_path.rglob(".*"))


def test_a_disk_that_is_full_for_safetensors_is_told_too(call, adapt_arguments, monkeypatch, tmp_path):
    def refuse(*_, **__):
        msg = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(msg)

    monkeypatch.setattr("s2d_zoo.rf_adapter.persistence.save_file", refuse)
    outcome = call(*adapt_arguments("--quiet"))
    assert outcome.exit_code == 1
    assert "No space left on device" in outcome.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoints", "run.json"]  # to be resumed


def test_a_segmentor_that_ends_worse_is_no_success(call, adapt_arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(training_loop, "_compare", lambda *_, **__: "IoU 0.1, before 0.9")
    outcome = call(*adapt_arguments("--quiet"))
    assert outcome.exit_code == 1
    assert "worse than its start: IoU 0.1, before 0.9. It is not given out" in outcome.message
    assert "report:" in outcome.stdout
    assert not (tmp_path / "out" / "segmentor.safetensors").exists()


def test_the_demo_runs_on_simulated_nuclei_with_the_bundled_enhancer(call, tmp_path):
    arguments = ["demo", "--output", tmp_path / "demo", "--size", 128, "--steps", 2, "--trees", 5, "--quiet"]
    outcome = call(*arguments)
    assert outcome.exit_code in (0, 1), outcome.stderr  # two steps may well end worse than the start
    assert "IoU, test images, enhanced" in outcome.stdout
    assert (tmp_path / "demo" / "adapted" / "report.html").is_file()
    again = call(*arguments)
    assert again.exit_code == 2
    assert "not empty" in again.message


def test_a_demo_that_is_too_small_writes_nothing(call, tmp_path):
    outcome = call("demo", "--output", tmp_path / "demo", "--size", 20)
    assert outcome.exit_code == 2
    assert not (tmp_path / "demo").exists()
