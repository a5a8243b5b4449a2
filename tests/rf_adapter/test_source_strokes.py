"""What is painted for source forests: balanced crops, and tiles where a forest was wrong."""

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.rf_adapter.source_strokes import dense_crop, strokes, worst_tiles


def test_strokes_are_few_or_many_but_never_more_than_asked_for():
    classes = xr.DataArray(np.where(np.indices((200, 200))[0] < 100, 1, 2).astype("uint8"), dims=("y", "x"))
    drawn = [strokes(classes, np.random.default_rng(seed), between=(2, 8)) for seed in range(12)]
    painted = [int((one.values > 0).sum()) for one in drawn]
    assert max(painted) > 3 * min(painted) > 0
    assert max(painted) <= 2 * 8 * 40 * 9  # two classes, eight strokes, of 40 px, with a brush of 5 px and round ends


@pytest.mark.parametrize("size", [20, 40, 96])
def test_a_dense_crop_holds_as_many_pixels_of_each_class(size):
    classes = xr.DataArray(np.where(np.indices((size, size)).sum(axis=0) % 3, 1, 2).astype("uint8"), dims=("y", "x"))
    crop = dense_crop(classes, np.random.default_rng(0)).values
    counts = np.bincount(crop.ravel(), minlength=3)
    assert counts[1] == counts[2] > 0
    assert np.array_equal(crop[crop > 0], classes.values[crop > 0])


def test_worst_tiles_do_not_overlap_and_stop_where_nothing_is_wrong():
    error = np.zeros((96, 96))
    error[50, 50] = 1.0
    error[0, 95] = 0.5
    windows = worst_tiles(error, 5)
    covered = np.zeros(error.shape, dtype=int)
    for window in windows:
        covered[window] += 1
    assert covered.max() == 1
    assert covered[50, 50] == covered[0, 95] == 1
    assert worst_tiles(np.zeros((96, 96)), 5) == []
