"""Scores: intersection over union, and Dice."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from s2d_zoo.data.scores import Score, calibration_error, score_foreground, score_masks, score_strokes
from s2d_zoo.errors import AxesError


def plane(values, dtype="float32"):
    return xr.DataArray(np.asarray(values, dtype=dtype), dims=("y", "x"))


masks = hnp.arrays(bool, (3, 4))


@given(predicted=masks, actual=masks)
@settings(deadline=None, max_examples=40)
def test_scores_count_pixels(predicted, actual):
    score = score_masks([predicted], [actual])
    both, either = (predicted & actual).sum(), (predicted | actual).sum()
    assert score.iou == (both / either if either else 1.0)
    total = predicted.sum() + actual.sum()
    assert score.dice == pytest.approx(2 * both / total if total else 1.0)
    assert score_masks([actual], [predicted]) == score


@given(values=hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)), actual=masks)
@settings(deadline=None, max_examples=20)
def test_several_images_count_as_one(values, actual):
    predicted = values >= 0.5
    parts = score_masks([predicted[:1], predicted[1:]], [actual[:1], actual[1:]])
    assert parts == score_foreground(plane(values), plane(actual, "uint8"))


@pytest.mark.parametrize(
    ("values", "truth", "iou"),
    [
        ([[1, 0, 0, 0]], [[9, 0, 0, 0]], 1.0),
        ([[1, 1, 0, 0]], [[0, 0, 9, 3]], 0.0),
        ([[1, 1, 1, 0]], [[0, 7, 7, 7]], 0.5),
        ([[0, 0, 0, 0]], [[0, 0, 0, 0]], 1.0),
        ([[0, 0, 0, 0]], [[0, 0, 0, 1]], 0.0),
        ([[0.5, 0.49, 0, 0]], [[1, 0, 0, 0]], 1.0),
        ([[np.nan, 1, 0, 0]], [[0, 1, 0, 0]], 1.0),
    ],
)
def test_a_foreground_is_scored_against_labels(values, truth, iou):
    score = score_foreground(plane(values), plane(truth, "uint16"))
    assert score == Score(iou=iou, dice=2 * iou / (1 + iou))


def test_the_threshold_may_be_another():
    assert score_foreground(plane([[0.3, 0.1]]), plane([[1, 0]]), threshold=0.3).iou == 1.0


def test_only_pixels_of_the_mask_count():
    values, truth = plane([[1, 1, 0]]), plane([[1, 0, 1]])
    assert score_foreground(values, truth, mask=plane([[255, 0, 0]], "uint8")).iou == 1.0
    assert score_foreground(values, truth, mask=plane([[1, 1, 0]], "uint8")).iou == 0.5


@pytest.mark.parametrize("other", ["truth", "mask"])
def test_other_pixels_are_refused(other):
    arrays = {"truth": plane(np.ones((2, 3))), "mask": plane(np.ones((2, 3))), other: plane(np.ones((3, 2)))}
    with pytest.raises(AxesError, match="cover the same pixels"):
        score_foreground(plane(np.ones((2, 3))), **arrays)


@pytest.mark.parametrize(
    ("painted", "expected"), [([2, 1, 0], 0.5), ([2, 2, 0], None), ([1, 1, 0], None), ([0, 0, 0], None)]
)
def test_strokes_can_tell_only_if_two_classes_are_painted(painted, expected):
    score = score_strokes([plane([[0.9, 0.8, 0.0]])], [plane([painted], "uint8")], foreground=2)
    assert (score.iou if score else None) == expected


def test_the_calibration_error_is_the_distance_from_frequencies():
    """Ten px at 0.75 of which half are foreground, ten at 0.05 of which none: 0.25 and 0.05, ten each."""
    foreground = plane([[0.75] * 10 + [0.05] * 10 + [0.9] * 5])
    strokes = plane([[2] * 5 + [1] * 15 + [0] * 5], "uint8")
    assert calibration_error([foreground], [strokes], foreground=2) == pytest.approx(0.15, abs=1e-6)
    assert calibration_error([foreground, foreground], [strokes, strokes], foreground=2) == pytest.approx(
        0.15, abs=1e-6
    )
    # the other label: of those at 0.75 half, of those at 0.05 all
    assert calibration_error([foreground], [strokes], foreground=1) == pytest.approx((0.25 + 0.95) / 2, abs=1e-6)


def test_sure_and_right_is_calibrated():
    strokes = plane([[2, 2, 1, 1, 0]], "uint8")
    assert calibration_error([plane([[1, 1, 0, 0, 0.5]])], [strokes], foreground=2) == 0
    assert calibration_error([plane([[0, 0, 1, 1, 0.5]])], [strokes], foreground=2) == 1
    assert calibration_error([plane([[0, 1]])], [plane([[0, 0]], "uint8")], foreground=2) == 0
