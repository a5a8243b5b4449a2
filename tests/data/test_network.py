"""U-Nets on images of any size, in files, and out of packages."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.sources import PIXEL_FOREST_FILE, UNET_FILE, packaged_source
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data import network
from s2d_zoo.data.network import (
    EARLIER_ARCHITECTURES,
    FORMAT_VERSION,
    apply_network,
    channels_of,
    halo_of,
    load_network,
    network_kwargs,
    own_architectures,
    read_packaged_network,
    save_network,
)
from s2d_zoo.errors import AxesError, PackageError, SavedFileError, UnsupportedFormatVersionError

KWARGS = (
    {"features": 2, "depth": 1},
    {"in_channels": 3, "features": 2, "depth": 2, "norm": "none"},
    {"in_channels": 2, "out_channels": 3, "features": 3, "input_offset": (1.0, 2.0), "input_scale": (3.0, 4.0)},
)


def trained(seed=0, **kwargs):
    torch.manual_seed(seed)
    model = UNet(**kwargs)
    model(torch.rand(2, network_kwargs(model)["in_channels"], 16, 16) * 10)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return trained(features=2, depth=2)


FILTERS = {"GaussianSmoothing": [0.7, 1.6], "StructureTensorEigenvalues": [1.0]}


def fused(raw_channels=1):
    """Filters, a forest of one decision, and a U-Net."""
    torch.manual_seed(0)
    enhancer = {"in_channels": 1, "features": 2, "depth": 1, "input_scale": (0.5,)}
    model = PixelForest(FILTERS, raw_channels, nodes=3, trees=1, enhancer=enhancer)
    model.forest.threshold[0] = 0.5
    model.forest.left[:] = torch.tensor([1, 1, 2])
    model.forest.value[2] = 1
    return model.eval()


def random_image(*shape):
    values = np.random.default_rng(0).random(shape).astype("float32")
    return xr.DataArray(values, dims=("channel", "y", "x"))


def equal(first, second):
    tensors = first.state_dict(), second.state_dict()
    return tensors[0].keys() == tensors[1].keys() and all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])


# ---- applied to images


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 3), (33, 4)])
@pytest.mark.parametrize("block", [16, 512])
@pytest.mark.parametrize("fusing", [False, True], ids=["U-Net", "fused"])
def test_blocks_equal_the_mirrored_whole(model, size, block, fusing, monkeypatch):
    monkeypatch.setattr(network, "_BLOCK", block)
    model = fused(raw_channels=2) if fusing else model
    image = random_image(channels_of(model)[0], *size)
    found = apply_network(model, image)
    halo = halo_of(model)
    widths = [(halo, halo + -length % model.step) for length in size]
    padded = np.pad(image.values, [(0, 0), *widths], mode="symmetric")
    with torch.inference_mode():
        whole = model(torch.as_tensor(padded)[None])[0].numpy()
    assert found.dims == ("channel", "y", "x")
    assert list(found.channel.values) == ["foreground", "boundary"]
    assert found.dtype == np.float32
    assert np.abs(found.values - whole[:, halo : halo + size[0], halo : halo + size[1]]).max() < 1e-5


@pytest.mark.parametrize("dtype", ["uint8", "float64", "float16"])
def test_any_number_type_is_taken(model, dtype):
    image = (random_image(1, 9, 9) > 0.5).astype(dtype)
    assert np.array_equal(apply_network(model, image), apply_network(model, image.astype("float32")))


def test_an_image_without_channel_axis_has_one_channel(model):
    image = random_image(1, 9, 9)
    assert np.array_equal(apply_network(model, image.isel(channel=0).T), apply_network(model, image))


def test_progress_goes_to_stderr(model, monkeypatch, capsys):
    monkeypatch.setattr(network, "_BLOCK", 16)
    apply_network(model, random_image(1, 20, 20), progress="enhance")
    assert "enhance" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (random_image(2, 9, 9), "takes 1 channels, the image has 2"),
        (random_image(3, 9, 9).rename(channel="z"), "works on 2D images"),
    ],
    ids=["channels", "3D"],
)
def test_other_axes_are_refused(model, image, message):
    with pytest.raises(AxesError, match=message):
        apply_network(model, image)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_halo_covers_what_is_seen_and_is_a_multiple_of_the_step(depth):
    model = UNet(features=1, depth=depth)
    halo = halo_of(model)
    assert halo % model.step == 0
    assert model.receptive_radius <= halo < model.receptive_radius + model.step


# ---- in files


@pytest.mark.parametrize("kwargs", KWARGS, ids=str)
def test_save_and_load_is_the_identity(kwargs, tmp_path):
    model = trained(**kwargs)
    path = save_network(model, tmp_path / "deeper" / "network.safetensors")
    loaded = load_network(path)
    assert not loaded.training
    assert network_kwargs(loaded) == network_kwargs(model)
    assert equal(loaded, model)
    assert save_network(loaded, tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_that_cannot_be_written_leaves_the_old_one(model, tmp_path, monkeypatch):
    path = save_network(model, tmp_path / "network")
    before = path.read_bytes()

    def fail(tensors, path, **_):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(network.safetensors.torch, "save_file", fail)
    with pytest.raises(SavedFileError, match=r"Cannot write .*No space left"):
        save_network(model, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kwargs", KWARGS, ids=str)
def test_the_arguments_build_the_network_again_and_are_plain(kwargs):
    model = trained(**kwargs)
    found = network_kwargs(model)
    assert json.loads(json.dumps(found)) == found
    assert network_kwargs(UNet(**found)) == found
    assert {name: type(kwargs[name])(found[name]) for name in kwargs} == kwargs


def test_the_arguments_of_a_fused_network_build_it_again_and_are_plain():
    model = fused(raw_channels=2)
    found = network_kwargs(model)
    assert json.loads(json.dumps(found)) == found
    assert found["filters"] == FILTERS
    assert (found["raw_channels"], found["nodes"], found["trees"]) == (2, 3, 1)
    again = PixelForest(**found)
    again.load_state_dict(model.state_dict())
    assert network_kwargs(again) == found
    assert equal(again, model)


@pytest.mark.parametrize(
    ("model", "expected"),
    [(UNet(in_channels=3, out_channels=4, features=1, depth=1), (3, 4)), (fused(raw_channels=2), (2, 2))],
    ids=["U-Net", "fused"],
)
def test_channels_are_those_of_input_and_output(model, expected):
    assert channels_of(model) == expected


def rewrite(path, *, tensors=(), header=()):
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["s2d_zoo"])
    changed = [
        {name: value for name, value in {**old, **dict(new)}.items() if value is not None}
        for old, new in ((load_file(path), tensors), (metadata, header))
    ]
    save_file(changed[0], path, metadata={"s2d_zoo": json.dumps(changed[1])})


@pytest.mark.parametrize(
    "damage",
    [
        {"header": {"kwargs": None}},
        {"header": {"kwargs": [1]}},
        {"header": {"kwargs": {"depth": 2000}}},
        {"header": {"kwargs": {"features": 6000}}},
        {"header": {"kwargs": {"depth": 0}}},
        {"header": {"kwargs": {"width": 3}}},
        {"header": {"kwargs": {"features": 3, "depth": 2}}},
        {"tensors": {"head.bias": None}},
        {"tensors": {"head.bias": torch.zeros(5)}},
        {"tensors": {"foot.bias": torch.zeros(2)}},
    ],
    ids=str,
)
def test_a_damaged_file_is_named_and_refused(model, damage, tmp_path):
    path = save_network(model, tmp_path / "network.safetensors")
    rewrite(path, **damage)
    with pytest.raises(SavedFileError, match=r"network in .*network\.safetensors is damaged"):
        load_network(path)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "1", None])
def test_a_newer_version_is_refused_and_says_so(model, version, tmp_path):
    path = save_network(model, tmp_path / "network")
    rewrite(path, header={"format_version": version})
    with pytest.raises(UnsupportedFormatVersionError, match=f"format version {version}"):
        load_network(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "found None"),
        ({"s2d_zoo": "[]"}, "found None"),
        ({"s2d_zoo": '{"format": "s2d-zoo/pixel-classifier"}'}, "found 's2d-zoo/pixel-classifier'"),
        ({"s2d_zoo": "{"}, "Cannot read"),
    ],
    ids=["bare", "a list", "a classifier", "broken JSON"],
)
def test_a_foreign_file_is_refused(tmp_path, metadata, message):
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign", metadata=metadata)
    with pytest.raises(SavedFileError, match=message):
        load_network(tmp_path / "foreign")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(model, kept, tmp_path):
    path = save_network(model, tmp_path / "network")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SavedFileError, match="Cannot read a network"):
        load_network(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SavedFileError, match=r"Cannot read a network from .*nothing"):
        load_network(tmp_path / "nothing")


# ---- out of packages


@pytest.fixture
def unpacked(tmp_path, model):
    """Description of a package with this network, and its folder."""
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return describe(tmp_path, network_kwargs(model)), tmp_path


def describe(folder, kwargs):
    digest = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    architecture = hashlib.sha256(packaged_source(UNET_FILE)).hexdigest()
    entry = {"source": "unet.py", "sha256": architecture, "callable": "UNet", "kwargs": kwargs}
    weights = {"source": "weights.pt", "sha256": digest, "architecture": entry}
    return {"weights": {"pytorch_state_dict": weights}}


def test_the_network_of_a_package_is_built(unpacked, model):
    rdf, folder = unpacked
    built = read_packaged_network(rdf, folder)
    assert not built.training
    assert equal(built, model)


def test_the_network_of_a_package_that_was_written_is_built(folder):
    built = read_packaged_network(folder.rdf, folder.path)
    assert apply_network(built, random_image(1, 9, 9)).shape == (2, 9, 9)


@pytest.mark.parametrize("name", [UNET_FILE, PIXEL_FOREST_FILE])
def test_own_architectures_holds_each_file_as_it_is_packaged(name):
    assert hashlib.sha256(packaged_source(name)).hexdigest() in own_architectures()


def test_the_file_of_the_unet_is_packaged_as_it_is():
    source = Path(network.__file__).parents[1] / "architectures" / "unet.py"
    assert source.read_bytes() == packaged_source(UNET_FILE)


def test_a_fused_network_is_not_taken_for_an_enhancer(unpacked):
    rdf, folder = unpacked
    architecture = hashlib.sha256(packaged_source(PIXEL_FOREST_FILE)).hexdigest()
    rdf["weights"]["pytorch_state_dict"]["architecture"].update(sha256=architecture, callable="PixelForest")
    with pytest.raises(PackageError, match="code from packages is not run"):
        read_packaged_network(rdf, folder)


@pytest.mark.parametrize(
    "rdf",
    [
        {},
        {"weights": {}},
        {"weights": []},
        {"weights": {"pytorch_state_dict": None}},
        {"weights": {"pytorch_state_dict": {"source": "weights.pt"}}},
        {"weights": {"pytorch_state_dict": {"source": "weights.pt", "architecture": "torch.nn.Identity"}}},
    ],
    ids=str,
)
def test_a_package_without_weights_of_ours_is_refused(rdf, tmp_path):
    with pytest.raises(PackageError, match="no PyTorch weights with an architecture"):
        read_packaged_network(rdf, tmp_path)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"callable": "Net"}], ids=str)
def test_unknown_architectures_are_refused(unpacked, change):
    rdf, folder = unpacked
    rdf["weights"]["pytorch_state_dict"]["architecture"].update(change)
    with pytest.raises(PackageError, match="code from packages is not run"):
        read_packaged_network(rdf, folder)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"sha256": None}, {"source": "other.pt"}], ids=str)
def test_other_weights_than_described_are_refused(unpacked, change):
    rdf, folder = unpacked
    rdf["weights"]["pytorch_state_dict"].update(change)
    with pytest.raises(PackageError, match="missing, or not those that its description names"):
        read_packaged_network(rdf, folder)


@pytest.mark.parametrize(
    "kwargs",
    [{"features": 3, "depth": 2}, {"features": 2, "depth": 0}, {"features": 2, "depth": 2, "width": 1}],
    ids=str,
)
def test_weights_of_another_shape_are_refused(unpacked, kwargs):
    _, folder = unpacked
    with pytest.raises(PackageError, match="do not fit the architecture"):
        read_packaged_network(describe(folder, kwargs), folder)


@pytest.mark.parametrize("content", [[1, 2], {"head.bias": 3}], ids=str)
def test_files_that_hold_no_state_dict_are_refused(unpacked, content):
    rdf, folder = unpacked
    torch.save(content, folder / "weights.pt")
    kwargs = rdf["weights"]["pytorch_state_dict"]["architecture"]["kwargs"]
    with pytest.raises(PackageError, match=r"do not fit the architecture|holds list"):
        read_packaged_network(describe(folder, kwargs), folder)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 broken"], ids=str)
def test_files_that_are_no_weights_are_refused(unpacked, content):
    rdf, folder = unpacked
    (folder / "weights.pt").write_bytes(content)
    kwargs = rdf["weights"]["pytorch_state_dict"]["architecture"]["kwargs"]
    with pytest.raises(PackageError, match="cannot be read as tensors"):
        read_packaged_network(describe(folder, kwargs), folder)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_that_would_run_code_are_refused_without_running_it(unpacked):
    rdf, folder = unpacked
    torch.save({"head.bias": Trap(folder / "sprung")}, folder / "weights.pt")
    kwargs = rdf["weights"]["pytorch_state_dict"]["architecture"]["kwargs"]
    with pytest.raises(PackageError, match=r"wants to call getattr\. Other content .* is not loaded"):
        read_packaged_network(describe(folder, kwargs), folder)
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("max_features", [None, 2, 3, 4, 8])
def test_a_network_of_limited_width_is_built_again(tmp_path, max_features):
    model = UNet(features=2, depth=2, max_features=max_features).eval()
    assert ("max_features" in network_kwargs(model)) == (max_features in {2, 3, 4})
    assert UNet(**network_kwargs(model)).load_state_dict(model.state_dict())
    assert equal(load_network(save_network(model, tmp_path / "network.safetensors")), model)


@pytest.mark.parametrize("architecture", sorted(EARLIER_ARCHITECTURES))
def test_packages_with_an_earlier_architecture_are_read(unpacked, model, architecture):
    rdf, folder = unpacked
    rdf["weights"]["pytorch_state_dict"]["architecture"]["sha256"] = architecture
    assert equal(read_packaged_network(rdf, folder), model)
