"""Simulated strokes: inside their class, apart from each other, the same for the same seed."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from scipy import ndimage

from s2d_zoo.data.scribbles import split_strokes
from s2d_zoo.data.simulated_scribbles import BORDER, Brush, simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import ConfigError, ScribbleError


def as_classes(values):
    return xr.DataArray(np.asarray(values, dtype=np.uint8), dims=("y", "x"))


def halves(size=64):
    """Left half class 1, right half class 2."""
    return as_classes(np.where(np.indices((size, size))[1] < size // 2, 1, 2))


def strokes_of(scribbles, label):
    return split_strokes(scribbles.copy(data=np.where(scribbles.values == label, 1, 0).astype(np.uint8)))[1]


@given(
    seed=st.integers(0, 2**16),
    n_strokes=st.integers(1, 4),
    width=st.integers(1, 5),
    length=st.integers(1, 30),
    near_border=st.floats(0, 1),
)
@settings(deadline=None, max_examples=20)
def test_strokes_stay_in_their_class_and_apart(seed, n_strokes, width, length, near_border):
    classes = halves()
    scribbles = simulate_scribbles(
        classes, n_strokes=n_strokes, brush=Brush(width=width, length=length), near_border=near_border, seed=seed
    )
    assert scribbles.dtype == np.uint8
    assert scribbles.dims == classes.dims
    painted = scribbles.values > 0
    assert np.array_equal(scribbles.values[painted], classes.values[painted])
    for label in (1, 2):
        assert 1 <= strokes_of(scribbles, label) <= n_strokes


def test_there_are_as_many_strokes_as_wished_where_there_is_room():
    scribbles = simulate_scribbles(halves(96), n_strokes=5, brush=Brush(width=2, length=8), seed=1)
    assert [strokes_of(scribbles, label) for label in (1, 2)] == [5, 5]


def test_where_there_is_no_room_there_are_fewer_but_one():
    classes = as_classes(np.pad([[2, 2], [2, 2]], 15, constant_values=1))
    scribbles = simulate_scribbles(classes, n_strokes=8, brush=Brush(width=3), seed=0)
    assert strokes_of(scribbles, 2) == 1


def test_a_class_thinner_than_the_brush_is_painted_as_thin():
    classes = halves(32)
    classes[10] = 3
    scribbles = simulate_scribbles(classes, n_strokes=2, brush=Brush(width=5), seed=0)
    assert (scribbles.values == 3).any()
    assert np.all(classes.values[scribbles.values == 3] == 3)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_a_stroke_is_as_wide_as_the_brush(width):
    scribbles = simulate_scribbles(halves(96), n_strokes=1, brush=Brush(width=width, length=30), near_border=0, seed=4)
    for label in (1, 2):
        mask = np.pad(scribbles.values == label, 1)
        thickest = 2 * ndimage.distance_transform_edt(mask).max()
        assert width - 1 <= thickest <= width + 3


def test_strokes_near_a_border_begin_there():
    classes = halves(128)
    brush = Brush(width=1, length=1)
    near, far = (
        np.abs(np.nonzero(simulate_scribbles(classes, n_strokes=8, brush=brush, near_border=share, seed=3))[1] - 63.5)
        for share in (1.0, 0.0)
    )
    assert near.max() <= BORDER + brush.width
    assert far.max() > 3 * BORDER


def test_unknown_pixels_are_never_painted_and_are_no_border():
    classes = halves()
    classes[:40] = 0
    scribbles = simulate_scribbles(classes, n_strokes=6, seed=0)
    assert not scribbles.values[:40].any()
    assert set(np.unique(scribbles)) == {0, 1, 2}


def test_a_single_class_can_be_painted():
    scribbles = simulate_scribbles(as_classes(np.full((20, 20), 2)), n_strokes=2, seed=0)
    assert set(np.unique(scribbles)) == {0, 2}


def test_the_seed_decides_where(nuclei):
    classes = binary_classes(nuclei[1])
    found = [simulate_scribbles(classes, n_strokes=3, seed=seed).values.tobytes() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n_strokes": 0}, "At least one stroke"), ({"near_border": 1.1}, r"\[0, 1\]"), ({"near_border": -1}, "-1")],
    ids=str,
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        simulate_scribbles(halves(), **{"n_strokes": 1, **wrong})


@pytest.mark.parametrize("wrong", [{"width": 0}, {"length": 0}], ids=str)
def test_a_brush_of_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="at least 1 px"):
        Brush(**wrong)


def test_labels_that_are_unknown_everywhere_are_refused():
    with pytest.raises(ScribbleError, match="everywhere"):
        simulate_scribbles(as_classes(np.zeros((9, 9))), n_strokes=1)
