"""Training patches of an enhancer."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT, PatchSettings
from s2d_zoo.enhancer.dataset import ProbabilityMap, ProbabilityVariation, make_patches
from s2d_zoo.errors import ConfigError, UserInputError

SETTINGS = PatchSettings(size=32)
STILL = PatchSettings(size=32, augment=False)


def probability_map(seed=0, height=48, width=60):
    generator = np.random.default_rng(seed)
    labels = np.zeros((height, width), dtype=np.uint16)
    labels[8:20, 10:24] = 1
    labels[20:34, 10:30] = 2
    noise = generator.normal(0, 40, labels.shape)
    probabilities = np.clip(np.where(labels > 0, 200, 50) + noise, 0, 255).astype(np.uint8)
    return ProbabilityMap(probabilities=probabilities, labels=xr.DataArray(labels, dims=("y", "x")))


@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, 10**6), seed=st.integers(0, 100))
def test_every_patch_is_a_probability_with_binary_targets_that_all_count(index, seed):
    patch = make_patches([probability_map(0), probability_map(1, 20, 24)], SETTINGS, seed=seed)[index]
    assert patch[IMAGE].shape == (1, 32, 32)
    assert patch[TARGET].shape == (2, 32, 32)
    assert patch[IMAGE].dtype == patch[TARGET].dtype == torch.float32
    assert patch[IMAGE].min() >= 0
    assert patch[IMAGE].max() <= 1
    assert set(patch[TARGET].unique().tolist()) <= {0.0, 1.0}
    assert (patch[WEIGHT] == 1).all()


@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 10**6))
def test_a_patch_depends_on_its_number_and_the_seed_only(index):
    maps = [probability_map()]
    first, other = make_patches(maps, SETTINGS, seed=1), make_patches(maps, SETTINGS, seed=1)
    _ = other[index + 1], other[0]  # what was asked before plays no part
    for key in (IMAGE, TARGET, WEIGHT):
        assert torch.equal(first[index][key], other[index][key])
    assert not torch.equal(first[index][IMAGE], make_patches(maps, SETTINGS, seed=2)[index][IMAGE])


def test_patches_differ_from_each_other():
    patches = make_patches([probability_map()], SETTINGS, seed=0)
    assert not torch.equal(patches[0][IMAGE], patches[1][IMAGE])


def test_without_augmentation_a_patch_is_cut_out_as_it_is():
    one = probability_map()
    patch = make_patches([one], STILL, seed=0)[3][IMAGE][0].numpy()
    whole = one.probabilities.astype(np.float32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32)).reshape(-1, 32, 32)
    assert (windows == patch).all(axis=(1, 2)).any()


def test_augmentation_varies_the_probabilities_beyond_what_moving_does():
    flat = ProbabilityMap(
        probabilities=np.full((64, 64), 153, dtype=np.uint8),
        labels=xr.DataArray(np.zeros((64, 64), dtype=np.uint8), dims=("y", "x")),
    )
    varied = [float(make_patches([flat], SETTINGS, seed=0)[index][IMAGE].mean()) for index in range(30)]
    assert np.std(varied) > 0.03
    assert np.mean(varied) == pytest.approx(0.6, abs=0.1)
    still = make_patches([flat], STILL, seed=0)
    assert all(torch.allclose(still[index][IMAGE], torch.tensor(0.6)) for index in range(3))


def test_boundaries_are_as_thin_in_the_patch_whatever_its_zoom():
    patches = make_patches([probability_map()], SETTINGS, seed=0)
    for index in range(10):
        foreground, boundary = patches[index][TARGET]
        if boundary.any():
            assert boundary.sum() < foreground.numel() / 3
            assert (boundary * foreground).any()


def test_no_maps_are_refused():
    with pytest.raises(UserInputError, match="nothing to train on"):
        make_patches([], SETTINGS, seed=0)


def test_without_variation_the_probabilities_are_only_moved():
    nothing = ProbabilityVariation(temperature=0, offset=0, drift=0, blur=0, noise=0)
    flat = ProbabilityMap(probabilities=np.full((48, 60), 102, np.uint8), labels=probability_map().labels)
    for index in range(8):
        assert make_patches([flat], SETTINGS, variation=nothing, seed=0)[index][IMAGE].numpy() == pytest.approx(0.4)
    varied = make_patches([flat], SETTINGS, seed=0)
    assert any(float(varied[index][IMAGE].std()) > 0.01 for index in range(8))


def test_sharpness_makes_forests_surer_than_they_are():
    sure = ProbabilityVariation(temperature=0, sharpness=1.0, offset=0, drift=0, blur=0, noise=0)
    maps = [
        ProbabilityMap(probabilities=np.full((48, 60), value, np.uint8), labels=probability_map().labels)
        for value in (102, 153)
    ]
    below, above = (make_patches([one], SETTINGS, variation=sure, seed=0) for one in maps)
    lowest = min(float(below[index][IMAGE].min()) for index in range(8))
    highest = max(float(above[index][IMAGE].max()) for index in range(8))
    assert lowest == pytest.approx(0.4**np.e / (0.4**np.e + 0.6**np.e), abs=1e-5)
    assert highest == pytest.approx(1 - lowest, abs=1e-5)


def test_objects_may_be_missing_in_the_target_but_none_is_added():
    one = probability_map()
    whole = make_patches([one], SETTINGS, seed=0)
    some = make_patches([one], SETTINGS, variation=ProbabilityVariation(missing=0.5), seed=0)
    shares = [float(some[index][TARGET][0].sum() / whole[index][TARGET][0].sum().clamp_min(1)) for index in range(12)]
    assert 0 <= min(shares) < max(shares) <= 1
    assert all((some[index][TARGET][0] <= whole[index][TARGET][0]).all() for index in range(12))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"noise": -1}, {"missing": 1.0}, {"missing": -0.1}, {"sharpness": float("nan")}],
    ids=str,
)
def test_variations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="must not be negative"):
        ProbabilityVariation(**wrong)
