"""Classifiers out of files, and which label of a project is the foreground."""

import logging
import re

import h5py
import numpy as np
import pytest
import xarray as xr
from tests.rf_adapter.nuclei_projects import apply, autocontext_project, fit, nuclei_project

from s2d_zoo.data.images import write_image
from s2d_zoo.errors import AxesError, ConfigError, ProjectFileError, SavedFileError, ScribbleError
from s2d_zoo.pipeline import projects
from s2d_zoo.pipeline.projects import choose_foreground, open_classifier, open_ilastik_project, retrain_classifier
from s2d_zoo.rf_adapter.autocontext import AutocontextClassifier
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.ilastik_project import read_project
from s2d_zoo.rf_adapter.persistence import save_classifier

UNNAMED = ("Label 1", "Label 2")


@pytest.fixture
def write(tmp_path, nuclei, scribbles):
    """Write a project, changed."""

    def make(kind=nuclei_project, strokes=scribbles, **changes):
        return kind(nuclei[0], strokes, **changes).write(tmp_path / "made.ilp")

    return make


def swapped(scribbles):
    """Label 1 for the objects."""
    return xr.where(scribbles > 0, 3 - scribbles, 0).astype(np.uint8)


# ---- opening


def test_a_projects_image_and_strokes_are_given_together(write, nuclei, scribbles):
    opened = open_ilastik_project(write())
    assert opened.stage == 0
    (frame,) = opened.frames
    assert frame.name == "cells"
    np.testing.assert_array_equal(frame.image, nuclei[0])
    np.testing.assert_array_equal(opened.scribbles[0], scribbles)


def test_an_image_that_has_moved_is_named_until_it_is_given(write, nuclei, tmp_path):
    path = write(path="far/away.tif")
    with pytest.raises(ProjectFileError, match=r"wants the image far/away.tif, which is not there.*--image"):
        open_ilastik_project(path)
    write_image(tmp_path / "here.tif", nuclei[0])
    (frame,) = open_ilastik_project(path, [tmp_path / "here.tif"]).frames
    np.testing.assert_array_equal(frame.image, nuclei[0])
    write_image(tmp_path / "other.tif", nuclei[0][:, 1:])
    with pytest.raises(AxesError, match="was made on an image of"):
        open_ilastik_project(path, [tmp_path / "other.tif"])
    with pytest.raises(ConfigError, match=r"has 1 images.*but 2 were given with --image"):
        open_ilastik_project(path, [tmp_path / "here.tif"] * 2)


@pytest.mark.parametrize("retrain", [True, False])
def test_a_project_without_labels_is_refused(write, retrain):
    with pytest.raises(ScribbleError, match=r"has no labels\. Paint"):
        open_ilastik_project(write(labels=[[]]), retrain=retrain)


def test_a_forest_is_needed_unless_one_is_to_be_fitted(write):
    path = write(trained=False)
    with pytest.raises(ProjectFileError, match=r"no trained forest.*Live Update.*--retrain"):
        open_ilastik_project(path)
    assert open_ilastik_project(path, retrain=True).stage == 0


@pytest.mark.parametrize(
    ("retrain", "second", "stage"), [(False, True, 1), (False, False, 0), (True, True, 1), (True, False, 1)]
)
def test_of_autocontext_the_last_stage_counts_that_can_be_used(write, retrain, second, stage):
    assert open_ilastik_project(write(autocontext_project, second=second), retrain=retrain).stage == stage


def test_retraining_autocontext_is_said_to_be_something_else(write, caplog):
    open_ilastik_project(write(autocontext_project), retrain=True)
    (message,) = caplog.messages
    assert "one forest, on the labels of" in message
    caplog.clear()
    open_ilastik_project(write(), retrain=True)
    assert caplog.messages == []


@pytest.mark.parametrize(("labels", "painted"), [([[]], False), (None, True)])
def test_forest_names_and_strokes_are_of_the_same_stage(write, nuclei, labels, painted):
    changes = {} if labels is None else {"labels": labels}
    opened = open_ilastik_project(write(autocontext_project, names=("cells", "background"), **changes))
    assert opened.stage == 1
    assert bool((opened.scribbles[0] > 0).any()) is painted
    assert choose_foreground(opened.project, [nuclei[0]]) == 1
    assert open_classifier(opened.project.path).contract.channels == (0,)


def test_the_names_of_a_stage_that_is_not_trained_decide_nothing(write):
    path = write(autocontext_project, second=False, names=("cells", "background"))
    assert choose_foreground(read_project(path)) == 2
    assert open_classifier(path).contract.channels == (1,)


# ---- classifiers


def test_a_stored_forest_predicts_as_it_did_before(write, nuclei, scribbles):
    classifier = open_classifier(write())
    expected = apply(fit(nuclei[0], scribbles), nuclei[0])
    np.testing.assert_allclose(classifier.predict_proba(nuclei[0]), expected, atol=1e-6)


def test_the_kind_of_classifier_is_told_by_the_file(write, classifier, tmp_path):
    assert isinstance(open_classifier(write(autocontext_project)), AutocontextClassifier)
    save_classifier(classifier, tmp_path / "forest.safetensors")
    assert open_classifier(tmp_path / "forest.safetensors").contract == classifier.contract
    upper = write().rename(tmp_path / "UPPER.ILP")
    assert isinstance(open_classifier(upper), PixelClassifier)
    copied = write().rename(tmp_path / "made.ilp.bak")
    assert isinstance(open_classifier(copied), PixelClassifier)
    (tmp_path / "text.ilp.txt").write_text("text")
    with pytest.raises(SavedFileError, match=r"s2d-zoo classify, or an ilastik project \(\*\.ilp\)"):
        open_classifier(tmp_path / "text.ilp.txt")


def test_of_a_saved_forest_another_label_can_be_the_objects(classifier, tmp_path, nuclei):
    path = tmp_path / "forest.safetensors"
    save_classifier(classifier, path)
    turned = open_classifier(path, foreground=1)
    assert [entry.role for entry in turned.contract.classes] == ["foreground", "background"]
    assert turned.contract.channels == (0,)
    np.testing.assert_array_equal(turned.predict_proba(nuclei[0]), classifier.predict_proba(nuclei[0]))
    with pytest.raises(ConfigError, match="1…2, got 99"):
        open_classifier(path, foreground=99)


def test_a_project_is_retrained_on_its_labels_with_its_features(write, nuclei, scribbles):
    path = write(trained=False)
    settings = ForestSettings(n_estimators=4)
    fitted = retrain_classifier(path, forest=settings, seed=3)
    project = read_project(path)
    assert fitted.contract.forest.implementation == "sklearn"
    assert fitted.selection == project.stages[0].selection
    by_hand = PixelClassifier(selection=fitted.selection, settings=settings, random_state=3).fit(nuclei[0], scribbles)
    np.testing.assert_array_equal(fitted.predict_proba(nuclei[0]).values, by_hand.predict_proba(nuclei[0]).values)


# ---- which label is the foreground


@pytest.mark.parametrize(
    ("names", "foreground"),
    [(("background", "cells"), 2), (("cells", "Background"), 1), (("bg", "back of a cell"), None)],
    ids=str,
)
def test_names_that_say_background_decide_without_a_word(write, nuclei, caplog, names, foreground):
    found = choose_foreground(read_project(write(names=names)), [nuclei[0]])
    if foreground is None:  # both say so, and nothing is told
        assert len(caplog.messages) == 1
    else:
        assert found == foreground
        assert caplog.messages == []


@pytest.mark.parametrize("foreground", [1, 2])
def test_of_two_unnamed_labels_the_one_that_covers_less_is_taken_and_told(write, nuclei, scribbles, caplog, foreground):
    path = write(strokes=scribbles if foreground == 2 else swapped(scribbles), names=UNNAMED)
    with caplog.at_level(logging.WARNING):
        assert choose_foreground(read_project(path), [nuclei[0]]) == foreground
    (message,) = caplog.messages
    assert re.search(
        rf"label {foreground} is taken for the objects, since it covers less of the middle of the images, \d+ %",
        message,
    )
    assert "1: Label 1, 2: Label 2" in message
    assert f"--foreground {3 - foreground}." in message


def test_an_image_in_the_project_itself_is_looked_at(write, scribbles, caplog):
    classifier = open_classifier(write(strokes=swapped(scribbles), names=UNNAMED))
    assert classifier.contract.channels == (0,)
    assert "covers less" in caplog.text


def test_only_the_middle_of_large_images_is_looked_at(write, nuclei, monkeypatch, scribbles):
    monkeypatch.setattr(projects, "_MIDDLE", {"z": 2, "y": 40, "x": 50})
    seen = []
    predict = PixelClassifier.predict_proba
    monkeypatch.setattr(
        PixelClassifier, "predict_proba", lambda self, image: seen.append(dict(image.sizes)) or predict(self, image)
    )
    choose_foreground(read_project(write(names=UNNAMED)), [nuclei[0]])
    assert seen == [{"channel": 1, "y": 40, "x": 50}]


def test_without_a_forest_a_small_one_tells_what_covers_less(write, scribbles, nuclei, caplog):
    path = write(strokes=swapped(scribbles), names=UNNAMED, trained=False)
    assert retrain_classifier(path, forest=ForestSettings(n_estimators=3)).contract.channels == (0,)
    assert "covers less of the middle" in caplog.text
    assert open_ilastik_project(path, retrain=True).stage == 0


@pytest.mark.parametrize("changes", [{"path": "away.tif"}, {"trained": False}], ids=str)
def test_without_an_image_or_a_forest_the_usual_order_is_taken_and_told(write, scribbles, caplog, changes):
    project = read_project(write(strokes=swapped(scribbles), names=UNNAMED, **changes))
    assert choose_foreground(project) == 2
    assert "label 2 is taken for the objects, since that is the usual order" in caplog.text


def test_the_label_that_is_fed_to_a_network_in_ilastik_is_the_objects(write, caplog):
    path = write(names=("a", "b", "c"), trained=False)
    with h5py.File(path, "a") as file:
        file["PixelClassification/SelectedChannels"] = [2]
    assert choose_foreground(read_project(path)) == 3
    assert caplog.messages == []


def test_of_three_unnamed_labels_only_the_user_knows(write):
    project = read_project(write(names=("a", "b", "c"), trained=False))
    with pytest.raises(ConfigError, match=r"Which label of .*made.ilp .*1: a, 2: b, 3: c.*--foreground"):
        choose_foreground(project)


def test_of_a_background_and_several_others_only_the_user_knows(write):
    project = read_project(write(names=("a", "background", "c"), trained=False))
    with pytest.raises(ConfigError, match=r"Which label is the foreground.*--foreground 1"):
        choose_foreground(project)


def test_what_the_user_says_is_not_questioned(write, caplog):
    assert open_classifier(write(names=UNNAMED), foreground=1).contract.channels == (0,)
    assert caplog.messages == []
    with pytest.raises(ConfigError, match="1…2, got 3"):
        open_classifier(write(), foreground=3)
