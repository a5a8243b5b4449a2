"""Simulated nuclei: reproducible, and as the simulation describes them."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.errors import ConfigError

SMALL = NucleiSimulation(size=80, n_nuclei=5, diameter=20, photons=40)


def contrast(simulation, seed=0):
    """Mean of nuclei over background, in standard deviations of the background."""
    image, instances = simulate_nuclei(simulation, seed=seed)
    values, inside = image.values[0].astype(float), instances.values > 0
    return (values[inside].mean() - values[~inside].mean()) / values[~inside].std()


@given(seed=st.integers(0, 2**16), size=st.sampled_from([40, 64, 97]))
@settings(deadline=None, max_examples=12)
def test_any_simulation_gives_an_image_and_its_instances(seed, size):
    simulation = NucleiSimulation.random(size=size, seed=seed)
    image, instances = simulate_nuclei(simulation, seed=seed)
    assert (image.dims, image.shape, image.dtype) == (("channel", "y", "x"), (1, size, size), np.uint16)
    assert (instances.dims, instances.shape, instances.dtype) == (("y", "x"), (size, size), np.uint16)
    assert 1 <= instances.max() <= simulation.n_nuclei
    assert image.values.std() > 0


@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_random_simulations_vary_within_their_limits(seed):
    simulation = NucleiSimulation.random(size=256, seed=seed)
    assert 14 <= simulation.diameter <= 70
    assert simulation.n_nuclei >= 2
    assert NucleiSimulation.random(size=256, seed=seed) == simulation
    assert NucleiSimulation.random(size=64, seed=seed).diameter <= 32


def test_the_seed_decides_everything():
    found = [b"".join(array.values.tobytes() for array in simulate_nuclei(SMALL, seed=seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_nuclei_have_the_diameter_asked_for():
    simulation = NucleiSimulation(size=256, n_nuclei=25, diameter=28)
    _, instances = simulate_nuclei(simulation, seed=3)
    areas = np.bincount(instances.values.ravel())[1:]
    diameters = 2 * np.sqrt(areas[areas > 0] / np.pi)
    # aspects down to 0.7, and nuclei cut by the border, make them smaller
    assert 0.75 * 28 < np.median(diameters) < 1.05 * 28


def test_nuclei_are_brighter_than_the_background():
    assert contrast(SMALL) > 1


@pytest.mark.parametrize(
    "worse", [{"photons": 2.0}, {"background": 2.0}, {"read_noise": 60.0}, {"clutter": 2.0}], ids=str
)
def test_what_makes_images_worse_makes_them_worse(worse):
    better = replace(SMALL, background=0.1, clutter=0.0)
    assert contrast(replace(better, **worse)) < contrast(better)


def test_blur_takes_away_what_is_fine():
    sharp, blurred = (
        ndimage.laplace(simulate_nuclei(replace(SMALL, photons=5000, blur=blur), seed=0)[0].values[0].astype(float))
        for blur in (0.5, 3.0)
    )
    assert blurred.std() < sharp.std()


def test_low_noise_is_less_noisy_than_high_noise():
    assert contrast(NucleiSimulation.low_noise(size=96)) > contrast(NucleiSimulation.high_noise(size=96))


def test_nuclei_without_room_are_left_out():
    crowded = NucleiSimulation(size=48, n_nuclei=60, diameter=20)
    _, instances = simulate_nuclei(crowded, seed=0)
    assert 1 < len(np.unique(instances)) - 1 < 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "must be positive"),
        ({"n_nuclei": 0}, "must be positive"),
        ({"photons": -1.0}, "must be positive"),
        ({"blur": -1.0}, "not negative"),
        ({"clutter": -0.1}, "not negative"),
        ({"size": 50, "diameter": 26.0}, "too small for nuclei of 26"),
    ],
    ids=str,
)
def test_what_cannot_be_simulated_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        NucleiSimulation(**wrong)


def test_images_through_one_microscope_share_their_uneven_light():
    dark = NucleiSimulation(size=64, n_nuclei=1, diameter=4.0, photons=1000.0, background=1.0, read_noise=0.0)
    first, second, other = (
        simulate_nuclei(dark, seed=seed, light_seed=light)[0].values[0].astype(float)
        for seed, light in ((1, 5), (2, 5), (3, 6))
    )
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.9
