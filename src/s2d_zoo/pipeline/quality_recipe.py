"""What a recipe says of the measurement of its enhancer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.finetune.weighting import Weighting
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.pretrain_sources import source_images
from s2d_zoo.pipeline.quality_inputs import DirectSettings, QualitySettings, QualitySources
from s2d_zoo.pipeline.recipes import Recipe
from s2d_zoo.rf_adapter.source_forests import hash_images
from s2d_zoo.zoo.collection import bundled_models, find_model


def enhancer_of(recipe: Recipe, given: str | None = None) -> Path:
    """The package to measure: what was given, or the bundled model of the recipe's id, or what pretrain just wrote.

    Args:
        recipe: of the enhancer.
        given: id of a bundled or downloaded model, or the path of a package.

    Raises:
        PackageError: if there is none.
    """
    if given is not None:
        return find_model(given)
    if any(entry.id == recipe.id for entry in bundled_models()):
        return find_model(recipe.id)
    made = Path("build") / recipe.id / f"{recipe.id}.zip"
    if not made.is_file():
        msg = (
            f"There is no enhancer {recipe.id}: it is no bundled model, and {made} is not there. Make it with s2d-zoo "
            "pretrain --recipe, or name another one with --enhancer ID|PATH."
        )
        raise PackageError(msg)
    return made


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


def tell_of_other_sources(package: Path, sources: QualitySources) -> str:
    """In words, if the package says that it was trained on other images than its recipe names; else nothing.

    The direct network learns from the recipe's images, and targets are marked by them.

    Args:
        package: of the enhancer that is measured.
        sources: what the recipe names.
    """
    with open_package(package) as contents:
        config: Any = contents.rdf.get("config") or {}
    provenance: Any = (config.get("s2d_zoo") or {}).get("provenance") or {}
    stated = (provenance.get("inputs") or {}).get("training images")
    if stated == hash_images(sources.training):
        return ""
    return (
        f"{package} was not made from the images that the recipe names ({', '.join(sources.names)}), or by another "
        "version of s2d-zoo: what is said of its sources, and the direct network, may be wrong. Measure a package that "
        "s2d-zoo pretrain --recipe made."
    )


def segmentors_like(pretrain: PretrainSettings, *, weighting: Weighting) -> SegmentorSettings:
    """Training of the segmentors, in the precision in which the enhancer was trained."""
    usual = QualitySettings().segmentor
    precision = pretrain.enhancer.training.precision
    return replace(usual, weighting=weighting, training=replace(usual.training, precision=precision))


def direct_like(pretrain: PretrainSettings) -> DirectSettings:
    """Training of the direct network as that of the enhancer, which sees objects as small and as large.

    Forests for the enhancer are grown at several pixel sizes, of which patches are then zoomed once more, unless all
    are upright. Patches of raw images vary in size in no other way, so none of the direct network's is upright.
    """
    patches, zoom = pretrain.enhancer.patches, pretrain.forests.microscopes.zoom
    if patches.upright < 1:
        zoom = (patches.zoom[0] * zoom[0], patches.zoom[1] * zoom[1])
    return DirectSettings(
        boundary=pretrain.enhancer.boundary,
        patches=replace(patches, zoom=zoom, upright=0.0),
        training=pretrain.enhancer.training,
    )
