"""Axes: named, checked, put in order."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings

from s2d_zoo.data.axes import (
    LETTER_TO_DIM,
    as_image,
    as_labels,
    check_same_space,
    guess_axes,
    label_axes,
    parse_axes,
    space_dims,
    space_shape,
)
from s2d_zoo.errors import AxesError


@st.composite
def any_order(draw, optional="cz"):
    chosen = draw(st.sets(st.sampled_from(optional)))
    letters = draw(st.permutations(sorted({"y", "x", *chosen})))
    shape = tuple(draw(st.integers(2, 4)) for _ in letters)
    return "".join(letters), np.arange(np.prod(shape)).reshape(shape)


@given(order=any_order())
@settings(deadline=None)
def test_no_value_moves_when_axes_are_ordered(order):
    letters, values = order
    image = as_image(label_axes(values, letters))
    assert image.dims == ("channel", *(dim for dim in "zyx" if dim in letters))
    back = image if "c" in letters else image.isel(channel=0)
    assert np.array_equal(back.transpose(*parse_axes(letters, values.ndim)).values, values)


@given(order=any_order())
@settings(deadline=None)
def test_ordering_twice_is_ordering_once(order):
    once = as_image(label_axes(order[1], order[0]))
    xr.testing.assert_identical(as_image(once), once)


@given(order=any_order(optional="z"))
@settings(deadline=None)
def test_labels_and_their_one_channel_image_agree(order):
    array = label_axes(order[1], order[0])
    xr.testing.assert_identical(as_labels(as_image(array)), as_labels(array))


@given(letters=st.permutations("tczyx").map("".join))
def test_letters_are_parsed_one_by_one(letters):
    assert parse_axes(letters, 5) == tuple(LETTER_TO_DIM[letter] for letter in letters)


@pytest.mark.parametrize(("axes", "ndim"), [("yq", 2), ("yy", 2), ("YX", 2)])
def test_unknown_and_repeated_letters_are_refused(axes, ndim):
    with pytest.raises(AxesError, match="at most once"):
        parse_axes(axes, ndim)


def test_too_few_letters_are_refused():
    with pytest.raises(AxesError, match="name 2 dimensions, but the array has 3"):
        parse_axes("yx", 3)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((20, 30), "yx"),
        ((20, 30, 3), "yxc"),
        ((20, 30, 4), "yxc"),
        ((3, 20, 30), "zyx"),
        ((20, 30, 5), "zyx"),
        ((4, 30, 3), "zyx"),
        ((2, 5, 20, 30), "czyx"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape, axes):
    assert guess_axes(shape) == axes


@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 3, 4, 5)])
def test_shapes_that_say_nothing_are_asked_about(shape):
    with pytest.raises(AxesError, match="--axes"):
        guess_axes(shape)


@pytest.mark.parametrize(("letters", "shape"), [("tyx", (1, 4, 5)), ("zyx", (1, 4, 5)), ("tczyx", (1, 1, 1, 4, 5))])
def test_a_single_z_or_time_point_is_dropped(letters, shape):
    assert as_image(label_axes(np.zeros(shape), letters)).dims == ("channel", "y", "x")
    assert as_labels(label_axes(np.zeros(shape), letters)).dims == ("y", "x")


def test_several_time_points_are_refused():
    with pytest.raises(AxesError, match="2 time points"):
        as_image(label_axes(np.zeros((2, 4, 5)), "tyx"))


@pytest.mark.parametrize("dims", [("z", "y"), ("x", "time"), ("row", "y", "x")])
def test_missing_and_unknown_dims_are_refused(dims):
    with pytest.raises(AxesError, match="needs the axes y and x"):
        as_image(xr.DataArray(np.zeros((2,) * len(dims)), dims=dims))


def test_an_empty_image_is_refused():
    with pytest.raises(AxesError, match="empty along y"):
        as_image(label_axes(np.zeros((0, 4)), "yx"))


def test_labels_of_several_channels_are_refused():
    with pytest.raises(AxesError, match=r"strokes must have one value.*3 channels"):
        as_labels(label_axes(np.zeros((4, 5, 3)), "yxc"), what="strokes")


def test_attrs_survive_the_ordering():
    array = label_axes(np.zeros((4, 5)), "xy")
    array.attrs["pixel_size"] = "kept"
    assert as_image(array).attrs == as_labels(array).attrs == {"pixel_size": "kept"}


def test_space_is_listed_in_order():
    array = label_axes(np.zeros((2, 3, 4, 5)), "xczy")
    assert space_dims(array) == ("z", "y", "x")
    assert space_shape(array) == {"z": 4, "y": 5, "x": 2}


def test_arrays_of_different_pixels_are_told_apart():
    image, labels = label_axes(np.zeros((3, 4, 5)), "cyx"), label_axes(np.zeros((4, 5)), "yx")
    check_same_space(image, labels, names=("image", "labels"))
    with pytest.raises(AxesError, match="the image has y=4 x x=5, the labels y=5 x x=4"):
        check_same_space(image, label_axes(np.zeros((5, 4)), "yx"), names=("image", "labels"))
