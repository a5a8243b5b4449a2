"""Random training patches: patch number n is always the same patch, whoever asks for it and when.

Training can therefore stop, resume and go on with the very patches that it would have seen.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import Affined, Compose, Flipd
from torch.utils.data import Dataset

from s2d_zoo.errors import ConfigError, UserInputError

Sample: TypeAlias = dict[str, torch.Tensor]

IMAGE: Final = "image"
TARGET: Final = "target"
WEIGHT: Final = "weight"

#: of a patch, at most
_SHEAR: Final = 0.1
#: of the logarithm of the zoom along y and x, at most, in opposite directions
_ASPECT: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSource:
    """One image to cut patches from.

    Attributes:
        image: channel y x, float32.
        target: channel y x; float32 values to learn, or whatever ``finish`` turns into them.
        weight: 1 y x, float32, how much each pixel counts; 0 = not at all. All count fully where ``None``.
        focus: flat indices of the pixels around which half of the patches are centred; all are random where empty.
    """

    image: np.ndarray[Any, Any]
    target: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any] | None
    focus: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings:
    """How patches are cut and varied.

    Raises:
        ConfigError: if a share does not lie in [0, 1], or a factor is absurd.
    """

    size: int = 128  #: px
    #: factors by which objects may shrink and grow; drawn as logarithms
    zoom: tuple[float, float] = (0.6, 1.9)
    #: share of patches that are only flipped and turned by right angles: what is interpolated is smoothed too, and the
    #: images to which a network is applied are not
    upright: float = 0.0
    #: interpolate targets (soft labels); labels of instances are not interpolated
    soft_target: bool = False
    augment: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.upright <= 1:
            msg = f"The share of upright patches must lie in [0, 1], got {self.upright}."
            raise ConfigError(msg)
        if not 0 < self.zoom[0] <= self.zoom[1] < math.inf:
            msg = f"The zoom of patches must be two factors above 0, the smaller one first, got {list(self.zoom)}."
            raise ConfigError(msg)


class PatchDataset(Dataset[Sample]):
    """Patches without end: ``dataset[n]`` is patch number n, made from its own seed.

    Args:
        sources: images of one or several sizes, all with the same channels.
        settings: size and augmentation.
        finish: last change to a sample, e.g. noise on its image; gets the sample and a generator.
        seed: another seed gives other patches.

    Raises:
        UserInputError: if there are no sources.
    """

    def __init__(
        self,
        sources: Sequence[PatchSource],
        settings: PatchSettings,
        *,
        finish: Callable[[Sample, np.random.Generator], Sample] | None = None,
        seed: int = 0,
    ) -> None:
        if not sources:
            msg = "There is nothing to train on: no image was given."
            raise UserInputError(msg)
        self._sources = sources
        self._settings = settings
        self._finish = finish
        self._seed = seed

    def __getitem__(self, index: int) -> Sample:
        generator = np.random.default_rng((self._seed, index))
        source = self._sources[int(generator.integers(len(self._sources)))]
        size = self._settings.size
        if not self._settings.augment:
            sample = _fill(_cut(source, size, generator), size)
        elif self._settings.upright and generator.random() < self._settings.upright:
            sample = _turn_and_flip(_fill(_cut(source, size, generator), size), generator)
        else:
            change = _Change.draw(self._settings, generator)
            sample = change.apply(_cut(source, change.window, generator), self._settings)
        patch = {key: torch.as_tensor(np.asarray(values)) for key, values in sample.items()}
        if WEIGHT not in patch:
            patch[WEIGHT] = torch.ones_like(patch[IMAGE][:1])
        return self._finish(patch, generator) if self._finish else patch


@contextmanager
def without_metadata() -> Iterator[None]:
    """Let monai work on plain tensors: its book-keeping takes four times as long as the work itself."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """How one patch is turned, flipped, sheared and resized."""

    angle: float
    flip: bool
    shear: tuple[float, float]
    zoom: tuple[float, float]  #: y, x
    window: int  #: px, side of what it needs of the image, and no more: patches are to come from everywhere in it

    @classmethod
    def draw(cls, settings: PatchSettings, generator: np.random.Generator) -> "_Change":
        low, high = np.log(settings.zoom)
        zoom, aspect = generator.uniform(low, high), generator.uniform(-_ASPECT, _ASPECT)
        factors = np.exp(np.clip([zoom + aspect, zoom - aspect], low, high))
        angle = float(generator.uniform(-np.pi, np.pi))
        side = abs(np.cos(angle)) + abs(np.sin(angle)) + _SHEAR  # of the upright square around the turned one
        return cls(
            angle=angle,
            flip=bool(generator.random() < 0.5),
            shear=(float(generator.uniform(-_SHEAR, _SHEAR)), float(generator.uniform(-_SHEAR, _SHEAR))),
            zoom=(float(factors[0]), float(factors[1])),
            window=int(np.ceil(settings.size * side / factors.min())),
        )

    def apply(self, sample: Mapping[str, np.ndarray[Any, Any]], settings: PatchSettings) -> dict[str, Any]:
        """The patch around the middle; beyond the image's borders it is mirrored."""
        keys = tuple(sample)
        modes = {IMAGE: "bilinear", TARGET: "bilinear" if settings.soft_target else "nearest", WEIGHT: "nearest"}
        steps: list[Any] = [Flipd(keys, spatial_axis=0)] if self.flip else []
        steps.append(
            Affined(
                keys,
                spatial_size=(settings.size, settings.size),
                rotate_params=self.angle,
                shear_params=self.shear,
                scale_params=tuple(1 / zoom for zoom in self.zoom),  # of the sampling grid: the inverse of the objects'
                mode=[modes[key] for key in keys],
                padding_mode="reflection",
            )
        )
        with without_metadata():
            return dict(Compose(steps)(dict(sample)))


def _cut(source: PatchSource, size: int, generator: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """A square window, or as much of it as the image has."""
    height, width = source.image.shape[1:]
    if len(source.focus) and generator.random() < 0.5:
        centre = np.array(divmod(int(source.focus[generator.integers(len(source.focus))]), width))
    else:
        centre = np.array([generator.integers(height), generator.integers(width)])
    room = np.maximum(np.array([height, width]) - size, 0)
    y, x = np.clip(centre - size // 2, 0, room)
    window = (slice(None), slice(y, y + size), slice(x, x + size))
    planes = {IMAGE: source.image, TARGET: source.target, WEIGHT: source.weight}
    return {key: values[window].astype(np.float32) for key, values in planes.items() if values is not None}


def _turn_and_flip(sample: Mapping[str, np.ndarray[Any, Any]], generator: np.random.Generator) -> dict[str, Any]:
    """One of the eight ways in which a square can lie; no value changes."""
    quarters, flip = int(generator.integers(4)), bool(generator.random() < 0.5)
    turned = {key: np.rot90(values, quarters, axes=(1, 2)) for key, values in sample.items()}
    return {key: np.ascontiguousarray(values[:, ::-1] if flip else values) for key, values in turned.items()}


def _fill(sample: Mapping[str, np.ndarray[Any, Any]], size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Mirror outwards what is smaller than a patch."""
    height, width = sample[IMAGE].shape[1:]
    short = [(0, 0), (0, size - height), (0, size - width)]
    return {key: np.pad(values, short, mode="symmetric") for key, values in sample.items()}
