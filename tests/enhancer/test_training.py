"""Training an enhancer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.enhancer import training
from s2d_zoo.enhancer.dataset import ProbabilityMap, ProbabilityVariation
from s2d_zoo.enhancer.training import EnhancerSettings, train_enhancer
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.trainer.losses import weighted_bce_and_dice


@pytest.fixture
def maps(nuclei):
    foreground = np.where(nuclei[1].values > 0, 200, 50).astype(np.uint8)
    return [ProbabilityMap(probabilities=foreground, labels=xr.DataArray(nuclei[1].values, dims=("y", "x")))]


@pytest.fixture(autouse=True)
def few_validation_patches(monkeypatch):
    monkeypatch.setattr(training, "_VALIDATION_PATCHES", 4)


def tiny(**changes):
    return EnhancerSettings(
        features=2,
        depth=2,
        patches=PatchSettings(size=32),
        training=TrainingSettings(steps=4, steps_per_epoch=2, batch_size=2, device="cpu", **changes),
    )


def test_the_same_seed_gives_the_same_enhancer(tmp_path, maps):
    first, second = (train_enhancer(maps, maps, tiny(), folder=tmp_path / name) for name in "ab")
    torch.testing.assert_close(first.model.state_dict(), second.model.state_dict(), rtol=0, atol=0)
    assert first.validation_loss == second.validation_loss
    assert first.steps == 4


def test_another_seed_gives_another_enhancer(tmp_path, maps):
    first, second = (train_enhancer(maps, maps, tiny(seed=seed), folder=tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(first.model.head.weight, second.model.head.weight)


def test_an_enhancer_takes_probabilities_of_one_class_around_one_half(tmp_path, maps):
    model = train_enhancer(maps, maps, tiny(), folder=tmp_path).model
    assert model.input_offset.flatten().tolist() == [0.5]
    assert model(torch.rand(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_training_needs_maps_to_learn_from_and_maps_to_stop_by(tmp_path, maps):
    with pytest.raises(UserInputError):
        train_enhancer([], maps, tiny(), folder=tmp_path)
    with pytest.raises(UserInputError):
        train_enhancer(maps, [], tiny(), folder=tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"features": 0}, {"boundary": -1}, {"depth": 0}, {"depth": 3, "patches": PatchSettings(size=20)}]
)
def test_a_network_that_cannot_be_built_is_refused_at_once(wrong):
    with pytest.raises(ConfigError):
        EnhancerSettings(**wrong)


def test_the_boundary_counts_as_much_as_it_is_said_to():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 8, 8, generator=generator, requires_grad=True)
    target = (torch.rand(2, 2, 8, 8, generator=generator) > 0.5).float()
    weight = torch.ones(2, 1, 8, 8)
    both = training.ForegroundAndBoundary(1.0)(logits, target, weight)
    torch.testing.assert_close(both, weighted_bce_and_dice(logits, target, weight))
    training.ForegroundAndBoundary(0.0)(logits, target, weight).backward()
    assert logits.grad[:, 1].abs().max() == 0
    assert logits.grad[:, 0].abs().min() > 0


def test_a_network_may_be_limited_in_width(tmp_path, maps):
    settings = replace(tiny(), max_features=3)
    model = train_enhancer(maps, maps, settings, folder=tmp_path).model
    assert [block[0].out_channels for block in model.encoder] == [2, 3, 3]


def test_layers_in_bfloat16_give_weights_in_float32_as_they_are_stored_elsewhere(tmp_path, maps):
    usual = train_enhancer(maps, maps, tiny(), folder=tmp_path / "usual").model
    model = train_enhancer(maps, maps, tiny(precision="bfloat16"), folder=tmp_path / "half").model
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            assert values.dtype == torch.float32
        assert values.is_contiguous()
        assert values.stride() == usual.state_dict()[name].stride()
    assert not torch.equal(model.head.weight, usual.head.weight)
    torch.testing.assert_close(model.head.weight, usual.head.weight, rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"variation": ProbabilityVariation(noise=0)},
        {"boundary": 0.5},
        {"patches": PatchSettings(size=32, zoom=(0.9, 1))},
    ],
    ids=["variation", "boundary", "patches"],
)
def test_weights_of_other_settings_are_not_taken_for_those_that_were_asked_for(tmp_path, maps, change):
    train_enhancer(maps, maps, tiny(), folder=tmp_path)
    with pytest.raises(ConfigError, match="with other settings"):
        train_enhancer(maps, maps, replace(tiny(), **change), folder=tmp_path)


def test_weights_of_other_maps_are_not_taken_either(tmp_path, maps):
    train_enhancer(maps, maps, tiny(), folder=tmp_path)
    other = [replace(maps[0], probabilities=255 - maps[0].probabilities)]
    with pytest.raises(ConfigError, match="with other validation maps"):
        train_enhancer(maps, other, tiny(), folder=tmp_path)
    with pytest.raises(ConfigError, match="with other maps"):
        train_enhancer(other, maps, tiny(), folder=tmp_path)
