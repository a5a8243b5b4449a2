"""The segmentor trained on pseudo-labels, and its plain rival trained on the strokes alone.

Segmentors are 2D networks: of volumes they see the planes one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.export.weights_difference import WeightsDifference, compare_weights
from s2d_zoo.finetune.finetuning import SegmentorTraining, fit_segmentor, new_segmentor, not_improved, train_segmentor
from s2d_zoo.finetune.pseudo_labels import stroke_labels
from s2d_zoo.pipeline.job import Job
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.volumes import planes_to_train_on, segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentors:
    """Trained networks: raw image to foreground and boundary."""

    training: SegmentorTraining[UNet | PackagedModel]
    problem: str | None  #: why it is not given out, e.g. because it ended worse than it began
    baseline: UNet | PackagedModel | None  #: trained on strokes only; None where it was not asked for
    base: PackagedModel | None = None  #: what was trained further; None for a fresh network

    @property
    def difference(self) -> WeightsDifference | None:
        """What training has changed in the weights of a model that was there before."""
        if self.base is None or not isinstance(self.training.model, PackagedModel):
            return None
        return compare_weights(self.base.network.network, self.training.model.network.network)


def train_segmentors(job: Job, predictions: Sequence[Prediction], *, baseline: bool) -> Segmentors:
    """Train on pseudo-labels, and for comparison on strokes only, from the same start with the same settings."""
    settings = job.settings.seeded_segmentor
    base = None if job.base is None else job.base.model
    start: UNet | PackagedModel = base or new_segmentor(job.data.images, settings)
    labels = [prediction.labels for prediction in predictions if prediction.labels is not None]
    planes = planes_to_train_on(job.data.images, labels, job.split.held_out)
    training = train_segmentor(
        start,
        planes.images,
        planes.labels,
        settings,
        folder=job.checkpoints("segmentor"),
        held_out=planes.held_out,
        foreground=job.foreground,
        untrained=base is None,
        allow_worse=True,  # so that the report can show it
        progress=job.label("segmentor"),
    )
    problem = not_improved(training.worse) if training.worse and not job.settings.allow_worse else None
    rival = None
    if baseline:
        strokes = [stroke_labels(one, foreground=job.foreground) for one in job.split.training]
        planes = planes_to_train_on(job.data.images, strokes)
        rival = fit_segmentor(
            start,
            planes.images,
            planes.labels,
            settings,
            folder=job.checkpoints("strokes-only"),
            progress=job.label("segmentor on strokes only"),
        ).model
    return Segmentors(training=training, problem=problem, baseline=rival, base=base)


def add_segmentations(
    segmentors: Segmentors, predictions: Sequence[Prediction], images: Sequence[xr.DataArray]
) -> list[Prediction]:
    """What the segmentors say of each image."""
    return [
        replace(
            prediction,
            segmentation=segment(segmentors.training.model, image),
            strokes_only=None if segmentors.baseline is None else segment(segmentors.baseline, image),
            base=None if segmentors.base is None else segment(segmentors.base, image),
        )
        for prediction, image in zip(predictions, images, strict=True)
    ]
