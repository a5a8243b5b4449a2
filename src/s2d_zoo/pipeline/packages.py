"""The packages of a run: its segmentor, and the enhancer that it used."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.network import save_network
from s2d_zoo.data.scores import Score
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.pipeline.job import MODEL_DESCRIPTION, Job
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.segmentors import Segmentors


def write_packages(
    job: Job, segmentors: Segmentors, predictions: Sequence[Prediction], scores: Mapping[str, Mapping[str, Score]]
) -> tuple[Path, ...]:
    """Write the segmentor as a package, and put the enhancer that was used beside it, unchanged.

    Returns:
        Paths of the packages.
    """
    folder = job.output / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    packages = []
    network, package = job.output / "segmentor.safetensors", folder / f"{job.settings.model_id}.zip"
    if segmentors.training is not None:
        save_network(segmentors.training.model, network)
        packages.append(_write_segmentor(job, segmentors.training.model, predictions, scores, package))
    if job.enhancer_package.is_file():
        target = folder / job.enhancer_package.name
        with atomic_write(target) as temporary:
            shutil.copyfile(job.enhancer_package, temporary)
        packages.append(target)
    return tuple(packages)


def _write_segmentor(
    job: Job,
    model: UNet,
    predictions: Sequence[Prediction],
    scores: Mapping[str, Mapping[str, Score]],
    target: Path,
) -> Path:
    settings = job.settings
    split = job.split
    details = ModelDetails(
        id=settings.model_id,
        name=settings.model_name,
        description=MODEL_DESCRIPTION,
        attribution=settings.attribution,
        kind="segmentor",
        config={
            "provenance": {
                "inputs": job.inputs.named_hashes(),
                "versions": job.run["versions"],
                "seed": settings.seed,
                "enhancer": job.enhancer.id,
                "strokes": {"training": split.n_training, "held_out": split.n_held_out},
                "kept_pseudo_labels": [round(one.labels.kept, 4) for one in predictions if one.labels is not None],
            }
        },
    )
    facts = CardFacts(
        training_data=f"{len(job.data.images)} image(s) given by the user: "
        + ", ".join(path.name for path in job.inputs.images),
        training_data_license="not stated; that of the images",
        strokes=f"{split.n_training} strokes for training and {split.n_held_out} held out for testing",
        seed=settings.seed,
        evaluation="Foreground IoU at 0.5" if scores else "",
        figures={
            f"{method}, {subset} images": score.iou
            for subset, methods in scores.items()
            for method, score in methods.items()
        },
        lineage=(
            f"Random Forest: {settings.forest.n_estimators} trees on ilastik's features, fitted on the strokes",
            f"Enhancer: {job.enhancer.id}",
            f"Segmentor: a U-Net trained on pseudo-labels, weighted by {settings.pseudo_labels.n_forests} forests",
        ),
    )
    return write_package(model, details, job.data.images[0], target, facts=facts, overwrite=True)
