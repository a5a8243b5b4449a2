"""An enhancer trained further on a target: strokes, and dense labels where there are any, over several forests.

A forest is all but perfect where it was painted, so that nothing could be learnt there. Each forest therefore sees
three quarters of the strokes, and the enhancer learns, on that forest's probabilities, the strokes it did not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xarray as xr

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
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, dense_labels, stroke_labels
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.types import CHANNEL


def _default_network() -> SegmentorSettings:
    return SegmentorSettings(
        patches=PatchSettings(zoom=(0.8, 1.25), soft_target=True),
        training=TrainingSettings(steps=300, steps_per_epoch=100, batch_size=4, learning_rate=FINETUNING_RATE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancerFinetuneSettings:
    """How an enhancer is trained further.

    Raises:
        ConfigError: if there is no forest.
    """

    n_forests: int = 5  #: each fitted on other strokes
    forest: ForestSettings = field(default_factory=ForestSettings)
    selection: FeatureSelection | None = None  #: features of the forests; all of ilastik's where None
    network: SegmentorSettings = field(default_factory=_default_network)  #: patches and training; no new network
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
    for number in range(settings.n_forests):
        seed = settings.seed + number
        seen = resample_strokes(scribbles, seed=seed)
        forest = PixelClassifier(
            selection=settings.selection, settings=settings.forest, classes=classes, random_state=seed
        ).fit(list(images), list(seen))
        enhancer.check(forest.contract)
        fed = list(matching_channels(enhancer.contract, forest.contract))
        for image, strokes, learnt, instances in zip(images, scribbles, _left_out(scribbles, seen), truth, strict=True):
            maps.append(forest.predict_proba(image).isel({CHANNEL: fed}))
            labels.append(
                stroke_labels(learnt, foreground=foreground)
                if instances is None
                else dense_labels(instances, scribbles=strokes, foreground=foreground)
            )
    network = replace(settings.network, training=replace(settings.network.training, seed=settings.seed))
    training = train_segmentor(
        enhancer.model,
        maps,
        labels,
        network,
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
        delivered=forest.contract,
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
    """The strokes that a forest did not see; all of them where that leaves none."""
    left = [one.copy(data=np.where(part.values > 0, 0, one.values)) for one, part in zip(scribbles, seen, strict=True)]
    return left if any(bool((one > 0).any()) for one in left) else list(scribbles)
