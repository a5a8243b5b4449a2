"""Random training patches: patch number n is always the same patch, whoever asks for it and when.

Training can therefore stop, resume and go on with the very patches that it would have seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import Compose, RandAffined, RandFlipd
from torch.utils.data import Dataset

from s2d_zoo.errors import UserInputError

Sample: TypeAlias = dict[str, torch.Tensor]

IMAGE: Final = "image"
TARGET: Final = "target"
WEIGHT: Final = "weight"


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
    """How patches are cut and varied."""

    size: int = 128  #: px
    #: factors by which objects may shrink and grow
    zoom: tuple[float, float] = (0.6, 1.9)
    #: interpolate targets (soft labels); labels of instances are not interpolated
    soft_target: bool = False
    augment: bool = True


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
        self._augment = _augmentation(settings) if settings.augment else None

    def __getitem__(self, index: int) -> Sample:
        generator = np.random.default_rng((self._seed, index))
        source = self._sources[int(generator.integers(len(self._sources)))]
        margin = self._settings.zoom[0] if self._settings.augment else 1.0
        window = int(np.ceil(self._settings.size / min(1.0, margin)))
        sample = _cut(source, window, generator)
        if self._augment is not None:
            sample = _vary(self._augment, sample, generator)
        patch = {key: torch.as_tensor(np.asarray(values)) for key, values in sample.items()}
        if WEIGHT not in patch:
            patch[WEIGHT] = torch.ones_like(patch[IMAGE][:1])
        return self._finish(patch, generator) if self._finish else patch


def _vary(augment: Compose, sample: Mapping[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    augment.set_random_state(seed=int(generator.integers(2**31)))
    with without_metadata():
        return dict(augment(sample))


@contextmanager
def without_metadata() -> Iterator[None]:
    """Let monai work on plain tensors: its book-keeping takes four times as long as the work itself."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _augmentation(settings: PatchSettings) -> Compose:
    keys = (IMAGE, TARGET, WEIGHT)
    # monai scales the sampling grid, so its factors are the inverse of the objects'
    low, high = 1 / settings.zoom[1] - 1, 1 / settings.zoom[0] - 1
    return Compose(
        [
            RandFlipd(keys, prob=0.5, spatial_axis=0, allow_missing_keys=True),
            RandAffined(
                keys,
                spatial_size=(settings.size, settings.size),
                prob=1.0,
                rotate_range=np.pi,
                shear_range=0.1,
                scale_range=((low, high), (low, high)),  # y, x; two numbers would be two widths around 0
                mode=("bilinear", "bilinear" if settings.soft_target else "nearest", "nearest"),
                padding_mode="reflection",
                allow_missing_keys=True,
            ),
        ]
    )


def _cut(source: PatchSource, size: int, generator: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """A square window; images smaller than it are mirrored outwards."""
    height, width = source.image.shape[1:]
    if len(source.focus) and generator.random() < 0.5:
        centre = np.array(divmod(int(source.focus[generator.integers(len(source.focus))]), width))
    else:
        centre = np.array([generator.integers(height), generator.integers(width)])
    room = np.maximum(np.array([height, width]) - size, 0)
    y, x = np.clip(centre - size // 2, 0, room)
    short = [(0, 0), (0, max(0, size - height)), (0, max(0, size - width))]
    window = (slice(None), slice(y, y + size), slice(x, x + size))
    planes = {IMAGE: source.image, TARGET: source.target, WEIGHT: source.weight}
    return {
        key: np.pad(values[window], short, mode="symmetric").astype(np.float32)
        for key, values in planes.items()
        if values is not None
    }
