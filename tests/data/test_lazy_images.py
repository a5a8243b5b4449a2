"""Images that are read in parts are the images that are read as a whole, and fail as these do."""

import struct
import tracemalloc

import h5py
import hypothesis.strategies as st
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given, settings

from s2d_zoo.contract import PixelSize
from s2d_zoo.data import images, lazy_images
from s2d_zoo.data.blockwise import Blocking, iterate_blocks, map_blocks
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.lazy_images import open_image
from s2d_zoo.errors import AxesError, ImageFileError


def make_values(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, 200, shape).astype(dtype)


def write_tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)


def write_hdf5(path, values, axes=None, **options):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=values, **options)
        if axes:
            dataset.attrs["axistags"] = '{"axes": [' + ", ".join(f'{{"key": "{axis}"}}' for axis in axes) + "]}"


def write_zarr(path, values, **options):
    zarr.create_array(path, data=values, chunks=tuple(min(7, size) for size in values.shape), **options)


EXAMPLES = {
    "contiguous.tif": lambda path: write_tiff(path, make_values(40, 50)),
    "big_endian.tif": lambda path: write_tiff(path, make_values(40, 50, dtype="uint16"), byteorder=">"),
    "strips.tif": lambda path: write_tiff(path, make_values(40, 50), compression="zlib", rowsperstrip=7),
    "tiles.tif": lambda path: write_tiff(
        path, make_values(40, 50), compression="zlib", tile=(16, 32), predictor=True, bigtiff=True
    ),
    "stack.tif": lambda path: write_tiff(path, make_values(5, 40, 50), compression="zlib"),
    "hyperstack.tif": lambda path: write_tiff(path, make_values(3, 2, 30, 20), imagej=True, metadata={"axes": "ZCYX"}),
    "ome.tif": lambda path: write_tiff(path, make_values(2, 3, 30, 20), ome=True, metadata={"axes": "CZYX"}),
    "one_time.tif": lambda path: write_tiff(path, make_values(1, 2, 30, 20), ome=True, metadata={"axes": "TCYX"}),
    "rgba.tif": lambda path: write_tiff(
        path, make_values(30, 20, 4), photometric="rgb", extrasamples=["unassalpha"], compression="zlib"
    ),
    "bits.tif": lambda path: write_tiff(path, make_values(40, 50) > 100),
    "float.tif": lambda path: write_tiff(path, make_values(40, 50, dtype="float32")),
    "plain.h5": lambda path: write_hdf5(path, make_values(40, 50)),
    "chunked.h5": lambda path: write_hdf5(path, make_values(40, 50, 3), chunks=(8, 8, 3), compression="gzip"),
    "tagged.h5": lambda path: write_hdf5(path, make_values(20, 30, 1, 5), axes="xycz"),
    "bool.h5": lambda path: write_hdf5(path, make_values(40, 50) > 100),
    "big_endian.h5": lambda path: write_hdf5(path, make_values(40, 50).astype(">i4")),
    "plain.zarr": lambda path: write_zarr(path, make_values(4, 20, 30)),
    "flat.zarr": lambda path: write_zarr(path, make_values(1, 20, 30)),
    "version2.zarr": lambda path: write_zarr(path, make_values(20, 30), zarr_format=2),
    "picture.png": lambda path: iio.imwrite(path, make_values(20, 30, 3)),
    "array.npy": lambda path: np.save(path, make_values(20, 30)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_is_read_in_parts_as_it_is_read_at_once(tmp_path, name):
    path = tmp_path / name
    EXAMPLES[name](path)
    whole = read_image(path)
    lazy = open_image(path)
    assert lazy.dtype == whole.dtype
    assert lazy.attrs == whole.attrs
    part = {"channel": slice(0, None), "y": slice(3, 17), "x": slice(11, None)}
    found = lazy.isel(part).load()
    xr.testing.assert_identical(found, whole.isel(part))
    assert found.dtype == whole.dtype
    xr.testing.assert_identical(
        lazy.isel(channel=-1, y=slice(None, None, 3), x=4), whole[-1].isel(y=slice(0, None, 3), x=4)
    )
    xr.testing.assert_identical(lazy.load(), whole)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    block=st.fixed_dictionaries({"y": st.integers(1, 9), "x": st.integers(1, 9)}),
    halo=st.integers(0, 6),
    border=st.sampled_from(["clip", "symmetric"]),
    suffix=st.sampled_from([".tif", ".h5", ".zarr"]),
)
@settings(deadline=None, max_examples=30)
def test_blocks_of_a_file_are_those_of_the_image(tmp_path_factory, shape, block, halo, border, suffix):
    image = xr.DataArray(make_values(*shape, dtype="float32"), dims=("channel", "y", "x"))
    path = tmp_path_factory.mktemp("blocks") / f"a{suffix}"
    write_image(path, image)
    blocking = Blocking(halo={"y": halo, "x": halo}, block=block, border=border)
    pairs = zip(
        iterate_blocks(open_image(path), blocking=blocking), iterate_blocks(image, blocking=blocking), strict=True
    )
    for found, expected in pairs:
        xr.testing.assert_identical(found.image, expected.image)
        assert (found.window, found.inside, found.start) == (expected.window, expected.inside, expected.start)
    np.testing.assert_array_equal(map_blocks(lambda seen: seen, open_image(path), blocking=blocking), image)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr"])
def test_the_pixel_size_is_there_before_a_pixel_is_read(tmp_path, suffix, monkeypatch):
    size = PixelSize(z=0.5, y=0.25, x=0.25)
    image = xr.DataArray(make_values(3, 20, 30), dims=("z", "y", "x"), attrs={"pixel_size": size})
    write_image(tmp_path / f"a{suffix}", image)

    def no_reading(*_args):
        pytest.fail("read")

    monkeypatch.setattr(lazy_images._LazyImage, "_read", no_reading)
    assert open_image(tmp_path / f"a{suffix}").attrs["pixel_size"] == size


def test_named_axes_override_the_file(tmp_path):
    write_hdf5(tmp_path / "a.h5", make_values(5, 20, 30), axes="zyx")
    lazy = open_image(tmp_path / "a.h5", axes="xcy")
    assert lazy.dims == ("channel", "y", "x")
    xr.testing.assert_identical(lazy.isel(y=slice(4, 9)).load(), read_image(tmp_path / "a.h5", axes="xcy")[:, 4:9])


@pytest.mark.parametrize(("axes", "words"), [("tyx", "5 time points"), ("yx", "name 2 dimensions"), ("qyx", "letters")])
def test_axes_that_do_not_fit_are_refused_at_once(tmp_path, axes, words):
    write_image(tmp_path / "a.tif", xr.DataArray(make_values(5, 20, 30), dims=("z", "y", "x")))
    with pytest.raises(AxesError, match=words):
        open_image(tmp_path / "a.tif", axes=axes)


@pytest.mark.parametrize("name", ["strips.tif", "contiguous.tif", "chunked.h5", "plain.zarr"])
def test_only_what_is_asked_for_is_in_memory(tmp_path, name):
    writers = {
        "strips.tif": lambda path: write_tiff(path, large, compression="zlib"),
        "contiguous.tif": lambda path: write_tiff(path, large),
        "chunked.h5": lambda path: write_hdf5(path, large, chunks=(128, 128)),
        "plain.zarr": lambda path: zarr.create_array(path, data=large, chunks=(128, 128)),
    }
    large = np.tile(make_values(64, 64), (32, 32))
    writers[name](tmp_path / name)
    open_image(tmp_path / name)  # what libraries keep is not counted
    tracemalloc.start()
    found = open_image(tmp_path / name).isel(y=slice(1000, 1010), x=slice(500, 600)).load()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[0], large[1000:1010, 500:600])
    assert most < large.nbytes / 4


# --- broken files


def test_a_huge_declared_shape_is_refused_at_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", shape=(1_000_000, 1_000_000), dtype="u1", chunks=(1000, 1000))
    zarr.create_array(tmp_path / "a.zarr", shape=(1_000_000, 1_000_000), dtype="u1", chunks=(1000, 1000))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(60000)
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + "\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode())
    for name in ("a.h5", "a.zarr", "a.tif", "a.npy"):
        with pytest.raises(ImageFileError, match=r"truncated|Cannot read"):
            open_image(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["contiguous.tif", "strips.tif", "tiles.tif", "stack.tif", "chunked.h5", "picture.png"]
)
@pytest.mark.parametrize("kept", [0, 3, 50, 0.3, 0.6, 0.95])
def test_a_file_cut_off_is_an_image_file_error(tmp_path, name, kept):
    path = tmp_path / name
    EXAMPLES[name](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ImageFileError, match=r"truncated|Cannot read|is empty"):
        for _ in iterate_blocks(open_image(path), blocking=Blocking(halo={}, block={"z": 2, "y": 9, "x": 9})):
            pass


def test_a_chunk_cut_off_is_an_image_file_error(tmp_path):
    image = xr.DataArray(make_values(1, 20, 1024), dims=("channel", "y", "x"))
    write_image(tmp_path / "a.zarr", image)
    chunk = tmp_path / "a.zarr/0/0/0/1"
    chunk.write_bytes(chunk.read_bytes()[:50])
    lazy = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(lazy.isel(x=slice(0, 512)), image[..., :512])
    with pytest.raises(ImageFileError, match=r"Cannot read .*a\.zarr"):
        lazy.isel(x=slice(500, 520)).load()


def test_a_file_that_goes_away_is_an_image_file_error(tmp_path):
    EXAMPLES["contiguous.tif"](tmp_path / "a.tif")
    lazy = open_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").unlink()
    with pytest.raises(ImageFileError, match="Cannot read"):
        lazy.isel(y=slice(0, 5)).load()


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.zarr", "a.png", "a.czi"])
def test_a_missing_file_is_said(tmp_path, name):
    with pytest.raises(ImageFileError, match=r"There is no file|The name of an image file"):
        open_image(tmp_path / name)


def test_an_array_in_the_order_of_the_file_keeps_its_time(tmp_path):
    write_hdf5(tmp_path / "a.h5", make_values(2, 20, 30), axes="tyx")
    assert images.read_array(tmp_path / "a.h5").dims == ("time", "y", "x")
