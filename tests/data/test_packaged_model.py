"""Models of anybody's packages: applied as bioimageio.core does, trained, and refused where code would run."""

import hashlib
import pickle
import shutil

import numpy as np
import pytest
import torch
import xarray as xr
from tests.validate.foreign import (
    TwoLevels,
    WritingElsewhere,
    enhancer_of_the_zoo,
    put_network,
    quick,
    seeded,
    two_inputs,
)

from s2d_zoo.data.network import apply_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.data.packaged_network import TileSizes
from s2d_zoo.errors import AxesError, PackageError, UnsafePackageError

CODE = """
import pathlib
import torch

pathlib.Path({victim!r}).write_text("code was run")

class Net(torch.nn.Module):
    def __init__(self, channels=2):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, channels, 3, padding=1)

    def forward(self, image):
        return torch.sigmoid(self.layer(image))
"""


def load(path, **options):
    with open_package(path) as contents:
        return load_packaged_model(contents, **options)


def image_of(size=96, channels=1):
    values = np.random.default_rng(3).random((channels, size, size), dtype=np.float32) * 200
    return xr.DataArray(values, dims=("channel", "y", "x"))


class Spy(torch.nn.Module):
    """Remembers the shapes that a network is given."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.shapes = []

    def forward(self, image):
        self.shapes.append(tuple(image.shape))
        return self.network(image)


def watch(model):
    model.network.network = Spy(model.network.network)
    return model.network.network.shapes


# ---- sizes


@pytest.mark.parametrize(("asked", "given"), [(1, 64), (64, 64), (65, 80), (81, 96)])
def test_tiles_grow_by_steps(asked, given):
    assert TileSizes(smallest=64, step=16).at_least(asked) == given
    assert TileSizes(smallest=64, step=0).at_least(asked) == 64


# ---- what it gives


def test_a_published_enhancer_gives_its_test_output(folder):
    path = enhancer_of_the_zoo(folder)
    model = load(path)
    assert (model.id, model.version, model.weights_format) == ("10.5281/zenodo.1/2", None, "torchscript")
    assert model.weights_sha256 == hashlib.sha256((path / "weights.pt").read_bytes()).hexdigest()
    assert (model.ndim, model.network.channels) == (2, (1, 2))
    assert (model.network.tiles, model.network.along_z) == (TileSizes(smallest=256, step=16, halo=32), None)
    prepared = model.preprocess(image_of(256))
    assert (float(prepared.min()), float(prepared.max())) == pytest.approx((0, 1), abs=1e-5)
    test_input = xr.DataArray(np.load(path / "test_input.npy")[0], dims=("channel", "y", "x"))
    with torch.no_grad():
        found = model.network(torch.from_numpy(model.preprocess(test_input).values[np.newaxis]))
    np.testing.assert_allclose(found, np.load(path / "test_output.npy"), atol=1e-5)


def test_an_image_of_any_size_is_seen_in_tiles_that_the_network_takes(folder):
    quick(folder)
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"] = {"min": 64, "step": 4}
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 16
    put_network(folder, seeded(TwoLevels()), torch.rand(1, 1, 64, 64))
    model = load(folder.save())
    asked = watch(model)
    image = image_of(700) / 200
    tiled = apply_network(model.network, image)
    assert tiled.shape == (2, 700, 700)
    assert asked == [(1, 1, 544, 544)] * 4
    with torch.no_grad():
        whole = model.network(torch.from_numpy(image.values[np.newaxis]))[0].numpy()
    inside = (slice(None), slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(tiled.values[inside], whole[inside], atol=1e-5)


def test_a_single_size_is_kept_to(folder):
    quick(folder)
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 64
    put_network(folder, seeded(TwoLevels()), torch.rand(1, 1, 64, 64))
    model = load(folder.save())
    asked = watch(model)
    assert apply_network(model.network, image_of(50)).shape == (2, 50, 50)
    assert apply_network(model.network, image_of(150)).shape == (2, 150, 150)
    assert set(asked) == {(1, 1, 64, 64)}


def test_other_channels_than_it_takes_are_refused(folder):
    with pytest.raises(AxesError, match=r"takes 2D images with 1 channel.*'channel': 3"):
        load(quick(folder).save()).preprocess(image_of(channels=3))


# ---- training


def test_its_weights_can_be_trained_while_it_stays_in_eval_mode(folder):
    model = load(enhancer_of_the_zoo(folder))
    network = model.network.train()
    assert network.training
    assert not any(module.training for module in network.network.modules())
    image = torch.rand(2, 1, 256, 256)
    torch.testing.assert_close(torch.sigmoid(network.logits(image)), network(image), atol=1e-5, rtol=0)
    network.logits(image).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert gradients
    assert all(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_probabilities_are_not_rounded_to_bfloat16_before_the_loss(folder):
    """1 - 2**-9 would be 1, whose logit is as good as infinite."""
    network = load(enhancer_of_the_zoo(folder)).network
    image = torch.rand(1, 1, 64, 64)
    exact = network.logits(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network.logits(image), exact)


def test_a_sigmoid_that_follows_is_told_from_one_inside(folder):
    class Open(TwoLevels):
        def forward(self, image):
            return torch.logit(super().forward(image), eps=1e-6)

    put_network(folder, seeded(Open()), torch.rand(1, 1, 64, 64))
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}]
    model = load(folder.save())
    assert model.network.gives_logits
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(torch.sigmoid(model.network.logits(image)), model.network(image))


def test_a_network_for_single_images_gets_them_one_by_one(folder):
    quick(folder)
    folder.rdf["inputs"][0]["axes"][0]["size"] = 1
    model = load(folder.save())
    asked = watch(model)
    assert len(model.network(torch.rand(3, 1, 128, 128))) == 3
    assert asked == [(1, 1, 128, 128)] * 3


# ---- trust


@pytest.fixture
def with_code(folder, tmp_path):
    """A package whose network is code of its own, which writes a file when it is run."""
    victim = tmp_path / "victim.txt"
    source = CODE.format(victim=str(victim))
    (folder.path / "net.py").write_text(source, encoding="utf-8")
    space = {}
    exec(compile(source, "net.py", "exec"), space)  # noqa: S102 - of this very file
    victim.unlink()
    torch.save(space["Net"]().state_dict(), folder.path / "weights_state_dict.pt")
    folder.rdf["weights"] = {
        "pytorch_state_dict": {
            "source": "weights_state_dict.pt",
            "sha256": "",
            "pytorch_version": "2.0.0",
            "architecture": {"source": "net.py", "callable": "Net", "sha256": "", "kwargs": {"channels": 2}},
        }
    }
    folder.save()
    return folder, victim


def test_code_is_run_only_when_it_is_trusted(with_code):
    folder, victim = with_code
    sha256 = hashlib.sha256((folder.path / "net.py").read_bytes()).hexdigest()
    with pytest.raises(UnsafePackageError, match=rf"net\.py of the package, SHA-256 {sha256}.*--trust-code"):
        load(folder.path)
    assert not victim.exists()
    model = load(folder.path, trust_code=True)
    assert victim.exists()
    assert model.weights_format == "pytorch_state_dict"
    assert apply_network(model.network, image_of(130) / 200).shape == (2, 130, 130)


def test_code_that_is_installed_must_be_trusted_too(with_code):
    folder, victim = with_code
    entry = folder.rdf["weights"]["pytorch_state_dict"]
    entry["architecture"] = {"import_from": "os", "callable": "system", "kwargs": {"command": f"touch {victim}"}}
    with pytest.raises(UnsafePackageError, match="'import_from': 'os'"):
        load(folder.save())
    assert not victim.exists()


def test_code_that_was_changed_is_not_run_even_if_trusted(with_code):
    folder, victim = with_code
    with (folder.path / "net.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    with pytest.raises(PackageError, match=r"net\.py, are not those that its description names"):
        load(folder.path, trust_code=True)
    assert not victim.exists()


class Reduced:
    """Unpickled, it writes a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return open, (str(self.victim), "w")


def test_a_pickle_that_runs_code_is_refused_even_if_code_is_trusted(with_code, tmp_path):
    folder, _ = with_code
    other = tmp_path / "other.txt"
    (folder.path / "weights_state_dict.pt").write_bytes(pickle.dumps({"layer.weight": Reduced(other)}))
    with pytest.raises(PackageError, match="cannot be read as tensors"):
        load(folder.save(), trust_code=True)
    assert not other.exists()


def test_what_is_no_network_is_told(with_code):
    folder, _ = with_code
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"].update(callable="pathlib", kwargs={})
    with pytest.raises(PackageError, match="cannot be built: TypeError"):
        load(folder.save(), trust_code=True)


def test_a_network_out_of_an_installed_library_is_built_if_it_is_trusted(with_code):
    folder, _ = with_code
    torch.save(torch.nn.Conv2d(1, 2, 3).state_dict(), folder.path / "weights_state_dict.pt")
    entry = folder.rdf["weights"]["pytorch_state_dict"]
    kwargs = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
    entry["architecture"] = {"import_from": "torch.nn", "callable": "Conv2d", "kwargs": kwargs}
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}]
    assert load(folder.save(), trust_code=True).network.gives_logits


def test_code_that_fails_is_told(with_code):
    folder, _ = with_code
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"]["kwargs"] = {"channels": 5}
    with pytest.raises(PackageError, match=r"cannot be built: RuntimeError"):
        load(folder.save(), trust_code=True)


# ---- what cannot be used


def test_onnx_alone_cannot_be_trained_but_teach(folder):
    with pytest.raises(PackageError, match=r"onnx only, which cannot be trained.*teacher.*--probabilities"):
        load(folder.keep_weights("onnx").save())


def test_weights_that_are_asked_for_must_be_there(folder):
    with pytest.raises(PackageError, match="no weights as torchscript"):
        load(folder.keep_weights("onnx").save(), weights_format="torchscript")


def test_other_weights_than_stated_are_refused(folder):
    path = quick(folder).save()
    with (path / "weights.pt").open("ab") as file:
        file.write(b"1")
    with pytest.raises(PackageError, match=r"expected SHA-256 .*, found .*Download the package again"):
        load(path)


def test_weights_that_are_cut_off_are_refused(folder):
    quick(folder)
    whole = (folder.path / "weights.pt").read_bytes()
    (folder.path / "weights.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PackageError, match=r"TorchScript weights of .* are not loaded: .*cannot be read"):
        load(folder.save())


def test_torchscript_that_writes_files_is_not_even_loaded(folder, tmp_path):
    victim = tmp_path / "victim.bin"
    victim.write_bytes(b"mine")
    put_network(folder, WritingElsewhere(str(victim)), script=True)
    with pytest.raises(UnsafePackageError, match=r"are not loaded: .*from_file"):
        load(folder.save())
    assert victim.read_bytes() == b"mine"


def test_files_that_stayed_on_the_network_are_asked_for(folder):
    quick(folder)
    folder.rdf["weights"]["torchscript"]["source"] = "https://example.com/weights.pt"
    with pytest.raises(PackageError, match=r"not in the package.*s2d-zoo download"):
        load(folder.save_as_is())


def change_output(**changes):
    def change(folder):
        folder.rdf["outputs"][0].update(changes)

    return change


def change_axes(change):
    def change_all(folder):
        for axis in folder.rdf["inputs"][0]["axes"][2:]:
            change(axis)

    return change_all


def other_sizes(folder):
    folder.rdf["inputs"][0]["axes"][2]["size"] = 256


def other_output_size(folder):
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["size"]["offset"] = -8


def swapped(folder):
    axes = folder.rdf["inputs"][0]["axes"]
    axes[1], axes[2] = axes[2], axes[1]


def bad_test_input(folder):
    (folder.path / "test_input.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, ")


REFUSED = {
    "postprocessing": (
        change_output(postprocessing=[{"id": "binarize", "kwargs": {"threshold": 0.5}}]),
        r"postprocessing \(binarize\) is not a sigmoid, or none",
    ),
    "two inputs": (two_inputs, "one input and one output, found 2 and 1"),
    "another order": (swapped, r"expected a 2D model with axes \('batch', 'channel', 'y', 'x'\)"),
    "unlike sizes": (other_sizes, "same sizes along y and x"),
    "a smaller output": (other_output_size, "an output as large as the input"),
    "no valid description": (lambda folder: folder.rdf.pop("name"), "name"),
    "an old format": (lambda folder: folder.rdf.update(format_version="0.3.2"), "format version 0.4.x or 0.5.x"),
    "no test input": (bad_test_input, r"test input test_input\.npy of .* cannot be read"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(folder, change, message):
    quick(folder)
    change(folder)
    with pytest.raises(PackageError, match=message):
        load(folder.save())


class Loud(TwoLevels):
    """No probabilities."""

    def forward(self, image):
        return super().forward(image) * 300


class Small(TwoLevels):
    """Half as large."""

    def forward(self, image):
        return super().forward(image)[:, :, ::2]


class Endless(TwoLevels):
    """Not a number."""

    def forward(self, image):
        return super().forward(image) / 0 * 0


class Listed(TwoLevels):
    """In a tuple of one."""

    def forward(self, image):
        return (super().forward(image),)


class Double(TwoLevels):
    """Two of them."""

    def forward(self, image):
        return super().forward(image), image


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Loud, "gives values from .* and no sigmoid follows"),
        (Small, r"an output of shape \(1, 2, 32, 64\), expected \(1, 2, 64, 64\)"),
        (Endless, "an output of shape"),
        (Double, "gives tuple, expected one tensor"),
    ],
)
def test_output_that_is_no_probability_is_refused(folder, network, message):
    size = 64
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"] = size
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 8
    put_network(folder, seeded(network()), torch.rand(1, 1, size, size))
    np.save(folder.path / "test_input.npy", np.random.default_rng(0).random((1, 1, size, size), dtype=np.float32))
    with pytest.raises(PackageError, match=message):
        load(folder.save())


def test_a_list_of_one_output_is_taken(folder):
    put_network(folder, seeded(Listed()), torch.rand(1, 1, 64, 64))
    model = load(folder.save())
    assert model.network(torch.rand(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_without_a_test_input_the_network_is_tried_on_nothing(folder):
    quick(folder)
    folder.rdf["inputs"][0]["test_tensor"] = None
    assert load(folder.save()).network.channels == (1, 2)


def test_a_network_that_does_not_run_is_refused(folder):
    put_network(folder, seeded(torch.nn.Conv2d(3, 2, 3, padding=1)), torch.rand(1, 3, 64, 64))
    with pytest.raises(PackageError, match="does not run on its own test input"):
        load(folder.save())


@pytest.mark.realdata
def test_a_real_model_gives_its_own_test_output(realdata_dir, tmp_path):
    path = shutil.copytree(realdata_dir / "zoo" / "unet2d_nuclei_broad", tmp_path / "nuclei")
    model = load(path)
    assert model.network.tiles == TileSizes(smallest=512, step=0, halo=32)
    assert model.network.gives_logits
    image = xr.DataArray(np.load(path / "test_input.npy")[0], dims=("channel", "y", "x"))
    with torch.no_grad():
        found = model.network(torch.from_numpy(model.preprocess(image).values[np.newaxis]))
    np.testing.assert_allclose(found.numpy(), np.load(path / "test_output.npy"), atol=1e-4)
