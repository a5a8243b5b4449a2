"""From labelled source images to a published enhancer: forests, training, evaluation, package, model card."""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.enhancer.dataset import ProbabilityMap
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.training import EnhancerSettings, train_enhancer
from s2d_zoo.export.description import Attribution, ModelDetails, check_words
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.pipeline.cell_files import alone_in
from s2d_zoo.pipeline.evaluation import Comparison, compare_on_images
from s2d_zoo.pipeline.pretrain_sources import (
    SourceSettings,
    cautions,
    citations,
    common_pixel_size,
    licences,
    median_diameter,
    simulated_images,
    source_images,
    terms_left_out,
)
from s2d_zoo.pipeline.record import Clock, describe_run, training_details
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.source_forests import SourceForests, SourceForestSettings, SourceMap
from s2d_zoo.trainer import TrainingResult
from s2d_zoo.types import CHANNEL

logger = logging.getLogger(__name__)

#: validation needs fewer forests than training
_VALIDATION_SHARE: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """Everything that can be chosen.

    Raises:
        ConfigError: for an id, a name or a description that bioimage.io does not take.
    """

    id: str
    name: str
    description: str
    attribution: Attribution
    tags: tuple[str, ...] = ()  #: what it is for, in the zoo's words, e.g. nuclei
    source: SourceSettings
    forests: SourceForestSettings = field(default_factory=SourceForestSettings)
    enhancer: EnhancerSettings = field(default_factory=EnhancerSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        check_words(identifier=self.id, name=self.name, description=self.description)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """What came out, and where it lies."""

    package: Path
    card: Path  #: folder with README.md, evaluation.json and cover.png
    training: TrainingResult[UNet]
    comparisons: tuple[Comparison, ...]
    seconds: dict[str, float]  #: wall time of each stage, over all runs in this folder


def pretrain(
    settings: PretrainSettings,
    output: Path,
    *,
    command: str,
    data_dir: Path | None = None,
    progress: bool = True,
) -> PretrainResult:
    """Train an enhancer and write its package and model card; an interrupted run in the same folder goes on.

    Args:
        settings: what to train on, and how.
        output: folder for forests, checkpoints, package and card.
        command: the command line, for the card.
        data_dir: folder with local copies of the datasets.
        progress: show progress bars on stderr.

    Raises:
        DownloadError: if a dataset cannot be had.
        ConfigError: if the folder holds another training, or another process is at it.
    """
    for sentence in terms_left_out(settings.source, license_=str(settings.attribution.license)):
        logger.warning("%s", sentence)
    with alone_in(output):
        return _pretrain(settings, output, command=command, data_dir=data_dir, progress=progress)


def _pretrain(
    settings: PretrainSettings, output: Path, *, command: str, data_dir: Path | None, progress: bool
) -> PretrainResult:
    clock = Clock(output / "seconds.json")
    with clock.stage("source forests"):
        training_images, validation_images = source_images(settings.source, data_dir, seed=settings.seed)
        forests = _grow(settings, training_images, output / "forests", progress="source forests" if progress else None)
        held_out = _grow(
            replace(settings, forests=_fewer(settings.forests), seed=settings.seed + 1),
            validation_images,
            output / "validation-forests",
            progress="validation forests" if progress else None,
        )
    with clock.stage("training"):
        training = train_enhancer(
            _maps(forests),
            _maps(held_out),
            _seeded(settings),
            folder=output / "checkpoints",
            progress="enhancer" if progress else None,
        )
    enhancer = Enhancer(id=settings.id, model=training.model, contract=_contract(forests))
    with clock.stage("evaluation", resumed=False):
        comparisons = _evaluate(enhancer, settings, data_dir, progress=progress)
    hashes = {"training images": forests.source_hash, "validation images": held_out.source_hash}
    run = describe_run("pretrain", options={"settings": settings}, hashes=hashes, seed=settings.seed)
    package = _package(training, settings, forests, comparisons, run, output)
    card = _write_card(output / "card", package, run, training, comparisons, command=command, seconds=clock.seconds)
    return PretrainResult(package=package, card=card, training=training, comparisons=comparisons, seconds=clock.seconds)


def _grow(
    settings: PretrainSettings, images: Sequence[LabelledImage], folder: Path, *, progress: str | None
) -> SourceForests:
    forests = SourceForests(images, folder, replace(settings.forests, seed=settings.seed))
    forests.grow(progress=progress)
    return forests


def _fewer(settings: SourceForestSettings) -> SourceForestSettings:
    return replace(settings, n_forests=max(settings.n_stages, settings.n_forests // _VALIDATION_SHARE))


def _seeded(settings: PretrainSettings) -> EnhancerSettings:
    return replace(settings.enhancer, training=replace(settings.enhancer.training, seed=settings.seed))


def _maps(forests: SourceForests) -> list[ProbabilityMap]:
    return [ProbabilityMap(probabilities=one.probabilities, labels=one.labels) for one in forests.maps()]


def _contract(forests: SourceForests) -> RFContract:
    """What the forests of the training delivered is what the enhancer takes."""
    classifier: PixelClassifier = forests.classifier(0)
    contract = classifier.contract
    fewest, most = forests.settings.strokes
    return contract.model_copy(
        update={
            "forest": contract.forest.model_copy(
                update={
                    "n_source_forests": forests.settings.n_forests,
                    "labels": (
                        f"{fewest} to {most} simulated strokes per class and image, or balanced pixels of a crop; in "
                        "later stages also tiles where an earlier forest was most wrong"
                    ),
                }
            ),
            "raw_channels": None,
            "pixel_size": common_pixel_size(forests.images),
            "object_diameter": median_diameter(forests.images),
            "trained_zoom": forests.settings.microscopes.zoom,
        }
    )


def _evaluate(
    enhancer: Enhancer, settings: PretrainSettings, data_dir: Path | None, *, progress: bool
) -> tuple[Comparison, ...]:
    """On the datasets' test splits, and on simulated images with seeds of their own if there were such in training."""
    groups: dict[str, Sequence[LabelledImage]] = {
        f"{source}, test split": source.load("test", data_dir) for source in settings.source.datasets
    }
    if settings.source.n_simulated:
        groups["simulated nuclei"] = simulated_images(12, purpose="evaluation", seed=settings.seed)
    return tuple(
        compare_on_images(
            enhancer, images, name=name, seed=settings.seed, progress=f"evaluation, {name}" if progress else None
        )
        for name, images in groups.items()
    )


def _package(
    training: TrainingResult[UNet],
    settings: PretrainSettings,
    forests: SourceForests,
    comparisons: Sequence[Comparison],
    run: dict[str, Any],
    output: Path,
) -> Path:
    details = ModelDetails(
        id=settings.id,
        name=settings.name,
        description=settings.description,
        attribution=replace(settings.attribution, cite=(*settings.attribution.cite, *citations(settings.source))),
        kind="enhancer",
        contract=_contract(forests),
        tags=settings.tags,
        config={"provenance": {key: run[key] for key in ("options", "inputs", "seed", "versions")}},
    )
    first = _example(forests, settings)
    evaluation = (
        "Foreground IoU at 0.5 on images that were not trained on; a forest of 100 trees fitted on "
        f"{comparisons[0].n_strokes} simulated strokes per class in each image."
    )
    facts = CardFacts(
        training_data="; ".join(
            [f"{source}, train split" for source in settings.source.datasets]
            + ([f"{simulated} simulated images of nuclei"] if (simulated := settings.source.n_simulated) else [])
        ),
        training_data_license=licences(settings.source, shown=first.dataset or "simulated nuclei"),
        strokes=_contract(forests).forest.labels,
        seed=settings.seed,
        evaluation=" ".join((evaluation, *cautions(settings.source))),
        figures={
            f"{one.name} ({one.n_images} images), {method}": round(score.iou, 4)
            for one in comparisons
            for method, score in (("RF", one.forest), ("enhanced", one.enhanced))
        },
        training_details=training_details(settings.enhancer.training, steps=training.steps),
        limits=tuple(one.loss for one in comparisons if one.loss),
        lineage=(f"{settings.forests.n_forests} Random Forests in {settings.forests.n_stages} stages",),
    )
    example = first.labels.copy(data=first.probabilities.astype(np.float32) / 255.0).expand_dims(CHANNEL)
    return write_package(training.model, details, example, output / f"{settings.id}.zip", facts=facts, overwrite=True)


def _example(forests: SourceForests, settings: PretrainSettings) -> SourceMap:
    """The map that goes into the package: of the dataset that is named first, if there are such."""
    maps = forests.maps()
    named = [source.name for source in settings.source.datasets[:1]]
    return next((one for one in maps if one.dataset in named), maps[0])


def _write_card(
    folder: Path,
    package: Path,
    run: dict[str, Any],
    training: TrainingResult[UNet],
    comparisons: Sequence[Comparison],
    *,
    command: str,
    seconds: dict[str, float],
) -> Path:
    """The package's own card, and beside it what depends on the machine: command and times."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(package) as archive:
        text = archive.read("README.md").decode("utf-8")
        cover = archive.read("cover.png")
    minutes = ", ".join(f"{name} {value / 60:.1f} min" for name, value in seconds.items())
    text += (
        f"\n## How it was made\n\n```\n{command}\n```\n\nSeed {run['seed']}; {minutes}, "
        f"on {run['machine']['cores']} cores ({run['machine']['processor']}).\n"
    )
    for name, content in (("README.md", text.encode("utf-8")), ("cover.png", cover)):
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    evaluation = {
        "command": command,
        "training": {"steps": training.steps, "validation_loss": training.validation_loss},
        "comparisons": [one.to_json() for one in comparisons],
        "run": run,
        "seconds": seconds,
    }
    write_json(folder / "evaluation.json", evaluation)
    return folder
