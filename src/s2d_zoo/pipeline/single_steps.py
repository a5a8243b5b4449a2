"""Each stage by itself, from files to files."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import as_labels, check_same_space, space_dims
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.data.scribbles import read_scribbles
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.finetune.finetuning import SegmentorSettings, SegmentorTraining, new_segmentor, train_segmentor
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.pipeline.classification import classify_file, refuse_existing
from s2d_zoo.pipeline.probabilities import read_maps, with_pixel_size
from s2d_zoo.pipeline.projects import open_classifier
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.rf_adapter.classes import foreground_channels
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.zoo.collection import find_model

__all__ = [
    "FinetuneFiles",
    "classify_file",
    "enhance_file",
    "export_file",
    "finetune_files",
    "refuse_existing",
]

logger = logging.getLogger(__name__)


def enhance_file(
    probabilities: Path,
    output: Path,
    *,
    enhancer: str,
    classifier: Path | None = None,
    trust_code: bool = False,
    axes: str | None = None,
    foreground: int | None = None,
    rescale: float | Literal["auto"] = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Apply an enhancer to a file of probabilities.

    Raises:
        ContractMismatchError: if the probabilities are not what the enhancer takes.
        ConfigError: if the output is there already, or the factor cannot be told.
        ImageFileError, PackageError, SavedFileError, ProjectFileError: for files that cannot be read or written.
    """
    refuse_existing(output, overwrite=overwrite, inputs=(probabilities, classifier))
    loaded = load_enhancer(find_model(enhancer), trust_code=trust_code)
    described = read_maps(probabilities, ndim=loaded.contract.ndim, foreground=foreground, axes=axes)
    maps, delivered = described.maps, described.contract
    if classifier is not None:
        delivered = with_pixel_size(open_classifier(classifier, foreground=foreground).contract, maps)
        if described.single and foreground_channels(delivered.classes) == (0,):
            maps = maps.isel({CHANNEL: [1, 0]})  # what is left was taken for label 1
    factor = loaded.rescale_factor(delivered) if rescale == "auto" else rescale
    for misfit in loaded.check(delivered):
        logger.warning("%s", misfit)
    enhanced = loaded.enhance(maps, delivered, rescale=factor, progress="enhancer" if progress else None)
    write_image(output, enhanced, overwrite=overwrite)
    return output


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
