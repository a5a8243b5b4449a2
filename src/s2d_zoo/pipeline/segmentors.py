"""The segmentor trained on pseudo-labels, and its plain rival trained on the strokes alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import apply_network
from s2d_zoo.errors import NotImprovedError
from s2d_zoo.finetune.finetuning import SegmentorTraining, fit_segmentor, new_segmentor, train_segmentor
from s2d_zoo.finetune.pseudo_labels import stroke_labels
from s2d_zoo.pipeline.job import Job
from s2d_zoo.pipeline.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentors:
    """Trained networks: raw image to foreground and boundary."""

    training: SegmentorTraining | None  #: None if it ended worse than it began
    problem: str | None  #: then this says why
    baseline: UNet | None  #: trained on strokes only; None where it was not asked for


def train_segmentors(job: Job, predictions: Sequence[Prediction], *, baseline: bool) -> Segmentors:
    """Train on pseudo-labels, and for comparison on strokes only, from the same start with the same settings."""
    settings = job.settings.seeded_segmentor
    start = new_segmentor(job.data.images, settings)
    labels = [prediction.labels for prediction in predictions if prediction.labels is not None]
    training, problem = None, None
    try:
        training = train_segmentor(
            start,
            job.data.images,
            labels,
            settings,
            folder=job.checkpoints("segmentor"),
            held_out=job.split.held_out,
            foreground=job.foreground,
            progress=job.label("segmentor"),
        )
    except NotImprovedError as error:
        problem = str(error)
    rival = None
    if baseline:
        strokes = [stroke_labels(one, foreground=job.foreground) for one in job.split.training]
        rival = fit_segmentor(
            start,
            job.data.images,
            strokes,
            settings,
            folder=job.checkpoints("strokes-only"),
            progress=job.label("segmentor on strokes only"),
        ).model
    return Segmentors(training=training, problem=problem, baseline=rival)


def add_segmentations(
    segmentors: Segmentors, predictions: Sequence[Prediction], images: Sequence[xr.DataArray]
) -> list[Prediction]:
    """What the segmentors say of each image."""
    return [
        replace(
            prediction,
            segmentation=None if segmentors.training is None else apply_network(segmentors.training.model, image),
            strokes_only=None if segmentors.baseline is None else apply_network(segmentors.baseline, image),
        )
        for prediction, image in zip(predictions, images, strict=True)
    ]
