"""Training patches for an enhancer: a forest's probabilities in, foreground and boundary out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from monai.transforms import Compose, RandGaussianNoise, RandGaussianSmooth

from s2d_zoo.data.patches import IMAGE, TARGET, PatchDataset, PatchSettings, PatchSource, Sample, without_metadata
from s2d_zoo.data.targets import foreground_and_boundary
from s2d_zoo.errors import ConfigError

#: keeps logits finite: a forest of 100 trees says 0 and 1 without meaning it to the last digit
_CLIP: Final = 0.005
#: cells per side of the grid from which the slowly varying offset is interpolated
_DRIFT_GRID: Final = 4
#: px, of the weakest blur
_SHARPEST: Final = 0.3
#: shares of the patches that are varied
_SOMETIMES, _MOSTLY = 0.3, 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityVariation:
    """How probabilities are varied in training, as other forests and strokes would vary them. 0 switches a part off.

    Raises:
        ConfigError: for a negative strength.
    """

    temperature: float = 0.4  #: how sure the forest is: standard deviation of the logarithm of a factor of the logits
    sharpness: float = 0.0  #: mean of that logarithm: how much surer forests of other data are than those of the source
    offset: float = 0.4  #: what it prefers: standard deviation of what is added to the logits
    drift: float = 0.6  #: the same, slowly varying across the patch, in 3 of 10 patches
    blur: float = 1.5  #: px, largest standard deviation of a Gaussian, in 3 of 10 patches
    noise: float = 0.08  #: largest standard deviation of Gaussian noise, in 3 of 10 patches
    missing: float = 0.0  #: share of objects that are left out of the target, as whoever labels overlooks some

    def __post_init__(self) -> None:
        strengths = (self.temperature, self.offset, self.drift, self.blur, self.noise)
        if min(*strengths, self.missing) < 0 or self.missing >= 1 or not math.isfinite(self.sharpness):
            msg = (
                "The strengths of variations must not be negative, the share of objects below 1 and the sharpness a "
                f"number, got {self}."
            )
            raise ConfigError(msg)

    def shift(self, probabilities: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """Make a forest surer or less sure, biased, and unevenly so across the image (channel y x, in [0, 1])."""
        logits = torch.logit(probabilities, eps=_CLIP)
        if generator.random() < _MOSTLY:
            factor = float(np.exp(generator.normal(self.sharpness, self.temperature)))
            logits = logits * factor + float(generator.normal(0, self.offset))
        if generator.random() < _SOMETIMES:
            cells = generator.normal(0, self.drift, (1, 1, _DRIFT_GRID, _DRIFT_GRID))
            grid = torch.as_tensor(cells, dtype=torch.float32)
            size = list(logits.shape[-2:])
            logits = logits + torch.nn.functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)[0]
        return torch.sigmoid(logits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityMap:
    """What some forest says of an image whose labels are known."""

    probabilities: np.ndarray[Any, np.dtype[np.uint8]]  #: y x, foreground, 255 = 1
    labels: xr.DataArray  #: y x, instances, 0 = background


def make_patches(
    maps: Sequence[ProbabilityMap],
    settings: PatchSettings,
    *,
    variation: ProbabilityVariation | None = None,
    seed: int,
) -> PatchDataset:
    """Patches for `s2d_zoo.trainer.train`: image (1 y x) in [0, 1], target (foreground, boundary), weight 1.

    Args:
        maps: what forests say of labelled images.
        settings: how patches are cut.
        variation: of the probabilities; as by default where ``None``, none at all in patches that are not augmented.
        seed: another seed gives other patches.

    Raises:
        UserInputError: if there are no maps.
    """
    sources = [
        PatchSource(
            image=one.probabilities[np.newaxis],
            target=one.labels.values[np.newaxis],
            weight=None,
            focus=np.flatnonzero(one.labels.values),
        )
        for one in maps
    ]
    finish = _Finish((variation or ProbabilityVariation()) if settings.augment else None)
    return PatchDataset(sources, settings, finish=finish, seed=seed)


class _Finish:
    """Scale to [0, 1], vary the probabilities, and turn instances into targets at the patch's own scale."""

    def __init__(self, variation: ProbabilityVariation | None) -> None:
        self._variation = variation
        steps: list[Any] = []
        if variation is not None and variation.blur:
            sigma = (min(_SHARPEST, variation.blur), variation.blur)
            steps.append(RandGaussianSmooth(prob=_SOMETIMES, sigma_x=sigma, sigma_y=sigma))
        if variation is not None and variation.noise:
            steps.append(RandGaussianNoise(prob=_SOMETIMES, std=variation.noise))
        self._blur_and_noise = Compose(steps)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        probabilities = sample[IMAGE] / 255.0
        if self._variation is not None:
            probabilities = self._variation.shift(probabilities, generator)
            self._blur_and_noise.set_random_state(seed=int(generator.integers(2**31)))
            with without_metadata():
                varied: Any = self._blur_and_noise(probabilities)
            probabilities = torch.as_tensor(np.asarray(varied)).clamp(0.0, 1.0)
        instances = xr.DataArray(np.round(sample[TARGET][0].numpy()).astype(np.int32), dims=("y", "x"))
        if self._variation is not None and self._variation.missing:
            present = np.unique(instances.values)
            left_out = present[generator.random(len(present)) < self._variation.missing]
            instances = instances.where(~instances.isin(left_out), 0)
        target = torch.as_tensor(foreground_and_boundary(instances).values.astype(np.float32))
        return {**sample, IMAGE: probabilities, TARGET: target}
