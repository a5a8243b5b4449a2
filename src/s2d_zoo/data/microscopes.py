"""One labelled image as several microscopes might have taken it: other pixel sizes, sharpness, noise and contrast.

An enhancer never sees images, but what forests make of them; a forest's filters have fixed widths in px, so that the
same structures at another pixel size give other errors. Forests on such views show these to the enhancer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.errors import ConfigError

#: percentiles of grey values between which an image's contrast is measured
_LOW, _HIGH = 1, 99
#: px at the new size per px at the old one, for which the image is smoothed before it is shrunk
_ANTI_ALIASING: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopeVariation:
    """How far microscopes differ from the one that took the source images. The default is not at all.

    Raises:
        ConfigError: for a factor that is not positive, or a negative strength.
    """

    zoom: tuple[float, float] = (1.0, 1.0)  #: objects are this many times as large, in px; drawn as a logarithm
    blur: float = 0.0  #: px, largest standard deviation of a Gaussian
    noise: float = 0.0  #: largest standard deviation of Gaussian noise, in units of the image's contrast
    gamma: float = 0.0  #: standard deviation of the logarithm of an exponent of the grey values

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1] or min(self.blur, self.noise, self.gamma) < 0:
            msg = f"Zoom must be two positive factors in rising order, and strengths not negative, got {self}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Microscope:
    """What one microscope does to every image."""

    zoom: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    gamma: float = 1.0

    @classmethod
    def draw(cls, variation: MicroscopeVariation, generator: np.random.Generator) -> Self:
        """A random microscope; half of them add no blur, half no noise."""
        low, high = np.log(variation.zoom)
        return cls(
            zoom=round(float(np.exp(generator.uniform(low, high))), 4),
            blur=round(float(variation.blur * max(0.0, generator.uniform(-1, 1))), 4),
            noise=round(float(variation.noise * max(0.0, generator.uniform(-1, 1))), 4),
            gamma=round(float(np.exp(generator.normal(0, variation.gamma))), 4),
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """As ``dataclasses.asdict`` wrote it."""
        return cls(**{key: float(value) for key, value in found.items()})

    def look_at(self, entry: LabelledImage, *, seed: int) -> LabelledImage:
        """The image and its labels as this microscope shows them.

        Args:
            entry: image (channel y x) and labels (y x).
            seed: of the noise.

        Returns:
            The same where nothing changes; else the image as float32, and both resized.
        """
        if self == Microscope():
            return entry
        image = entry.image.values.astype(np.float32)
        image = np.stack([_resize(plane, self.zoom) for plane in image])
        if self.blur:
            image = ndimage.gaussian_filter(image, (0, self.blur, self.blur))
        low, high = (np.percentile(image, percent, axis=(1, 2), keepdims=True) for percent in (_LOW, _HIGH))
        contrast = np.maximum(high - low, np.finfo(np.float32).tiny)
        if self.gamma != 1.0:
            darkest = image.min(axis=(1, 2), keepdims=True)
            image = darkest + contrast * ((image - darkest) / contrast) ** self.gamma
        if self.noise:
            noise = np.random.default_rng(seed).normal(0, self.noise, image.shape)
            image = image + contrast * noise
        attrs = dict(entry.image.attrs)
        if attrs.get("pixel_size") is not None:
            attrs["pixel_size"] = attrs["pixel_size"].at_zoom(self.zoom)
        return LabelledImage(
            name=entry.name,
            image=xr.DataArray(image.astype(np.float32), dims=entry.image.dims, attrs=attrs),
            labels=self.resize_labels(entry.labels),
            dataset=entry.dataset,
        )

    def resize_labels(self, labels: xr.DataArray) -> xr.DataArray:
        """Labels (y x) at the size of this microscope's images; no label is interpolated."""
        if self.zoom == 1.0:
            return labels
        shape = _resized_shape(labels.shape, self.zoom)
        zoom = [new / old for new, old in zip(shape, labels.shape, strict=True)]
        values = ndimage.zoom(labels.values, zoom, order=0, mode="nearest", grid_mode=True)
        return xr.DataArray(values, dims=labels.dims)


def _resize(plane: np.ndarray[Any, Any], zoom: float) -> np.ndarray[Any, Any]:
    if zoom == 1.0:
        return plane
    if zoom < 1:  # what is finer than the new pixels must not come back as a pattern
        plane = ndimage.gaussian_filter(plane, _ANTI_ALIASING * np.sqrt(1 / zoom**2 - 1))
    factors = [new / old for new, old in zip(_resized_shape(plane.shape, zoom), plane.shape, strict=True)]
    resized: np.ndarray[Any, Any] = ndimage.zoom(plane, factors, order=1, mode="nearest", grid_mode=True)
    return resized


def _resized_shape(shape: tuple[int, ...], zoom: float) -> tuple[int, ...]:
    return tuple(max(1, round(size * zoom)) for size in shape)
