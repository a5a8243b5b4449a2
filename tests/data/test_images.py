"""Reading and writing images: formats, axes, pixel sizes, and every way in which a file can be broken."""

import json
import struct
import tracemalloc
from pathlib import Path

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
from s2d_zoo.data.images import check_finite, read_image, read_labels, write_image
from s2d_zoo.errors import AxesError, ImageFileError, UserInputError

TYPES = ("uint8", "uint16", "uint32", "int16", "int32", "int64", "float32", "float64")
WRITABLE = (".tif", ".h5", ".zarr")
MICROMETER = PixelSize(z=0.5, y=0.25, x=0.25)


def make_image(shape=(1, 20, 30), dtype="uint8", dims=None, pixel_size=None):
    rng = np.random.default_rng(0)
    dims = dims or (("channel", "y", "x") if len(shape) == 3 else ("channel", "z", "y", "x"))
    values = rng.integers(0, 250, shape).astype(dtype)
    return xr.DataArray(values, dims=dims, attrs={"pixel_size": pixel_size} if pixel_size else {})


@st.composite
def images(draw):
    sizes = st.integers(1, 6)
    depth = draw(st.sampled_from(((), (2,), (4,))))  # a single z is dropped by design
    return make_image((draw(sizes), *depth, draw(sizes), draw(sizes)), draw(st.sampled_from(TYPES)))


@pytest.mark.parametrize("suffix", WRITABLE)
@given(image=images())
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, suffix, image):
    path = tmp_path_factory.mktemp("round") / f"image{suffix}"
    write_image(path, image)
    back = read_image(path)
    xr.testing.assert_equal(back, image)
    assert back.dtype == image.dtype
    assert back.dims == image.dims


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.h5:/volume/raw", "a.zarr", "a.ome.zarr", "a.png"])
def test_writing_twice_gives_the_same_bytes(tmp_path, name):
    image = make_image(pixel_size=PixelSize(y=0.25, x=0.25))
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_image(folder / name, image)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert contents[0]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_both_zarr_formats_are_written_and_read(tmp_path, zarr_format):
    image = make_image((2, 3, 8, 9), "uint16", pixel_size=MICROMETER)
    write_image(tmp_path / "a.zarr", image, zarr_format=zarr_format)
    group = zarr.open(store=tmp_path / "a.zarr", mode="r")
    assert group.metadata.zarr_format == zarr_format
    assert (("ome" in group.attrs) if zarr_format == 3 else group.attrs["multiscales"][0]["version"] == "0.4") is True
    back = read_image(tmp_path / "a.zarr")
    xr.testing.assert_identical(back, image)


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("unit", ["nanometer", "micrometer", "millimeter"])
def test_the_pixel_size_is_kept(tmp_path, suffix, dtype, unit):
    written = PixelSize(z=0.5, y=0.24, x=0.26, unit=unit)
    write_image(tmp_path / f"a{suffix}", make_image((1, 3, 8, 9), dtype, pixel_size=written))
    found = read_image(tmp_path / f"a{suffix}").attrs["pixel_size"]
    assert found.in_plane_micrometer == pytest.approx(written.in_plane_micrometer)
    assert found.z / found.x == pytest.approx(0.5 / 0.26)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_no_pixel_size_is_invented(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", make_image())
    assert "pixel_size" not in read_image(tmp_path / f"a{suffix}").attrs


def test_labels_are_written_without_a_channel_and_bool_as_uint8(tmp_path):
    mask = xr.DataArray(np.eye(6, dtype=bool), dims=("y", "x"))
    write_image(tmp_path / "a.tif", mask)
    assert read_labels(tmp_path / "a.tif").dtype == np.uint8
    assert read_labels(tmp_path / "a.tif").values.sum() == 6


def test_fiji_finds_its_own_metadata_in_a_written_stack(tmp_path):
    write_image(tmp_path / "a.tif", make_image((2, 3, 8, 9), "uint16", pixel_size=MICROMETER))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZCYX"
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["slices"] == 3


def test_ilastik_finds_its_axistags_in_a_written_file(tmp_path):
    write_image(f"{tmp_path}/a.h5", make_image((2, 3, 8, 9)))
    with h5py.File(tmp_path / "a.h5") as file:
        tags = json.loads(file["exported_data"].attrs["axistags"])
    assert [axis["key"] for axis in tags["axes"]] == ["c", "z", "y", "x"]


# --- reading what others wrote


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((20, 30), "YX", {"channel": 1, "y": 20, "x": 30}),
        ((5, 20, 30), "ZYX", {"channel": 1, "z": 5, "y": 20, "x": 30}),
        ((5, 2, 20, 30), "ZCYX", {"channel": 2, "z": 5, "y": 20, "x": 30}),
        ((3, 20, 30), "CYX", {"channel": 3, "y": 20, "x": 30}),
    ],
)
@pytest.mark.parametrize("flavour", ["imagej", "ome"])
def test_tiff_axes_come_from_the_file(tmp_path, shape, axes, expected, flavour):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), metadata={"axes": axes}, **{flavour: True})
    assert dict(read_image(tmp_path / "a.tif").sizes) == expected


def test_pages_without_a_name_are_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 20, 30), np.uint8))
    assert dict(read_image(tmp_path / "a.tif").sizes) == {"channel": 1, "z": 5, "y": 20, "x": 30}


def test_named_axes_override_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 20, 30), np.uint8), metadata={"axes": "ZYX"})
    assert dict(read_image(tmp_path / "a.tif", axes="cyx").sizes) == {"channel": 5, "y": 20, "x": 30}


def test_several_time_points_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 20, 30), np.uint8), metadata={"axes": "TYX"})
    with pytest.raises(AxesError, match="5 time points"):
        read_image(tmp_path / "a.tif")


def test_axes_that_cannot_be_known_are_asked_for(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 4, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(AxesError, match="--axes"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_alpha_of_a_tiff_is_dropped(tmp_path, kind):
    values = np.zeros((20, 30, 4), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[kind])
    assert read_image(tmp_path / "a.tif").sizes["channel"] == 3


@pytest.mark.parametrize(
    ("options", "micrometer"),
    [
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "nm"}}, 0.00025),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"resolution": (10000, 10000), "resolutionunit": "CENTIMETER"}, 1.0),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (4, 4), "resolutionunit": "NONE"}, None),
        ({"resolution": (0, 0), "resolutionunit": "INCH"}, None),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}}, 0.1),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "YX",
                    "PhysicalSizeX": 5,
                    "PhysicalSizeY": 5,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeYUnit": "nm",
                },
            },
            0.005,
        ),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 1, "PhysicalSizeXUnit": "nm"}}, None),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
    ],
)
def test_the_pixel_size_of_a_tiff_is_understood(tmp_path, options, micrometer):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint8), **options)
    found = read_image(tmp_path / "a.tif").attrs.get("pixel_size")
    assert (found and found.in_plane_micrometer) == (micrometer and pytest.approx(micrometer))


def test_byte_order_is_native(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_image(dtype="uint16").values, byteorder=">")
    image = read_image(tmp_path / "a.tif")
    assert image.dtype.isnative
    assert np.array_equal(image.values, make_image(dtype="uint16").values)


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [((20, 30), "uint8", 1), ((20, 30), "uint16", 1), ((20, 30, 3), "uint8", 3), ((20, 30, 4), "uint8", 3)],
)
def test_pictures_lose_only_their_alpha(tmp_path, shape, dtype, channels):
    iio.imwrite(tmp_path / "a.png", np.full(shape, 7, dtype))
    image = read_image(tmp_path / "a.png")
    assert dict(image.sizes) == {"channel": channels, "y": 20, "x": 30}
    assert image.dtype == dtype


def test_grey_with_alpha_is_grey(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.full((20, 30, 2), 7, np.uint8), mode="LA")
    assert read_image(tmp_path / "a.png").sizes["channel"] == 1


def test_black_and_white_is_uint8(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.eye(20, dtype=bool))
    assert read_image(tmp_path / "a.png").dtype == np.uint8


def test_jpeg_is_read(tmp_path):
    iio.imwrite(tmp_path / "a.JPG", np.full((20, 30, 3), 7, np.uint8), extension=".jpg")
    assert read_image(tmp_path / "a.JPG").sizes["channel"] == 3


def test_pictures_for_print_are_refused(tmp_path):
    iio.imwrite(tmp_path / "a.jpg", np.full((20, 30, 4), 7, np.uint8), mode="CMYK")
    with pytest.raises(ImageFileError, match="CMYK"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(("shape", "dtype"), [((3, 20, 30), "uint8"), ((1, 20, 30), "uint16")])
def test_png_round_trip(tmp_path, shape, dtype):
    write_image(tmp_path / "a.png", make_image(shape, dtype))
    xr.testing.assert_identical(read_image(tmp_path / "a.png"), make_image(shape, dtype))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 20, 30), "uint8"), ((1, 20, 30), "float32"), ((1, 2, 20, 30), "uint8")]
)
def test_png_refuses_what_it_cannot_hold(tmp_path, shape, dtype):
    with pytest.raises(ImageFileError, match=r"\.tif"):
        write_image(tmp_path / "a.png", make_image(shape, dtype))
    assert list(tmp_path.iterdir()) == []


def test_npy_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 30, 3), np.float32))
    assert dict(read_image(tmp_path / "a.npy").sizes) == {"channel": 3, "y": 20, "x": 30}


# --- HDF5


@pytest.fixture
def hdf5_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((5, 20, 30), np.uint8)
        file["more/probabilities"] = np.zeros((20, 30, 2), np.float32)
        keys = [{"key": key} for key in "yxc"]
        file["more/probabilities"].attrs["axistags"] = json.dumps({"axes": keys})
    return tmp_path / "a.h5"


def test_a_dataset_is_named_after_a_colon(hdf5_file):
    assert dict(read_image(f"{hdf5_file}:/raw").sizes) == {"channel": 1, "z": 5, "y": 20, "x": 30}


def test_axistags_name_the_axes(hdf5_file):
    image = read_image(f"{hdf5_file}:more/probabilities")
    assert dict(image.sizes) == {"channel": 2, "y": 20, "x": 30}


def test_axistags_that_do_not_fit_are_ignored(hdf5_file):
    with h5py.File(hdf5_file, "r+") as file:
        file["raw"].attrs["axistags"] = json.dumps({"axes": [{"key": "y"}]})
    assert dict(read_image(f"{hdf5_file}:/raw").sizes) == {"channel": 1, "z": 5, "y": 20, "x": 30}


def test_several_datasets_are_listed(hdf5_file):
    with pytest.raises(ImageFileError, match="/more/probabilities, /raw"):
        read_image(hdf5_file)


@pytest.mark.parametrize("key", ["mask", "more"])
def test_a_missing_dataset_is_answered_with_those_there(hdf5_file, key):
    with pytest.raises(ImageFileError, match=f"no dataset '{key}'.*/more/probabilities, /raw"):
        read_image(f"{hdf5_file}:/{key}")


def test_a_file_without_datasets_says_so(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(ImageFileError, match="no dataset"):
        read_image(tmp_path / "a.h5")


def test_many_datasets_are_listed_in_short(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for index in range(14):
            file[f"raw{index:02}"] = np.zeros((2, 2))
    with pytest.raises(ImageFileError, match="/raw09 and 4 more"):
        read_image(tmp_path / "a.h5")


@pytest.mark.parametrize("value", [np.array("text", dtype="S4"), np.zeros(3, np.complex64)])
def test_what_is_no_number_is_refused(tmp_path, value):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = value
    with pytest.raises(ImageFileError, match="holds the type"):
        read_image(tmp_path / "a.h5")


def test_replacing_a_file_with_other_datasets_is_refused(hdf5_file):
    with pytest.raises(ImageFileError, match="/more/probabilities, /raw"):
        write_image(f"{hdf5_file}:/new", make_image(), overwrite=True)


# --- Zarr


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_array_is_read(tmp_path, zarr_format):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(5, 20, 30), dtype=">u2", zarr_format=zarr_format)
    array[...] = 258
    image = read_image(tmp_path / "a.zarr")
    assert dict(image.sizes) == {"channel": 1, "z": 5, "y": 20, "x": 30}
    assert image.dtype == np.dtype("uint16")
    assert (image.values == 258).all()


def test_named_dimensions_are_the_axes(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 20, 30), dtype="u1", dimension_names=["c", "y", "x"])
    assert read_image(tmp_path / "a.zarr").sizes["channel"] == 4
    group = zarr.create_group(tmp_path / "b.zarr", zarr_format=2)
    array = group.create_array("raw", shape=(4, 20, 30), dtype="u1")
    array.attrs["_ARRAY_DIMENSIONS"] = ["channel", "y", "x"]
    assert read_image(tmp_path / "b.zarr/raw").sizes["channel"] == 4
    assert read_image(tmp_path / "b.zarr").sizes["channel"] == 4


def test_unknown_dimension_names_are_guessed_over(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 20, 30), dtype="u1", dimension_names=["a", "b", "c"])
    assert read_image(tmp_path / "a.zarr").sizes["z"] == 4


def make_ome_zarr(path, multiscales, shape=(1, 1, 3, 20, 30)):
    group = zarr.create_group(path, zarr_format=2, attributes={"multiscales": [multiscales]})
    group.create_array("s0", shape=shape, dtype="u1")
    group.create_array("s1", shape=(1, 1, 3, 10, 15), dtype="u1")


def ome_axes(unit="micrometer"):
    return [{"name": "t"}, {"name": "c"}, *({"name": dim, "unit": unit} for dim in "zyx")]


def scaling(*scale):
    return [{"type": "translation", "translation": [0] * 5}, {"type": "scale", "scale": list(scale)}]


def test_ome_zarr_gives_the_full_resolution_and_its_pixel_size(tmp_path):
    datasets = [{"path": "s0", "coordinateTransformations": scaling(1, 1, 4, 2, 2)}, {"path": "s1"}]
    whole = {"axes": ome_axes("nanometer"), "datasets": datasets, "coordinateTransformations": scaling(1, 1, 2, 2, 2)}
    make_ome_zarr(tmp_path / "a.ome.zarr", whole)
    image = read_image(tmp_path / "a.ome.zarr")
    assert dict(image.sizes) == {"channel": 1, "z": 3, "y": 20, "x": 30}
    assert image.attrs["pixel_size"] == PixelSize(z=8, y=4, x=4, unit="nanometer")


@pytest.mark.parametrize(
    "axes", [None, list("tczyx"), ome_axes("parsec"), [*ome_axes()[:4], {"name": "x", "unit": "nanometer"}]]
)
def test_ome_zarr_without_a_length_has_no_pixel_size(tmp_path, axes):
    make_ome_zarr(
        tmp_path / "a.zarr",
        {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": scaling(1, 1, 4, 2, 2)}]},
    )
    assert "pixel_size" not in read_image(tmp_path / "a.zarr", axes="tczyx").attrs


def test_ome_zarr_whose_resolution_is_a_group_is_refused(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.attrs["multiscales"] = [{"axes": list("yx"), "datasets": [{"path": "0"}]}]
    group.create_group("0")
    with pytest.raises(ImageFileError, match="found a group"):
        read_image(tmp_path / "a.zarr")


def test_several_arrays_are_listed(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in ("raw", "mask"):
        group.create_array(name, shape=(20, 30), dtype="u1")
    zarr.create_array(tmp_path / "one.zarr", shape=(20, 30), dtype="u1")
    with pytest.raises(ImageFileError, match="mask, raw"):
        read_image(tmp_path / "a.zarr")
    with pytest.raises(ImageFileError, match=r"no array or group 'labels'.*mask, raw"):
        read_image(tmp_path / "a.zarr/labels")
    with pytest.raises(ImageFileError, match="one array at its root"):
        read_image(tmp_path / "one.zarr/deeper")


def test_a_group_without_arrays_says_so(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(ImageFileError, match="there are none"):
        read_image(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {".zarray": "{not json"},
        {".zarray": "{}"},
        {"zarr.json": ""},
        {"zarr.json": '{"zarr_format":3,"node_type":"array"}'},
        {".zgroup": '{"zarr_format": 2}', ".zattrs": '{"multiscales": [{"datasets": []}]}'},
        {".zgroup": '{"zarr_format": 2}', ".zattrs": '{"multiscales": 7}'},
    ],
)
def test_broken_zarr_metadata_are_an_image_file_error(tmp_path, files):
    (tmp_path / "a.zarr").mkdir()
    for name, text in files.items():
        (tmp_path / "a.zarr" / name).write_text(text)
    with pytest.raises(ImageFileError, match="Cannot read"):
        read_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_cut_off_is_an_image_file_error(tmp_path, zarr_format):
    write_image(tmp_path / "a.zarr", make_image((1, 90, 90)), zarr_format=zarr_format)
    chunk = max((tmp_path / "a.zarr").rglob("0/**/0"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(ImageFileError, match="Cannot read"):
        read_image(tmp_path / "a.zarr")


# --- broken files


def write_example(path: Path):
    values = make_image((1, 200, 150)).values[0]
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".jpg":
        iio.imwrite(path, values)
    elif path.name == "deflated.tif":
        tifffile.imwrite(path, values, compression="zlib", predictor=True)
    elif path.name == "stack.tif":
        write_image(path, make_image((1, 5, 60, 50)))
    else:
        write_image(path, xr.DataArray(values, dims=("y", "x")))


@pytest.mark.parametrize("name", ["a.tif", "deflated.tif", "stack.tif", "a.png", "a.jpg", "a.h5", "a.npy"])
@pytest.mark.parametrize("kept", [0, 3, 8, 50, 150, 0.3, 0.6])
def test_a_file_cut_off_is_an_image_file_error(tmp_path, name, kept):
    path = tmp_path / name
    write_example(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ImageFileError, match=r"truncated|Cannot read|is empty"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".h5", ".npy"])
def test_what_is_no_image_is_an_image_file_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ImageFileError, match="Cannot read") as caught:
        read_image(path)
    assert caught.value.__cause__ is not None


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageFileError, match="Cannot read"):
        read_image(tmp_path / "a.npy")


def test_a_huge_declared_shape_is_refused_before_memory_is_taken(tmp_path):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + "\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", shape=(1_000_000, 1_000_000), dtype="u1", chunks=(1000, 1000))
    zarr.create_array(tmp_path / "a.zarr", shape=(1_000_000, 1_000_000), dtype="u1", chunks=(1000, 1000))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(60000)
    tracemalloc.start()
    for name in ("a.npy", "a.h5", "a.zarr", "a.tif"):
        with pytest.raises(ImageFileError, match=r"truncated|Cannot read"):
            read_image(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_several_images_in_one_tiff_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((20, 30), np.uint8), metadata=None)
        file.write(np.zeros((10, 30), np.uint16), metadata=None)
    with pytest.raises(ImageFileError, match="holds 2 images"):
        read_image(tmp_path / "a.tif")


def test_memory_that_does_not_suffice_is_said(tmp_path, monkeypatch):
    write_image(tmp_path / "a.tif", make_image())

    def no_memory(self, *_args, **_options):
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", no_memory)
    with pytest.raises(ImageFileError, match="does not fit into memory"):
        read_image(tmp_path / "a.tif")


def test_a_missing_file_is_said_with_the_folder(tmp_path):
    with pytest.raises(ImageFileError, match=r"There is no file .*a\.tif"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.czi", "a"])
def test_an_unknown_kind_is_answered_with_the_known(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ImageFileError, match=r"\.tif, .*\.zarr"):
        read_image(tmp_path / name)
    with pytest.raises(ImageFileError, match=r"\.tif, .*\.zarr"):
        write_image(tmp_path / name, make_image())


def test_directories_and_files_are_not_mixed_up(tmp_path):
    (tmp_path / "a.tif").mkdir()
    (tmp_path / "a.zarr").touch()
    with pytest.raises(ImageFileError, match="should be a file"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="should be a directory"):
        read_image(tmp_path / "a.zarr")


# --- writing over things


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.zarr", "a.png"])
def test_a_file_is_replaced_only_when_asked(tmp_path, name):
    write_image(tmp_path / name, make_image(), overwrite=True)
    with pytest.raises(ImageFileError, match="exists already"):
        write_image(tmp_path / name, make_image())
    newer = make_image((1, 4, 5))
    write_image(tmp_path / name, newer, overwrite=True)
    xr.testing.assert_equal(read_image(tmp_path / name), newer)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_that_is_no_zarr_store_is_never_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").touch()
    with pytest.raises(ImageFileError, match="no Zarr store"):
        write_image(tmp_path / "a.zarr", make_image(), overwrite=True)
    assert (tmp_path / "a.zarr" / "thesis.txt").exists()


def test_a_disk_that_is_full_is_said_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_image(tmp_path / "a.tif", make_image())
    before = (tmp_path / "a.tif").read_bytes()

    def full(path, *_args, **_options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s2d_zoo.data.tiff.tifffile.imwrite", full)
    with pytest.raises(ImageFileError, match="No space left"):
        write_image(tmp_path / "a.tif", make_image(), overwrite=True)
    assert (tmp_path / "a.tif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_writing_inside_a_zarr_store_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match="ends with"):
        write_image(tmp_path / "a.zarr/raw", make_image())


def test_complex_numbers_are_not_written(tmp_path):
    with pytest.raises(ImageFileError, match="complex64"):
        write_image(tmp_path / "a.tif", make_image().astype(np.complex64))


# --- labels and finite numbers


@pytest.mark.parametrize(
    ("stored", "highest", "expected"),
    [
        ("uint8", 3, "uint8"),
        ("uint16", 3, "uint16"),
        ("uint32", 3, "uint32"),
        ("int16", 255, "uint8"),
        ("int32", 256, "uint16"),
        ("int64", 65536, "uint32"),
    ],
)
def test_labels_are_unsigned(tmp_path, stored, highest, expected):
    labels = xr.DataArray(np.array([[0, 1], [2, highest]], dtype=stored), dims=("y", "x"))
    write_image(tmp_path / "a.h5", labels)
    found = read_labels(tmp_path / "a.h5")
    assert found.dtype == expected
    assert found.dims == ("y", "x")
    assert np.array_equal(found.values, labels.values)


def test_floating_point_labels_are_refused_with_advice(tmp_path):
    write_image(tmp_path / "a.tif", make_image(dtype="float32"))
    with pytest.raises(UserInputError, match=r"integers.*float32.*16 bit"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [-1, 2**32])
def test_ids_out_of_range_are_refused(tmp_path, value):
    write_image(tmp_path / "a.h5", xr.DataArray(np.array([[0, value]]), dims=("y", "x")))
    with pytest.raises(UserInputError, match=f"holds .*{value}"):
        read_labels(tmp_path / "a.h5")


def test_a_colour_picture_is_no_label_image(tmp_path):
    write_image(tmp_path / "a.png", make_image((3, 20, 30)))
    with pytest.raises(AxesError, match="colour picture"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_placed(tmp_path, value):
    image = make_image(dtype="float32")
    image[0, 3, 4] = value
    image[0, 5, 6] = value
    with pytest.raises(UserInputError, match=r"2 of 600 values .* channel=0, y=3, x=4"):
        check_finite(image, "image")
    write_image(tmp_path / "a.tif", image)
    with pytest.raises(UserInputError, match="NaN or infinite"):
        read_image(tmp_path / "a.tif")


@given(dtype=st.sampled_from(TYPES))
@settings(deadline=None)
def test_finite_values_pass(dtype):
    check_finite(make_image(dtype=dtype), "image")
