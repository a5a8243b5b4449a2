"""Simulated fluorescence nuclei with ground truth, for the demo, the tests, and as extra training data."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.errors import ConfigError
from s2d_zoo.types import CHANNEL

#: places tried for each nucleus before it is left out
_TRIES: Final = 40
#: grey value of one photon
_GAIN: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NucleiSimulation:
    """What the simulated microscope and sample look like.

    Raises:
        ConfigError: if the image is smaller than two nuclei, or a value is not positive.
    """

    size: int = 256  #: px, side of the square image
    n_nuclei: int = 30
    diameter: float = 28.0  #: px, mean; single nuclei differ by 15 %
    photons: float = 30.0  #: mean signal of a nucleus; fewer photons, more noise
    background: float = 0.35  #: background light, relative to the signal
    blur: float = 1.5  #: px, sigma of the point spread function
    read_noise: float = 2.0  #: grey values, standard deviation
    clutter: float = 0.0  #: brightness of debris and out-of-focus cells, relative to the nuclei

    def __post_init__(self) -> None:
        positive = (self.size, self.n_nuclei, self.diameter, self.photons)
        if min(positive) <= 0 or min(self.background, self.blur, self.read_noise, self.clutter) < 0:
            msg = f"Sizes and photons must be positive, and background, blur and noise not negative: {self}."
            raise ConfigError(msg)
        if self.size < 2 * self.diameter:
            msg = f"An image of {self.size} px is too small for nuclei of {self.diameter} px."
            raise ConfigError(msg)

    @classmethod
    def low_noise(cls, *, size: int = 256) -> "NucleiSimulation":
        """A good day at the microscope."""
        return cls(size=size, n_nuclei=size**2 // 2200, photons=60.0, background=0.15, read_noise=1.0)

    @classmethod
    def high_noise(cls, *, size: int = 256) -> "NucleiSimulation":
        """Hardly any light, much background."""
        return cls(size=size, n_nuclei=size**2 // 2200, photons=5.0, background=0.8, read_noise=4.0)

    @classmethod
    def random(cls, *, size: int = 256, seed: int) -> "NucleiSimulation":
        """Any sample and microscope: nuclei of 14 to 70 px, sparse to crowded, from hardly any light to plenty.

        In small images nuclei measure half of the image at most.
        """
        generator = np.random.default_rng(seed)
        diameter = min(float(np.exp(generator.uniform(np.log(14), np.log(70)))), size / 2)
        coverage = generator.uniform(0.05, 0.5)
        return cls(
            size=size,
            n_nuclei=max(2, round(coverage * size**2 / (np.pi / 4 * diameter**2))),
            diameter=diameter,
            photons=float(np.exp(generator.uniform(np.log(2.5), np.log(60)))),
            background=float(generator.uniform(0.1, 1.2)),
            blur=float(generator.uniform(0.8, 2.5)),
            read_noise=float(generator.uniform(0.5, 6.0)),
            clutter=float(generator.uniform(0.0, 1.0)),
        )


def simulate_nuclei(
    simulation: NucleiSimulation, *, seed: int, light_seed: int | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Simulate one image.

    Nuclei are ellipses with a wavy outline and a patchy texture, of different brightness, some of them
    touching; on top come uneven background, blur, photon noise and camera noise.

    Args:
        simulation: sample and microscope.
        seed: decides everything that is random.
        light_seed: decides where the background is uneven; images through one microscope share it. When ``None``,
            ``seed`` decides that too.

    Returns:
        The image (channel y x, uint16) and its instances (y x, uint16, 0 = background).
    """
    generator = np.random.default_rng(seed)
    instances = np.zeros((simulation.size, simulation.size), dtype=np.uint16)
    for number in range(1, simulation.n_nuclei + 1):
        _place_nucleus(instances, number, simulation, generator)
    brightness = np.concatenate([[0.0], generator.lognormal(0.0, 0.25, simulation.n_nuclei)])[instances]
    texture = 1.0 + 0.25 * _smooth_noise(instances.shape, 2.5, generator)
    illumination = generator if light_seed is None else np.random.default_rng(light_seed)
    uneven = 1.0 + 0.35 * _smooth_noise(instances.shape, simulation.size / 4, illumination)
    light = ndimage.gaussian_filter(brightness * texture, simulation.blur) + simulation.background * uneven
    if simulation.clutter:
        light = light + simulation.clutter * _clutter(simulation, generator)
    detected = generator.poisson(np.clip(light, 0, None) * simulation.photons) * _GAIN
    detected = detected + generator.normal(100.0, simulation.read_noise, instances.shape)
    values = np.clip(np.round(detected), 0, np.iinfo(np.uint16).max).astype(np.uint16)
    return xr.DataArray(values[np.newaxis], dims=(CHANNEL, "y", "x")), xr.DataArray(instances, dims=("y", "x"))


def _place_nucleus(
    instances: np.ndarray[Any, Any], number: int, simulation: NucleiSimulation, generator: np.random.Generator
) -> None:
    """Draw a nucleus where there is room for at least 85 % of it, or leave it out."""
    for _ in range(_TRIES):
        mask, window = _nucleus(simulation, generator)
        free = mask & (instances[window] == 0)
        if free.sum() > 0.85 * mask.sum():
            instances[window][free] = number
            return


def _nucleus(
    simulation: NucleiSimulation, generator: np.random.Generator
) -> tuple[np.ndarray[Any, Any], tuple[slice, slice]]:
    """Mask of a random nucleus, and the window of the image that it lies in."""
    radius = simulation.diameter / 2 * generator.normal(1.0, 0.15)
    radius = float(np.clip(radius, simulation.diameter / 4, simulation.diameter))
    aspect = generator.uniform(0.7, 1.0)
    tilt = generator.uniform(0, np.pi)
    waves = generator.normal(0, [0.06, 0.04, 0.03])
    phases = generator.uniform(0, 2 * np.pi, 3)
    centre = generator.uniform(0, simulation.size, 2)
    reach = int(np.ceil(radius * 1.5))
    low = np.maximum(np.floor(centre).astype(int) - reach, 0)
    high = np.minimum(np.floor(centre).astype(int) + reach + 1, simulation.size)
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]] - centre[:, np.newaxis, np.newaxis]
    along, across = x * np.cos(tilt) + y * np.sin(tilt), (y * np.cos(tilt) - x * np.sin(tilt)) / aspect
    angle = np.arctan2(across, along)
    outline = radius * (
        1
        + sum(wave * np.cos((k + 2) * angle + phase) for k, (wave, phase) in enumerate(zip(waves, phases, strict=True)))
    )
    return np.hypot(along, across) < outline, (slice(low[0], high[0]), slice(low[1], high[1]))


def _clutter(simulation: NucleiSimulation, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Light from what is not a nucleus: small bright debris, and large dim cells out of focus."""
    light = np.zeros((simulation.size, simulation.size))
    kinds = (  # number, diameters relative to a nucleus, brightness, blur in px
        (simulation.n_nuclei, (0.1, 0.3), (0.4, 1.2), simulation.blur),
        (simulation.n_nuclei // 3, (0.8, 1.6), (0.2, 0.5), simulation.diameter / 6),
    )
    for count, diameters, strengths, blur in kinds:
        layer = np.zeros_like(light)
        for _ in range(count):
            diameter = max(2.0, simulation.diameter * generator.uniform(*diameters))
            mask, window = _nucleus(replace(simulation, diameter=min(diameter, simulation.size / 2)), generator)
            layer[window] = np.maximum(layer[window], mask * generator.uniform(*strengths))
        light += ndimage.gaussian_filter(layer, blur)
    return light


def _smooth_noise(shape: tuple[int, ...], sigma: float, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random field with standard deviation 1 and details of about ``sigma`` px."""
    noise = ndimage.gaussian_filter(generator.standard_normal(shape), sigma, mode="wrap")
    normalised: np.ndarray[Any, Any] = noise / noise.std()
    return normalised
