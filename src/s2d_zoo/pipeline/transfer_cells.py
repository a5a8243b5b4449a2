"""Which cells a transfer curve has, and what decides the result of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from s2d_zoo._version import __version__
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.scores import Score
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.base_models import check_base_model, open_base_model
from s2d_zoo.pipeline.cell_files import hash_array
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.record import describe_environment, to_plain
from s2d_zoo.pipeline.transfer_inputs import Start, TransferData, TransferInputs, TransferSettings
from s2d_zoo.zoo.collection import find_model

#: the starts, and what they are compared with: ``"forest"`` is the forest alone and with the enhancer as it is,
#: ``"base-model"`` the base model as it is
Kind: TypeAlias = Start | Literal["forest", "base-model"]

#: what the cells of each kind score
METHODS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "random": ("random start",),
    "pretrained": ("base model, finetuned",),
    "enhancer": ("RF + enhancer, finetuned",),
    "forest": ("RF", "RF + enhancer as it is"),
    "base-model": ("base model as it is",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is trained and scored at once."""

    start: Kind
    budget: int = 0  #: strokes per class and image; 0 for the base model as it is, which sees none
    seed: int = 0

    @property
    def name(self) -> str:
        """As its file is called."""
        return f"{self.start}-{self.budget:03d}-seed{self.seed}" if self.budget else self.start

    def __str__(self) -> str:
        what = " and ".join(METHODS[self.start])
        return f"{what}; strokes per class and image: {self.budget}; seed {self.seed}" if self.budget else what


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What came out of a cell."""

    cell: Cell
    scores: Mapping[str, Score]  #: method (see `METHODS`) → score on all test images together
    strokes: tuple[int, ...] = ()  #: of both classes that there was room for, one number for each training image
    painted_px: tuple[int, ...] = ()
    strokes_sha256: tuple[str, ...] = ()
    seconds: float = 0.0  #: wall time, that of the forest counted in every cell that needs it
    made_with: Mapping[str, Any] = field(default_factory=describe_environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The pretrained models, and the SHA-256 of their packages."""

    enhancer: Enhancer
    enhancer_sha256: str
    base: PackagedModel | None = None
    base_sha256: str | None = None


def load_models(inputs: TransferInputs, settings: TransferSettings, data: TransferData) -> Models:
    """Open the packages.

    Raises:
        ConfigError: if a base model is needed and none was named.
        AxesError: if the base model does not take these images.
        PackageError: for packages that cannot be used.
        UnsafePackageError: for code that nobody has trusted.
    """
    if inputs.base_model is None and "pretrained" in settings.starts:
        msg = (
            "The start 'pretrained' needs a model of raw images to begin from: give --base-model ID|PATH (s2d-zoo list "
            "--source zoo names some), or leave 'pretrained' out of --starts."
        )
        raise ConfigError(msg)
    package = find_model(inputs.enhancer)
    models = Models(enhancer=load_enhancer(package, trust_code=inputs.trust_code), enhancer_sha256=hash_path(package))
    if inputs.base_model is None:
        return models
    base = open_base_model(inputs.base_model, trust_code=inputs.trust_code)
    check_base_model(base, [entry.image for entry in (*data.training, *data.test)], attribution=None)
    return replace(models, base=base.model, base_sha256=hash_path(base.package))


def plan_cells(settings: TransferSettings, *, with_base: bool) -> tuple[Cell, ...]:
    """Every cell, in the order in which they are run: the whole curve of one seed, then that of the next."""
    kinds: tuple[Kind, ...] = ("forest", *settings.starts)
    cells = [
        Cell(start=kind, budget=budget, seed=seed)
        for seed in range(settings.n_seeds)
        for budget in sorted(settings.budgets)
        for kind in kinds
    ]
    return (*([Cell(start="base-model")] if with_base else []), *cells)


def cell_facts(cell: Cell, data: TransferData, settings: TransferSettings, models: Models) -> dict[str, Any]:
    """What decides a cell's result, as plain JSON: where all of it is equal, the cell need not be run again."""
    chosen: Mapping[Kind, object] = {
        "random": settings.fresh(cell.seed),
        "pretrained": settings.finetuning(cell.seed),
        "enhancer": settings.enhancer_finetuning(cell.seed),
        "forest": settings.forest,
        "base-model": None,
    }
    facts: dict[str, Any] = {"s2d_zoo_version": __version__, "settings": to_plain(chosen[cell.start])}
    parts = {"test image": data.test}
    if cell.start != "base-model":
        parts["image"] = data.training
    for part, entries in parts.items():
        for number, entry in enumerate(entries, start=1):
            facts[f"{part} {number}"] = hash_array(entry.image)
            facts[f"ground truth of {part} {number}"] = hash_array(entry.labels)
    if cell.start in {"pretrained", "base-model"}:
        facts["base model"] = models.base_sha256
    if cell.start in {"enhancer", "forest"}:
        facts["enhancer"] = models.enhancer_sha256
    return facts
