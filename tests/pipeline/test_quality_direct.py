"""The rival that is trained on raw images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.patches import IMAGE, TARGET, PatchSettings
from s2d_zoo.pipeline import quality_direct
from s2d_zoo.pipeline.quality_cells import load_measured
from s2d_zoo.pipeline.quality_direct import apply_direct, normalise, train_direct

from .quality_cases import nuclei, sources, tiny


@pytest.fixture(scope="module")
def measured(package):
    return load_measured(package)


@pytest.fixture(scope="module")
def trained(measured, tmp_path_factory):
    return train_direct(sources(), measured, tiny().direct, folder=tmp_path_factory.mktemp("direct"))


def test_brightness_and_contrast_of_an_image_do_not_count():
    image, _ = nuclei(1)
    expected = normalise(image)
    assert (expected.values.min(), expected.values.max(), expected.dtype) == (0, 1, np.float32)
    np.testing.assert_allclose(normalise(300 * image + 7).values, expected.values, atol=1e-5)
    assert np.percentile(expected, 1) == pytest.approx(0, abs=1e-6)


def test_colours_are_averaged_and_a_constant_image_is_dark():
    image, _ = nuclei(1)
    coloured = xr.concat([image, image, image], dim="channel")
    np.testing.assert_allclose(normalise(coloured).values, normalise(image).values, atol=1e-6)
    assert not normalise(xr.full_like(image, 5)).values.any()


def test_the_network_is_as_large_as_the_enhancers(measured, trained):
    ours = {name: values.shape for name, values in trained.state_dict().items()}
    theirs = {name: values.shape for name, values in measured.enhancer.model.state_dict().items()}
    assert ours == theirs


def test_the_same_seed_trains_the_same_network_and_another_one_another(measured, trained, tmp_path):
    again = train_direct(sources(), measured, tiny().direct, folder=tmp_path / "again")
    direct = tiny().direct
    other = train_direct(
        sources(), measured, replace(direct, training=replace(direct.training, seed=1)), folder=tmp_path / "other"
    )
    for name, values in trained.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
    assert not torch.equal(trained.head.weight, other.head.weight)


def test_images_are_normalised_before_the_network_sees_them(trained):
    image, _ = nuclei(2)
    said = apply_direct(trained, 50 * image + 3)
    assert said.dims == ("channel", "y", "x")
    np.testing.assert_allclose(said.values, apply_network(trained, normalise(image)).values, atol=1e-4)


def test_a_rescaled_image_comes_back_at_its_size(trained):
    image, _ = nuclei(2)
    said = apply_direct(trained, image[:, :50, :61], rescale=1.7)
    assert said.shape == (2, 50, 61)
    assert (said.values.min() >= 0, said.values.max() <= 1) == (True, True)
    assert np.abs(said.values - apply_direct(trained, image[:, :50, :61]).values).max() > 1e-4


def test_patches_are_varied_in_training_and_not_in_validation():
    image, labels = nuclei(3)
    entry = LabelledImage(name="a", image=image, labels=labels)
    varied = quality_direct._make_patches([entry], PatchSettings(size=32, zoom=(1.0, 1.0)), seed=0)
    still = quality_direct._make_patches([entry], PatchSettings(size=32, augment=False), seed=0)
    known = {round(float(value), 5) for value in normalise(image).values.ravel()}
    assert {round(float(value), 5) for value in still[0][IMAGE].ravel()} <= known
    patches = [varied[number] for number in range(12)]
    assert all(0 <= float(one[IMAGE].min()) <= float(one[IMAGE].max()) <= 1 for one in patches)
    assert len({round(float(one[IMAGE].mean()), 4) for one in patches}) == 12
    assert all(one[TARGET].shape == (2, 32, 32) and set(one[TARGET].unique().tolist()) <= {0, 1} for one in patches)
    assert torch.equal(varied[5][IMAGE], varied[5][IMAGE])
