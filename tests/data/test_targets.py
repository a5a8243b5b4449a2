"""Training targets from instances."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from s2d_zoo.data.targets import binary_classes, foreground_and_boundary


def as_instances(values):
    values = np.asarray(values, dtype=np.uint16)
    return xr.DataArray(values, dims=("z", "y", "x")[-values.ndim :])


@given(values=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(0, 3)))
@settings(deadline=None, max_examples=30)
def test_boundary_is_where_a_window_holds_two_labels(values):
    targets = foreground_and_boundary(as_instances(values))
    assert targets.dims == ("channel", *("z", "y", "x")[-values.ndim :])
    assert list(targets.channel.values) == ["foreground", "boundary"]
    assert targets.dtype == np.uint8
    assert np.array_equal(targets.values[0], values > 0)
    padded = np.pad(values, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3,) * values.ndim)
    axes = tuple(range(values.ndim, 2 * values.ndim))
    assert np.array_equal(targets.values[1], windows.max(axis=axes) != windows.min(axis=axes))


def test_a_boundary_is_2_px_wide_around_objects_and_between_them():
    targets = foreground_and_boundary(as_instances([[0, 0, 0, 7, 7, 7, 7, 2, 2, 2, 2, 2]] * 3))
    assert targets.values[0, 1].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert targets.values[1, 1].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("label", [0, 5])
def test_a_single_label_has_no_boundary(label):
    assert not foreground_and_boundary(as_instances(np.full((4, 4), label))).sel(channel="boundary").any()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_classes_are_numbered_as_strokes_number_them(shape):
    instances = as_instances(np.arange(np.prod(shape)).reshape(shape) % 4 * 100)
    classes = binary_classes(instances)
    assert classes.dtype == np.uint8
    assert classes.dims == instances.dims
    assert np.array_equal(classes.values, np.where(instances.values > 0, 2, 1))
