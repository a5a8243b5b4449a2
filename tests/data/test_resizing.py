"""Resizing in plane."""

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.resizing import resize_by, resize_to


def ramp(**sizes):
    values = np.broadcast_to(np.arange(sizes["x"], dtype=np.float32), tuple(sizes.values()))
    return xr.DataArray(values, dims=tuple(sizes))


def test_sizes_in_plane_change_and_no_others():
    assert dict(resize_by(ramp(channel=2, z=3, y=8, x=12), 0.5).sizes) == {"channel": 2, "z": 3, "y": 4, "x": 6}
    assert dict(resize_to(ramp(channel=2, y=8, x=12), y=5, x=7).sizes) == {"channel": 2, "y": 5, "x": 7}
    assert dict(resize_by(ramp(y=4, x=4), 0.01).sizes) == {"y": 1, "x": 1}


def test_what_stays_as_large_stays_as_it_is():
    array = ramp(channel=2, y=4, x=6)
    assert resize_by(array, 1.01) is array


def test_values_lie_where_they_lay():
    half = resize_by(ramp(y=8, x=12), 0.5)
    assert half.values[0] == pytest.approx([0.5, 2.5, 4.5, 6.5, 8.5, 10.5])  # the middle of two pixels each


def test_channels_keep_their_names():
    named = ramp(channel=2, y=4, x=6).assign_coords(channel=["foreground", "boundary"])
    assert list(resize_by(named, 2).channel.values) == ["foreground", "boundary"]
