"""Each stage by itself, from files to files."""

import logging
from pathlib import Path
from typing import Literal

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import load_network
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline.classification import classify_file, refuse_existing
from s2d_zoo.pipeline.probabilities import read_maps, with_pixel_size
from s2d_zoo.pipeline.projects import open_classifier
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.rf_adapter.classes import foreground_channels
from s2d_zoo.types import CHANNEL
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.zoo.collection import find_model

__all__ = [
    "classify_file",
    "enhance_file",
    "export_file",
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
    known = classifier is not None  # then it tells which channel is the foreground
    described = read_maps(probabilities, ndim=loaded.contract.ndim, foreground=foreground, axes=axes, tell=not known)
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
