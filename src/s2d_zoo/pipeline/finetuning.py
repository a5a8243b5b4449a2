"""A network trained further, or anew, from files to a file: on pseudo-labels, or an enhancer on strokes."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.axes import as_labels, check_same_space, space_dims
from s2d_zoo.data.images import read_image
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.scribbles import read_scribbles
from s2d_zoo.errors import ConfigError, NotImprovedError, PackageError, UserInputError
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.weights_difference import WeightsDifference, compare_weights
from s2d_zoo.finetune.finetuning import (
    SegmentorSettings,
    SegmentorTraining,
    new_segmentor,
    not_improved,
    train_segmentor,
)
from s2d_zoo.finetune.pseudo_labels import KEPT_IN_WORDS, PseudoLabels, kept_share
from s2d_zoo.finetune.weighting import BY_CONSENSUS, WEIGHTING_IN_WORDS
from s2d_zoo.pipeline.base_models import OpenedBase, check_base_model, describe_finetuned, open_base_model
from s2d_zoo.pipeline.classification import refuse_existing
from s2d_zoo.pipeline.inputs import named_hashes
from s2d_zoo.pipeline.record import describe_run, training_details, whole_minutes
from s2d_zoo.pipeline.training_report import write_training_report
from s2d_zoo.pipeline.validated import write_finetuned_validated
from s2d_zoo.pipeline.words import ModelWords
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS
from s2d_zoo.validate.report import ValidationReport

_NETWORK = ".safetensors"
_PACKAGE = ".zip"
#: below, on the held-out strokes, a model is of no use
POOR_IOU: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneFiles:
    """Files to train a segmentor on.

    Raises:
        ConfigError: if files that belong together are not equally many.
    """

    images: tuple[Path, ...]
    pseudo_labels: tuple[Path, ...]
    weights: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    base_model: str | Path | None = None  #: a network (*.safetensors), a package, or the id of a downloaded model
    trust_code: bool = False  #: run Python code of the base model's package, if its network needs that
    axes: str | None = None  #: of the images, where the files do not tell

    def __post_init__(self) -> None:
        for option, files in (
            ("--pseudo-labels", self.pseudo_labels),
            ("--weights", self.weights),
            ("--held-out", self.held_out),
        ):
            if len(files) != len(self.images) and (files or option == "--pseudo-labels"):
                msg = f"{option} was given {len(files)} times and --image {len(self.images)} times: give one for each."
                raise ConfigError(msg)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by kind, number and file name."""
        kinds = {
            "image": self.images,
            "pseudo-labels": self.pseudo_labels,
            "weights": self.weights,
            "held-out strokes": self.held_out,
        }
        return named_hashes(kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """What came out of a training, and where it lies."""

    training: SegmentorTraining[UNet | PackagedModel]
    report: Path
    difference: WeightsDifference | None = None  #: to the model that was there before; None for a fresh one
    validation: ValidationReport | None = None  #: of the package; None where a network was written


def finetune_files(
    files: FinetuneFiles,
    output: Path,
    *,
    settings: SegmentorSettings,
    words: ModelWords | None = None,
    foreground: int = 2,
    allow_worse: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Finetuned:
    """Train a segmentor on pseudo-labels and write it, with a report beside it.

    Args:
        files: to train on, and to begin from.
        output: a network (*.safetensors); of a base model out of a package, a package (*.zip).
        settings: of the training.
        words: what a package says of itself.
        foreground: label of the foreground in the held-out strokes.
        allow_worse: write it even if it is worse than its start.
        overwrite: replace what is there.
        progress: show progress bars on stderr.

    Raises:
        NotImprovedError: if it ends worse than it began on the held-out strokes; only the report is written then.
        ConfigError: if the output is there already or of the wrong kind, words are missing, or the base model's
            licence does not allow the chosen one.
        UserInputError: for anything wrong with images or labels.
        PackageError: if the base model cannot be trained.
    """
    started = time.perf_counter()
    if files.weights and settings.weighting not in BY_CONSENSUS:
        msg = (
            f"--weights count with --weighting {' and '.join(BY_CONSENSUS)}; with {settings.weighting} they would be "
            "ignored. Leave them out, or choose another weighting."
        )
        raise ConfigError(msg)
    base = _open_base(files, output, words)
    taken = Path(files.base_model) if files.base_model and base is None else None
    refuse_existing(output, overwrite=overwrite, inputs=(taken if base is None else base.package,))
    images = [read_image(path, axes=files.axes) for path in files.images]
    labels = [
        _read_pseudo_labels(path, image, files.weights[index] if files.weights else None)
        for index, (path, image) in enumerate(zip(files.pseudo_labels, images, strict=True))
    ]
    held_out = [read_scribbles(path) for path in files.held_out]
    for image, strokes in zip(images, held_out, strict=False):
        check_same_space(image, strokes, names=("image", "held-out strokes"))
    if base is not None and words is not None:
        check_base_model(base, images, words.attribution, names=[path.name for path in files.images])
    before: UNet | PackagedModel = (
        base.model if base else load_network(taken) if taken else new_segmentor(images, settings)
    )
    options = {"settings": settings, "foreground": foreground, "allow_worse": allow_worse}
    run = describe_run("finetune", options=options, hashes=files.hashes, seed=settings.training.seed)
    provenance = {key: run[key] for key in ("inputs", "options", "seed", "versions")}
    if base is not None:
        provenance["base_model"] = base.lineage.to_json()
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as folder:
        training = train_segmentor(
            before,
            images,
            labels,
            settings,
            folder=Path(folder),
            held_out=held_out,
            foreground=foreground,
            untrained=files.base_model is None,
            allow_worse=True,  # so that the report can say by how much
            progress="segmentor" if progress else None,
        )
    provenance["wall_time_minutes"] = whole_minutes(time.perf_counter() - started)
    difference = None if files.base_model is None else difference_of(before, training.model)
    report = write_training_report(
        output, provenance, training=training, difference=difference, allow_worse=allow_worse
    )
    refuse_worse(training, report, allow=allow_worse)
    if difference is not None:
        refuse_unchanged(difference, str(files.base_model))
    validation = None
    if base is not None and words is not None:
        validation = _write_package(
            base,
            training,
            words,
            images,
            provenance,
            output,
            kept=kept_share(labels),
            details_of_training=training_details(settings.training, weighting=WEIGHTING_IN_WORDS[settings.weighting]),
            overwrite=overwrite,
            progress=progress,
        )
    elif isinstance(training.model, UNet):
        save_network(training.model, output)
    return Finetuned(training=training, report=report, difference=difference, validation=validation)


def _write_package(
    base: OpenedBase,
    training: SegmentorTraining[Any],
    words: ModelWords,
    images: Sequence[xr.DataArray],
    provenance: Mapping[str, Any],
    output: Path,
    *,
    kept: float,
    details_of_training: Mapping[str, Any],
    overwrite: bool,
    progress: bool,
) -> ValidationReport:
    details = ModelDetails(
        id=words.id,
        name=words.name,
        description=describe_finetuned(base),
        attribution=words.attribution,
        kind="segmentor",
        config={"provenance": {key: value for key, value in provenance.items() if key != "base_model"}},
    )
    facts = CardFacts(
        training_data=words.training_data or f"{len(images)} image(s) given by the user",
        training_data_license=words.training_data_license,
        strokes="pseudo-labels, given as files",
        seed=provenance["seed"],
        evaluation="On painted pixels that were held out" if training.end else "",
        figures={**held_out_figures(training), KEPT_IN_WORDS: kept},
        limits=limits_of(training),
        training_details=details_of_training,
        lineage=(f"Base model: {base.id}", "The base model trained on pseudo-labels"),
    )
    return write_finetuned_validated(
        base, training.model, details, images[0], output, facts=facts, overwrite=overwrite, progress=progress
    )


def refuse_worse(training: SegmentorTraining[Any], report: Path, *, allow: bool) -> None:
    """Give out nothing that ended worse than it began; its report stays.

    Raises:
        NotImprovedError: naming the report.
    """
    if training.worse and not allow:
        msg = f"{not_improved(training.worse)} Report: {report}"
        raise NotImprovedError(msg)


def refuse_unchanged(difference: WeightsDifference, name: str) -> None:
    """Give out nothing that is what it was.

    Raises:
        PackageError: if no weight has changed.
    """
    if not difference.changed:
        msg = f"The weights are those of {name}, to the last bit: train for more steps, or at a higher rate."
        raise PackageError(msg)


def difference_of(before: UNet | PackagedModel, after: UNet | PackagedModel) -> WeightsDifference:
    """What a training has changed."""
    one, two = (model.network.network if isinstance(model, PackagedModel) else model for model in (before, after))
    return compare_weights(one, two)


def held_out_figures(training: SegmentorTraining[Any]) -> dict[str, float]:
    """For a model card."""
    if training.start is None or training.end is None:
        return {}
    return {
        "IoU, held-out strokes, before training": training.start.iou,
        "IoU, held-out strokes, after training": training.end.iou,
        "calibration error, held-out strokes, before training": training.start.calibration_error,
        "calibration error, held-out strokes, after training": training.end.calibration_error,
    }


def limits_of(training: SegmentorTraining[Any]) -> tuple[str, ...]:
    """For a model card: that it is worse than its start, or was never compared with it."""
    if training.end is None:
        return (
            "Whether it is better than before its training was not tested: no strokes of both kinds were held out.",
        )
    found = []
    if training.end.iou < POOR_IOU:
        found.append(f"It finds hardly any of the strokes that were held out (IoU {training.end.iou:.3f}).")
    if training.worse:
        found.append(f"On the strokes that were held out it is worse than before its training: {training.worse}.")
    return tuple(found)


def _open_base(files: FinetuneFiles, output: Path, words: ModelWords | None) -> OpenedBase | None:
    """The base model out of a package, if it is one, and an output that it can become."""
    packaged = files.base_model is not None and Path(files.base_model).suffix != _NETWORK
    wanted = _PACKAGE if packaged else _NETWORK
    if output.suffix != wanted:
        what = "a model out of a package becomes a package" if packaged else "a network becomes a network"
        msg = f"Expected an --output that ends in {wanted} ({what}), got {output}."
        raise ConfigError(msg)
    if not packaged:
        return None
    if words is None:
        msg = "A package must name its makers and terms of use: give --authors and --license."
        raise ConfigError(msg)
    return open_base_model(str(files.base_model), trust_code=files.trust_code)


def _read_pseudo_labels(path: Path, image: xr.DataArray, weights: Path | None) -> PseudoLabels:
    labels = read_image(path)
    check_same_space(image, labels, names=("image", f"pseudo-labels {path}"))
    low, high = float(labels.min()), float(labels.max())
    if labels.sizes[CHANNEL] != len(OUTPUT_CHANNELS) or not (low >= 0 and high <= 1):
        msg = (
            f"Pseudo-labels {path} must have the channels {', '.join(OUTPUT_CHANNELS)} with values 0 to 1, found "
            f"{labels.sizes[CHANNEL]} channels with values {low:g} to {high:g}. s2d-zoo adapt writes such files."
        )
        raise UserInputError(msg)
    dims = space_dims(labels)
    weight = as_labels(read_image(weights), what="weights") if weights else xr.ones_like(labels.isel({CHANNEL: 0}))
    check_same_space(image, weight, names=("image", "weights"))
    if not (float(weight.min()) >= 0 and float(weight.max()) <= 1):
        msg = f"Weights must lie in 0…1, found {float(weight.min()):g}…{float(weight.max()):g} in {weights}."
        raise UserInputError(msg)
    return PseudoLabels(
        labels=labels.astype(np.float32), weights=xr.DataArray(weight.values.astype(np.float32), dims=dims)
    )
