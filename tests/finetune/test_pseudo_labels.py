"""Labels and weights from several forests and the strokes; the cases are small enough to work out by hand."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_zoo.errors import AxesError, ConfigError, UserInputError
from s2d_zoo.finetune.pseudo_labels import consensus_labels, dense_labels, kept_share, stroke_labels


def member(*foreground):
    """One row of pixels; the boundary is a tenth of the foreground."""
    row = np.array([foreground], dtype=np.float32)
    return xr.DataArray(np.stack([row, row / 10]), dims=("channel", "y", "x"))


def row(*labels):
    return xr.DataArray(np.array([labels], dtype=np.uint8), dims=("y", "x"))


@pytest.mark.parametrize(
    ("votes", "label", "weight"),
    [
        ((0.9, 0.9, 0.9), 0.9, 1.0),
        ((0.1, 0.1, 0.1), 0.1, 1.0),
        ((0.9, 0.9, 0.6), 0.8, 2 / 3),  # the third agrees, but is not sure
        ((0.9, 0.9, 0.1), 19 / 30, 2 / 3),  # the third is sure, but of the other side
        ((0.6, 0.6, 0.6), 0.6, 0.0),  # all agree, none is sure
        ((0.9, 0.1, 0.1), 11 / 30, 2 / 3),
        ((0.55, 0.55, 0.0), 11 / 30, 1 / 3),  # the mean decides on the side, and it is the background's
        ((1.0, 0.0), 0.5, 0.5),
        ((0.75,), 0.75, 1.0),  # at the limit is sure
        ((0.74,), 0.74, 0.0),
        ((0.25,), 0.25, 1.0),
    ],
)
def test_the_label_is_the_mean_and_the_weight_the_share_that_is_sure_and_agrees(votes, label, weight):
    made = consensus_labels([member(vote) for vote in votes], confidence=0.75)
    assert float(made.labels[0, 0, 0]) == pytest.approx(label)
    assert float(made.labels[1, 0, 0]) == pytest.approx(label / 10)
    assert float(made.weights[0, 0]) == pytest.approx(weight)


def test_strokes_override_the_forests():
    made = consensus_labels([member(0.9, 0.9, 0.1, 0.6)], scribbles=row(0, 1, 2, 3), confidence=0.8)
    np.testing.assert_allclose(made.labels[0, 0], [0.9, 0, 1, 0])
    np.testing.assert_allclose(made.weights[0], [1, 1, 1, 1])
    np.testing.assert_allclose(made.labels[1, 0], [0.09, 0.09, 0.01, 0.06], rtol=1e-6)


def test_the_foreground_may_have_another_label():
    made = consensus_labels([member(0.5, 0.5, 0.5)], scribbles=row(1, 2, 3), foreground=3)
    np.testing.assert_array_equal(made.labels[0, 0], [0, 0, 1])


def test_of_several_images_the_larger_one_counts_more():
    small, large = consensus_labels([member(0.9)]), consensus_labels([member(0.5, 0.5, 0.5)])
    assert (small.kept, large.kept) == (1, 0)
    assert kept_share([small, large]) == 1 / 4


def test_kept_is_the_share_on_which_more_than_half_are_sure_and_agree():
    made = consensus_labels([member(0.9, 0.9, 0.6, 0.1), member(0.9, 0.6, 0.6, 0.1)])
    np.testing.assert_allclose(made.weights[0], [1, 0.5, 0, 1])
    assert made.kept == 0.5


@settings(max_examples=30, deadline=None)
@given(
    votes=st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=4),
    strokes=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    confidence=st.floats(0.5, 0.95),
)
def test_labels_and_weights_lie_in_0_to_1_and_do_not_depend_on_the_order(votes, strokes, confidence):
    members = [member(*vote) for vote in votes]
    made = consensus_labels(members, scribbles=row(*strokes), confidence=confidence)
    assert 0 <= made.labels.min() <= made.labels.max() <= 1
    assert 0 <= made.weights.min() <= made.weights.max() <= 1
    assert 0 <= made.kept <= 1
    assert made.labels.dtype == made.weights.dtype == np.float32
    turned = consensus_labels(members[::-1], scribbles=row(*strokes), confidence=confidence)
    np.testing.assert_allclose(turned.labels, made.labels, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(vote=st.floats(0, 1, width=32), low=st.floats(0.5, 0.9))
def test_asking_for_more_confidence_never_adds_weight(vote, low):
    weights = [float(consensus_labels([member(vote)], confidence=c).weights[0, 0]) for c in (low, low + 0.09)]
    assert weights[0] >= weights[1]


def test_the_predictions_are_not_changed():
    one = member(0.9, 0.1)
    before = one.copy(deep=True)
    consensus_labels([one], scribbles=row(1, 2))
    xr.testing.assert_identical(one, before)


def test_no_members_are_refused():
    with pytest.raises(UserInputError, match="at least one prediction"):
        consensus_labels([])


@pytest.mark.parametrize("confidence", [0.49, 1.0, -1, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ConfigError, match="confidence"):
        consensus_labels([member(0.5)], confidence=confidence)


def test_members_and_strokes_of_other_sizes_are_refused():
    with pytest.raises(AxesError, match="next prediction"):
        consensus_labels([member(0.5), member(0.5, 0.5)])
    with pytest.raises(AxesError, match="strokes"):
        consensus_labels([member(0.5)], scribbles=row(1, 2))


def test_strokes_alone_are_labels_where_they_were_painted_and_nowhere_else():
    made = stroke_labels(row(0, 1, 2))
    np.testing.assert_array_equal(made.labels[:, 0], [[0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(made.weights[0], [0, 1, 1])
    assert made.kept == pytest.approx(2 / 3)


def test_strokes_alone_take_another_label_for_the_foreground():
    np.testing.assert_array_equal(stroke_labels(row(1, 2), foreground=1).labels[0, 0], [1, 0])


def test_of_an_image_that_is_labelled_throughout_every_pixel_counts():
    instances = xr.DataArray(np.array([[0, 0, 3, 3, 3, 0, 0]], dtype=np.uint16), dims=("y", "x"))
    labels = dense_labels(instances)
    assert labels.labels.values.tolist() == [[[0, 0, 1, 1, 1, 0, 0]], [[0, 1, 1, 0, 1, 1, 0]]]
    assert labels.weights.values.tolist() == [[1] * 7]
    assert (labels.labels.dtype, labels.weights.dtype, labels.kept) == (np.float32, np.float32, 1.0)
    # strokes know better
    corrected = dense_labels(instances, scribbles=row(2, 0, 1, 0, 0, 0, 0))
    assert corrected.labels.values[0].tolist() == [[1, 0, 0, 1, 1, 0, 0]]
    with pytest.raises(AxesError):
        dense_labels(instances, scribbles=row(2, 0))
