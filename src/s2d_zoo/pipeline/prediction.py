"""Forests and what follows from them for each image: probabilities, enhanced probabilities, pseudo-labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import xarray as xr

from s2d_zoo.contract import ProbabilityPredictor, RFContract
from s2d_zoo.contract_fit import matching_channels
from s2d_zoo.data.images import write_image
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scribbles import resample_strokes
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, consensus_labels
from s2d_zoo.pipeline.base_models import inherited_attribution
from s2d_zoo.pipeline.fusion import Fused, fuse
from s2d_zoo.pipeline.job import Job
from s2d_zoo.pipeline.probabilities import with_pixel_size
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.types import CHANNEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Forests:
    """What is shown and kept, and the forests that vote on pseudo-labels."""

    main: tuple[ProbabilityPredictor, ...]  #: one for each image: fitted on all strokes, or given
    members: tuple[PixelClassifier, ...]  #: fitted on resampled strokes, without those held out; none without strokes
    contract: RFContract  #: what the main one delivers, of these images

    @property
    def forest(self) -> PixelClassifier | None:
        """The main one, if it is a forest on features of the raw image."""
        return self.main[0] if isinstance(self.main[0], PixelClassifier) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What each stage says of one image."""

    foreground: xr.DataArray  #: (z) y x, the forest's probability of the foreground
    enhanced: xr.DataArray  #: channel (z) y x
    fused: xr.DataArray | None = None  #: channel y x, what one network of filters, forest and enhancer says
    labels: PseudoLabels | None = None  #: of images with strokes
    segmentation: xr.DataArray | None = None  #: channel (z) y x
    strokes_only: xr.DataArray | None = None  #: channel (z) y x, of a segmentor trained on the strokes alone
    base: xr.DataArray | None = None  #: channel (z) y x, of the model that was trained further, as it was


def fit_forests(job: Job) -> Forests:
    """Fit all forests that there are not yet.

    Raises:
        ScribbleError: if the strokes are of one class only.
    """
    main = job.data.predictors
    if not main:
        fitted = _new_classifier(job, seed=job.settings.seed).fit(job.data.images, job.data.scribbles)
        main = (fitted,) * len(job.data.images)
    members: list[PixelClassifier] = []
    contract = with_pixel_size(main[0].contract, job.data.images[0])
    if not job.data.painted:
        return Forests(main=main, members=(), contract=contract)
    for number in range(1, job.settings.pseudo_labels.n_forests + 1):
        seed = job.settings.seed + number
        strokes = resample_strokes(job.split.training, seed=seed)
        members.append(_new_classifier(job, seed=seed).fit(job.data.images, strokes))
    return Forests(main=main, members=tuple(members), contract=contract)


def predict(job: Job, forests: Forests) -> tuple[list[Prediction], list[Prediction]]:
    """Probabilities and enhanced probabilities of the images, and of the test images."""
    images, tests = job.data.images, job.data.test_images
    return (
        [
            _predict_one(job, main, image, f"image {number} of {len(images)}")
            for number, (main, image) in enumerate(zip(forests.main, images, strict=True), start=1)
        ],
        [
            _predict_one(job, forests.main[0], image, f"test image {number} of {len(tests)}")
            for number, image in enumerate(tests, start=1)
        ],
    )


def fuse_forest(job: Job, forests: Forests) -> tuple[Fused | None, str]:
    """The forest and the enhancer in one network; if that cannot be, why not."""
    if forests.forest is None:
        return None, "the probabilities do not come from one forest on features of the raw image"
    if forests.contract.ndim == 3:
        return None, "a fused network takes 2D images, and these are volumes"
    factor = job.rescale_factor(forests.contract)
    if factor != 1.0:
        return None, f"probabilities are rescaled by {factor:g} before the enhancer, which no tile-wise network can do"
    try:
        inherited_attribution(job.enhancer_package, job.settings.attribution)
        return fuse(forests.forest, job.enhancer, job.settings.fusion), ""
    except ConfigError as error:
        return None, str(error).rstrip(".")


def add_fused(
    job: Job, fused: Fused | None, predictions: Sequence[Prediction], images: Sequence[xr.DataArray]
) -> list[Prediction]:
    """What the fused network says of each image (channel y x)."""
    if fused is None:
        return list(predictions)
    return [
        replace(prediction, fused=apply_network(fused.model, image, progress=job.label("fused network")))
        for prediction, image in zip(predictions, images, strict=True)
    ]


def add_pseudo_labels(job: Job, forests: Forests, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Pseudo-labels of the images, by the vote of the members; without them, where the enhanced map is sure."""
    labelled = []
    for number, (prediction, image, strokes) in enumerate(
        zip(predictions, job.data.images, job.split.training, strict=True), start=1
    ):
        votes = (
            [prediction.enhanced]
            if not forests.members
            else [
                _predict_one(
                    job, member, image, f"pseudo-labels {number}, forest {k} of {len(forests.members)}"
                ).enhanced
                for k, member in enumerate(forests.members, start=1)
            ]
        )
        labels = consensus_labels(
            votes,
            scribbles=strokes,
            foreground=job.foreground,
            confidence=job.settings.pseudo_labels.confidence,
        )
        labelled.append(replace(prediction, labels=labels))
    return labelled


def write_maps(job: Job, predictions: Sequence[Prediction], test_predictions: Sequence[Prediction]) -> None:
    """Write every map of every image as TIFF."""
    folders = [(job.image_folder(index), one) for index, one in enumerate(predictions)]
    folders += [(job.test_image_folder(index), one) for index, one in enumerate(test_predictions)]
    images = (*job.data.images, *job.data.test_images)
    for (folder, prediction), image in zip(folders, images, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in _maps(prediction).items():
            write_image(folder / f"{name}.tif", values.assign_attrs(image.attrs), overwrite=True)
    for index, (strokes, prediction) in enumerate(zip(job.split.held_out, predictions, strict=True)):
        if prediction.labels is not None and bool((strokes > 0).any()):  # for `finetune --held-out`
            write_image(job.image_folder(index) / "held_out_strokes.tif", strokes, overwrite=True)


def _maps(prediction: Prediction) -> dict[str, xr.DataArray]:
    maps = {"forest_foreground": prediction.foreground, "enhanced": prediction.enhanced}
    if prediction.fused is not None:
        maps["fused"] = prediction.fused
    if prediction.labels is not None:
        maps |= {"pseudo_labels": prediction.labels.labels, "pseudo_label_weights": prediction.labels.weights}
    if prediction.segmentation is not None:
        maps["segmentation"] = prediction.segmentation
    return maps


def _new_classifier(job: Job, *, seed: int) -> PixelClassifier:
    return PixelClassifier(
        selection=job.data.selection, settings=job.settings.forest, classes=job.classes, random_state=seed
    )


def _predict_one(job: Job, classifier: ProbabilityPredictor, image: xr.DataArray, text: str) -> Prediction:
    contract = with_pixel_size(classifier.contract, image)
    rescale = job.rescale_factor(contract)
    probabilities = classifier.predict_proba(image, progress=job.label(f"forest, {text}"))
    enhanced = job.enhancer.enhance(probabilities, contract, rescale=rescale, progress=job.label(f"enhancer, {text}"))
    shown = matching_channels(job.enhancer.contract, contract)[0]
    return Prediction(foreground=probabilities.isel({CHANNEL: shown}, drop=True), enhanced=enhanced)
