"""Models of anybody's package that take volumes: sizes and halo of their own along z, tiles, statistics."""

import numpy as np
import pytest
import torch
import xarray as xr
from tests.validate.foreign import OfVolumes, put_network, quick, renew_test, seeded, volumes

from s2d_zoo.data import packaged_network
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.data.packaged_network import TileSizes
from s2d_zoo.errors import AxesError, PackageError

TAKEN = {"z": {"min": 16, "step": 8}, "y": {"min": 32, "step": 16}, "x": {"min": 32, "step": 16}}
HALO = {"z": 4, "y": 8, "x": 8}


def load(path):
    with open_package(path) as contents:
        return load_packaged_model(contents)


def size_of(folder, tensor, axis):
    """The axis of the input or output in the description."""
    return next(one for one in folder.rdf[tensor][0]["axes"] if one.get("id") == axis)


@pytest.fixture
def deep(folder):
    """A package that takes volumes, described as the published ones are."""
    volumes(folder)
    for axis, size in TAKEN.items():
        size_of(folder, "inputs", axis)["size"] = dict(size)
        size_of(folder, "outputs", axis)["halo"] = HALO[axis]
    values = np.random.default_rng(1).random((1, 1, 16, 32, 32), dtype=np.float32)
    put_network(folder, seeded(OfVolumes()), torch.from_numpy(values))
    renew_test(folder, values)
    folder.save()
    return folder


def volume_of(*shape):
    values = np.random.default_rng(3).random((1, *shape), dtype=np.float32)
    return xr.DataArray(values, dims=("channel", "z", "y", "x"))


def test_sizes_and_halo_of_each_axis_are_read(deep):
    model = load(deep.path)
    assert (model.ndim, model.network.channels, model.network.smallest_tile) == (3, (1, 2), (16, 32, 32))
    assert model.network.tiles == TileSizes(smallest=32, step=16, halo=8)
    assert model.network.along_z == TileSizes(smallest=16, step=8, halo=4)


@pytest.mark.parametrize(
    ("sizes", "block"),
    [
        ((3, 20, 20), {"z": 8, "y": 32, "x": 32}),  # tiles of 16, 48, 48
        ((10, 20, 50), {"z": 16, "y": 64, "x": 64}),  # squares in plane, by the larger side
        ((200, 3000, 3000), {"z": 32, "y": 128, "x": 128}),
    ],
)
def test_tiles_are_of_sizes_that_it_takes(deep, sizes, block):
    blocking = load(deep.path).network.blocking_for(dict(zip("zyx", sizes, strict=True)))
    assert (blocking.block, blocking.halo, blocking.border, blocking.whole) == (block, HALO, "symmetric", True)
    for axis, size in block.items():
        assert (size + 2 * HALO[axis] - TAKEN[axis]["min"]) % TAKEN[axis]["step"] == 0


@pytest.mark.parametrize("shape", [(2, 5, 7), (20, 40, 33), (19, 70, 64)])
def test_tiles_together_equal_the_mirrored_whole(deep, shape, monkeypatch):
    monkeypatch.setattr(packaged_network, "_USUAL_TILE_3D", {"z": 8, "y": 16, "x": 16})
    model, image = load(deep.path), volume_of(*shape)
    tiled = model.predict(image)
    assert tiled.dims == ("channel", "z", "y", "x")
    assert tiled.channel.values.tolist() == ["foreground", "boundary"]
    padded = np.pad(image.values, [(0, 0), (1, 1), (1, 1), (1, 1)], mode="symmetric")  # the network looks 1 px far
    with torch.no_grad():
        whole = model.network(torch.from_numpy(padded[np.newaxis]))[0, :, 1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_statistics_are_those_of_the_whole_volume(deep):
    axes = ["channel", "z", "y", "x"]
    kwargs = {"axes": axes, "min_percentile": 0, "max_percentile": 100}
    deep.rdf["inputs"][0]["preprocessing"] = [{"id": "scale_range", "kwargs": kwargs}]
    image = volume_of(6, 8, 9) * np.arange(1, 7, dtype=np.float32)[:, None, None] + 5
    prepared = load(deep.save()).preprocess(image)
    assert prepared.dims == image.dims
    np.testing.assert_allclose(prepared, (image - image.min()) / (image.max() - image.min()), atol=1e-5)


def test_planes_are_refused(deep):
    model = load(deep.path)
    plane = volume_of(4, 9, 9)[:, 0]
    with pytest.raises(AxesError, match=r"takes 3D images with 1 channel.*'y': 9"):
        model.predict(plane)
    with pytest.raises(AxesError, match=r"works on 3D images, found axes .*Give a volume"):
        apply_network(model.network, plane)


def test_volumes_are_refused_by_a_network_of_planes(folder):
    model = load(quick(folder).save())
    with pytest.raises(AxesError, match=r"takes 2D images with 1 channel.*'z': 4"):
        model.predict(volume_of(4, 9, 9))
    with pytest.raises(AxesError, match=r"works on 2D images, found axes .*slices one by one"):
        apply_network(model.network, volume_of(4, 9, 9))


def test_without_a_test_input_it_is_tried_on_nothing(deep):
    deep.rdf["inputs"][0]["test_tensor"] = None
    assert load(deep.save()).network.channels == (1, 2)


def output_of_planes(folder):
    axes = folder.rdf["outputs"][0]["axes"]
    axes.remove(size_of(folder, "outputs", "z"))


def shallower_output(folder):
    size_of(folder, "outputs", "z")["size"]["offset"] = -2


def output_as_deep_as_the_input_is_wide(folder):
    size_of(folder, "outputs", "z")["size"]["axis_id"] = "y"


def as_deep_as_wide(folder):
    for tensor in ("inputs", "outputs"):
        size_of(folder, tensor, "z")["size"] = {"tensor_id": folder.rdf["inputs"][0]["id"], "axis_id": "y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (output_of_planes, r"or a 3D model with axes .*'z', 'y', 'x'\), found \('batch', 'channel', 'y', 'x'\)"),
        (shallower_output, "an output as large as the input, found z of size"),
        (output_as_deep_as_the_input_is_wide, "an output as large as the input, found z of size .*axis_id='y'"),
        (as_deep_as_wide, "a size of z by itself, found"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(deep, change, message):
    change(deep)
    with pytest.raises(PackageError, match=message):
        load(deep.save())
