"""Objects, lines and calibration: known values, and independent computations."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import cKDTree
from sklearn.metrics import f1_score, jaccard_score
from sklearn.metrics.cluster import contingency_matrix

from s2d_zoo.data.quality_scores import (
    _THIN,
    BAND,
    MIN_AREA,
    TOLERANCE,
    GroundTruth,
    count_matches,
    line_f1,
    soft_dice,
    split_objects,
    thin,
)
from s2d_zoo.errors import AxesError, ConfigError, UserInputError


def plane(values, dtype="float32"):
    return xr.DataArray(np.asarray(values, dtype=dtype), dims=("y", "x"))


def discs(*circles, size=60):
    """Filled circles, given as y, x and radius."""
    y, x = np.mgrid[:size, :size]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= r**2 for cy, cx, r in circles], axis=0)


masks = hnp.arrays(bool, (6, 7))


# ---- overlap


@given(predicted=masks, actual=masks)
@settings(deadline=None, max_examples=30)
def test_iou_and_dice_are_those_of_scikit_learn(predicted, actual):
    score = GroundTruth([plane(actual, "uint8")], structure="objects").score([plane(predicted)])
    if predicted.any() or actual.any():
        assert score.iou == pytest.approx(jaccard_score(actual.ravel(), predicted.ravel()))
        assert score.dice == pytest.approx(f1_score(actual.ravel(), predicted.ravel()))
    else:
        assert (score.iou, score.dice) == (1, 1)


def test_soft_dice_takes_probabilities_as_they_are():
    # 2 · 0.5 / (0.25 + 1 + 1)
    assert soft_dice([np.array([[0.5, 1.0]], "float32")], [np.array([[True, False]])]) == pytest.approx(1 / 2.25)
    assert soft_dice([np.zeros((2, 2), "float32")], [np.zeros((2, 2), bool)]) == 1


@given(predicted=masks, actual=masks)
@settings(deadline=None, max_examples=20)
def test_of_sure_probabilities_soft_dice_is_dice(predicted, actual):
    if predicted.any() or actual.any():
        expected = f1_score(actual.ravel(), predicted.ravel())
        assert soft_dice([predicted.astype("float32")], [actual]) == pytest.approx(expected)


# ---- objects


def test_touching_discs_are_divided_at_their_neck():
    mask = discs((20, 20, 9), (20, 36, 9))
    assert ndimage.label(mask)[1] == 1
    objects = split_objects(mask)
    assert len(np.unique(objects)) == 3
    assert objects[20, 15] != objects[20, 41]
    np.testing.assert_array_equal(objects > 0, mask)


def test_small_discs_are_divided_as_large_ones_are():
    for scale in (1, 3):
        mask = discs(*((20 * scale, x * scale, 6 * scale) for x in (12, 23, 34)), size=60 * scale)
        assert len(np.unique(split_objects(mask))) == 4


def test_a_long_object_stays_one():
    mask = np.zeros((40, 90), bool)
    mask[12:22, 5:85] = True
    mask[14:20, 30:50] = True
    assert len(np.unique(split_objects(mask))) == 2


def test_small_objects_do_not_count():
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = True  # 16 px
    mask[10:15, 10:14] = True  # 20 px
    objects = split_objects(mask)
    assert objects[3, 3] == 0
    assert objects[12, 12] > 0
    assert count_matches(np.where(mask, 1, 0), objects)[1:] == (1, 1)
    assert not split_objects(np.zeros((5, 5), bool)).any()


@given(mask=hnp.arrays(bool, (12, 12)))
@settings(deadline=None, max_examples=25)
def test_objects_lie_within_the_mask_are_connected_and_large_enough(mask):
    mask = np.kron(mask, np.ones((3, 3), bool)) > 0
    objects = split_objects(mask)
    assert not objects[~mask].any()
    for number in np.unique(objects[objects > 0]):
        assert (objects == number).sum() >= MIN_AREA
        assert ndimage.label(objects == number)[1] == 1


labels = hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 4)).map(
    lambda small: np.kron(small, np.ones((5, 5), int))
)


@given(predicted=labels, actual=labels)
@settings(deadline=None, max_examples=40)
def test_matches_are_those_of_the_contingency_table(predicted, actual):
    table = contingency_matrix(predicted.ravel(), actual.ravel())
    ours, theirs = np.unique(predicted), np.unique(actual)
    expected = 0
    for row, number in enumerate(ours):
        for column, other in enumerate(theirs):
            union = (predicted == number).sum() + (actual == other).sum() - table[row, column]
            expected += bool(number and other and table[row, column] / union > 0.5)
    assert count_matches(predicted, actual) == (expected, (ours > 0).sum(), (theirs > 0).sum())


def test_an_iou_of_one_half_is_no_match():
    predicted, actual = np.zeros((2, 10, 10), int)
    predicted[:, :10] = 7
    actual[:5] = 3
    assert count_matches(predicted, actual) == (0, 1, 1)
    actual[5, 0] = 3
    assert count_matches(predicted, actual) == (1, 1, 1)


def test_average_precision_counts_objects_of_all_images_together():
    """First image: one of two is found; second: one is found, and one that is not there. 2 / (2 + 1 + 1)."""
    true = [np.zeros((60, 60), int) for _ in range(2)]
    true[0][discs((15, 15, 8))], true[0][discs((40, 40, 8))] = 1, 2
    true[1][discs((15, 15, 8))] = 1
    said = [discs((15, 15, 8)), discs((15, 15, 8), (40, 40, 8))]
    truth = GroundTruth(
        [plane(one > 0, "uint8") for one in true],
        structure="objects",
        instances=[plane(one, "int32") for one in true],
    )
    score = truth.score([plane(one) for one in said])
    assert score.average_precision == 0.5
    assert score.boundary_f1 is None


def test_instances_are_told_apart_where_masks_are_not():
    mask = discs(*((20, x, 8) for x in (10, 24, 38)))
    thirds = np.where(mask, np.searchsorted([17, 31], np.arange(60)) + 1, 0)
    alone = GroundTruth([plane(mask, "uint8")], structure="objects")
    divided = GroundTruth([plane(mask, "uint8")], structure="objects", instances=[plane(thirds, "uint16")])
    assert alone.score([plane(mask)]).average_precision == 0
    assert divided.score([plane(mask)]).average_precision == 1


def test_where_there_is_no_object_none_is_missed():
    empty = plane(np.zeros((30, 30)), "uint8")
    assert GroundTruth([empty], structure="objects").score([empty.astype("float32")]).average_precision == 1


# ---- lines


def test_a_thick_line_becomes_a_thin_one_in_its_middle():
    mask = np.zeros((30, 40), bool)
    mask[:, 18:23] = True
    line = thin(mask)
    np.testing.assert_array_equal(np.argwhere(line), [(y, 20) for y in range(30)])


@given(mask=hnp.arrays(bool, (7, 7)))
@settings(deadline=None, max_examples=30)
def test_thinning_breaks_no_line_and_closes_none(mask):
    mask = np.pad(np.kron(mask, np.ones((2, 2), bool)) > 0, 20)
    line = thin(mask)
    assert not (line & ~mask).any()
    everywhere = np.ones((3, 3))
    assert ndimage.label(line, everywhere)[1] == ndimage.label(mask, everywhere)[1]
    assert ndimage.label(~line)[1] == ndimage.label(~mask)[1]
    np.testing.assert_array_equal(thin(line), line)


def test_thinning_is_that_of_scipys_hit_or_miss():
    mask = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(60, 60)), 3) > 0
    line, before = np.pad(mask, 16, mode="symmetric"), None
    while before is None or (line != before).any():
        before = line.copy()
        for turns in range(4):
            for pattern in _THIN:
                turned = np.rot90(pattern, turns)
                line &= ~ndimage.binary_hit_or_miss(line, turned == 1, turned == 0)
    # at the outermost px, which are cut off, scipy finds nothing
    assert (thin(mask) != line[16:-16, 16:-16]).sum() == 0
    assert 0 < thin(mask).sum() < mask.sum() / 3


def lines_at(*columns, size=40):
    drawn = np.zeros((size, size), bool)
    drawn[:, list(columns)] = True
    return drawn


@pytest.mark.parametrize(
    ("predicted", "actual", "f1"),
    [
        ((10,), (10,), 1.0),
        ((12,), (10,), 1.0),
        ((13,), (10,), 0.0),
        ((10,), (10, 30), 2 / 3),  # all right, half found
        ((10, 20, 30), (10, 30), 0.8),  # two of three right, all found
        ((), (), 1.0),
        ((10,), (), 0.0),
        ((), (10,), 0.0),
    ],
)
def test_lines_within_two_pixels_are_right(predicted, actual, f1):
    assert line_f1([lines_at(*predicted)], [lines_at(*actual)]) == pytest.approx(f1)


@given(predicted=hnp.arrays(bool, (2, 9, 9)), actual=hnp.arrays(bool, (2, 9, 9)))
@settings(deadline=None, max_examples=30)
def test_line_f1_is_that_of_nearest_neighbours(predicted, actual):
    near = [0, 0]
    for one, other in zip(predicted, actual, strict=True):
        for side, (from_, to) in enumerate(((one, other), (other, one))):
            if from_.any() and to.any():
                distances, _ = cKDTree(np.argwhere(to)).query(np.argwhere(from_))
                near[side] += (distances <= TOLERANCE).sum()
    if predicted.any() and actual.any():
        precision, recall = near[0] / predicted.sum(), near[1] / actual.sum()
        expected = 2 * precision * recall / (precision + recall) if all(near) else 0
        assert line_f1(list(predicted), list(actual)) == pytest.approx(expected)


def test_the_width_of_a_membrane_does_not_count_but_its_place_does():
    true, wide, elsewhere = np.zeros((3, 50, 50), bool)
    true[:, 24:27], wide[:, 21:30], elsewhere[:, 34:37] = True, True, True
    truth = GroundTruth([plane(true, "uint8")], structure="membranes")
    score = truth.score([plane(wide)])
    assert score.boundary_f1 == 1
    assert score.iou == pytest.approx(1 / 3)
    assert score.average_precision is None
    assert truth.score([plane(elsewhere)]).boundary_f1 == 0


# ---- calibration


def half_and_half():
    truth = np.zeros((30, 80), np.uint8)
    truth[:, 40:] = 1
    return truth


def test_the_calibration_error_is_that_beside_the_border():
    """0.8 inside, where all is foreground, and 0.1 outside, where none is: errors of 0.2 and 0.1, equally often."""
    truth = half_and_half()
    scorer = GroundTruth([plane(truth, "uint8")], structure="objects")
    said = np.where(truth > 0, 0.8, 0.1)
    assert scorer.score([plane(said)]).calibration_error == pytest.approx(0.15, abs=1e-6)
    far = said.copy()
    far[:, :29], far[:, 51:] = 0.9, 0.1  # columns 30…39 and 40…49 are within 10 px of the other class
    assert scorer.score([plane(far)]).calibration_error == pytest.approx(0.15, abs=1e-6)
    far[:, 30] = 0.9
    assert scorer.score([plane(far)]).calibration_error != pytest.approx(0.15, abs=1e-3)


def test_the_band_is_where_the_other_class_is_near():
    truth = discs((25, 25, 13), (40, 45, 5))
    generator = np.random.default_rng(0)
    said = generator.random(truth.shape).astype("float32")
    away = np.where(
        truth, *(cKDTree(np.argwhere(one)).query(np.indices(truth.shape).reshape(2, -1).T)[0].reshape(truth.shape)
                 for one in (~truth, truth)),
    )  # fmt: skip
    chosen = away <= BAND
    assert 0 < chosen.sum() < chosen.size
    bins = np.clip((said[chosen] * 10).astype(int), 0, 9)
    expected = sum(
        abs(said[chosen][bins == one].mean() - truth[chosen][bins == one].mean()) * (bins == one).mean()
        for one in range(10)
    )
    score = GroundTruth([plane(truth, "uint8")], structure="objects").score([plane(said)])
    assert score.calibration_error == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_an_image_without_a_border_has_no_calibration(value):
    truth = GroundTruth([plane(np.full((30, 30), value), "uint8")], structure="membranes")
    assert truth.score([plane(np.full((30, 30), 0.5))]).calibration_error == 0


# ---- all images, and what is refused


def test_several_images_count_as_one_large_one():
    generator = np.random.default_rng(1)
    truth = [discs((20, 20, 9)), discs((40, 30, 12))]
    said = [np.clip(one + generator.normal(0, 0.4, one.shape), 0, 1).astype("float32") for one in truth]
    apart = GroundTruth([plane(one, "uint8") for one in truth], structure="objects").score([plane(one) for one in said])
    gap = np.zeros((60, 60))
    wide = GroundTruth([plane(np.hstack([truth[0], gap, truth[1]]), "uint8")], structure="objects").score(
        [plane(np.hstack([said[0], gap, said[1]]))]
    )
    for name in ("iou", "dice", "soft_dice", "average_precision", "calibration_error"):
        assert getattr(apart, name) == pytest.approx(getattr(wide, name), abs=1e-6)


def test_a_perfect_prediction_is_perfect():
    truth = discs((20, 20, 9), (44, 40, 8))
    score = GroundTruth([plane(truth, "uint8")], structure="objects").score([plane(truth)])
    assert (score.iou, score.dice, score.soft_dice, score.average_precision, score.calibration_error) == (1, 1, 1, 1, 0)
    lines = GroundTruth([plane(truth, "uint8")], structure="membranes").score([plane(truth)])
    assert lines.boundary_f1 == 1


def test_what_cannot_be_scored_is_refused():
    one = plane(np.ones((4, 4)), "uint8")
    with pytest.raises(ConfigError, match="objects, membranes, got 'dots'"):
        GroundTruth([one], structure="dots")
    with pytest.raises(UserInputError, match="no labelled image"):
        GroundTruth([], structure="objects")
    with pytest.raises(AxesError, match="instances"):
        GroundTruth([one], structure="objects", instances=[plane(np.ones((4, 5)), "uint8")])
    truth = GroundTruth([one], structure="objects")
    with pytest.raises(UserInputError, match="Expected 1 predictions"):
        truth.score([])
    with pytest.raises(AxesError, match="prediction"):
        truth.score([plane(np.ones((4, 5)))])
