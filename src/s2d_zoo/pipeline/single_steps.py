"""Each stage by itself, from files to files."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from s2d_zoo.contract import ForestContract, RFContract
from s2d_zoo.data.axes import as_labels, check_same_space, count_space_dims, space_dims
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.data.scribbles import read_scribbles
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.finetune.finetuning import SegmentorSettings, SegmentorTraining, new_segmentor, train_segmentor
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier, foreground_channels, name_classes
from s2d_zoo.rf_adapter.persistence import load_classifier, save_classifier
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.zoo.collection import find_model

logger = logging.getLogger(__name__)


def classify_file(
    image: Path,
    output: Path,
    *,
    scribbles: Path | None = None,
    classifier: Path | None = None,
    save_to: Path | None = None,
    axes: str | None = None,
    foreground: int = 2,
    class_names: Sequence[str] | None = None,
    forest: ForestSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Fit a forest on strokes, or load one, and write its probabilities of an image.

    Raises:
        ConfigError: unless exactly one of strokes and classifier is given, or if the output is there already.
        UserInputError: for anything wrong with image or strokes.
        ImageFileError, SavedFileError: for files that cannot be read or written.
    """
    if (scribbles is None) == (classifier is None):
        msg = "Give either --scribbles, to fit a forest, or --classifier, to use a saved one."
        raise ConfigError(msg)
    for target in (output, save_to):
        refuse_existing(target, overwrite=overwrite, inputs=(image, scribbles, classifier))
    picture = read_image(image, axes=axes)
    if classifier is not None:
        fitted = load_classifier(classifier)
    elif scribbles is not None:
        strokes = read_scribbles(scribbles)
        n_classes = max(int(strokes.max()), len(class_names or ()), 2)
        classes = name_classes(n_classes, foreground=foreground, names=class_names)
        fitted = PixelClassifier(settings=forest, classes=classes, random_state=seed).fit(picture, strokes)
    if save_to is not None:
        save_classifier(fitted, save_to)
    probabilities = fitted.predict_proba(picture, progress="forest" if progress else None)
    write_image(output, probabilities, overwrite=overwrite)
    return output


def enhance_file(
    probabilities: Path,
    output: Path,
    *,
    enhancer: str,
    classifier: Path | None = None,
    axes: str | None = None,
    foreground: int = 2,
    rescale: float | Literal["auto"] = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Apply an enhancer to a file of probabilities.

    Raises:
        ContractMismatchError: if the probabilities are not what the enhancer takes.
        ConfigError: if the output is there already, or the factor cannot be told.
        ImageFileError, PackageError: for files that cannot be read or written.
    """
    refuse_existing(output, overwrite=overwrite, inputs=(probabilities, classifier))
    loaded = load_enhancer(find_model(enhancer))
    maps = read_image(probabilities, axes=axes)
    delivered = (
        load_classifier(classifier).contract if classifier else describe_probabilities(maps, foreground=foreground)
    )
    factor = loaded.rescale_factor(delivered) if rescale == "auto" else rescale
    for misfit in loaded.check(delivered):
        logger.warning("%s", misfit)
    enhanced = loaded.enhance(maps, delivered, rescale=factor, progress="enhancer" if progress else None)
    write_image(output, enhanced, overwrite=overwrite)
    return output


def describe_probabilities(maps: xr.DataArray, *, foreground: int) -> RFContract:
    """Contract of probabilities of which nothing is known but their channels (channel (z) y x).

    Raises:
        UserInputError: if there is only one channel.
        ConfigError: if the foreground is not one of the channels.
    """
    if maps.sizes[CHANNEL] < 2:
        msg = "Probabilities of all classes are needed, one channel for each label; found one channel only."
        raise UserInputError(msg)
    classes = name_classes(maps.sizes[CHANNEL], foreground=foreground)
    return RFContract(
        ndim=count_space_dims(maps),
        classes=classes,
        channels=foreground_channels(classes),
        forest=ForestContract(implementation="unknown", labels="unknown"),
        raw_channels=None,
        pixel_size=maps.attrs.get("pixel_size"),
    )


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
    base_model: Path | None = None
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


def finetune_files(
    files: FinetuneFiles,
    output: Path,
    *,
    settings: SegmentorSettings,
    foreground: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> SegmentorTraining:
    """Train a segmentor on pseudo-labels and write it.

    Raises:
        NotImprovedError: if it ends worse than it began on the held-out strokes; nothing is written then.
        ConfigError: if the output is there already.
        UserInputError: for anything wrong with images or labels.
    """
    refuse_existing(output, overwrite=overwrite, inputs=(files.base_model,))
    images = [read_image(path, axes=files.axes) for path in files.images]
    labels = [
        _read_pseudo_labels(path, image, files.weights[index] if files.weights else None)
        for index, (path, image) in enumerate(zip(files.pseudo_labels, images, strict=True))
    ]
    held_out = [read_scribbles(path) for path in files.held_out]
    for image, strokes in zip(images, held_out, strict=False):
        check_same_space(image, strokes, names=("image", "held-out strokes"))
    base_model = load_network(files.base_model) if files.base_model else new_segmentor(images, settings)
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as folder:
        training = train_segmentor(
            base_model,
            images,
            labels,
            settings,
            folder=Path(folder),
            held_out=held_out,
            foreground=foreground,
            progress="segmentor" if progress else None,
        )
    save_network(training.model, output)
    return training


def export_file(
    network: Path,
    image: Path,
    output: Path,
    *,
    details: ModelDetails,
    facts: CardFacts,
    axes: str | None = None,
    overwrite: bool = False,
) -> ValidationReport:
    """Write a trained segmentor as a package, and validate it.

    Raises:
        SavedFileError, ImageFileError: for files that cannot be read.
        ConfigError: if the output is there already.
        PackageError: if the package came out invalid.
    """
    return write_validated(
        load_network(network), details, read_image(image, axes=axes), output, facts=facts, overwrite=overwrite
    )


def refuse_existing(path: Path | None, *, overwrite: bool, inputs: Sequence[Path | None] = ()) -> None:
    """Refuse early, before anything is computed; of ``file.h5:/key`` the file counts.

    Raises:
        ConfigError: if there is something at the path, or it is one of the inputs.
    """
    if path is None:
        return
    file = Path(str(path).partition(":/")[0])
    if file.exists() and any(one is not None and one.exists() and file.samefile(one) for one in inputs):
        msg = f"{path} is an input of this command and would be lost. Give the output another name."
        raise ConfigError(msg)
    if not overwrite and file.exists():
        msg = f"{path} exists already. Give another name, or --overwrite to replace it."
        raise ConfigError(msg)


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
