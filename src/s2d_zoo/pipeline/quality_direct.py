"""The rival that needs no strokes: a network trained on the raw images of the sources, as large as the enhancer's.

Images differ more between microscopes than probabilities do. So that the rival is honest, every image is normalised by
its own percentiles, and brightness, sharpness and noise are varied in training, as are size and orientation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from monai.transforms import Compose, RandAdjustContrast, RandGaussianNoise, RandGaussianSmooth
from torch.utils.data import Subset

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.patches import IMAGE, TARGET, PatchDataset, PatchSettings, PatchSource, Sample, without_metadata
from s2d_zoo.data.resizing import resize_by, resize_to
from s2d_zoo.data.targets import foreground_and_boundary
from s2d_zoo.enhancer.training import ForegroundAndBoundary
from s2d_zoo.pipeline.quality_cells import Measured
from s2d_zoo.pipeline.quality_inputs import DirectSettings, QualitySources
from s2d_zoo.trainer import train

#: percentiles that become 0 and 1
_LOW, _HIGH = 1.0, 99.8
#: as many as an enhancer is validated on
_VALIDATION_PATCHES: Final = 96
#: of the values in [0, 1]: standard deviations of what is added and of the logarithm of the factor
_OFFSET, _CONTRAST = 0.1, 0.2


def train_direct(
    sources: QualitySources, measured: Measured, settings: DirectSettings, *, folder: Path, progress: str | None = None
) -> UNet:
    """Train a direct network, or go on with an interrupted training: the same patches, steps and loss as an enhancer.

    Args:
        sources: what the enhancer was trained on.
        measured: for the size of the network.
        settings: training, with its seed.
        folder: for checkpoints.
        progress: label of the progress bar on stderr.

    Raises:
        ConfigError: if the folder holds another training.
    """
    seed = settings.training.seed
    model = measured.new_network(in_channels=1, offset=(0.5,), scale=(0.25,), seed=seed)
    still = PatchSettings(size=settings.patches.size, augment=False)
    validation = _make_patches(sources.validation, still, seed=seed)
    return train(
        model,
        _make_patches(sources.training, settings.patches, seed=seed),
        settings.training,
        folder=folder,
        validation=Subset(validation, range(_VALIDATION_PATCHES)),
        loss=ForegroundAndBoundary(settings.boundary),
        progress=progress,
    ).model


def apply_direct(model: UNet, image: xr.DataArray, *, rescale: float = 1.0) -> xr.DataArray:
    """What a direct network says of a raw image.

    Args:
        model: of one channel.
        image: channel y x, any number type; colours are averaged.
        rescale: resize the image by this factor first, and the result back, as the probabilities for the enhancer are.

    Returns:
        channel y x, float32 in [0, 1]: foreground, boundary.
    """
    grey = normalise(image)
    height, width = grey.sizes["y"], grey.sizes["x"]
    return resize_to(apply_network(model, resize_by(grey, rescale)), y=height, x=width)


def normalise(image: xr.DataArray) -> xr.DataArray:
    """One channel, from 0 at the first percentile of this image to 1 at the 99.8th (channel y x, float32)."""
    grey = image.values.astype(np.float32).mean(axis=0, keepdims=True)
    low, high = np.percentile(grey, (_LOW, _HIGH))
    values = np.clip((grey - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)
    return xr.DataArray(values, dims=image.dims)


def _make_patches(images: Sequence[LabelledImage], settings: PatchSettings, *, seed: int) -> PatchDataset:
    sources = [
        PatchSource(
            image=normalise(one.image).values,
            target=one.labels.values[np.newaxis],
            weight=None,
            focus=np.flatnonzero(one.labels.values),
        )
        for one in images
    ]
    return PatchDataset(sources, settings, finish=_Finish(vary=settings.augment), seed=seed)


class _Finish:
    """Vary the values, and turn instances into targets at the patch's own scale."""

    def __init__(self, *, vary: bool) -> None:
        self._vary = vary
        self._steps = Compose(
            [
                RandAdjustContrast(prob=0.5, gamma=(0.5, 2.0)),
                RandGaussianSmooth(prob=0.3, sigma_x=(0.3, 1.5), sigma_y=(0.3, 1.5)),
                RandGaussianNoise(prob=0.3, std=0.08),
            ]
        )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        image = sample[IMAGE]
        if self._vary:
            self._steps.set_random_state(seed=int(generator.integers(2**31)))
            with without_metadata():
                varied: Any = self._steps(image)
            image = torch.as_tensor(np.asarray(varied), dtype=torch.float32)
            factor = float(np.exp(generator.normal(0, _CONTRAST)))
            image = (image * factor + float(generator.normal(0, _OFFSET))).clamp(0.0, 1.0)
        instances = xr.DataArray(np.round(sample[TARGET][0].numpy()).astype(np.int32), dims=("y", "x"))
        target = torch.as_tensor(foreground_and_boundary(instances).values.astype(np.float32))
        return {**sample, IMAGE: image, TARGET: target}
