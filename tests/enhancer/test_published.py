"""Enhancers as they were published before there were RF contracts."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage
from tests.validate.foreign import (
    OfVolumes,
    TwoLevels,
    enhancer_of_the_zoo,
    image_of,
    put_network,
    renew_test,
    seeded,
    volumes,
)

from s2d_zoo.contract import ClassContract
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ContractMismatchError, PackageError, UnsafePackageError


class OneChannel(TwoLevels):
    """Foreground only."""

    def forward(self, image):
        return super().forward(image)[:, :1]


class TwoChannels(TwoLevels):
    """Takes background and foreground."""

    def forward(self, image):
        return super().forward(image[:, 1:])


def probabilities(size=96):
    values = np.random.default_rng(4).random((1, size, size), dtype=np.float32)
    return xr.DataArray(np.concatenate([1 - values, values]), dims=("channel", "y", "x"))


def test_what_it_takes_is_derived_and_what_is_unknown_is_said(folder, caplog):
    enhancer = load_enhancer(enhancer_of_the_zoo(folder))
    contract = enhancer.contract
    assert (enhancer.id, contract.ndim, contract.roles) == ("10.5281/zenodo.1/2", 2, ("foreground",))
    assert (contract.features, contract.pixel_size, contract.raw_channels) == (None, None, None)
    (message,) = caplog.messages
    assert "states no RF contract" in message
    assert "the foreground of a 2D forest, from 0 to 1 (preprocessed as its description says: scale_range)" in message
    assert "which features, pixel size and size of objects it was trained on is unknown" in message


def test_probabilities_are_preprocessed_as_its_description_says(folder):
    enhancer = load_enhancer(enhancer_of_the_zoo(folder))
    maps = probabilities(256)
    maps[1] = maps[1] * 0.5 + 0.2
    maps[0] = 1 - maps[1]
    enhanced = enhancer.enhance(maps, enhancer.contract)
    assert enhanced.channel.values.tolist() == ["foreground", "boundary"]
    stretched = (maps[1] - maps[1].min()) / (maps[1].max() - maps[1].min())
    again = enhancer.enhance(xr.concat([1 - stretched, stretched], dim="channel"), enhancer.contract)
    np.testing.assert_allclose(enhanced, again, atol=1e-4)  # from minimum to maximum, whatever they are


def test_where_it_gives_no_boundary_that_is_where_the_foreground_changes(folder):
    enhancer_of_the_zoo(folder)
    values = image_of(256)
    put_network(folder, seeded(OneChannel()), torch.from_numpy(values))
    folder.rdf["outputs"][0]["shape"]["scale"] = [1.0, 1.0, 1.0, 1.0]
    enhancer = load_enhancer(folder.save())
    enhanced = enhancer.enhance(probabilities(), enhancer.contract)
    assert enhanced.channel.values.tolist() == ["foreground", "boundary"]
    np.testing.assert_array_equal(enhanced[1], ndimage.morphological_gradient(enhanced[0].values, size=3))


class ForegroundOfVolumes(OfVolumes):
    """Foreground only."""

    def forward(self, image):
        return super().forward(image)[:, :1]


@pytest.fixture
def enhancer_of_volumes(folder):
    volumes(folder)
    for tensor in (*folder.rdf["inputs"], *folder.rdf["outputs"]):
        tensor["axes"][1]["channel_names"] = ["foreground"]
    del folder.rdf["config"]
    values = image_of()[:, :, None].repeat(64, axis=2)
    put_network(folder, seeded(ForegroundOfVolumes()), torch.from_numpy(values))
    renew_test(folder, values)
    return load_enhancer(folder.save())


def test_one_of_volumes_takes_those_of_a_3d_forest(enhancer_of_volumes, caplog):
    assert (enhancer_of_volumes.contract.ndim, enhancer_of_volumes.contract.roles) == (3, ("foreground",))
    (record,) = caplog.get_records("setup")
    assert "the foreground of a 3D forest, from 0 to 1 (not preprocessed); which features" in record.getMessage()
    with pytest.raises(ContractMismatchError, match="takes 3D probabilities; the forest delivers 2D"):
        enhancer_of_volumes.enhance(probabilities(), enhancer_of_volumes.contract.model_copy(update={"ndim": 2}))


@pytest.mark.parametrize("rescale", [1.0, 0.5])
def test_the_boundary_of_a_volume_is_one_in_3d(enhancer_of_volumes, rescale):
    maps = xr.concat([probabilities(24), probabilities(24).isel(y=slice(None, None, -1))], dim="z")
    maps = maps.transpose("channel", "z", "y", "x")
    enhanced = enhancer_of_volumes.enhance(maps, enhancer_of_volumes.contract, rescale=rescale)
    assert enhanced.dims == ("channel", "z", "y", "x")
    assert (enhanced.shape, enhanced.channel.values.tolist()) == ((2, 2, 24, 24), ["foreground", "boundary"])
    if rescale == 1:
        np.testing.assert_array_equal(enhanced[1], ndimage.morphological_gradient(enhanced[0].values, size=(3, 3, 3)))


class ThreeChannels(TwoLevels):
    """Takes a colour image."""

    def forward(self, image):
        return super().forward(image.mean(dim=1, keepdim=True))


def test_more_channels_than_a_forest_has_are_refused(folder):
    put_network(folder, seeded(ThreeChannels()), torch.rand(1, 3, 64, 64))
    del folder.rdf["config"]
    folder.rdf["inputs"][0]["axes"][1]["channel_names"] = ["r", "g", "b"]
    renew_test(folder, np.concatenate([image_of(64)] * 3, axis=1))
    with pytest.raises(PackageError, match=r"takes 3 channels and gives 2; expected 1 or 2"):
        load_enhancer(folder.save())


def test_other_channels_than_it_has_are_refused(folder):
    put_network(folder, seeded(TwoLevels()), torch.rand(1, 1, 64, 64))
    del folder.rdf["config"]
    folder.rdf["outputs"][0]["axes"][1]["channel_names"] = ["a", "b", "c"]
    with pytest.raises(PackageError, match="shape"):
        load_enhancer(folder.save())


def test_background_and_foreground_are_fed_in_this_order(folder):
    put_network(folder, seeded(TwoChannels()), torch.rand(1, 2, 64, 64))
    del folder.rdf["config"]
    folder.rdf["inputs"][0]["axes"][1]["channel_names"] = ["background", "foreground"]
    values = np.concatenate([image_of(64), image_of(64)], axis=1)
    renew_test(folder, values)
    enhancer = load_enhancer(folder.save())
    assert enhancer.contract.roles == ("background", "foreground")
    assert enhancer.contract.classes[1] == ClassContract(name="foreground", role="foreground")
    assert enhancer.enhance(probabilities(), enhancer.contract).shape == (2, 96, 96)


def test_its_code_is_not_run_unless_it_is_trusted(folder):
    enhancer_of_the_zoo(folder)
    del folder.rdf["weights"]["torchscript"]
    with pytest.raises(UnsafePackageError, match=r"network\.py of the package.*--trust-code"):
        load_enhancer(folder.save())
    with pytest.raises(PackageError, match="cannot be built"):  # the class in it takes no arguments
        load_enhancer(folder.save(), trust_code=True)
