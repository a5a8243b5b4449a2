from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_zoo.errors import PackageError
from s2d_zoo.validate.tilers import (
    AxisSizes,
    deepimagej_tiling,
    ilastik_tiling,
    qupath_tiling,
    qupath_tiling_with_halo,
)

TILINGS = [ilastik_tiling, deepimagej_tiling, qupath_tiling, qupath_tiling_with_halo]


def square(min_size, step, halo):
    axis = AxisSizes(min_size=min_size, step=step, halo=halo)
    return {"y": axis, "x": axis}


def spans(tiles):
    return [(tile.start, tile.start + tile.size, tile.kept.start, tile.kept.stop) for tile in tiles]


def stitched(tiling, image, run):
    """The whole output, as a program puts it together."""
    output = np.full_like(image, np.nan)
    for y, x in product(tiling.y, tiling.x):
        kept = [slice(tile.kept.start - tile.start, tile.kept.stop - tile.start) for tile in (y, x)]
        output[:, :, y.kept.start : y.kept.stop, x.kept.start : x.kept.stop] = run(tiling.cut(image, y, x))[
            :, :, kept[0], kept[1]
        ]
    return output


# ---- ilastik


def test_ilastik_centres_an_image_that_is_smaller_than_a_tile():
    tiling = ilastik_tiling(300, 400, square(64, 16, 16))
    assert spans(tiling.y) == [(-106, 406, 0, 300)]
    assert spans(tiling.x) == [(-56, 456, 0, 400)]


def test_ilastik_gives_full_tiles_their_halo_and_grows_the_last_on_both_sides():
    tiling = ilastik_tiling(10, 1001, square(256, 8, 96))
    assert spans(tiling.x) == [(-96, 416, 0, 320), (224, 736, 320, 640), (544, 1056, 640, 960), (724, 1236, 960, 1001)]


@pytest.mark.parametrize(("min_size", "step", "size"), [(64, 16, 512), (60, 16, 524), (600, 8, 600)])
def test_ilastik_takes_the_first_size_of_at_least_512(min_size, step, size):
    assert ilastik_tiling(5, 5, square(min_size, step, 0)).x[0].size == size


def test_ilastik_adds_as_many_steps_to_both_axes_as_the_larger_one_needs():
    sizes = {"y": AxisSizes(min_size=64, step=16, halo=0), "x": AxisSizes(min_size=480, step=16, halo=0)}
    tiling = ilastik_tiling(5, 5, sizes)
    assert (tiling.y[0].size, tiling.x[0].size) == (96, 512)


def test_ilastik_cannot_tile_what_is_all_halo():
    with pytest.raises(PackageError, match="Nothing is left of ilastik's tile of 600 px"):
        ilastik_tiling(700, 700, square(600, 8, 300))


# ---- deepImageJ


def test_deepimagej_makes_one_tile_of_an_image_that_is_a_multiple_of_the_step():
    assert spans(deepimagej_tiling(320, 960, square(64, 16, 32)).x) == [(-32, 992, 0, 960)]


def test_deepimagej_makes_a_second_tile_off_the_step_where_it_rounds():
    assert spans(deepimagej_tiling(320, 325, square(64, 16, 32)).x) == [(-32, 352, 0, 320), (-27, 357, 5, 325)]


def test_deepimagej_takes_an_image_that_is_smaller_than_the_smallest_size():
    assert spans(deepimagej_tiling(40, 40, square(64, 16, 16)).x) == [(-16, 48, 0, 32), (-8, 56, 8, 40)]


def test_deepimagej_shrinks_a_tile_to_three_times_the_image():
    assert deepimagej_tiling(30, 30, square(64, 16, 32)).x[0].size == 80


@pytest.mark.parametrize(
    ("length", "sizes"), [(200, square(40, 16, 8)), (15, square(64, 16, 32)), (8, square(16, 16, 0))]
)
def test_deepimagej_refuses(length, sizes):
    with pytest.raises(PackageError, match="deepImageJ makes a tile of"):
        deepimagej_tiling(length, length, sizes)


# ---- QuPath


@pytest.mark.parametrize(("min_size", "size"), [(64, 512), (96, 480), (40, 480), (256, 512), (600, 600)])
def test_qupath_makes_tiles_of_multiples_of_the_smallest_size(min_size, size):
    assert qupath_tiling(5, 5, square(min_size, 16, 8)).x[0].size == size


def test_qupath_tiles_do_not_overlap_and_the_last_is_centred():
    assert spans(qupath_tiling(5, 613, square(64, 16, 16)).x) == [(0, 512, 0, 512), (307, 819, 512, 613)]


def test_qupath_fills_its_last_tile_with_the_mirrored_tile_not_with_its_neighbour():
    sizes = square(600, 4, 0)
    image = np.arange(603, dtype="float32").reshape(1, 1, 1, 603)
    tiling = qupath_tiling(1, 603, sizes)
    last = tiling.cut(image, tiling.y[0], tiling.x[-1])[0, 0, 0]
    np.testing.assert_array_equal(last[296:304], [601, 600, 600, 601, 602, 602, 601, 600])


def test_qupath_tiles_with_a_halo_overlap_by_two_halos():
    tiling = qupath_tiling_with_halo(100, 1000, square(64, 16, 16))
    assert spans(tiling.x) == [(-16, 496, 0, 480), (464, 976, 480, 960), (724, 1236, 960, 1000)]
    assert [tile.read for tile in tiling.x] == [range(496), range(464, 976), range(944, 1000)]
    assert spans(tiling.y) == [(-206, 306, 0, 100)]


def test_qupath_has_one_halo_for_both_axes():
    sizes = {"y": AxisSizes(min_size=64, step=16, halo=0), "x": AxisSizes(min_size=64, step=16, halo=32)}
    assert qupath_tiling_with_halo(5, 5, sizes).y[0].kept == range(5)
    assert qupath_tiling_with_halo(900, 5, sizes).y[1].start == 512 - 2 * 32 - 32


def test_qupath_cannot_tile_what_is_all_halo():
    with pytest.raises(PackageError, match="Nothing is left of QuPath's tile of 600 px"):
        qupath_tiling_with_halo(700, 700, square(600, 8, 300))


# ---- all


@pytest.mark.parametrize(
    ("tiling", "expected"),
    [(ilastik_tiling, [2, 1, 0, 1, 2, 3]), (deepimagej_tiling, [1, 0, 0, 1, 2, 3])],
)
def test_borders_are_mirrored_without_or_with_the_edge(tiling, expected):
    image = np.arange(512, dtype="float32").reshape(1, 1, 1, 512).repeat(512, axis=2)
    tiles = tiling(512, 512, square(64, 4, 4))
    first = tiles.cut(image, tiles.y[0], tiles.x[0])
    at = -tiles.x[0].start
    np.testing.assert_array_equal(first[0, 0, 0, at - 2 : at + 4], expected)


@given(
    tiling=st.sampled_from(TILINGS),
    height=st.integers(40, 700),
    width=st.integers(40, 700),
    step=st.sampled_from([1, 4, 6]),
    halo=st.integers(0, 20),
)
def test_every_program_covers_the_image_with_allowed_tiles(tiling, height, width, step, halo):
    sizes = square(48, step, halo)
    tiles = tiling(height, width, sizes)
    for length, along in ((height, tiles.y), (width, tiles.x)):
        assert {at for tile in along for at in tile.kept} == set(range(length))
        for tile in along:
            assert (tile.size - 48) % step == 0
            assert tile.start <= tile.read.start <= tile.kept.start < tile.kept.stop <= tile.read.stop
            assert tile.read.stop <= tile.start + tile.size


@pytest.mark.parametrize("tiling", TILINGS)
def test_what_looks_at_single_pixels_gives_the_whole(tiling):
    image = np.random.default_rng(0).random((1, 2, 83, 530), dtype="float32")
    output = stitched(tiling(83, 530, square(64, 4, 8)), image, lambda values: values * 2)
    np.testing.assert_array_equal(output, image * 2)


def shifted(values):
    """Looks 5 px to the left, and at zero beyond the border."""
    return np.pad(values, [(0, 0), (0, 0), (0, 0), (5, 0)])[..., :-5]


@pytest.mark.parametrize(
    ("tiling", "seams"),
    [(ilastik_tiling, []), (deepimagej_tiling, []), (qupath_tiling, [512]), (qupath_tiling_with_halo, [])],
)
def test_what_looks_into_the_halo_gives_the_whole_but_for_seams_and_the_border(tiling, seams):
    image = np.random.default_rng(0).random((1, 1, 64, 530), dtype="float32")
    output = stitched(tiling(64, 530, square(64, 4, 8)), image, shifted)
    different = np.flatnonzero((output != shifted(image)).any(axis=(0, 1, 2)))
    expected = [at + offset for at in (0, *seams) for offset in range(5)]
    if tiling is qupath_tiling:
        expected = [at for at in expected if at >= 512]  # a full tile at the border is not mirrored
    assert different.tolist() == expected
