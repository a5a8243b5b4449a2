"""What is written block by block is what is written at once."""

import errno

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings

from s2d_zoo.contract import PixelSize
from s2d_zoo.data import tiff
from s2d_zoo.data.blockwise import Blocking, apply_blockwise
from s2d_zoo.data.images import read_image, write_blocks, write_image
from s2d_zoo.data.stored import outline_of
from s2d_zoo.errors import AxesError, ImageFileError

SUFFIXES = (".tif", ".h5", ".zarr")


def make_image(*shape, dtype="float32", **attrs):
    values = (np.random.default_rng(sum(shape)).random(shape) * 200).astype(dtype)
    dims = ("channel", "z", "y", "x") if len(shape) == 4 else ("channel", "y", "x")
    return xr.DataArray(values, dims=dims, attrs=attrs)


def cut(image, *, size=7):
    blocking = Blocking(halo={}, block=dict.fromkeys(("z", "y", "x"), size))
    return apply_blockwise(lambda block: block, image, blocking=blocking)


def contents(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def tags(path):
    with h5py.File(path) as file:
        dataset = file["exported_data"]
        attrs = {name: np.array(value).tolist() for name, value in dataset.attrs.items()}
        return attrs, dataset.dtype, dataset.shape, dataset.chunks, dataset.compression


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(1, 20), st.integers(1, 20))
    | st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    dtype=st.sampled_from(["float32", "uint8", "int32"]),
    size=st.integers(1, 12),
)
@settings(deadline=None, max_examples=20)
def test_blocks_make_the_same_file_as_the_whole(tmp_path_factory, suffix, shape, dtype, size):
    folder = tmp_path_factory.mktemp("blocks")
    image = make_image(*shape, dtype=dtype, pixel_size=PixelSize(z=1.0, y=0.5, x=0.25))
    whole, pieces = folder / f"whole{suffix}", folder / f"pieces{suffix}"
    write_image(whole, image)
    write_blocks(pieces, cut(image, size=size), like=image)
    xr.testing.assert_identical(read_image(pieces), read_image(whole))
    np.testing.assert_array_equal(read_image(pieces), image)
    if suffix == ".h5":
        assert tags(pieces) == tags(whole)
    else:
        assert contents(pieces) == contents(whole)


def test_blocks_of_several_chunks_make_the_same_zarr(tmp_path):
    image = make_image(2, 700, 1100)
    write_image(tmp_path / "whole.zarr", image)
    write_blocks(tmp_path / "pieces.zarr", cut(image, size=300), like=image)  # chunks are written in parts
    assert contents(tmp_path / "pieces.zarr") == contents(tmp_path / "whole.zarr")


def test_only_sizes_type_and_pixel_size_of_the_outline_count(tmp_path):
    image = make_image(2, 20, 30, pixel_size=PixelSize(y=1, x=1))
    like = outline_of(image.sizes, image.dtype, image.attrs)
    write_blocks(tmp_path / "a.tif", cut(image), like=like)
    xr.testing.assert_identical(read_image(tmp_path / "a.tif"), image)


def test_fiji_finds_its_own_metadata(tmp_path):
    image = make_image(2, 3, 20, 30)
    write_blocks(tmp_path / "a.tif", cut(image), like=image)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert (file.imagej_metadata["slices"], file.imagej_metadata["channels"]) == (3, 2)


def test_above_4_gib_a_big_tiff_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_IMAGEJ_BYTES", 1000)
    image = make_image(2, 20, 30)
    write_blocks(tmp_path / "a.tif", cut(image), like=image)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="cyx"), image)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, AxesError("wrong"), ValueError("a bug")], ids=str)
def test_what_ends_the_blocks_ends_the_writing_and_leaves_the_old_file(tmp_path, suffix, error):
    image = make_image(2, 20, 30)
    path = tmp_path / f"a{suffix}"
    write_image(path, image)
    before = contents(path)

    def broken():
        yield next(iter(cut(image)))
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error) as caught:
        write_blocks(path, broken(), like=image, overwrite=True)
    assert isinstance(error, type) or caught.value is error  # though a UserInputError is a ValueError
    assert contents(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_disk_that_is_full_half_way_is_said(tmp_path, monkeypatch):
    image = make_image(2, 20, 30)
    put, calls = tiff._put, []

    def full(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*args)

    monkeypatch.setattr(tiff, "_put", full)
    with pytest.raises(ImageFileError, match=r"Cannot write .*No space left"):
        write_blocks(tmp_path / "a.tif", cut(image), like=image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.jpg", "ends with"),
        ("a.png", "A PNG holds"),
        ("there.tif", "exists already"),
        ("folder.zarr", "no Zarr store"),
    ],
)
def test_a_name_that_cannot_be_is_said_before_anything_is_computed(tmp_path, name, words):
    image = make_image(2, 20, 30)
    (tmp_path / "there.tif").write_text("mine")
    (tmp_path / "folder.zarr").mkdir()

    def never():
        pytest.fail("computed")
        yield

    with pytest.raises(ImageFileError, match=words):
        write_blocks(tmp_path / name, never(), like=image, overwrite=name == "folder.zarr")


def test_a_picture_takes_no_pieces(tmp_path):
    image = make_image(1, 20, 30, dtype="uint8")
    with pytest.raises(ImageFileError, match="as a whole"):
        write_blocks(tmp_path / "a.png", cut(image), like=image)
    assert not list(tmp_path.iterdir())
