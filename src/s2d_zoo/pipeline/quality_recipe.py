"""What a recipe says of the measurement of its enhancer."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.written_description import listed, value_at
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.finetune.weighting import Weighting
from s2d_zoo.pipeline.cell_files import differing
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.pretrain_sources import source_images
from s2d_zoo.pipeline.quality_inputs import DirectSettings, QualitySettings, QualitySources
from s2d_zoo.pipeline.recipes import Recipe
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.rf_adapter.source_forests import hash_sources
from s2d_zoo.zoo.collection import bundled_models, find_model

#: what of a recipe decides the weights
_TRAINING: Final = ("source", "forests", "enhancer", "seed")


def enhancer_of(recipe: Recipe, given: str | None = None) -> Path:
    """The package to measure: what was given, or what pretrain just wrote, or the bundled model of the recipe's id.

    Args:
        recipe: of the enhancer.
        given: id of a bundled or downloaded model, or the path of a package.

    Raises:
        PackageError: if there is none.
    """
    if given is not None:
        return find_model(given)
    made = Path("build") / recipe.id / f"{recipe.id}.zip"
    if made.is_file():
        return made
    if any(entry.id == recipe.id for entry in bundled_models()):
        return find_model(recipe.id)
    msg = (
        f"There is no enhancer {recipe.id}: it is no bundled model, and {made} is not there. Make it with s2d-zoo "
        "pretrain --recipe, or name another one with --enhancer ID|PATH."
    )
    raise PackageError(msg)


def sources_of(recipe: Recipe, *, data_dir: Path | None = None) -> QualitySources:
    """The very images that the enhancer was trained and validated on.

    Raises:
        DownloadError: if a dataset cannot be had.
        ConfigError: if the recipe names no dataset to measure on.
    """
    if not recipe.targets:
        msg = f'The recipe of {recipe.id} names no target to measure on: add [[targets]] with dataset = "…".'
        raise ConfigError(msg)
    source = recipe.pretrain.source
    training, validation = source_images(source, data_dir, seed=recipe.pretrain.seed)
    simulated = (f"{source.n_simulated} simulated images of nuclei",) if source.n_simulated else ()
    names = (*map(str, source.datasets), *simulated)
    return QualitySources(names=names, training=training, validation=validation)


def tell_if_made_otherwise(package: Path, recipe: Recipe, sources: QualitySources) -> str:
    """In words, if the package says that it was trained otherwise than its recipe says, or on other images; or nothing.

    The direct network learns from the recipe's images with its settings, and targets are marked by them.

    Args:
        package: of the enhancer that is measured.
        recipe: that says how.
        sources: what the recipe names.
    """
    provenance = _provenance(package)
    if value_at(provenance, "inputs", "training images") != hash_sources(sources.training):
        return (
            f"{package} was not made from the images that the recipe names ({', '.join(sources.names)}), or by another "
            "version of s2d-zoo: what is said of its sources, and the direct network, may be wrong. Measure a package "
            "that s2d-zoo pretrain --recipe made."
        )
    settings = (to_plain(recipe.pretrain), value_at(provenance, "options", "settings"))
    if different := differing(*({part: value_at(one, part) for part in _TRAINING} for one in settings)):
        return (
            f"{package} was made with other {', '.join(different)} than the recipe says, or by another version of "
            "s2d-zoo: its direct network is trained as the recipe says. Make it anew with s2d-zoo pretrain --recipe."
        )
    return ""


def stated_datasets(package: Path) -> frozenset[str]:
    """Names of the datasets that a package says it was trained on; none if it does not say."""
    named = listed(value_at(_provenance(package), "options", "settings", "source", "datasets"))
    # names alone are from when datasets had no labels to choose from
    return frozenset(one if isinstance(one, str) else str(value_at(one, "name")) for one in named)


def _provenance(package: Path) -> object:
    """What a package says of its making; it may be anybody's, and say anything."""
    with open_package(package) as contents:
        return value_at(contents.rdf, "config", "s2d_zoo", "provenance")


def segmentors_like(pretrain: PretrainSettings, *, weighting: Weighting) -> SegmentorSettings:
    """Training of the segmentors, in the precision in which the enhancer was trained."""
    usual = QualitySettings().segmentor
    precision = pretrain.enhancer.training.precision
    return replace(usual, weighting=weighting, training=replace(usual.training, precision=precision))


def direct_like(pretrain: PretrainSettings) -> DirectSettings:
    """Training of the direct network as that of the enhancer, which sees objects as small and as large.

    Forests for the enhancer are grown at several pixel sizes, of which patches are then zoomed once more, unless all
    are upright. Patches of raw images vary in size in no other way, so none of the direct network's is upright. It is
    trained in float32 whatever the recipe says, so that rounding is never why a rival loses.
    """
    patches, zoom = pretrain.enhancer.patches, pretrain.forests.microscopes.zoom
    if patches.upright < 1:
        zoom = (patches.zoom[0] * zoom[0], patches.zoom[1] * zoom[1])
    return DirectSettings(
        boundary=pretrain.enhancer.boundary,
        patches=replace(patches, zoom=zoom, upright=0.0),
        training=replace(pretrain.enhancer.training, precision="float32"),
    )
