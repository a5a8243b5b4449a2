"""Which enhancer suits an image best, where nobody has the truth: by held-out strokes, stability and contract.

Stability as a guide to models without labels follows Talks and Kreshuk (2025, arXiv:2503.00450), who rank the models
of a zoo by how consistent their predictions stay under perturbation. Here strokes count before that.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr
from tqdm import tqdm

from s2d_zoo.contract import RFContract
from s2d_zoo.errors import ConfigError, S2DZooError
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.ranking_candidates import Candidate, Unusable, find_candidates
from s2d_zoo.pipeline.ranking_forests import fit_members, foreground_of
from s2d_zoo.pipeline.ranking_rows import Apply, Row, judge, order_rows
from s2d_zoo.pipeline.sources import AdaptData, read_inputs
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.types import CHANNEL


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInputs:
    """Files of the images that an enhancer is sought for.

    Raises:
        ConfigError: if there are neither strokes nor a project.
    """

    images: tuple[Path, ...] = ()  #: with a project: one for each of its images, or none, which means where it says
    scribbles: tuple[Path, ...] = ()  #: one for each image
    ilastik_project: Path | None = None  #: has strokes and features; its own forest is not used
    axes: str | None = None  #: of the images, where the files do not tell

    def __post_init__(self) -> None:
        if not self.scribbles and self.ilastik_project is None:
            msg = "Enhancers are compared on strokes: give --image and --scribbles, or --ilastik-project."
            raise ConfigError(msg)
        _ = self.for_adapt

    @property
    def for_adapt(self) -> AdaptInputs:
        """What `adapt` would be given, but for the enhancer."""
        return AdaptInputs(
            enhancer="",
            images=self.images,
            scribbles=self.scribbles,
            ilastik_project=self.ilastik_project,
            retrain=self.ilastik_project is not None,
            axes=self.axes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSettings:
    """What can be chosen."""

    enhancers: tuple[str, ...] = ()  #: ids or paths, beside those of the catalogue
    tag: str | None = None  #: of the catalogue only those with this tag
    factors: tuple[float, ...] = ()  #: scales to try, beside 1 and the one that follows from the pixel sizes
    trust_code: bool = False  #: run Python code of packages, if their networks need that
    foreground: int | None = None  #: label of the objects; 2, or as a project's names say, when None
    forest: ForestSettings = field(default_factory=ForestSettings)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Enhancers in order, and why."""

    inputs: RankInputs
    settings: RankSettings
    rows: tuple[Row, ...]  #: of enhancers, the best first
    forest: Row | None  #: the forests alone; None where no enhancer can be used, so that none were fitted
    unusable: tuple[Unusable, ...]
    n_folds: int  #: 0 where there were too few strokes to hold any out

    @property
    def best(self) -> Row | None:
        """The first, unless its maps are worthless."""
        return self.rows[0] if self.rows and not self.rows[0].degenerate else None


def rank_enhancers(inputs: RankInputs, settings: RankSettings, *, progress: bool = True) -> Ranking:
    """Order the enhancers at hand for images without ground truth.

    Forests are fitted on different strokes (three folds of whole strokes). Each enhancer gets the maps of all of
    them, and the same maps mildly changed. The order: maps that are as good as empty or full last; then IoU on
    held-out strokes, as far as these can tell (`is_worse`); stability, in steps of 0.02; fewer points in which the
    forests differ from what the enhancer knows; the smaller calibration error; the name.

    Args:
        inputs: images and strokes.
        settings: which enhancers, which forests.
        progress: show progress bars on stderr.

    Raises:
        UserInputError: for anything wrong with the inputs, or a tag that no enhancer has.
        PackageError: if there is nothing by the name of a given enhancer.
    """
    data = read_inputs(inputs.for_adapt, foreground=settings.foreground)
    delivered = _delivered(data)
    candidates, unusable = find_candidates(
        settings.enhancers,
        delivered,
        tag=settings.tag,
        factors=settings.factors,
        trust_code=settings.trust_code,
    )
    if not candidates:
        return Ranking(inputs=inputs, settings=settings, rows=(), forest=None, unusable=tuple(unusable), n_folds=0)
    members, held_out = fit_members(data, settings.forest, seed=settings.seed, progress=progress)
    forest = judge(data, members, lambda maps: foreground_of(maps, data.foreground), held_out=held_out)
    rows = []
    runs = len(candidates) * len(members) * 2 * len(data.images)
    with tqdm(total=runs, desc="enhancers", disable=not progress, unit="map") as bar:
        for candidate in candidates:
            try:
                row = judge(data, members, _apply(candidate, delivered, bar), held_out=held_out)
            except (S2DZooError, RuntimeError) as error:  # torch's are RuntimeErrors
                unusable.append(Unusable(name=candidate.label, reason=str(error)))
                continue
            named = {name: getattr(candidate, name) for name in ("name", "rescale", "automatic", "notes")}
            rows.append(replace(row, **named))
    return Ranking(
        inputs=inputs,
        settings=settings,
        rows=order_rows(rows),
        forest=forest,
        unusable=tuple(unusable),
        n_folds=len(members) if held_out else 0,
    )


def _delivered(data: AdaptData) -> RFContract:
    """What the forests that are fitted here deliver."""
    selection = data.selection or FeatureSelection()
    return data.delivered.model_copy(update={"features": selection.to_contract()})


def _apply(candidate: Candidate, delivered: RFContract, bar: Any) -> Apply:  # noqa: ANN401 - tqdm's stubs are generic
    def enhance(probabilities: xr.DataArray) -> xr.DataArray:
        enhanced = candidate.enhancer.enhance(probabilities, delivered, rescale=candidate.rescale)
        bar.update()
        return enhanced.isel({CHANNEL: 0}, drop=True)

    return enhance
