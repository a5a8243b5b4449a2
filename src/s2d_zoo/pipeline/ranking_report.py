"""A ranking of enhancers as text, as JSON, and as the call that follows from it."""

import shlex
from collections.abc import Iterator
from typing import Any, Final, Literal

from s2d_zoo._version import __version__
from s2d_zoo.pipeline.ranking import Ranking, RankSettings
from s2d_zoo.pipeline.ranking_rows import RF_ALONE, STEP, Row, is_worse

FORMAT: Final = "s2d-zoo/ranking"
FORMAT_VERSION: Final = 1
#: verdicts on an enhancer against the forests alone, in rising order, and what they are called
_WORDS: Final = {"worse": "WORSE THAN", "equal": "about as well as", "better": "better than"}
_VERDICTS: Final = tuple(_WORDS)
#: criteria without a least difference that counts
_SLIGHT: Final = frozenset({"calibration error", "name"})
_HEADINGS: Final = ("", "enhancer", "rescale", "held-out IoU", "stability", "calibration error")


def to_text(ranking: Ranking) -> str:
    """The table, each row with its reasons; what cannot be used, and why; then what to do."""
    forest = ranking.forest
    lines = ["No enhancer can be used here."] if forest is None else list(_table(ranking, forest))
    if ranking.unusable:
        lines += ["", "Not usable:"]
        lines += [f"  {one.name}: {one.reason}" for one in ranking.unusable]
    if forest is not None:
        lines += _advice(ranking, forest)
    return "\n".join(lines)


def to_dict(ranking: Ranking) -> dict[str, Any]:
    """What JSON can hold; a row has a key for each figure of `s2d_zoo.pipeline.ranking_rows.Row`."""
    best = ranking.best
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "s2d_zoo_version": __version__,
        "tag": ranking.settings.tag,
        "seed": ranking.settings.seed,
        "trees": ranking.settings.forest.n_estimators,
        "folds": ranking.n_folds,
        "ranking": [
            {**_row_as_dict(row), "against_rf_alone": None if ranking.forest is None else _verdict(row, ranking.forest)}
            for row in ranking.rows
        ],
        "rf_alone": None if ranking.forest is None else _row_as_dict(ranking.forest),
        "unusable": [{"enhancer": one.name, "reason": one.reason} for one in ranking.unusable],
        "best": None if best is None else {"enhancer": best.name, "rescale": best.rescale},
        "command": None if best is None else adapt_command(ranking, best),
    }


def adapt_command(ranking: Ranking, row: Row) -> str:
    """The call of `adapt` with one enhancer, for a shell; who and where has to be filled in."""
    inputs, settings = ranking.inputs, ranking.settings
    words = ["s2d-zoo", "adapt"]
    for image in inputs.images:
        words += ["--image", str(image)]
    for scribbles in inputs.scribbles:
        words += ["--scribbles", str(scribbles)]
    if inputs.ilastik_project is not None:
        words += ["--ilastik-project", str(inputs.ilastik_project), "--retrain"]
    words += ["--enhancer", row.name]
    if row.rescale != 1:
        words += ["--rescale", "auto" if row.automatic else f"{row.rescale:g}"]
    if settings.foreground is not None:
        words += ["--foreground", str(settings.foreground)]
    if inputs.axes is not None:
        words += ["--axes", inputs.axes]
    if settings.trust_code:
        words.append("--trust-code")
    usual = RankSettings()  # the same forests, where they are not those that adapt would grow anyway
    if settings.forest.n_estimators != usual.forest.n_estimators:
        words += ["--trees", str(settings.forest.n_estimators)]
    if settings.seed != usual.seed:
        words += ["--seed", str(settings.seed)]
    return shlex.join([*words, "--authors", "YOUR NAME", "--license", "LICENCE", "--output", "FOLDER"])


def _row_as_dict(row: Row) -> dict[str, Any]:
    return {
        "enhancer": row.name,
        "rescale": row.rescale,
        "automatic": row.automatic,
        "held_out": None
        if row.agreement is None
        else {
            "iou": row.agreement.iou,
            "standard_error": row.agreement.standard_error,
            "calibration_error": row.agreement.calibration_error,
        },
        "stability": {"value": row.stability.value, "strokes": row.stability.strokes, "noise": row.stability.noise},
        "degenerate": row.degenerate,
        "notes": list(row.notes),
        "ahead_by": row.ahead_by,
    }


def _table(ranking: Ranking, forest: Row) -> Iterator[str]:
    """Rows under headings; the forests alone come first, to compare with."""
    rows = [("-", forest), *((f"{number}.", row) for number, row in enumerate(ranking.rows, start=1))]
    cells = [_HEADINGS, *((number, *_cells(row)) for number, row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    yield _what_was_held_out(ranking)
    yield from ("", lines[0])
    for (_, row), line in zip(rows, lines[1:], strict=True):
        yield line
        if row is not forest:
            yield from (" " * (widths[0] + 2) + reason for reason in _reasons(row, forest))
    perfect = sum(row.agreement is not None and row.agreement.iou == 1 for row in ranking.rows)
    if perfect > 1:
        yield from (
            "",
            f"{perfect} of {len(ranking.rows)} find every held-out stroke: agreement cannot tell them apart.",
        )


def _what_was_held_out(ranking: Ranking) -> str:
    if ranking.n_folds:
        return (
            f"Each of {ranking.n_folds} parts of the strokes, whole ones, is scored by a forest that was fitted on the "
            "others."
        )
    return (
        "Too few strokes to hold any out (two of the foreground and two of another class are needed): agreement does "
        "not count, and the order says little. Paint more."
    )


def _cells(row: Row) -> tuple[str, ...]:
    agreement, error = "-", "-"
    if row.agreement is not None:
        agreement = f"{row.agreement.iou:.3f}"
        if 0 < row.agreement.iou < 1:  # else no stroke makes a difference, which is not to say that none would
            agreement += f" ± {row.agreement.standard_error:.3f}"
        error = f"{row.agreement.calibration_error:.3f}"
    rescale = "-" if row.name == RF_ALONE else f"{row.rescale:.3g}{' (auto)' if row.automatic else ''}"
    return row.name, rescale, agreement, f"{row.stability.value:.3f}", error


def _reasons(row: Row, forest: Row) -> Iterator[str]:
    """Why a row stands where it does."""
    place = f"; ahead of the next by {row.ahead_by}" if row.ahead_by else ""
    if row.ahead_by in _SLIGHT:
        place += " only"
    yield f"why: {row.degenerate or _compare(row, forest)}{place}."
    yield from (f"note: {note}" for note in row.notes)


def _compare(row: Row, forest: Row) -> str:
    """An enhancer against the forests alone."""
    stability = (
        f"stable to {row.stability.strokes:.2f} under other strokes and {row.stability.noise:.2f} under noise "
        f"({RF_ALONE}: {forest.stability.strokes:.2f}, {forest.stability.noise:.2f})"
    )
    if row.agreement is None:
        return stability
    return f"agrees with held-out strokes {_WORDS[_verdict(row, forest)]} {RF_ALONE}; {stability}"


def _verdict(row: Row, forest: Row) -> Literal["worse", "equal", "better"]:
    """By held-out strokes."""
    return "worse" if is_worse(row, forest) else "better" if is_worse(forest, row) else "equal"


def _advice(ranking: Ranking, forest: Row) -> Iterator[str]:
    """What to do with the ranking."""
    best = ranking.best
    if best is None:
        why = "all maps are as good as empty or full" if ranking.rows else "none of them can be used on these images"
        yield from ("", f"None of them is of use here: {why}.")
        return
    verdict = _verdict(best, forest)
    # strokes may not tell the first from another that they do tell from the forests alone
    higher = _VERDICTS[_VERDICTS.index(verdict) + 1 :]
    rows = enumerate(ranking.rows, start=1)
    number, other = next(
        ((n, row) for n, row in rows if not row.degenerate and _verdict(row, forest) in higher), (0, best)
    )
    if number:
        words = f"agrees with the strokes {_WORDS[_verdict(other, forest)]} {RF_ALONE}"
        yield from ("", f"Number {number} {words}, the first {_WORDS[verdict]} it: look at the maps of both.")
    elif verdict == "worse":
        yield from ("", f"Even the best agrees less with the strokes than {RF_ALONE}: an enhancer may do harm here.")
    elif verdict == "equal" and forest.stability.value - best.stability.value > STEP:
        yield from ("", f"{RF_ALONE} agrees as well with the strokes, and is more stable: perhaps none is needed.")
    elif verdict == "equal" and best.agreement is not None:
        yield from ("", f"As far as these strokes tell, even the best is no better than {RF_ALONE}.")
    yield from ("", "To try the best one, and look at its maps in the report:", f"  {adapt_command(ranking, best)}")
    if number:
        yield from (f"And number {number}:", f"  {adapt_command(ranking, other)}")
