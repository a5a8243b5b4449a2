"""Whole runs from what users bring: ilastik projects, probabilities, classifiers from Python, images in colour.

Packages are written in one of them only, which takes most of a run's time.
"""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import yaml
from tests.rf_adapter.nuclei_projects import SELECTION, apply, autocontext_project, fit, nuclei_project

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import ConfigError, ContractMismatchError
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.persistence import load_classifier
from s2d_zoo.rf_adapter.predictors import SklearnClassifier

NO_FOREST = "the probabilities do not come from one forest on features of the raw image"


@pytest.fixture
def run_from(monkeypatch, tmp_path, package, tiny_settings):
    """Adapt, write the report, but no packages."""
    monkeypatch.setattr("s2d_zoo.pipeline.adapt.write_packages", lambda *_: ())

    def make(*, classifier=None, settings=None, **inputs):
        given = AdaptInputs(enhancer=str(package), **inputs)
        result = adapt(given, settings or tiny_settings(), tmp_path / "out", classifier=classifier, progress=False)
        assert result.segmentors.training is not None
        assert write_report(result).is_file()
        return result

    return make


@pytest.fixture
def stored(nuclei, scribbles):
    """What the forest in the project says of the image's foreground."""
    return apply(fit(nuclei[0], scribbles), nuclei[0])[1].values


@pytest.fixture
def write(tmp_path, nuclei, scribbles):
    """Write a project."""

    def make(kind=nuclei_project, strokes=scribbles, **changes):
        return kind(nuclei[0], strokes, **changes).write(tmp_path / "made.ilp")

    return make


def test_a_project_with_its_image_needs_nothing_else(run_from, write, stored, nuclei, tmp_path):
    result = run_from(ilastik_project=write())
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)
    kept = load_classifier(tmp_path / "out" / "classifier.safetensors")
    np.testing.assert_allclose(kept.predict_proba(nuclei[0])[1], stored, atol=1e-6)
    assert kept.contract.forest.implementation == "vigra"
    assert result.fused is not None
    assert result.predictions[0].enhanced.values.std() > 0.05
    assert (tmp_path / "out" / "images" / "01-cells" / "segmentation.tif").is_file()
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["options"]["inputs"]["ilastik_project"].endswith("made.ilp")


@pytest.mark.parametrize("trained", [True, False])
def test_a_project_is_retrained_only_when_asked(run_from, write, stored, nuclei, tmp_path, trained):
    result = run_from(ilastik_project=write(trained=trained), retrain=True)
    kept = load_classifier(tmp_path / "out" / "classifier.safetensors")
    assert (kept.contract.forest.implementation, kept.contract.forest.labels) == ("sklearn", "strokes")
    assert kept.selection.scales == SELECTION.scales
    assert [entry.name for entry in kept.contract.classes] == ["background", "cells"]
    np.testing.assert_allclose(kept.predict_proba(nuclei[0])[1], result.predictions[0].foreground, atol=1e-6)
    assert np.abs(result.predictions[0].foreground.values - stored).max() > 0.1


def test_an_image_that_has_moved_is_given(run_from, write, stored, nuclei, tmp_path):
    write_image(tmp_path / "here.tif", nuclei[0])
    result = run_from(ilastik_project=write(path="away.tif"), images=(tmp_path / "here.tif",))
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)


def test_every_painted_time_point_is_worked_on(run_from, write, stored, nuclei, scribbles, tmp_path):
    project = nuclei_project(nuclei[0], scribbles)
    (lane,), (stage,) = project.lanes, project.stages
    (block,) = stage.labels[0]
    lane.image, lane.axes = np.stack([lane.image, lane.image, lane.image // 2]), "tyxc"
    stage.labels = [[type(block)("tyxc", (t, 0, 0, 0), block.values[np.newaxis]) for t in (1, 2)]]
    result = run_from(ilastik_project=project.write(tmp_path / "time.ilp"))
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["01-cells-t1", "02-cells-t2"]
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)
    assert np.abs(result.predictions[1].foreground.values - stored).max() > 0.1


def test_autocontext_is_used_but_not_fused(run_from, write, stored, tmp_path):
    result = run_from(ilastik_project=write(autocontext_project))
    assert (result.fused, result.not_fused) == (None, NO_FOREST)
    assert not (tmp_path / "out" / "classifier.safetensors").exists()
    assert np.abs(result.predictions[0].foreground.values - stored).max() > 0.1
    assert NO_FOREST in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture
def maps(tmp_path, nuclei, scribbles):
    """Files of an image, strokes on it, and probabilities of another classifier."""
    write_image(tmp_path / "raw.tif", nuclei[0])
    write_image(tmp_path / "strokes.tif", scribbles)
    write_image(tmp_path / "maps.tif", apply(fit(nuclei[0], scribbles), nuclei[0]).astype(np.float32))
    return {"images": (tmp_path / "raw.tif",), "probabilities": (tmp_path / "maps.tif",)}


def test_probabilities_without_strokes_are_trusted_where_the_enhancer_is_sure(run_from, maps, stored, tmp_path):
    result = run_from(**maps)
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)
    assert result.not_fused == NO_FOREST
    labels = result.predictions[0].labels
    np.testing.assert_array_equal(labels.labels, result.predictions[0].enhanced)
    sure = np.abs(result.predictions[0].enhanced.values[0] - 0.5) >= 0.3
    np.testing.assert_array_equal(labels.weights.values > 0, sure)
    assert 0 < result.kept < 1
    assert result.job.split.n_training == 0
    assert result.segmentors.baseline is None
    assert not (tmp_path / "out" / "classifier.safetensors").exists()


def test_probabilities_with_strokes_are_shown_and_forests_vote(run_from, maps, stored, scribbles, tmp_path):
    result = run_from(**maps, scribbles=(tmp_path / "strokes.tif",))
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)
    assert result.job.split.n_training > 0
    painted = result.job.split.training[0].values
    (weights, labels) = result.predictions[0].labels.weights.values, result.predictions[0].labels.labels.values
    assert (weights[painted > 0] == 1).all()
    np.testing.assert_array_equal(labels[0][painted > 0], painted[painted > 0] == 2)
    assert result.not_fused == NO_FOREST


def test_a_single_map_and_one_of_the_other_order_give_the_same(run_from, maps, stored, tmp_path, tiny_settings):
    both = read_image(maps["probabilities"][0])
    one, reversed_ = tmp_path / "one.tif", tmp_path / "reversed.tif"
    write_image(one, both[[1]])
    write_image(reversed_, both[::-1])
    found = run_from(images=maps["images"], probabilities=(one,)).predictions[0]
    np.testing.assert_allclose(found.foreground, stored, atol=1e-6)
    (tmp_path / "out").rename(tmp_path / "first")
    changed = run_from(
        images=maps["images"], probabilities=(reversed_,), settings=tiny_settings(foreground=1)
    ).predictions[0]
    np.testing.assert_array_equal(found.enhanced, changed.enhanced)
    np.testing.assert_array_equal(found.labels.labels, changed.labels.labels)


@pytest.mark.parametrize("wrong", ["first", "second"])
def test_maps_with_other_values_are_refused_before_anything_is_written(run_from, maps, tmp_path, wrong):
    good, bad = maps["probabilities"][0], tmp_path / "bytes.tif"
    write_image(bad, (read_image(good) * 255).round().astype(np.uint8))
    files = (bad, good) if wrong == "first" else (good, bad)
    with pytest.raises(ContractMismatchError, match="divided by 255"):
        run_from(images=maps["images"] * 2, probabilities=files)
    assert not (tmp_path / "out").exists()


def test_any_classifier_of_sklearn_can_be_given_from_python(run_from, maps, nuclei, scribbles, tmp_path, stored):
    classifier = SklearnClassifier(fit(nuclei[0], scribbles), SELECTION)
    result = run_from(images=maps["images"], scribbles=(tmp_path / "strokes.tif",), classifier=classifier)
    np.testing.assert_allclose(result.predictions[0].foreground, stored, atol=1e-6)
    assert result.not_fused == NO_FOREST
    named = json.loads((tmp_path / "out" / "run.json").read_text())["options"]["classifier"]
    assert named["type"] == "SklearnClassifier"


def test_the_foreground_of_unnamed_labels_is_what_covers_less(run_from, write, scribbles, stored, caplog):
    swapped = xr.where(scribbles > 0, 3 - scribbles, 0).astype(np.uint8)
    result = run_from(ilastik_project=write(strokes=swapped, names=("Label 1", "Label 2")))
    assert result.job.foreground == 1
    assert "label 1 is taken for the objects" in caplog.text
    assert np.corrcoef(result.predictions[0].foreground.values.ravel(), stored.ravel())[0, 1] > 0.8
    strokes = result.job.split.training[0].values
    np.testing.assert_array_equal(result.predictions[0].labels.labels.values[0][strokes > 0], strokes[strokes > 0] == 1)


def test_of_three_unnamed_labels_the_user_is_asked(run_from, write, tmp_path):
    with pytest.raises(ConfigError, match=r"Which label .* --foreground 2"):
        run_from(ilastik_project=write(names=("a", "b", "c")))
    assert not (tmp_path / "out").exists()


def test_a_background_that_is_taken_for_the_foreground_is_refused(run_from, write, tmp_path, tiny_settings):
    with pytest.raises(ContractMismatchError, match="--foreground 2"):
        run_from(ilastik_project=write(), settings=tiny_settings(foreground=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_validation")
def test_colour_and_three_classes_go_all_the_way_into_the_packages(package, nuclei, scribbles, tmp_path, tiny_settings):
    image, _ = nuclei
    colour = xr.concat([image, image // 2, 400 - image], dim="channel")
    three = scribbles.copy()
    three[:, :20] = xr.where(scribbles[:, :20] == 1, 3, scribbles[:, :20])
    assert set(np.unique(three)) == {0, 1, 2, 3}
    write_image(tmp_path / "rgb.tif", colour)
    write_image(tmp_path / "strokes.tif", three.astype(np.uint8))
    inputs = AdaptInputs(images=(tmp_path / "rgb.tif",), scribbles=(tmp_path / "strokes.tif",), enhancer=str(package))
    settings = replace(tiny_settings(), class_names=("glass", "nucleus", "dirt"))
    result = adapt(inputs, settings, tmp_path / "out", progress=False)
    assert result.good
    kept = load_classifier(tmp_path / "out" / "classifier.safetensors").contract
    assert (kept.raw_channels, kept.channels) == (3, (1,))
    assert kept.classes == name_classes(3, names=("glass", "nucleus", "dirt"))
    for name in ("tiny-segmentor", "tiny-segmentor-fused"):
        with zipfile.ZipFile(tmp_path / "out" / "packages" / f"{name}.zip") as archive:
            rdf = yaml.safe_load(archive.read("rdf.yaml"))
        axes = {axis["type"]: axis for axis in rdf["inputs"][0]["axes"]}
        assert len(axes["channel"]["channel_names"]) == 3
