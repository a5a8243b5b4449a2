"""Strokes: checked, numbered, held out whole."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from s2d_zoo.data.images import write_image
from s2d_zoo.data.scribbles import (
    MAX_CLASSES,
    check_scribbles,
    count_classes,
    fold_strokes,
    hold_out_strokes,
    read_scribbles,
    resample_strokes,
    split_strokes,
)
from s2d_zoo.errors import AxesError, ConfigError, ImageFileError, ScribbleError


def painted(values, dtype="uint8"):
    values = np.asarray(values, dtype=dtype)
    return xr.DataArray(values, dims=("z", "y", "x")[-values.ndim :])


labels_2d = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8), elements=st.integers(0, 3))
several = st.lists(labels_2d.map(painted), min_size=1, max_size=3)


def stroke_counts(scribbles):
    """Number of strokes of each class."""
    counts = {}
    for one in scribbles:
        numbers, count = split_strokes(one)
        for number in range(1, count + 1):
            label = int(one.values[numbers.values == number][0])
            counts[label] = counts.get(label, 0) + 1
    return counts


# ---- reading and checking


@pytest.mark.parametrize("shape", [(6, 7), (3, 6, 7)])
def test_strokes_are_read_as_uint8(tmp_path, shape):
    strokes = painted(np.arange(np.prod(shape)).reshape(shape) % 3, "uint16")
    write_image(tmp_path / "strokes.tif", strokes)
    found = read_scribbles(tmp_path / "strokes.tif")
    assert found.dtype == np.uint8
    assert np.array_equal(found.values, strokes.values)


def test_axes_may_be_named(tmp_path):
    write_image(tmp_path / "strokes.png", painted([[0, 1, 2], [0, 0, 0]]))
    assert read_scribbles(tmp_path / "strokes.png", axes="xy").shape == (3, 2)


@pytest.mark.parametrize(
    "array",
    [painted(np.full((3, 3), 0.5), "float32"), painted(np.full((3, 3), MAX_CLASSES + 1), "uint16")],
    ids=["floats", "instances"],
)
def test_a_file_without_usable_strokes_is_named(tmp_path, array):
    write_image(tmp_path / "strokes.tif", array)
    with pytest.raises(ScribbleError, match=r"Strokes in .*strokes\.tif"):
        read_scribbles(tmp_path / "strokes.tif")


def test_a_file_that_cannot_be_read_is_no_fault_of_the_strokes(tmp_path):
    with pytest.raises(ImageFileError):
        read_scribbles(tmp_path / "nothing.tif")


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint64"])
def test_any_integers_are_strokes(dtype):
    checked = check_scribbles(painted([[0, 1], [2, MAX_CLASSES]], dtype))
    assert checked.dtype == np.uint8
    assert checked.values.tolist() == [[0, 1], [2, MAX_CLASSES]]


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (painted([[0.0, np.nan]], "float64"), ScribbleError, "found float64"),
        (painted([[0, 1]], "bool"), ScribbleError, "found bool"),
        (painted([[-1, 1]], "int16"), ScribbleError, "found -1 to 1"),
        (painted([[0, 300]], "uint16"), ScribbleError, "instance label image"),
        (painted(np.zeros((0, 3))), AxesError, "empty along y"),
        (xr.DataArray(np.zeros((3, 4, 4), "uint8"), dims=("channel", "y", "x")), AxesError, "3 channels"),
    ],
    ids=["floats", "bool", "negative", "too many", "empty", "colour"],
)
def test_what_is_no_stroke_image_is_refused(array, error, message):
    with pytest.raises(error, match=message):
        check_scribbles(array)


def test_strokes_must_have_the_pixels_of_their_image():
    image = xr.DataArray(np.zeros((2, 4, 5)), dims=("channel", "y", "x"))
    assert check_scribbles(painted(np.ones((4, 5))), image=image).shape == (4, 5)
    with pytest.raises(AxesError, match="y=4 x x=5, the strokes y=5 x x=4"):
        check_scribbles(painted(np.ones((5, 4))), image=image)


# ---- classes


@pytest.mark.parametrize(
    ("images", "expected"), [([[[0, 1, 2]]], 2), ([[[0, 1]], [[3, 0]]], 3), ([[[2, 3]]], 3), ([[[0, 0]], [[1, 2]]], 2)]
)
def test_classes_are_counted_over_all_images(images, expected):
    assert count_classes([painted(one) for one in images]) == expected


@pytest.mark.parametrize(
    ("images", "message"),
    [([[[0, 0]]], "no strokes"), ([], "no strokes"), ([[[0, 2]], [[2, 2]]], "found only label 2")],
)
def test_fewer_than_two_classes_are_refused(images, message):
    with pytest.raises(ScribbleError, match=message):
        count_classes([painted(one) for one in images])


# ---- strokes


def test_strokes_are_numbered_class_by_class_and_touch_across_corners():
    strokes = painted([[2, 0, 1], [0, 2, 0], [1, 1, 0]])
    numbers, count = split_strokes(strokes)
    assert numbers.values.tolist() == [[3, 0, 1], [0, 3, 0], [2, 2, 0]]
    assert count == 3


@given(values=labels_2d)
@settings(deadline=None, max_examples=30)
def test_every_painted_pixel_belongs_to_one_stroke_of_its_class(values):
    numbers, count = split_strokes(painted(values))
    assert np.array_equal(numbers.values > 0, values > 0)
    assert set(np.unique(numbers.values)) - {0} == set(range(1, count + 1))
    assert all(len(np.unique(values[numbers.values == number])) == 1 for number in range(1, count + 1))


@given(scribbles=several, fraction=st.floats(0, 0.999), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_holding_out_parts_the_strokes_whole(scribbles, fraction, seed):
    split = hold_out_strokes(scribbles, fraction=fraction, seed=seed)
    for original, training, held_out in zip(scribbles, split.training, split.held_out, strict=True):
        assert not np.any((training.values > 0) & (held_out.values > 0))
        assert np.array_equal(training.values + held_out.values, original.values)
        numbers, _ = split_strokes(original)
        kept = set(np.unique(numbers.values[training.values > 0]))
        assert kept.isdisjoint(np.unique(numbers.values[held_out.values > 0]))
    before, kept, spared = map(stroke_counts, (scribbles, split.training, split.held_out))
    assert (sum(kept.values()), sum(spared.values())) == (split.n_training, split.n_held_out)
    for label, count in before.items():
        assert kept[label] >= 1
        assert (spared.get(label, 0) >= 1) == (count >= 3 and fraction > 0)


@given(scribbles=several, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_resampling_draws_whole_strokes_and_keeps_every_class(scribbles, seed):
    drawn = resample_strokes(scribbles, seed=seed)
    assert stroke_counts(drawn).keys() == stroke_counts(scribbles).keys()
    for original, one in zip(scribbles, drawn, strict=True):
        numbers, count = split_strokes(original)
        for number in range(1, count + 1):
            stroke = numbers.values == number
            assert np.all(one.values[stroke] == original.values[stroke]) or not one.values[stroke].any()
        assert not one.values[original.values == 0].any()


TEN = painted(np.tile([1, 0, 2, 0], (1, 10)))


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_each_class_spares_its_share(fraction):
    split = hold_out_strokes([TEN], fraction=fraction)
    assert stroke_counts(split.held_out) == {1: 10 * fraction, 2: 10 * fraction}


def test_the_seed_decides_which():
    held_out, drawn = (
        [function(seed).values.tobytes() for seed in (0, 0, 1)]
        for function in (
            lambda seed: hold_out_strokes([TEN], seed=seed).held_out[0],
            lambda seed: resample_strokes([TEN], seed=seed)[0],
        )
    )
    for found in (held_out, drawn):
        assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_of_0_to_1_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        hold_out_strokes([TEN], fraction=fraction)


def test_instances_in_place_of_strokes_are_warned_of(tmp_path, caplog):
    labels = np.zeros((16, 16), dtype=np.uint8)
    labels[0, :8] = range(1, 9)
    write_image(tmp_path / "instances.tif", xr.DataArray(labels, dims=("y", "x")))
    read_scribbles(tmp_path / "instances.tif")
    assert "Are these instances" in caplog.text


def rows(*counts):
    """As many strokes of label 1, 2, … as is said, each two px in a row of its own."""
    values = np.zeros((2 * sum(counts), 6), dtype=np.uint8)
    labels = [label for label, count in enumerate(counts, start=1) for _ in range(count)]
    for number, label in enumerate(labels):
        values[2 * number, 1:3] = label
    return xr.DataArray(values, dims=("y", "x"))


def labels_of(strokes):
    return [label for one in strokes for label in np.unique(one.values) if label]


def test_every_stroke_is_held_out_once_and_whole():
    images = (rows(4, 3), rows(2, 2))
    folds = fold_strokes(images, foreground=2, n_folds=3)
    assert len(folds) == 3
    for image, painted in enumerate(images):
        together = sum(fold.held_out[image].values for fold in folds)
        assert (together == painted.values).all()
        numbers = split_strokes(painted)[0].values
        for fold in folds:
            assert (fold.training[image].values + fold.held_out[image].values == painted.values).all()
            cut = set(numbers[fold.training[image].values > 0]) & set(numbers[fold.held_out[image].values > 0])
            assert not cut
    assert sum(fold.n_held_out for fold in folds) == 11
    assert all(fold.n_training + fold.n_held_out == 11 for fold in folds)


def test_every_fold_learns_and_tests_all_classes():
    for fold in fold_strokes((rows(3, 9, 3),), foreground=2, n_folds=3):
        assert set(labels_of(fold.training)) == set(labels_of(fold.held_out)) == {1, 2, 3}


def test_a_class_of_one_stroke_is_learnt_from_and_never_held_out():
    folds = fold_strokes((rows(3, 3, 1),), foreground=2, n_folds=3)
    assert len(folds) == 3
    for fold in folds:
        assert 3 in labels_of(fold.training)
        assert 3 not in labels_of(fold.held_out)


@pytest.mark.parametrize(
    ("counts", "n_folds"), [((2, 9), 2), ((9, 2), 2), ((1, 9), 0), ((9, 1), 0), ((9, 0), 0), ((0, 9), 0)], ids=str
)
def test_there_are_no_more_folds_than_strokes(counts, n_folds):
    assert len(fold_strokes((rows(*counts),), foreground=2, n_folds=3)) == n_folds


def test_the_seed_decides_which_strokes_go_together():
    first, again, other = (
        [fold.held_out[0].values.tolist() for fold in fold_strokes((rows(9, 9),), foreground=2, n_folds=3, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert first == again != other
