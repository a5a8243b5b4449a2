"""Which cells the measurement of an enhancer has, and what decides the result of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch

from s2d_zoo._version import __version__
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import network_kwargs
from s2d_zoo.data.quality_scores import QualityScore
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.cell_files import read_finished, told_if_damaged
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.quality_inputs import (
    DirectSettings,
    QualitySettings,
    QualitySources,
    QualityTarget,
    TargetData,
    hash_images,
)
from s2d_zoo.pipeline.record import describe_environment, to_plain

FORMAT: Final = "s2d-zoo/quality-cell"
#: of how cells are computed, too
FORMAT_VERSION: Final = 3

Kind: TypeAlias = Literal["probabilities", "pseudo-labels", "strokes-only", "ceiling", "direct"]
#: those that are trained on the target; all but the ceiling on strokes
Trained: TypeAlias = Literal["pseudo-labels", "strokes-only", "ceiling"]
TRAINED: Final[tuple[Trained, ...]] = ("pseudo-labels", "strokes-only", "ceiling")

#: what the cells of each kind score
METHODS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "probabilities": ("RF", "enhancer", "consensus enhancer"),
    "pseudo-labels": ("segmentor, pseudo-labels",),
    "strokes-only": ("segmentor, strokes only",),
    "direct": ("direct network",),
    "ceiling": ("segmentor, all true labels",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is computed and scored at once, on one target."""

    kind: Kind
    strokes: int = 0  #: per class and painted image; 0 for what sees none
    seed: int = 0

    @property
    def name(self) -> str:
        """As its file is called."""
        return f"{self.kind}-{self.strokes:03d}-seed{self.seed}" if self.strokes else f"{self.kind}-seed{self.seed}"

    def __str__(self) -> str:
        strokes = f"; strokes per class and image: {self.strokes}" if self.strokes else ""
        return f"{' and '.join(METHODS[self.kind])}{strokes}; seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What came out of a cell."""

    cell: Cell
    scores: Mapping[str, QualityScore]  #: method (see `METHODS`) → score on all test images together
    seconds: Mapping[str, float]  #: method → wall time that it takes with these strokes
    #: further figures: of the strokes, and of pseudo-labels
    figures: Mapping[str, float] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=describe_environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The enhancer that is measured, and its network, whose size all others have."""

    enhancer: Enhancer
    sha256: str  #: of the package
    size: Mapping[str, Any]  #: arguments of `UNet`, without channels and normalisation of the input

    def new_network(self, *, in_channels: int, offset: tuple[float, ...], scale: tuple[float, ...], seed: int) -> UNet:
        """A network of the same size with random weights."""
        torch.manual_seed(seed)
        return UNet(in_channels=in_channels, input_offset=offset, input_scale=scale, **self.size)


def load_measured(package: Path) -> Measured:
    """Open the package of the enhancer.

    Raises:
        ConfigError: if its network is somebody else's, of which none can be built anew.
        PackageError: if it cannot be used.
    """
    enhancer = load_enhancer(package)
    if not isinstance(enhancer.model, UNet):
        msg = (
            f"{enhancer.id} has a network that is not s2d-zoo's, but its rivals must be networks of the same size: "
            "give an enhancer that s2d-zoo pretrain made."
        )
        raise ConfigError(msg)
    size = {name: value for name, value in network_kwargs(enhancer.model).items() if not name.startswith("in")}
    return Measured(enhancer=enhancer, sha256=hash_path(package), size=size)


def plan_cells(settings: QualitySettings, target: QualityTarget) -> tuple[Cell, ...]:
    """Every cell of a target, in the order in which they are run: first what needs no training; seed by seed."""
    told = [
        Cell(kind="probabilities", strokes=strokes, seed=seed)
        for seed in range(settings.n_seeds)
        for strokes in sorted(settings.strokes)
    ]
    kinds: tuple[Kind, ...] = (*TRAINED, "direct") if target.trainings else ()
    trained = [
        Cell(kind=kind, strokes=0 if kind in {"direct", "ceiling"} else settings.training_strokes, seed=seed)
        for seed in range(settings.n_training_seeds)
        for kind in kinds
    ]
    return (*told, *trained)


def seeded_segmentor(settings: QualitySettings, cell: Cell) -> SegmentorSettings:
    """Training of a segmentor: true labels count alike everywhere."""
    segmentor = replace(settings.segmentor, training=replace(settings.segmentor.training, seed=cell.seed))
    return replace(segmentor, weighting="none") if cell.kind == "ceiling" else segmentor


def seeded_direct(settings: QualitySettings, seed: int) -> DirectSettings:
    """Training of the direct network of a seed."""
    return replace(settings.direct, training=replace(settings.direct.training, seed=seed))


def direct_facts(sources: QualitySources, settings: QualitySettings, measured: Measured, seed: int) -> dict[str, Any]:
    """What decides the weights of a direct network, as plain JSON."""
    return {
        "s2d_zoo_version": __version__,
        "network": dict(measured.size),
        "settings": to_plain(seeded_direct(settings, seed)),
        "source images": hash_images(sources.training),
        "source images for validation": hash_images(sources.validation),
    }


def cell_facts(
    cell: Cell, data: TargetData, settings: QualitySettings, measured: Measured, direct: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides a cell's result, as plain JSON: where all of it is equal, the cell need not be run again.

    Args:
        cell: of the target.
        data: of the target.
        settings: of all.
        measured: the enhancer.
        direct: facts of the direct network of this seed (`direct_facts`).
    """
    facts: dict[str, Any] = {
        "s2d_zoo_version": __version__,
        "test images": data.hashes["test images"],
        "structure": data.target.structure,
    }
    # the numbers of painted images go into the seeds of their strokes
    strokes = {"painted images": data.hashes["painted images"], "numbers of painted images": list(data.painted)}
    forests = {
        "forest": to_plain(settings.forest),
        "n_forests": settings.n_forests,
        "enhancer": measured.sha256,
        "rescale": data.target.factor,
    }
    if cell.kind == "direct":
        return {**facts, "rescale": data.target.factor, "direct network": dict(direct)}
    if cell.kind == "probabilities":
        return {**facts, **strokes, **forests}
    settled = to_plain(seeded_segmentor(settings, cell))
    for name in ("features", "depth"):  # those of the enhancer's network take their place
        del settled[name]
    facts |= {"segmentor": settled, "network": dict(measured.size)}
    if cell.kind == "ceiling":
        return {**facts, "training images": data.hashes["training objects"]}
    if cell.kind == "strokes-only":
        return {**facts, **strokes}
    return {**facts, **strokes, **forests, "training images": data.hashes["training images"]}


def cell_to_json(result: CellResult, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is written into the file of a cell."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **to_plain(result.cell),
        "scores": to_plain(result.scores),
        "seconds": dict(result.seconds),
        "figures": dict(result.figures),
        "made_with": dict(result.made_with),
        "facts": dict(facts),
    }


def read_cell(path: Path, cell: Cell, facts: dict[str, Any], *, overwrite: bool = False) -> CellResult | None:
    """A finished cell; None where it is to be run.

    Raises:
        ConfigError: if it was made from something else, and is not to be overwritten.
        SavedFileError: if the file is damaged.
    """
    found = read_finished(
        path, facts, form=FORMAT, version=FORMAT_VERSION, what="a measured enhancer", overwrite=overwrite
    )
    if found is None:
        return None
    with told_if_damaged(path):
        return CellResult(
            cell=cell,
            scores={method: QualityScore(**found["scores"][method]) for method in METHODS[cell.kind]},
            seconds={method: float(found["seconds"][method]) for method in METHODS[cell.kind]},
            figures={name: float(value) for name, value in found["figures"].items()},
            made_with=dict(found["made_with"]),
        )
