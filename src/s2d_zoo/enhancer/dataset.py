"""Training patches for an enhancer: a forest's probabilities in, foreground and boundary out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from monai.transforms import Compose, RandGaussianNoise, RandGaussianSmooth

from s2d_zoo.data.patches import IMAGE, TARGET, PatchDataset, PatchSettings, PatchSource, Sample, without_metadata
from s2d_zoo.data.targets import foreground_and_boundary

#: keeps logits finite: a forest of 100 trees says 0 and 1 without meaning it to the last digit
_CLIP: Final = 0.005
#: standard deviation of log temperature, of the offset, and of the slowly varying offset, in logits
_TEMPERATURE: Final = 0.4
_OFFSET: Final = 0.4
_DRIFT: Final = 0.6
#: cells per side of the grid from which the slowly varying offset is interpolated
_DRIFT_GRID: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityMap:
    """What some forest says of an image whose labels are known."""

    probabilities: np.ndarray[Any, np.dtype[np.uint8]]  #: y x, foreground, 255 = 1
    labels: xr.DataArray  #: y x, instances, 0 = background


def make_patches(maps: Sequence[ProbabilityMap], settings: PatchSettings, *, seed: int) -> PatchDataset:
    """Patches for `s2d_zoo.trainer.train`: image (1 y x) in [0, 1], target (foreground, boundary), weight 1.

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
    return PatchDataset(sources, settings, finish=_Finish(perturb=settings.augment), seed=seed)


class _Finish:
    """Scale to [0, 1], vary the probabilities, and turn instances into targets at the patch's own scale."""

    def __init__(self, *, perturb: bool) -> None:
        self._perturb = perturb
        self._blur_and_noise = Compose(
            [
                RandGaussianSmooth(prob=0.3, sigma_x=(0.3, 1.5), sigma_y=(0.3, 1.5)),
                RandGaussianNoise(prob=0.3, std=0.08),
            ]
        )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        probabilities = sample[IMAGE] / 255.0
        if self._perturb:
            probabilities = _shift_logits(probabilities, generator)
            self._blur_and_noise.set_random_state(seed=int(generator.integers(2**31)))
            with without_metadata():
                varied: Any = self._blur_and_noise(probabilities)
            probabilities = torch.as_tensor(np.asarray(varied)).clamp(0.0, 1.0)
        instances = xr.DataArray(np.round(sample[TARGET][0].numpy()).astype(np.int32), dims=("y", "x"))
        target = torch.as_tensor(foreground_and_boundary(instances).values.astype(np.float32))
        return {**sample, IMAGE: probabilities, TARGET: target}


def _shift_logits(probabilities: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Make a forest surer or less sure, biased, and unevenly so across the image."""
    logits = torch.logit(probabilities, eps=_CLIP)
    if generator.random() < 0.7:
        logits = logits * float(np.exp(generator.normal(0, _TEMPERATURE))) + float(generator.normal(0, _OFFSET))
    if generator.random() < 0.3:
        grid = torch.as_tensor(generator.normal(0, _DRIFT, (1, 1, _DRIFT_GRID, _DRIFT_GRID)), dtype=torch.float32)
        size = list(logits.shape[-2:])
        logits = logits + torch.nn.functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)[0]
    return torch.sigmoid(logits)
