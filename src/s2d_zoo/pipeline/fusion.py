"""A forest and an enhancer in one network, as a package that runs on raw images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.contract_fit import matching_channels
from s2d_zoo.data.axes import as_image
from s2d_zoo.data.images import read_image
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import AxesError, ConfigError
from s2d_zoo.export.description import Attribution, Fusion, ModelDetails
from s2d_zoo.export.fused import build_pixel_forest
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.tolerance import FloatArray
from s2d_zoo.pipeline.base_models import inherited_attribution
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.projects import open_classifier
from s2d_zoo.pipeline.single_steps import refuse_existing
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.types import CHANNEL
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.zoo.collection import find_model

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "Feature filters, a Random Forest that learnt from a few brush strokes, and the enhancer behind it, in one "
    "network: foreground and boundary of raw images."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionSettings:
    """How much of the forest goes into a fused package.

    Raises:
        ConfigError: if a number is below 1.
    """

    trees: int | None = None  #: the first of them; all when None
    max_depth: int | None = None  #: trees are cut off below; as deep as they are when None

    def __post_init__(self) -> None:
        for option, number in (("--fused-trees", self.trees), ("--max-depth", self.max_depth)):
            if number is not None and number < 1:
                msg = f"{option} must be at least 1, got {number}."
                raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedWords:
    """What a fused package says of itself."""

    id: str
    name: str
    attribution: Attribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a forest lost by being limited: differences in the enhanced foreground from that of the whole forest."""

    trees: tuple[int, int]  #: before, after
    nodes: tuple[int, int]
    mean_difference: float  #: of the probability
    changed: float  #: share of pixels that change sides at 0.5

    def __str__(self) -> str:
        return (
            f"limited from {self.trees[0]} to {self.trees[1]} trees and from {self.nodes[0]} to {self.nodes[1]} nodes: "
            f"after the enhancer {100 * self.changed:.2f} % of the pixels change sides, the probability of the "
            f"foreground differs by {self.mean_difference:.4f} on average"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One network, and the parts that it was made from."""

    model: PixelForest
    classifier: PixelClassifier  #: with the forest as it is in the network
    enhancer: Enhancer
    original: PixelClassifier  #: with the forest as it was fitted

    @property
    def contract(self) -> RFContract:
        """What the forest in it delivers."""
        return self.classifier.contract

    def unfused(self, values: FloatArray) -> FloatArray:
        """What filters, forest and enhancer give one after another: ``(1, channel, y, x)`` in and out, no padding."""
        return _one_after_another(self.classifier, self.enhancer.contract, self.model.enhancer, values)

    def loss(self, images: Sequence[xr.DataArray]) -> Loss | None:
        """Compare with the forest as it was fitted, on images (channel y x); None if nothing was left out."""
        before, after = self.original.forest, self.classifier.forest
        if len(before.feature) == len(after.feature):
            return None
        differences, changed = [], []
        for image in images:
            whole, less = (
                self.enhancer.enhance(one.predict_proba(image), one.contract)[0].values
                for one in (self.original, self.classifier)
            )
            differences.append(np.abs(whole - less).ravel())
            changed.append(((whole >= 0.5) != (less >= 0.5)).ravel())
        return Loss(
            trees=(before.n_trees, after.n_trees),
            nodes=(len(before.feature), len(after.feature)),
            mean_difference=float(np.concatenate(differences).mean()),
            changed=float(np.concatenate(changed).mean()),
        )


def fuse(classifier: PixelClassifier, enhancer: Enhancer, settings: FusionSettings) -> Fused:
    """Make one network of a forest and an enhancer.

    Raises:
        ContractMismatchError: if the forest does not deliver what the enhancer takes.
        ConfigError: for a forest on 3D features.
    """
    enhancer.check(classifier.contract)
    if not isinstance(enhancer.model, UNet):
        msg = f"The enhancer {enhancer.id} is a network of another project; only those of s2d-zoo can be fused."
        raise ConfigError(msg)
    contract = classifier.contract
    if contract.features is None or contract.raw_channels is None:
        msg = "The contract of the forest must say which features and how many raw channels it takes, to be fused."
        raise ConfigError(msg)
    if settings.trees is not None and settings.trees > classifier.forest.n_trees:
        logger.warning("The forest has %d trees only; all of them are used.", classifier.forest.n_trees)
    forest = classifier.forest.limited(n_trees=settings.trees, max_depth=settings.max_depth)
    changed = {"n_estimators": forest.n_trees}
    if settings.max_depth is not None:
        changed["max_depth"] = settings.max_depth
    limited = PixelClassifier.from_forest(
        forest,
        contract.model_copy(update={"forest": contract.forest.model_copy(update=changed)}),
        random_state=classifier.random_state,
    )
    model = build_pixel_forest(
        forest.to_arrays(),
        contract.features,
        raw_channels=contract.raw_channels,
        fed=matching_channels(enhancer.contract, contract),
        enhancer=enhancer.model,
    )
    return Fused(model=model, classifier=limited, enhancer=enhancer, original=classifier)


def write_fused(
    fused: Fused,
    words: FusedWords,
    images: Sequence[xr.DataArray],
    output: Path,
    *,
    facts: CardFacts,
    provenance: Mapping[str, object],
    overwrite: bool = False,
    tensors: Path | None = None,
    progress: bool = False,
) -> tuple[ValidationReport, Loss | None]:
    """Write a fused package and validate it.

    Args:
        fused: what goes into it.
        words: what the package says of itself.
        images: channel y x, raw; the first gives the test tensors, all of them tell what was lost by limiting.
        output: the package, ``*.zip``.
        facts: what the card says of training and quality.
        provenance: where it comes from, plain JSON.
        overwrite: replace an existing package.
        tensors: folder for the differences between the weights formats.
        progress: show on stderr which check is running.

    Returns:
        What validation found, and what the forest lost by being limited.
    """
    loss = fused.loss(images)
    forest = fused.classifier.forest
    details = ModelDetails(
        id=words.id,
        name=words.name,
        description=DESCRIPTION,
        attribution=words.attribution,
        kind="fused",
        fusion=Fusion(
            forest=fused.contract,
            enhancer=fused.enhancer.id,
            facts={
                "trees": forest.n_trees,
                "nodes": len(forest.feature),
                "depth": int(forest.depths().max()),
                **({} if loss is None else {"loss": {"changed": loss.changed, "mean": loss.mean_difference}}),
            },
        ),
        config={"provenance": dict(provenance)},
    )
    report = write_validated(
        fused.model,
        details,
        images[0],
        output,
        facts=facts if loss is None else replace(facts, limits=(*facts.limits, f"The forest was {loss}.")),
        overwrite=overwrite,
        unfused=fused.unfused,
        tensors=tensors,
        progress=progress,
    )
    return report, loss


def fuse_files(
    classifier: Path,
    image: Path,
    output: Path,
    *,
    enhancer: str,
    words: FusedWords,
    settings: FusionSettings,
    foreground: int | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[ValidationReport, Loss | None]:
    """Fuse a saved forest with an enhancer, and write and validate the package.

    Args:
        classifier: as `s2d-zoo classify --save-classifier` and `s2d-zoo adapt` write it, or an ilastik project.
        image: a raw image, for the test tensors and for what is lost by limiting the forest.
        output: the package, ``*.zip``.
        enhancer: id of a bundled enhancer, or path of a package.
        words: what the package says of itself.
        settings: how much of the forest goes into it.
        foreground: label of the objects in an ilastik project; as its names say, else 2, when ``None``.
        axes: of the image, where the file does not tell.
        overwrite: replace an existing package.
        progress: show on stderr which check is running.

    Raises:
        ContractMismatchError: if the forest does not deliver what the enhancer takes.
        ConfigError: if the package is there already, the forest cannot be fused, or the enhancer's licence does not
            allow the chosen one.
        ProjectFileError: for an ilastik project that cannot be read.
        SavedFileError, ImageFileError, PackageError: for files that cannot be read or written.
    """
    refuse_existing(output, overwrite=overwrite, inputs=(classifier, image))
    package = find_model(enhancer)
    loaded = load_enhancer(package)
    picture = as_image(read_image(image, axes=axes))
    opened = open_classifier(classifier, foreground=foreground, images=[picture])
    if not isinstance(opened, PixelClassifier):
        msg = f"{classifier} has two forests one after another (Autocontext); only a single forest can be fused."
        raise ConfigError(msg)
    fused = fuse(opened, loaded, settings)
    words = replace(words, attribution=inherited_attribution(package, words.attribution))
    if picture.sizes[CHANNEL] != fused.contract.raw_channels:
        msg = (
            f"The classifier was fitted on images with {fused.contract.raw_channels} channels; {image} has "
            f"{picture.sizes[CHANNEL]}. Give one of the images that it is for."
        )
        raise AxesError(msg)
    facts = CardFacts(
        training_data="not stated: the strokes that the forest was fitted on",
        training_data_license="not stated",
        strokes=fused.contract.forest.labels,
        seed=fused.classifier.random_state,
        lineage=describe_lineage(fused),
    )
    return write_fused(
        fused,
        words,
        [picture],
        output,
        facts=facts,
        provenance={
            "inputs": {f"classifier {classifier.name}": hash_path(classifier), f"image {image.name}": hash_path(image)},
            "enhancer": {"id": loaded.id, "sha256": hash_path(package)},
        },
        overwrite=overwrite,
        progress=progress,
    )


def describe_lineage(fused: Fused) -> tuple[str, ...]:
    """What a fused model was made from, one sentence each."""
    labels = fused.contract.forest.labels
    return (
        f"Random Forest: {fused.classifier.forest.n_trees} trees on ilastik's features, fitted on {labels}",
        f"Enhancer: {fused.enhancer.id}",
        "Both fused into one network, without further training",
    )


def _one_after_another(
    classifier: PixelClassifier, taken: RFContract, enhancer: torch.nn.Module, values: FloatArray
) -> FloatArray:
    """Filters by bioimage-cpp, trees by sklearn, then the enhancer on exactly this image."""
    features = classifier.selection.compute(xr.DataArray(values[0], dims=(CHANNEL, "y", "x")))
    probabilities = classifier.predict_features(features)
    fed = probabilities.values[list(matching_channels(taken, classifier.contract))]
    with torch.inference_mode():
        output: FloatArray = enhancer(torch.from_numpy(np.ascontiguousarray(fed[np.newaxis]))).numpy()
    return output
