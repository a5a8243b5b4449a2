"""How good enhanced maps are as far as strokes and repetition can tell, and the order that follows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr

from s2d_zoo.data.scores import calibration_error, score_masks
from s2d_zoo.data.scribbles import split_strokes
from s2d_zoo.pipeline.ranking_forests import Member
from s2d_zoo.pipeline.sources import AdaptData

#: IoU and stability that differ by less are the same
STEP: Final = 0.02
RF_ALONE: Final = "RF alone"
_THRESHOLD: Final = 0.5
#: a map that finds less of the painted foreground, or of the painted rest, is as good as empty, or full
_WORTHLESS: Final = 0.05
#: by which rows are ordered, first things first
CRITERIA: Final = ("not empty or full", "held-out IoU", "stability", "notes", "calibration error", "name")
#: from probabilities (channel (z) y x) to those of the foreground ((z) y x)
Apply: TypeAlias = Callable[[xr.DataArray], xr.DataArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How maps agree with strokes that their forests never saw, stroke by stroke."""

    overlaps: tuple[int, ...]  #: px of each stroke that are foreground, and are called so
    unions: tuple[int, ...]  #: px of each stroke that are foreground, or are called so
    calibration_error: float

    @property
    def iou(self) -> float:
        """Of the foreground at 0.5, on the painted pixels of all strokes together."""
        return sum(self.overlaps) / sum(self.unions)

    @property
    def standard_error(self) -> float:
        """Of the IoU, from leaving out one stroke at a time (jackknife)."""
        return _jackknife(self.without_one)

    def difference_error(self, other: "Agreement") -> float:
        """Standard error of the difference of two IoUs on the same strokes."""
        return _jackknife(self.without_one - other.without_one)

    @property
    def without_one(self) -> np.ndarray[Any, Any]:
        """The IoU without each stroke in turn."""
        overlaps, unions = np.array(self.overlaps), np.array(self.unions)
        ious: np.ndarray[Any, Any] = (overlaps.sum() - overlaps) / (unions.sum() - unions)
        return ious


def _jackknife(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt((len(values) - 1) * values.var()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How alike maps are: IoU at 0.5 of the foreground or of the rest, whichever is less."""

    strokes: float  #: between forests that saw different strokes, mean over pairs
    noise: float  #: between probabilities and the same mildly changed, mean over forests

    @property
    def value(self) -> float:
        """Mean of both."""
        return (self.strokes + self.noise) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One enhancer at one scale, or the forests alone."""

    name: str
    agreement: Agreement | None  #: None where no strokes could be held out
    stability: Stability
    degenerate: str = ""  #: that the maps are as good as empty or full, in words
    rescale: float = 1.0
    automatic: bool = False  #: this factor follows from the pixel sizes
    notes: tuple[str, ...] = ()  #: in what the forests differ from those that the enhancer knows
    ahead_by: str = ""  #: the first of `CRITERIA` in which it differs from the next; empty of the last


def order_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Put rows in order by `CRITERIA`, and note in each what it is ahead of the next by.

    Strokes are few, so IoUs are not taken by their digits: whatever is not clearly worse than the best (`is_worse`)
    counts as equal to it, and the same again among those that are. Likewise stability, by `STEP`.
    """
    keyed = []
    for agreement, alike in enumerate(_groups(rows, _iou, _falls_behind)):
        for stability, equal in enumerate(_groups(alike, lambda row: row.stability.value, _is_less_stable)):
            for row in equal:
                error = 0.0 if row.agreement is None else row.agreement.calibration_error
                name = (row.name, row.rescale != 1, row.rescale)
                keyed.append(((bool(row.degenerate), agreement, stability, len(row.notes), error, name), row))
    keyed.sort(key=lambda entry: entry[0])
    following = [key for key, _ in keyed[1:]]
    return tuple(
        replace(row, ahead_by=_differing(key, after))
        for (key, row), after in zip(keyed, (*following, ()), strict=False)
    )


def _differing(key: tuple[Any, ...], following: tuple[Any, ...]) -> str:
    """The first criterion in which two rows differ; none if nothing follows."""
    differing = (name for name, one, other in zip(CRITERIA, key, following, strict=False) if one != other)
    return next(differing, "")


def is_worse(row: Row, other: Row) -> bool:
    """Whether a row agrees less with held-out strokes than another: by more than 0.02 and than one standard error.

    The error is that of the difference, from leaving out one stroke at a time (jackknife). That less than one standard
    error does not count is the rule by which models are chosen in cross-validation (Breiman et al. 1984).
    """
    if row.agreement is None or other.agreement is None:
        return False
    margin = max(STEP, row.agreement.difference_error(other.agreement))
    return other.agreement.iou - row.agreement.iou > margin


def _falls_behind(row: Row, best: Row) -> bool:
    return bool(row.degenerate) > bool(best.degenerate) or is_worse(row, best)


def _is_less_stable(row: Row, other: Row) -> bool:
    return other.stability.value - row.stability.value > STEP


def _iou(row: Row) -> float:
    return 0.0 if row.agreement is None else row.agreement.iou


def _groups(
    rows: Sequence[Row], value: Callable[[Row], float], worse: Callable[[Row, Row], bool]
) -> Iterator[list[Row]]:
    """The best and all that are not worse than it; then the same of the others."""
    rest = sorted(rows, key=lambda row: (bool(row.degenerate), -value(row), row.name, row.rescale))
    while rest:
        best = rest[0]
        yield [row for row in rest if not worse(row, best)]
        rest = [row for row in rest if worse(row, best)]


def judge(data: AdaptData, members: Sequence[Member], apply: Apply, *, held_out: bool) -> Row:
    """Look at the foregrounds that come out of all forests' maps.

    Args:
        data: images and strokes.
        members: what the forests say.
        apply: from probabilities to the foreground: an enhancer, or nothing but taking the channel.
        held_out: whether the members have strokes that they never saw.
    """
    maps = [[apply(one) for one in member.probabilities] for member in members]
    changed = [[apply(one) for one in member.perturbed] for member in members]
    pairs = list(itertools.combinations(maps, 2))
    return Row(
        name=RF_ALONE,
        agreement=_agreement(data, members, maps) if held_out else None,
        stability=Stability(
            strokes=float(np.mean([_likeness(*pair) for pair in pairs])),
            noise=float(np.mean([_likeness(*pair) for pair in zip(maps, changed, strict=True)])),
        ),
        degenerate=_describe_degenerate(data, maps),
    )


def _agreement(data: AdaptData, members: Sequence[Member], maps: Sequence[Sequence[xr.DataArray]]) -> Agreement:
    """Count px of every stroke in the map of the forest that did not see it."""
    overlaps: list[int] = []
    unions: list[int] = []
    for of_member, member in zip(maps, members, strict=True):
        for foreground, strokes in zip(of_member, member.held_out, strict=True):
            numbered, count = split_strokes(strokes)
            wanted = strokes.values == data.foreground
            called = foreground.values >= _THRESHOLD
            overlaps += np.bincount(numbered.values[wanted & called], minlength=count + 1)[1:].tolist()
            unions += np.bincount(numbered.values[wanted | called], minlength=count + 1)[1:].tolist()
    return Agreement(
        overlaps=tuple(overlaps),
        unions=tuple(unions),
        calibration_error=calibration_error(
            [one for of_member in maps for one in of_member],
            [one for member in members for one in member.held_out],
            foreground=data.foreground,
        ),
    )


def _likeness(some: Sequence[xr.DataArray], others: Sequence[xr.DataArray]) -> float:
    """IoU at 0.5 of the foreground, or of the rest if that is less: else a map that is all but full would be stable."""
    one, other = ([array.values >= _THRESHOLD for array in maps] for maps in (some, others))
    rests = [~mask for mask in one], [~mask for mask in other]
    return min(score_masks(one, other).iou, score_masks(*rests).iou)


def _describe_degenerate(data: AdaptData, maps: Sequence[Sequence[xr.DataArray]]) -> str:
    """Whether maps say hardly anything, on all painted pixels: a map that is always the same is perfectly stable."""
    found = {True: 0, False: 0}
    painted = {True: 0, False: 0}
    for of_member in maps:
        for foreground, strokes in zip(of_member, data.scribbles, strict=True):
            for wanted in (True, False):
                mask = (strokes.values > 0) & ((strokes.values == data.foreground) == wanted)
                painted[wanted] += int(np.count_nonzero(mask))
                found[wanted] += int(np.count_nonzero((foreground.values[mask] >= _THRESHOLD) == wanted))
    for wanted, words in ((True, "empty: of the painted foreground it finds"), (False, "full: of the rest it spares")):
        share = found[wanted] / painted[wanted]
        if share < _WORTHLESS:
            return f"the maps are as good as {words} {100 * share:.0f} %"
    return ""
