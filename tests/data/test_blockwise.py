"""Blocks with a halo give what the whole gives."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from scipy import ndimage

from s2d_zoo.data.blockwise import DEFAULT_BLOCK, Blocking, apply_blockwise, choose_block, iterate_blocks, map_blocks
from s2d_zoo.errors import ConfigError

RADIUS = 2


def random_image(*shape):
    values = np.random.default_rng(sum(shape)).random(shape).astype("float32")
    return xr.DataArray(values, dims=("channel", "z", "y", "x") if len(shape) == 4 else ("channel", "y", "x"))


def highest(block):
    """Looks `RADIUS` px in every direction; exact, so that results can be compared bit by bit."""
    size = (1, *(2 * RADIUS + 1 for _ in block.shape[1:]))
    return block.copy(data=ndimage.maximum_filter(block.values, size=size, mode="nearest"))


def halo(ndim, size=RADIUS):
    return dict.fromkeys(("z", "y", "x")[-ndim:], size)


@given(
    shape=st.tuples(st.integers(1, 2), *[st.integers(1, 17)] * 2)
    | st.tuples(st.just(1), st.integers(2, 7), *[st.integers(1, 9)] * 2),
    block=st.fixed_dictionaries({dim: st.integers(1, 20) for dim in ("z", "y", "x")}),
    border=st.sampled_from(["clip", "symmetric"]),
)
@settings(deadline=None, max_examples=50)
def test_blocks_equal_the_whole(shape, block, border):
    image = random_image(*shape)
    found = map_blocks(highest, image, blocking=Blocking(halo=halo(len(shape) - 1), block=block, border=border))
    assert found.dims == image.dims
    assert found.dtype == np.float32
    # a maximum over a clipped window is the one over a mirrored window
    assert np.array_equal(found.values, highest(image).values)


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    blocks=st.integers(1, 4),
    align=st.sampled_from([2, 4]),
    border=st.sampled_from(["clip", "symmetric"]),
)
@settings(deadline=None, max_examples=40)
def test_aligned_blocks_begin_at_multiples_and_equal_the_whole(size, blocks, align, border):
    image = random_image(1, *size)
    image.values[0] = np.arange(image.size).reshape(size)  # so that a block knows where it begins
    seen = []

    def look(block):
        seen.append(block)
        return highest(block)

    blocking = Blocking(halo=halo(2, 4), block={"y": blocks * align, "x": blocks * align}, align=align, border=border)
    found = map_blocks(look, image, blocking=blocking)
    assert np.array_equal(found.values, highest(image).values)
    for block in seen:
        if border == "symmetric":
            assert block.sizes["y"] % align == block.sizes["x"] % align == 0
        else:
            first = int(block.values[0, 0, 0])
            assert first // size[1] % align == first % size[1] % align == 0


@pytest.mark.parametrize(("size", "align"), [(5, 1), (6, 4), (1, 2), (3, 4)])
def test_symmetric_borders_mirror_the_image_edge_included(size, align):
    image = random_image(1, size, size)
    seen = []

    def look(block):
        seen.append(block.values)
        return block

    found = map_blocks(look, image, blocking=Blocking(halo=halo(2, 4), align=align, border="symmetric"))
    after = 4 + -size % align
    assert np.array_equal(seen[0], np.pad(image.values, ((0, 0), (4, after), (4, after)), mode="symmetric"))
    assert np.array_equal(found.values, image.values)


def test_dims_without_halo_are_cut_without():
    image = random_image(1, 5, 9, 9)
    depths = []

    def look(block):
        depths.append(block.sizes["z"])
        return block

    map_blocks(look, image, blocking=Blocking(halo={"y": 2, "x": 2}, block={"z": 2, "y": 9, "x": 9}))
    assert depths == [2, 2, 1]


def test_the_function_may_change_the_channels_and_name_them():
    image = random_image(3, 9, 9).assign_attrs(pixel_size="known")

    def two(block):
        return xr.concat([block.isel(channel=0), block.isel(channel=1)], dim=xr.IndexVariable("channel", ["a", "b"]))

    found = map_blocks(two, image, blocking=Blocking(halo={}, block={"y": 4, "x": 4}))
    assert list(found.channel.values) == ["a", "b"]
    assert found.attrs == image.attrs
    assert np.array_equal(found.values, image.values[:2])


@pytest.mark.parametrize("border", ["clip", "symmetric"])
def test_coordinates_of_the_image_do_no_harm(border):
    image = random_image(2, 7, 8).assign_coords(channel=["r", "g"], y=np.arange(7), x=np.arange(8) * 0.5)
    found = map_blocks(highest, image, blocking=Blocking(halo=halo(2), block={"y": 4, "x": 4}, border=border))
    assert list(found.channel.values) == ["r", "g"]
    assert np.array_equal(found.values, highest(image).values)


@pytest.mark.parametrize(("block", "shown"), [(4, True), (16, False)])
def test_progress_is_shown_where_there_are_several_blocks(block, shown, capsys):
    blocking = Blocking(halo={}, block={"y": block, "x": block})
    map_blocks(highest, random_image(1, 9, 9), blocking=blocking, progress="looking")
    captured = capsys.readouterr()
    assert ("looking" in captured.err) == shown
    assert captured.out == ""


@pytest.mark.parametrize("wrong", [{"halo": {"y": 3}}, {"halo": {}, "block": {"y": 6, "x": 8}}], ids=str)
def test_sizes_that_are_no_multiples_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"multiples of 4 px, got \{'y'"):
        Blocking(align=4, **wrong)


def test_default_blocks_fit_every_network():
    assert all(size % 64 == 0 for size in DEFAULT_BLOCK.values())


def test_results_come_one_by_one_with_their_place():
    image = random_image(1, 10, 9)
    blocks = apply_blockwise(highest, image, blocking=Blocking(halo=halo(2), block={"y": 8, "x": 4}))
    window, values = next(blocks)
    assert window == {"y": slice(0, 8), "x": slice(0, 4)}
    assert np.array_equal(values, highest(image)[:, :8, :4])
    assert [window for window, _ in blocks][-1] == {"y": slice(8, 10), "x": slice(8, 9)}


@pytest.mark.parametrize(("border", "start"), [("clip", {"y": 0, "x": 2}), ("symmetric", {"y": -2, "x": 2})])
def test_a_block_knows_where_it_lies(border, start):
    image = random_image(1, 9, 9)
    block = list(iterate_blocks(image, blocking=Blocking(halo=halo(2), block={"y": 4, "x": 4}, border=border)))[1]
    assert block.start == start
    assert block.window == {"y": slice(0, 4), "x": slice(4, 8)}
    assert np.array_equal(block.image.isel(block.inside), image.isel(block.window))


@pytest.mark.parametrize("halo_px", [3, 12, 30])
def test_a_halo_wider_than_the_image_is_mirrored_again_and_again(halo_px):
    image = random_image(1, 5, 7)
    padded = np.pad(image.values, ((0, 0), (halo_px, halo_px), (halo_px, halo_px)), mode="symmetric")
    blocking = Blocking(halo=halo(2, halo_px), block={"y": 3, "x": 9}, border="symmetric")
    for block in iterate_blocks(image, blocking=blocking):
        y, x = (block.start[dim] + halo_px for dim in ("y", "x"))
        assert np.array_equal(block.image, padded[:, y : y + block.image.sizes["y"], x : x + block.image.sizes["x"]])


@given(
    sizes=st.fixed_dictionaries(
        {"y": st.integers(1, 3000), "x": st.integers(1, 3000)}, optional={"z": st.integers(1, 99)}
    ),
    halo_px=st.integers(0, 50),
    limit=st.integers(10**4, 10**8),
)
def test_the_block_chosen_is_the_largest_within_the_limit(sizes, halo_px, limit):
    def held(block):
        return np.prod([min(block[dim] + 2 * halo_px, size) for dim, size in sizes.items()])

    chosen = choose_block(sizes, halo=dict.fromkeys(sizes, halo_px), limit=limit)
    assert set(chosen) == set(sizes)
    assert held(chosen) <= limit or set(chosen.values()) == {16}
    larger = {dim: min(2 * max(chosen.values()), DEFAULT_BLOCK[dim]) for dim in sizes}
    assert larger == chosen or held(larger) > limit


def test_pixels_held_several_times_count_several_times():
    assert choose_block({"y": 9999, "x": 9999}, halo={}, limit=2**20) == {"y": 1024, "x": 1024}
    assert choose_block({"y": 9999, "x": 9999}, halo={}, limit=2**20, inner_weight=2.0) == {"y": 512, "x": 512}
    narrow = {"y": 128, "x": 1024}
    assert choose_block({"y": 9999, "x": 9999}, halo={}, limit=2**20, largest=narrow) == narrow
