"""From strokes to validated packages: every stage, in the order in which a user thinks."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2d_zoo.contract import ProbabilityPredictor
from s2d_zoo.contract_fit import Misfit
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.scores import Score
from s2d_zoo.finetune.pseudo_labels import kept_share
from s2d_zoo.pipeline.fusion import Fused, Loss
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.job import CLASSIFIER_FILE, AdaptSettings, Job, open_job
from s2d_zoo.pipeline.packages import Models, write_packages
from s2d_zoo.pipeline.prediction import (
    Prediction,
    add_fused,
    add_pseudo_labels,
    fit_forests,
    fuse_forest,
    predict,
    write_maps,
)
from s2d_zoo.pipeline.record import Clock
from s2d_zoo.pipeline.scoring import score_predictions
from s2d_zoo.pipeline.segmentors import Segmentors, add_segmentations, train_segmentors
from s2d_zoo.rf_adapter.persistence import save_classifier
from s2d_zoo.validate.rendering import to_html, to_json, to_markdown
from s2d_zoo.validate.report import ValidationReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptResult:
    """What came out of a run; all of it lies in ``job.output`` too."""

    job: Job
    predictions: tuple[Prediction, ...]  #: of the images with strokes
    test_predictions: tuple[Prediction, ...]
    misfits: tuple[Misfit, ...]  #: points in which the forest is not what the enhancer knows
    segmentors: Segmentors
    fused: Fused | None  #: forest and enhancer in one network
    not_fused: str  #: why there is none
    loss: Loss | None  #: what the forest in it lost, where it was limited
    scores: Mapping[str, Mapping[str, Score]]  #: "training" and "test" → method → score, where there is truth
    packages: tuple[Path, ...]
    validation: tuple[ValidationReport, ...]  #: one for each package
    seconds: Mapping[str, float]  #: wall time of each stage

    @property
    def good(self) -> bool:
        """Whether there is a segmentor, and every package passes every check."""
        return self.segmentors.problem is None and all(report.passed for report in self.validation)

    @property
    def kept(self) -> float:
        """Share of the pixels whose pseudo-label is trusted, over all images."""
        return kept_share([prediction.labels for prediction in self.predictions if prediction.labels is not None])


def adapt(
    inputs: AdaptInputs,
    settings: AdaptSettings,
    output: Path,
    *,
    classifier: ProbabilityPredictor | None = None,
    existing: Literal["refuse", "overwrite", "resume"] = "refuse",
    progress: bool = True,
) -> AdaptResult:
    """Strokes in, validated packages out: forest → enhancer → pseudo-labels → segmentor → packages → validation.

    Args:
        inputs: files to work on.
        settings: what to do with them.
        output: folder for the results.
        classifier: gives the probabilities, e.g. a `s2d_zoo.rf_adapter.predictors.SklearnClassifier`; the strokes are
            then for pseudo-labels and tests only. A forest is fitted on them when ``None``.
        existing: what to do if the folder is not empty; see `s2d_zoo.pipeline.job.open_job`.
        progress: show progress bars on stderr.

    Raises:
        UserInputError: for anything wrong with the inputs; nothing has been computed then.
        ConfigError: if the folder is not empty, or a setting is out of range.
        PackageError: if the enhancer cannot be read.
        OSError: if a result cannot be written; files that are there are whole.
    """
    reading = Clock()
    with reading.stage("reading"):
        job = open_job(inputs, settings, output, classifier=classifier, existing=existing, progress=progress)
    clock = Clock(job.checkpoints("seconds.json"))
    clock.seconds |= reading.seconds
    with clock.stage("forests", resumed=False):
        forests = fit_forests(job)
        if forests.forest is not None:
            save_classifier(forests.forest, output / CLASSIFIER_FILE)
    misfits = job.enhancer.check(forests.contract)
    for misfit in misfits:
        logger.warning("%s", misfit)
    with clock.stage("enhancement", resumed=False):
        predictions, test_predictions = predict(job, forests)
    with clock.stage("fusion", resumed=False):
        fused, not_fused = fuse_forest(job, forests)
        loss = None if fused is None else fused.loss(job.data.images)
        predictions = add_fused(job, fused, predictions, job.data.images)
        test_predictions = add_fused(job, fused, test_predictions, job.data.test_images)
    with clock.stage("pseudo-labels", resumed=False):
        predictions = add_pseudo_labels(job, forests, predictions)
    with clock.stage("segmentors"):
        compared = job.data.painted and bool(job.data.ground_truth or job.data.test_ground_truth)
        segmentors = train_segmentors(job, predictions, baseline=compared)
        predictions = add_segmentations(segmentors, predictions, job.data.images)
        test_predictions = add_segmentations(segmentors, test_predictions, job.data.test_images)
    write_maps(job, predictions, test_predictions)
    scores = _score(job, predictions, test_predictions)
    with clock.stage("packages and validation", resumed=False):
        seconds = sum(clock.seconds.values())
        models = Models(segmentors=segmentors, fused=fused, members=forests.members, seconds=seconds)
        validation = write_packages(job, models, predictions, scores)
        _write_validation(output, validation)
    return AdaptResult(
        job=job,
        predictions=tuple(predictions),
        test_predictions=tuple(test_predictions),
        misfits=misfits,
        segmentors=segmentors,
        scores=scores,
        fused=fused,
        not_fused=not_fused,
        loss=loss,
        packages=tuple(Path(report.package) for report in validation),
        validation=validation,
        seconds=clock.seconds,
    )


def _score(job: Job, predictions: list[Prediction], test_predictions: list[Prediction]) -> dict[str, dict[str, Score]]:
    scores = {}
    if job.data.ground_truth:
        scores["training"] = score_predictions(predictions, job.data.ground_truth)
    if job.data.test_ground_truth:
        scores["test"] = score_predictions(test_predictions, job.data.test_ground_truth)
    return scores


def _write_validation(output: Path, reports: tuple[ValidationReport, ...]) -> None:
    folder = output / "validation"
    folder.mkdir(exist_ok=True)
    for report in reports:
        name = Path(report.package).stem
        for suffix, text in ((".md", to_markdown(report)), (".json", to_json(report)), (".html", to_html(report))):
            with atomic_write(folder / f"{name}{suffix}") as temporary:
                temporary.write_text(text, encoding="utf-8")
