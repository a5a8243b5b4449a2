"""Mean and spread of each method, and who is better than whom."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from s2d_zoo.data.quality_scores import MEASURES
from s2d_zoo.pipeline.quality import QualityResult, TargetResult
from s2d_zoo.pipeline.quality_cells import METHODS, CellResult
from s2d_zoo.pipeline.summary import Summary

FOREST, ENHANCER, CONSENSUS = METHODS["probabilities"]
(PSEUDO,), (STROKES_ONLY,), (CEILING,) = METHODS["pseudo-labels"], METHODS["strokes-only"], METHODS["ceiling"]
(DIRECT,) = METHODS["direct"]
#: in which order they are told
ORDER: Final = (FOREST, ENHANCER, CONSENSUS, PSEUDO, STROKES_ONLY, DIRECT, CEILING)
#: who is compared with whom
_RIVALS: Final = (
    (ENHANCER, FOREST),
    (ENHANCER, DIRECT),
    (CONSENSUS, FOREST),
    (CONSENSUS, ENHANCER),
    (CONSENSUS, DIRECT),
    (PSEUDO, ENHANCER),
    (PSEUDO, STROKES_ONLY),
    (PSEUDO, DIRECT),
    (PSEUDO, CEILING),
    (FOREST, DIRECT),
)
#: those that are told before all tables, and those of which other measures are told
_TOLD_FIRST: Final = (
    (ENHANCER, FOREST),
    (ENHANCER, DIRECT),
    (CONSENSUS, FOREST),
    (CONSENSUS, DIRECT),
    (PSEUDO, ENHANCER),
    (PSEUDO, DIRECT),
)
_TOLD_FURTHER: Final = ((ENHANCER, FOREST), (ENHANCER, DIRECT), (PSEUDO, ENHANCER))
#: besides IoU, and Dice which follows from it
FURTHER_MEASURES: Final[Mapping[str, str]] = {
    "soft_dice": "soft Dice",
    "average_precision": "AP of objects",
    "boundary_f1": "boundary F1",
    "calibration_error": "calibration error",
}
#: measures of which less is better
_ERRORS: Final = frozenset({"calibration_error"})
#: a difference that three digits do not show is none
_DIGITS: Final = 3
#: what is told of each cell besides its scores
SECONDS: Final = "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One method against another, by the mean of a measure."""

    method: str
    rival: str
    measure: str
    strokes: int  #: per class and painted image
    difference: float  #: method minus rival, to three digits
    spread: float | None  #: the larger standard deviation of the two; None where both have a single seed
    seeds_better: int | None  #: of those on the same strokes; None where the two do not share strokes
    n_seeds: int  #: that both have

    @property
    def gain(self) -> float:
        """The difference, positive where the method is better: of an error, less is."""
        return -self.difference if self.measure in _ERRORS else self.difference

    @property
    def in_words(self) -> str:
        """Such as ``15 (+0.120)``, with what takes away from it."""
        notes = [f"{self.difference:+.3f}"]
        if self.spread is not None and 0 < abs(self.difference) < self.spread:
            notes.append("less than the spread")
        if self.seeds_better is not None and 0 < self.seeds_better < self.n_seeds:
            notes.append(f"better in {self.seeds_better} of {self.n_seeds} seeds")
        return f"{self.strokes} ({', '.join(notes)})"


def summaries(result: TargetResult) -> dict[str, dict[int, dict[str, Summary]]]:
    """Method → strokes (0 where none are seen) → measure → summary; only what was measured, methods in their order."""
    found: dict[str, dict[int, dict[str, Summary]]] = {}
    for method in ORDER:
        cells: dict[int, list[CellResult]] = {}
        for one in result.cells:
            if method in one.scores:
                cells.setdefault(one.cell.strokes, []).append(one)
        if cells:
            found[method] = {strokes: _summarise(method, cells[strokes]) for strokes in sorted(cells)}
    return found


def figures(result: TargetResult, name: str) -> Summary:
    """A figure of pseudo-labels over the seeds."""
    return Summary.of([one.figures[name] for one in result.cells if name in one.figures])


def comparisons(result: TargetResult, measure: str = "iou") -> tuple[Comparison, ...]:
    """Every pair of rivals, at every number of strokes at which the first one was measured.

    What sees no strokes is as good at every number of them.
    """
    told = summaries(result)
    found = []
    for method, rival in _RIVALS:
        others = told.get(rival, {})
        for strokes, ours in told.get(method, {}).items():
            theirs = others.get(strokes, others.get(0))
            if theirs is not None and measure in ours:
                found.append(_compare(result, (method, rival), strokes, measure, (ours[measure], theirs[measure])))
    return tuple(found)


def verdicts(result: TargetResult) -> tuple[str, ...]:
    """Who is better than whom, and where: one line for each pair by IoU, then where other measures say worse."""
    lines = []
    by_iou = comparisons(result)
    for method, rival in _RIVALS:
        pair = [one for one in by_iou if (one.method, one.rival) == (method, rival)]
        parts = [
            f"{word} at {_listed([one.in_words for one in pair if chosen(one.gain)])} strokes"
            for word, chosen in _WORDS
            if any(chosen(one.gain) for one in pair)
        ]
        if parts:
            lines.append(f"{method} against {rival}, IoU: {'; '.join(parts)}.")
    for method, rival in _TOLD_FURTHER:
        if not any((one.method, one.rival) == (method, rival) for one in by_iou):
            continue
        worse = [
            f"{name} at {_listed([one.in_words for one in pair])} strokes"
            for measure, name in FURTHER_MEASURES.items()
            if (
                pair := [
                    one
                    for one in comparisons(result, measure)
                    if (one.method, one.rival) == (method, rival) and one.gain < 0
                ]
            )
        ]
        lines.append(f"{method} against {rival}, worse by other measures: {'; '.join(worse) or 'nowhere'}.")
    return tuple(lines)


def overall(result: QualityResult) -> tuple[str, ...]:
    """How often the enhancer, its consensus and the segmentor have a higher IoU, and each place where they have not.

    Targets that the enhancer was trained on count by themselves: there is nothing to carry over.
    """
    lines = []
    for method, rival in _TOLD_FIRST:
        parts = []
        for is_source, where in ((False, ""), (True, " on data sets of its training")):
            pair = [
                (target.data.target.name, one)
                for target in result.targets
                if target.is_source == is_source
                for one in comparisons(target)
                if (one.method, one.rival) == (method, rival)
            ]
            if pair:
                parts.append(_counted(pair, where))
        if parts:
            lines.append(f"{method} against {rival}: higher IoU in {'. And in '.join(parts)}.")
    return tuple(lines)


def _counted(pair: Sequence[tuple[str, Comparison]], where: str) -> str:
    """Such as ``2 of 3 cases; worse in mito_epfl at 5 (-0.050)``."""
    parts = [f"{sum(one.gain > 0 for _, one in pair)} of {len(pair)} cases{where}"]
    for word, chosen in _WORDS[1:]:
        told = [f"{name} at {one.in_words}" for name, one in pair if chosen(one.gain)]
        parts += [f"{word} in {', '.join(told)}"] if told else []
    return "; ".join(parts)


_WORDS: Final[tuple[tuple[str, Callable[[float], bool]], ...]] = (
    ("better", lambda difference: difference > 0),
    ("worse", lambda difference: difference < 0),
    ("equal", lambda difference: difference == 0),
)


def _summarise(method: str, cells: Sequence[CellResult]) -> dict[str, Summary]:
    found = {}
    for measure in MEASURES:
        values = [getattr(one.scores[method], measure) for one in cells]
        if None not in values:
            found[measure] = Summary.of(values)
    return {**found, SECONDS: Summary.of([one.seconds[method] for one in cells])}


def _compare(
    result: TargetResult, pair: tuple[str, str], strokes: int, measure: str, told: tuple[Summary, Summary]
) -> Comparison:
    ours, theirs = (
        {
            one.cell.seed: getattr(one.scores[name], measure)
            for one in result.cells
            if name in one.scores and one.cell.strokes == strokes
        }
        for name in pair
    )
    shared = sorted(ours.keys() & theirs.keys())
    sign = -1 if measure in _ERRORS else 1
    if shared:  # the same strokes: seeds that only one of them has would count for it or against it
        told = (Summary.of([ours[seed] for seed in shared]), Summary.of([theirs[seed] for seed in shared]))
    spreads = [one.spread for one in told if one.spread is not None]
    return Comparison(
        method=pair[0],
        rival=pair[1],
        measure=measure,
        strokes=strokes,
        difference=round(told[0].mean - told[1].mean, _DIGITS),
        spread=max(spreads) if spreads else None,
        seeds_better=sum(sign * (ours[seed] - theirs[seed]) > 0 for seed in shared) if shared else None,
        n_seeds=len(shared),
    )


def _listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
