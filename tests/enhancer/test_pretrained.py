"""Enhancers out of good packages and broken ones."""

import hashlib

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import apply_network
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ContractMismatchError, PackageError, UserInputError


def test_an_enhancer_comes_out_of_its_package_as_it_went_in(package):
    enhancer = load_enhancer(package)
    assert enhancer.id == "tiny-enhancer"
    assert enhancer.contract.roles == ("foreground",)
    assert not enhancer.model.training


def test_it_gives_the_output_that_the_package_states(package, folder):
    enhancer = load_enhancer(package)
    given, expected = (np.load(folder.path / f"test_{kind}.npy")[0] for kind in ("input", "output"))
    output = enhancer.model(torch.as_tensor(given)[None])[0].detach().numpy()
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_a_folder_is_as_good_as_a_zip(package, folder):
    image = xr.DataArray(np.random.default_rng(0).random((1, 24, 24), dtype="float32"), dims=("channel", "y", "x"))
    outputs = [apply_network(load_enhancer(path).model, image) for path in (package, folder.path)]
    xr.testing.assert_identical(*outputs)


def without_contract(folder):
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    folder.rdf["tags"].remove("shallow2deep")
    return folder.save()


def without_config(folder):
    del folder.rdf["config"]
    folder.rdf["tags"].remove("shallow2deep")
    return folder.save()


def invalid_contract(folder):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["ndim"] = 4
    return folder.save()


def foreign_architecture(folder):
    source = folder.rdf["weights"]["pytorch_state_dict"]["architecture"]["source"]
    with (folder.path / source).open("a") as file:
        file.write("\nraise SystemExit('code of the package was run')\n")
    return folder.save()


def other_callable(folder):
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"]["callable"] = "nn"
    return folder.save()


def without_pytorch_weights(folder):
    return folder.keep_weights("onnx").save()


def wrong_hash(folder):
    folder.rdf["weights"]["pytorch_state_dict"]["sha256"] = "0" * 64
    return folder.save_as_is()


def missing_weights(folder):
    (folder.path / folder.rdf["weights"]["pytorch_state_dict"]["source"]).unlink()
    return folder.path


def torn_weights(folder):
    path = folder.path / folder.rdf["weights"]["pytorch_state_dict"]["source"]
    path.write_bytes(path.read_bytes()[:2000])
    return folder.save()


def weights_of_another_network(folder):
    path = folder.path / folder.rdf["weights"]["pytorch_state_dict"]["source"]
    torch.save(UNet(features=3, depth=2).state_dict(), path)
    return folder.save()


def kwargs_that_do_not_exist(folder):
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"]["kwargs"]["colour"] = 1
    return folder.save()


def not_yaml(folder):
    (folder.path / "rdf.yaml").write_text("{", encoding="utf-8")
    return folder.path


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (without_contract, "has neither config.s2d_zoo.rf_contract"),
        (without_config, "has neither config.s2d_zoo.rf_contract"),
        (invalid_contract, "RF contract in .* is not valid"),
        (foreign_architecture, "code from packages is not run"),
        (other_callable, "code from packages is not run"),
        (without_pytorch_weights, "cannot be trained"),
        (wrong_hash, "not those that its description names"),
        (missing_weights, "are missing"),
        (torn_weights, "cannot be read as tensors"),
        (weights_of_another_network, "do not fit the architecture"),
        (kwargs_that_do_not_exist, "do not fit the architecture"),
        (not_yaml, "YAML"),
    ],
)
def test_a_broken_package_is_refused(folder, break_it, words):
    with pytest.raises(PackageError, match=words):
        load_enhancer(break_it(folder))


@pytest.mark.parametrize("channels", [[0, 1], [1, 0]])
def test_a_contract_that_names_more_channels_than_the_network_takes_is_refused(folder, channels):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["channels"] = channels
    with pytest.raises(ContractMismatchError, match=r"names 2 channel.*takes 1 in 2D"):
        load_enhancer(folder.save())


@pytest.mark.parametrize("kwargs", [{"in_channels": 3}, {"out_channels": 1}])
def test_a_network_with_other_channels_than_the_contract_is_refused(folder, kwargs):
    entry = folder.rdf["weights"]["pytorch_state_dict"]
    torch.save(UNet(features=2, depth=2, **kwargs).state_dict(), folder.path / entry["source"])
    entry["architecture"]["kwargs"] = {"features": 2, "depth": 2, **kwargs}
    with pytest.raises(ContractMismatchError, match="but the network takes"):
        load_enhancer(folder.save())


def test_a_path_where_nothing_lies_is_refused(tmp_path):
    with pytest.raises(UserInputError, match="no package at"):
        load_enhancer(tmp_path / "enhancer.zip")


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "enhancer.zip").write_bytes(b"PK not really")
    with pytest.raises(PackageError, match="Expected a zip file"):
        load_enhancer(tmp_path / "enhancer.zip")


def test_loading_changes_nothing(package):
    before = hashlib.sha256(package.read_bytes()).digest()
    load_enhancer(package)
    assert hashlib.sha256(package.read_bytes()).digest() == before
