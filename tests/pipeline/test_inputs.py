"""Files are checked together, before anything long begins."""

import hashlib
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import AxesError, ConfigError, ImageFileError, ScribbleError, UserInputError
from s2d_zoo.pipeline.inputs import AdaptInputs, hash_path
from s2d_zoo.pipeline.sources import read_inputs


def test_inputs_are_read_in_the_project_s_order(run):
    data = read_inputs(run.inputs)
    assert data.images[0].dims == ("channel", "y", "x")
    assert data.scribbles[0].dims == data.ground_truth[0].dims == ("y", "x")
    assert [entry.role for entry in data.classes] == ["background", "foreground"]
    assert data.foreground == 2
    assert len(data.test_images) == len(data.test_ground_truth) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"images": ()},
        {"scribbles": ()},
        {"images": 2},
        {"ground_truth": 2},
        {"test_ground_truth": 2},
        {"test_images": ()},
    ],
    ids=str,
)
def test_files_that_belong_together_must_be_equally_many(inputs, change):
    changed = {name: getattr(inputs, name) * count if count else () for name, count in change.items()}
    with pytest.raises(ConfigError, match=r"give one for each|No image was given|Nothing to learn from"):
        replace(inputs, **changed)


@pytest.fixture
def changed(tmp_path, plain_inputs):
    """Write the image or the strokes anew, changed, and give the inputs with that file."""

    def change(field, function):
        path = tmp_path / f"changed-{field}.tif"
        values = read_image(getattr(plain_inputs, field)[0]).values[0]
        tifffile.imwrite(path, function(values))
        return replace(plain_inputs, **{field: (path,)})

    return change


def with_nan(values):
    values = values.astype(np.float32)
    values[3, 4] = np.nan
    return values


@pytest.mark.parametrize(
    ("field", "function", "error", "words"),
    [
        ("scribbles", lambda values: values[:-1], AxesError, "cover the same pixels"),
        ("images", lambda values: values[:, 2:], AxesError, "cover the same pixels"),
        ("scribbles", lambda values: np.where(values == 2, 0, values), ScribbleError, "two classes"),
        ("scribbles", np.zeros_like, ScribbleError, "no strokes"),
        ("scribbles", lambda values: values.astype(np.float32), ScribbleError, "float32"),
        ("scribbles", lambda values: values.astype(np.int16) - 1, ScribbleError, "-1"),
        ("scribbles", lambda values: values.astype(np.uint16) * 100, ScribbleError, "instance label"),
        ("images", with_nan, UserInputError, "NaN"),
    ],
    ids=["strokes too small", "image too small", "one class", "none", "float", "negative", "instances", "NaN"],
)
def test_wrong_inputs_are_refused_with_the_file_s_name_or_reason(changed, field, function, error, words):
    with pytest.raises(error, match=words):
        read_inputs(changed(field, function))


def test_ground_truth_of_another_size_is_refused(inputs, tmp_path):
    write_image(tmp_path / "truth.tif", xr.DataArray(np.ones((50, 50), dtype=np.uint8), dims=("y", "x")))
    for field in ("ground_truth", "test_ground_truth"):
        with pytest.raises(AxesError, match=r"truth.tif"):
            read_inputs(replace(inputs, **{field: (tmp_path / "truth.tif",)}))


def test_a_test_image_with_other_channels_is_refused(inputs, tmp_path):
    write_image(tmp_path / "rgb.tif", xr.DataArray(np.ones((3, 96, 96), dtype=np.uint8), dims=("channel", "y", "x")))
    with pytest.raises(AxesError, match="same axes and channels"):
        read_inputs(replace(inputs, test_images=(tmp_path / "rgb.tif",)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.tif", b"", "empty"),
        ("text.tif", b"this is a text and not an image", "damaged"),
        ("unknown.xyz", b"1", "name of an image file"),
        ("cut.tif", None, "damaged|truncated"),
        ("missing.tif", ..., "no file"),
    ],
)
@pytest.mark.parametrize("field", ["images", "scribbles"])
def test_a_file_that_is_no_image_is_refused(plain_inputs, tmp_path, field, name, content, words):
    path = tmp_path / name
    if content is None:
        path.write_bytes(getattr(plain_inputs, field)[0].read_bytes()[:600])
    elif content is not ...:
        path.write_bytes(content)
    with pytest.raises(ImageFileError, match=words):
        read_inputs(replace(plain_inputs, **{field: (path,)}))


def test_the_hash_of_a_file_is_its_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (3 << 20))
    assert hash_path(tmp_path / "a") == hashlib.sha256(b"x" * (3 << 20)).hexdigest()


def test_the_hash_of_a_folder_depends_on_names_and_contents(tmp_path):
    hashes = set()
    for name, content in (("a", b"1"), ("b", b"1"), ("b", b"2")):
        folder = tmp_path / f"{name}{content.decode()}" / "store.zarr"
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / name).write_bytes(content)
        hashes.add(hash_path(folder))
        assert hash_path(folder) == hash_path(folder)
    assert len(hashes) == 3


def test_images_inside_hdf5_files_are_read_and_hashed(plain_inputs, tmp_path):
    path = tmp_path / "cells.h5"
    with h5py.File(path, "w") as file:
        file["volume/raw"] = read_image(plain_inputs.images[0]).values[0]
    inputs = AdaptInputs(images=(tmp_path / "cells.h5:/volume/raw",), scribbles=plain_inputs.scribbles, enhancer="none")
    assert read_inputs(inputs).images[0].sizes["x"] == 96
    assert hashlib.sha256(path.read_bytes()).hexdigest() in inputs.hashes().values()
