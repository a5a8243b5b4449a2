"""The packages of a run: its segmentor, its forest fused with the enhancer, and the enhancer that it used."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.axes import count_space_dims
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.network import save_network
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.scores import Score
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.finetune.finetuning import SegmentorTraining
from s2d_zoo.finetune.pseudo_labels import KEPT_IN_WORDS, kept_share
from s2d_zoo.finetune.weighting import WEIGHTING_IN_WORDS
from s2d_zoo.pipeline.base_models import describe_finetuned, inherited_attribution
from s2d_zoo.pipeline.finetuning import held_out_figures, limits_of
from s2d_zoo.pipeline.fusion import Fused, FusedWords, describe_lineage, write_fused
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.job import CLASSIFIER_FILE, MODEL_DESCRIPTION, SEGMENTOR_FILE, Job
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.record import to_plain, training_details, whole_minutes
from s2d_zoo.pipeline.segmentors import Segmentors
from s2d_zoo.pipeline.validated import write_finetuned_validated, write_validated
from s2d_zoo.pipeline.volumes import middle_plane
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.persistence import digest_classifier
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.validate.validation import validate_package


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What a run has made."""

    segmentors: Segmentors
    fused: Fused | None
    members: tuple[PixelClassifier, ...]  #: forests that voted on the pseudo-labels
    seconds: float  #: wall time until now


def write_packages(
    job: Job, models: Models, predictions: Sequence[Prediction], scores: Mapping[str, Mapping[str, Score]]
) -> tuple[ValidationReport, ...]:
    """Write the segmentor and the fused model as packages, and put the enhancer that was used beside them, unchanged.

    Returns:
        What validation found, one report for each package; it names the package's path.
    """
    folder = job.output / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    reports = []
    if models.segmentors.problem is None:
        target = folder / f"{job.settings.model_id}.zip"
        reports.append(_write_segmentor(job, models, models.segmentors.training, predictions, scores, target))
    if models.fused is not None:
        reports.append(_write_fused(job, models, models.fused, scores, folder / f"{job.settings.fused_id}.zip"))
    if job.enhancer_package.is_file():
        target = folder / job.enhancer_package.name
        with atomic_write(target) as temporary:
            shutil.copyfile(job.enhancer_package, temporary)
        reports.append(validate_package(target, tensors=_tensors(job, target), progress=job.show_progress))
    return tuple(reports)


def _tensors(job: Job, package: Path) -> Path:
    """Where the differences between the weights formats go, beside the report."""
    return job.output / "validation" / f"{package.stem}-tensors"


def _provenance(job: Job, models: Models) -> dict[str, Any]:
    forest = job.output / CLASSIFIER_FILE
    return {
        "inputs": job.inputs.named_hashes(job.data.found_images),
        "forest_sha256": sha256_of(forest) if forest.is_file() else None,
        "voting_forests_sha256": [digest_classifier(member) for member in models.members],
        "versions": job.run["versions"],
        "seed": job.settings.seed,
        "options": {name: value for name, value in to_plain(job.settings).items() if name != "attribution"},
        "wall_time_minutes": whole_minutes(models.seconds),
        "enhancer": {"id": job.enhancer.id, "sha256": hash_path(job.enhancer_package)},
    }


def _write_fused(
    job: Job, models: Models, fused: Fused, scores: Mapping[str, Mapping[str, Score]], target: Path
) -> ValidationReport:
    facts = CardFacts(
        training_data=_training_data(job),
        training_data_license="not stated; that of the images",
        strokes=_strokes_in_words(job),
        seed=job.settings.seed,
        evaluation="Foreground IoU at 0.5" if scores else "",
        figures={
            f"{method}, {subset} images": methods[method].iou
            for subset, methods in scores.items()
            for method in ("RF", "enhanced", "fused")
            if method in methods
        },
        lineage=describe_lineage(fused),
    )
    attribution = inherited_attribution(job.enhancer_package, job.settings.attribution)
    words = FusedWords(id=job.settings.fused_id, name=f"{job.settings.model_name} (fused)", attribution=attribution)
    report, _ = write_fused(
        fused,
        words,
        job.data.images,
        target,
        facts=facts,
        provenance=_provenance(job, models),
        overwrite=True,
        tensors=_tensors(job, target),
        progress=job.show_progress,
    )
    return report


def _strokes_in_words(job: Job) -> str:
    painted = sum(int((strokes > 0).sum()) for strokes in job.data.scribbles)
    return (
        f"{painted} px painted on {len(job.data.scribbles)} image(s)" if painted else "none; probabilities were given"
    )


def classifier_in_words(job: Job) -> str:
    """What gave the probabilities."""
    if not job.data.predictors:
        return f"Random Forest: {job.settings.forest.n_estimators} trees on ilastik's features, fitted on the strokes"
    forest = job.data.delivered.forest
    if job.inputs.ilastik_project is not None:
        return (
            f"Random Forest: {forest.n_estimators} trees as trained in ilastik, {forest.labels} "
            f"({job.inputs.ilastik_project.name})"
        )
    if job.inputs.probabilities:
        return f"Probabilities: given as files ({', '.join(path.name for path in job.inputs.probabilities)})"
    return f"Probabilities: made by another classifier ({forest.labels})"


def _training_data(job: Job) -> str:
    names = ", ".join(job.data.names)
    if count_space_dims(job.data.images[0]) == 3:
        return f"{len(job.data.images)} volume(s) given by the user, seen plane by plane: {names}"
    return f"{len(job.data.images)} image(s) given by the user: {names}"


def _write_segmentor(
    job: Job,
    models: Models,
    training: SegmentorTraining[UNet | PackagedModel],
    predictions: Sequence[Prediction],
    scores: Mapping[str, Mapping[str, Score]],
    target: Path,
) -> ValidationReport:
    settings = job.settings
    split = job.split
    details = ModelDetails(
        id=settings.model_id,
        name=settings.model_name,
        description=MODEL_DESCRIPTION if job.base is None else describe_finetuned(job.base),
        attribution=settings.attribution,
        kind="segmentor",
        config={
            "provenance": {
                **_provenance(job, models),
                "strokes": {"training": split.n_training, "held_out": split.n_held_out},
                "kept_pseudo_labels": [round(one.labels.kept, 4) for one in predictions if one.labels is not None],
            }
        },
    )
    facts = CardFacts(
        training_data=_training_data(job),
        training_data_license="not stated; that of the images",
        strokes=f"{split.n_training} strokes for training and {split.n_held_out} held out for testing",
        seed=settings.seed,
        evaluation="Foreground IoU at 0.5" if scores or training.end is not None else "",
        figures={
            f"{method}, {subset} images": score.iou
            for subset, methods in scores.items()
            for method, score in methods.items()
            if method != "fused"
        }
        | held_out_figures(training)
        | _kept_figures(predictions),
        limits=limits_of(training),
        training_details=training_details(
            settings.seeded_segmentor.training, weighting=WEIGHTING_IN_WORDS[settings.segmentor.weighting]
        ),
        lineage=(
            classifier_in_words(job),
            f"Enhancer: {job.enhancer.id}",
            *(() if job.base is None else (f"Base model: {job.base.id}",)),
            f"Segmentor: {'a U-Net' if job.base is None else 'the base model'} trained on pseudo-labels "
            + (f"of {settings.pseudo_labels.n_forests} forests" if job.data.painted else "of the enhancer"),
        ),
    )
    example = middle_plane(job.data.images[0])
    options: dict[str, Any] = {
        "facts": facts,
        "overwrite": True,
        "tensors": _tensors(job, target),
        "progress": job.show_progress,
    }
    if isinstance(training.model, PackagedModel) and job.base is not None:
        return write_finetuned_validated(job.base, training.model, details, example, target, **options)
    if isinstance(training.model, PackagedModel):
        msg = "A model out of a package was trained, but no base model is known."
        raise TypeError(msg)
    save_network(training.model, job.output / SEGMENTOR_FILE)
    return write_validated(training.model, details, example, target, **options)


def _kept_figures(predictions: Sequence[Prediction]) -> dict[str, float]:
    labels = [one.labels for one in predictions if one.labels is not None]
    return {KEPT_IN_WORDS: kept_share(labels)} if labels else {}
