"""An enhancer trained further on a target: strokes, and dense labels where there are any, over several forests.

A forest is all but perfect where it was painted, so that nothing could be learnt there. Each forest therefore sees
three quarters of the strokes, and the enhancer learns, on that forest's probabilities, the strokes it did not see.
Strokes are few, and say nothing of boundaries: on them alone it forgets what it knew. Elsewhere it therefore learns
what it says itself, on average over the forests, where these agree (as for a segmentor's pseudo-labels).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.contract_fit import matching_channels
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.data.scribbles import count_classes, resample_strokes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.finetuning import (
    FINETUNING_RATE,
    SegmentorSettings,
    SegmentorTraining,
    check_trainable,
    train_segmentor,
)
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, consensus_labels, dense_labels
from s2d_zoo.pipeline.probabilities import with_pixel_size
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.types import CHANNEL

logger = logging.getLogger(__name__)

#: px around held-out strokes that dense labels do not speak of
_MARGIN: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancerFinetuneSettings:
    """How an enhancer is trained further.

    Raises:
        ConfigError: if there is no forest.
    """

    n_forests: int = 5  #: each fitted on other strokes
    forest: ForestSettings = field(default_factory=ForestSettings)
    selection: FeatureSelection | None = None  #: features of the forests; all of ilastik's where None
    patches: PatchSettings = field(default_factory=lambda: PatchSettings(zoom=(0.8, 1.25), soft_target=True))
    #: batches are small, so running statistics of a trained network are better than theirs
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=300, steps_per_epoch=100, batch_size=4, learning_rate=FINETUNING_RATE, freeze_batch_norm=True
        )
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_forests < 1:
            msg = f"At least one forest is needed to train an enhancer on, got {self.n_forests}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancerTraining:
    """An enhancer that was trained further, and how it does on strokes that neither it nor a forest saw."""

    enhancer: Enhancer
    example: xr.DataArray  #: channel y x, probabilities of the first image, as it takes them
    delivered: RFContract  #: what the forests deliver that it has learnt
    forests: tuple[PixelClassifier, ...]
    training: SegmentorTraining[UNet | PackagedModel]


def finetune_enhancer(
    enhancer: Enhancer,
    images: Sequence[xr.DataArray],
    scribbles: Sequence[xr.DataArray],
    settings: EnhancerFinetuneSettings,
    *,
    folder: Path,
    foreground: int = 2,
    dense: Sequence[xr.DataArray | None] = (),
    held_out: Sequence[xr.DataArray] = (),
    allow_worse: bool = False,
    progress: str | None = None,
) -> EnhancerTraining:
    """Train an enhancer further, or go on with an interrupted training; give it out only if it got no worse.

    Args:
        enhancer: to begin from, and not changed.
        images: channel y x, raw.
        scribbles: y x, uint8, one for each image, without those held out.
        settings: forests and training.
        folder: for checkpoints.
        foreground: label of the foreground in the strokes.
        dense: y x, instances with 0 = background, for images that are labelled throughout; None for the others.
        held_out: y x, uint8, strokes to be tested on, one for each image.
        allow_worse: give it out in any case.
        progress: label of the progress bar on stderr.

    Raises:
        NotImprovedError: if it ends worse than it began, on the held-out strokes.
        ContractMismatchError: if the forests do not deliver what the enhancer takes.
        ScribbleError: if the strokes are of one class only.
        AxesError: if an image or the enhancer is not 2D.
    """
    check_trainable(enhancer.model, ())
    maps: list[xr.DataArray] = []
    labels: list[PseudoLabels] = []
    truth = tuple(dense) or (None,) * len(images)
    classes = name_classes(max(count_classes(scribbles), foreground), foreground=foreground)
    forests, enhanced, left_out = [], [], []
    for number in range(settings.n_forests):
        seed = settings.seed + number
        seen = resample_strokes(scribbles, seed=seed, spare=True)
        forest = PixelClassifier(
            selection=settings.selection, settings=settings.forest, classes=classes, random_state=seed
        ).fit(list(images), list(seen))
        misfits = enhancer.check(with_pixel_size(forest.contract, images[0]))
        for misfit in misfits if number == 0 else ():
            logger.warning("%s", misfit)
        fed = list(matching_channels(enhancer.contract, forest.contract))
        probabilities = [forest.predict_proba(image) for image in images]
        maps += [one.isel({CHANNEL: fed}) for one in probabilities]
        enhanced.append([enhancer.enhance(one, forest.contract) for one in probabilities])
        left_out.append(_left_out(scribbles, seen))
        forests.append(forest)
    for number in range(settings.n_forests):
        for index, instances in enumerate(truth):
            if instances is None:
                votes = [one[index] for one in enhanced]
                strokes = left_out[number][index]
                labels.append(consensus_labels(votes, scribbles=strokes, foreground=foreground))
            else:
                one = dense_labels(instances, scribbles=scribbles[index], foreground=foreground)
                labels.append(_without(one, held_out[index] if held_out else None))
    training = train_segmentor(
        enhancer.model,
        maps,
        labels,
        SegmentorSettings(patches=settings.patches, training=replace(settings.training, seed=settings.seed)),
        folder=folder,
        held_out=list(held_out) * settings.n_forests,
        foreground=foreground,
        inputs="probabilities",
        allow_worse=allow_worse,
        progress=progress,
    )
    return EnhancerTraining(
        enhancer=replace(enhancer, model=training.model),
        training=training,
        example=maps[0],
        delivered=with_pixel_size(forests[0].contract, images[0]),
        forests=tuple(forests),
    )


def fit_enhancer(
    enhancer: Enhancer,
    images: Sequence[xr.DataArray],
    scribbles: Sequence[xr.DataArray],
    settings: EnhancerFinetuneSettings,
    *,
    foreground: int = 2,
    folder: Path,
    progress: str | None = None,
) -> Enhancer:
    """Train an enhancer further without the guard (for comparisons); see `finetune_enhancer`."""
    return finetune_enhancer(
        enhancer, images, scribbles, settings, folder=folder, foreground=foreground, progress=progress
    ).enhancer


def _left_out(scribbles: Sequence[xr.DataArray], seen: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """The strokes that a forest did not see; of a class that it has seen all of, these."""
    left = [one.copy(data=np.where(part.values > 0, 0, one.values)) for one, part in zip(scribbles, seen, strict=True)]
    for label in range(1, count_classes(scribbles) + 1):
        if not any(bool((one == label).any()) for one in left):
            for one, all_strokes in zip(left, scribbles, strict=True):
                one.values[all_strokes.values == label] = label
    return left


def _without(labels: PseudoLabels, tested: xr.DataArray | None) -> PseudoLabels:
    """Dense labels that do not count at held-out strokes, nor so near to them that they would tell."""
    if tested is not None:
        labels.weights.values[ndimage.maximum_filter(tested.values > 0, size=2 * _MARGIN + 1)] = 0
    return labels
