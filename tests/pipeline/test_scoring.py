"""Scores of every method on the same images, and of forest and enhancer on images that neither knows."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.scores import Score
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import UserInputError
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.pipeline.evaluation import compare_on_images
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.scoring import METHODS, score_predictions
from s2d_zoo.rf_adapter.classifier import ForestSettings


def plane(*values):
    return xr.DataArray(np.array([values], dtype=np.float32), dims=("y", "x"))


def channels(*values):
    return xr.concat([plane(*values), plane(*[0.0] * len(values))], "channel")


TRUTH = xr.DataArray(np.array([[0, 0, 3, 7]], dtype=np.uint16), dims=("y", "x"))
PREDICTION = Prediction(foreground=plane(0.4, 0.6, 0.5, 0.9), enhanced=channels(0.1, 0.1, 0.1, 0.9))


def test_methods_are_scored_at_one_half_and_those_not_run_are_left_out():
    scores = score_predictions([PREDICTION], [TRUTH])
    assert list(scores) == ["RF", "enhanced"]
    assert scores["RF"].iou == pytest.approx(2 / 3)
    assert scores["enhanced"].iou == pytest.approx(1 / 2)


def test_all_methods_are_scored_in_the_order_of_the_pipeline():
    labels = PseudoLabels(labels=channels(0, 0, 1, 1), weights=plane(1, 1, 1, 1))
    full = replace(
        PREDICTION,
        fused=channels(0.0, 0.0, 0.0, 0.7),
        labels=labels,
        segmentation=channels(1, 1, 1, 1),
        strokes_only=channels(0.0, 0.0, 0.0, 0.0),
        base=channels(1, 0.0, 0.0, 0.0),
    )
    scores = score_predictions([full], [TRUTH])
    assert list(scores) == list(METHODS)
    assert scores["fused"].iou == 0.5
    assert scores["pseudo-labels"].iou == 1
    assert scores["segmentor"] == Score(iou=0.5, dice=2 / 3)
    assert scores["segmentor, strokes only"].iou == 0


def test_all_images_are_taken_together():
    other = replace(PREDICTION, foreground=plane(0, 0, 0, 0))
    assert score_predictions([PREDICTION, other], [TRUTH, TRUTH])["RF"].iou == pytest.approx(2 / 5)


def test_a_method_that_was_run_on_some_images_only_is_left_out():
    some = replace(PREDICTION, segmentation=channels(1, 1, 1, 1))
    assert "segmentor" not in score_predictions([PREDICTION, some], [TRUTH, TRUTH])


def test_without_images_there_are_no_scores():
    assert score_predictions([], []) == {}


@pytest.fixture(scope="module")
def enhancer(package):
    return load_enhancer(package)


@pytest.fixture(scope="module")
def labelled(nuclei):
    image, labels = nuclei
    return LabelledImage(name="nuclei", image=image, labels=labels)


def compare(enhancer, images, **changes):
    return compare_on_images(
        enhancer, images, **{"name": "cells", "n_strokes": 3, "forest": ForestSettings(n_estimators=5), **changes}
    )


def test_forest_and_enhancer_are_compared_on_the_same_images(enhancer, labelled):
    comparison = compare(enhancer, [labelled], seed=2)
    assert comparison.n_images == 1
    assert comparison.forest.iou > 0.3
    assert comparison.to_json() == {
        "images": "cells",
        "n_images": 1,
        "strokes_per_class_and_image": 3,
        "seed": 2,
        "iou": {"RF": round(comparison.forest.iou, 4), "enhanced": round(comparison.enhanced.iou, 4)},
        "dice": {"RF": round(comparison.forest.dice, 4), "enhanced": round(comparison.enhanced.dice, 4)},
    }
    assert comparison == compare(enhancer, [labelled], seed=2)


def test_images_without_both_classes_are_left_out(enhancer, labelled):
    empty = replace(labelled, labels=xr.zeros_like(labelled.labels))
    full = replace(labelled, labels=xr.ones_like(labelled.labels))
    comparison = compare(enhancer, [empty, labelled, full])
    assert comparison.n_images == 1
    with pytest.raises(UserInputError, match="None of the 2 images of cells"):
        compare(enhancer, [empty, full])


def test_progress_goes_to_stderr(enhancer, labelled, capfd):
    compare(enhancer, [labelled], progress="comparing")
    out, err = capfd.readouterr()
    assert out == ""
    assert "comparing" in err
