"""Training a segmentor, raw image to foreground and boundary, on pseudo-labels; and the guard on its worth."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from monai.transforms import Compose, RandGaussianNoise, RandGaussianSmooth

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.axes import space_dims
from s2d_zoo.data.network import apply_network, network_kwargs
from s2d_zoo.data.patches import IMAGE, PatchDataset, PatchSettings, PatchSource, Sample, without_metadata
from s2d_zoo.data.scores import score_strokes
from s2d_zoo.errors import AxesError, NotImprovedError, UserInputError
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.trainer import TrainingResult, TrainingSettings, check_network_size, train
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

#: grey-value percentiles that the network's input normalisation maps to 0 and 1
_LOW, _HIGH = 5.0, 99.0
#: brightness of training patches varies by up to this factor either way
_BRIGHTNESS: Final = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentorSettings:
    """Network and training of a segmentor.

    Raises:
        ConfigError: if the network would have no channels or no depth, or patches do not fit its depth.
    """

    features: int = 8  #: channels of the network's first level
    depth: int = 3
    patches: PatchSettings = field(default_factory=lambda: PatchSettings(zoom=(0.8, 1.25), soft_target=True))
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(steps=600, steps_per_epoch=100, batch_size=4)
    )

    def __post_init__(self) -> None:
        check_network_size(self.features, self.depth, patch=self.patches.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentorTraining:
    """A trained segmentor, and how it does on strokes that it never saw."""

    model: UNet
    steps: int
    start_iou: float | None  #: of the untrained start on the held-out strokes; None where none were held out
    end_iou: float | None  #: of the trained model on the same


def new_segmentor(images: Sequence[xr.DataArray], settings: SegmentorSettings) -> UNet:
    """A fresh network whose input normalisation fits these images.

    Args:
        images: channel y x, any number type, all with the same channels.
        settings: size of the network, and the seed of its weights.

    Raises:
        UserInputError: if the images are constant.
        AxesError: if they have different channels.
    """
    channels = {image.sizes[CHANNEL] for image in images}
    if len(channels) != 1:
        msg = f"All images must have the same number of channels, found {sorted(channels)}."
        raise AxesError(msg)
    values = np.concatenate([image.values.reshape(image.sizes[CHANNEL], -1) for image in images], axis=1)
    low, high = np.percentile(values, (_LOW, _HIGH), axis=1)
    constant = np.flatnonzero(values.min(axis=1) == values.max(axis=1))
    if len(constant):
        msg = f"Channel {int(constant[0])} of the images has the same value everywhere; there is nothing to segment."
        raise UserInputError(msg)
    spread = np.where(high > low, high - low, values.max(axis=1) - values.min(axis=1))
    torch.manual_seed(settings.training.seed)
    return UNet(
        in_channels=channels.pop(),
        out_channels=len(OUTPUT_CHANNELS),
        features=settings.features,
        depth=settings.depth,
        input_offset=[float(value) for value in low],
        input_scale=[float(value) for value in spread],
    )


def train_segmentor(
    base_model: UNet,
    images: Sequence[xr.DataArray],
    labels: Sequence[PseudoLabels],
    settings: SegmentorSettings,
    *,
    folder: Path,
    held_out: Sequence[xr.DataArray] = (),
    foreground: int = 2,
    progress: str | None = None,
) -> SegmentorTraining:
    """Train a segmentor, or go on with an interrupted training; give it back only if it got no worse.

    Args:
        base_model: network to start from; not changed.
        images: channel y x, any number type.
        labels: one for each image.
        settings: training and patches.
        folder: for checkpoints.
        held_out: (z) y x, uint8, strokes that are in no label: the trained model must do on them at least as
            well as the base model. Not checked unless both foreground and another class are held out.
        foreground: label of the foreground in the strokes.
        progress: label of the progress bar on stderr.

    Raises:
        NotImprovedError: if the model ends worse than it began.
        UserInputError: if all weights are 0.
        AxesError: if an image is not 2D, or has other channels than the base model takes.
    """
    _check_images(base_model, images)
    if not any(bool((one.weights > 0).any()) for one in labels):
        msg = "All pseudo-labels have weight 0: the forests agree nowhere. Paint more strokes, or ask less confidence."
        raise UserInputError(msg)
    start = _stroke_iou(base_model, images, held_out, foreground)
    result = fit_segmentor(base_model, images, labels, settings, folder=folder, progress=progress)
    end = _stroke_iou(result.model, images, held_out, foreground)
    if start is not None and end is not None and end < start:
        msg = (
            f"On the held-out strokes the trained segmentor reaches an IoU of {end:.3f}, its start {start:.3f}: "
            "it is not given out. Look at the pseudo-labels in the report; paint more strokes, or train longer."
        )
        raise NotImprovedError(msg)
    return SegmentorTraining(model=result.model, steps=result.steps, start_iou=start, end_iou=end)


def fit_segmentor(
    base_model: UNet,
    images: Sequence[xr.DataArray],
    labels: Sequence[PseudoLabels],
    settings: SegmentorSettings,
    *,
    folder: Path,
    progress: str | None = None,
) -> TrainingResult:
    """Train without the guard (for baselines); see `train_segmentor`."""
    sources = [
        PatchSource(
            image=image.values,
            target=one.labels.values,
            weight=one.weights.values[np.newaxis],
            focus=np.flatnonzero((one.labels.values[0] >= 0.5) & (one.weights.values > 0)),
        )
        for image, one in zip(images, labels, strict=True)
    ]
    model = copy.deepcopy(base_model)
    patches = PatchDataset(sources, settings.patches, finish=_VaryRaw(model), seed=settings.training.seed)
    return train(model, patches, settings.training, folder=folder, progress=progress)


def _check_images(base_model: UNet, images: Sequence[xr.DataArray]) -> None:
    channels = network_kwargs(base_model)["in_channels"]
    for image in images:
        if len(space_dims(image)) != 2 or image.sizes[CHANNEL] != channels:
            msg = f"This network takes 2D images with {channels} channel(s), found an image with {dict(image.sizes)}."
            raise AxesError(msg)


def _stroke_iou(
    model: UNet, images: Sequence[xr.DataArray], held_out: Sequence[xr.DataArray], foreground: int
) -> float | None:
    """IoU of the foreground on painted pixels; None where they cannot tell."""
    if not any(bool((strokes > 0).any()) for strokes in held_out):
        return None
    foregrounds = [apply_network(model, image)[0] for image in images]
    score = score_strokes(foregrounds, held_out, foreground=foreground)
    return None if score is None else score.iou


class _VaryRaw:
    """Vary brightness, sharpness and noise of a raw patch, each channel by its own spread of values."""

    def __init__(self, model: UNet) -> None:
        self._spread = model.input_scale[0].clone()
        self._blur_and_noise = Compose(
            [
                RandGaussianSmooth(prob=0.2, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
                RandGaussianNoise(prob=0.3, std=0.05),
            ]
        )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        factor = float(np.exp(generator.uniform(-np.log(_BRIGHTNESS), np.log(_BRIGHTNESS))))
        image = sample[IMAGE] / self._spread * factor + float(generator.normal(0, 0.05))
        self._blur_and_noise.set_random_state(seed=int(generator.integers(2**31)))
        with without_metadata():
            varied: Any = self._blur_and_noise(image)
        return {**sample, IMAGE: torch.as_tensor(np.asarray(varied), dtype=torch.float32) * self._spread}
