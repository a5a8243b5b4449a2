"""The picture of a transfer curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from s2d_zoo.pipeline.summary import Summary

#: Okabe and Ito's, which people with any kind of colour vision tell apart; also told apart by their markers
_STYLES: Final[Mapping[str, tuple[str, str]]] = {
    "base model, finetuned": ("#0072B2", "o"),
    "base model as it is": ("#0072B2", ""),
    "RF + enhancer, finetuned": ("#D55E00", "s"),
    "RF + enhancer as it is": ("#D55E00", ""),
    "random start": ("#009E73", "^"),
    "RF": ("#555555", ""),
}
_INCHES: Final = (8.0, 4.6)
_DPI: Final = 110
#: share of the height between the middles of two labels, so that they never overlap
_LABEL_GAP: Final = 0.062
#: where labels begin, as a share of the width
_TEXT: Final = 1.08
#: of matplotlib, for the same bytes each time: no ids drawn by chance
PLOT_SETTINGS: Final[Any] = {
    "svg.hashsalt": "s2d-zoo",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Summary):
    """Scores of all seeds at one budget."""

    budget: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One method over all budgets."""

    method: str
    points: tuple[Point, ...]  #: by budget; a single one at 0 for what sees no strokes
    trained: bool  #: whether a network was trained

    def at(self, budget: int) -> Point | None:
        """The point at a budget, if there is one."""
        return next((point for point in self.points if point.budget == budget), None)


def draw_curves(curves: Sequence[Curve], path: Path, *, measure: str) -> None:
    """Draw score against budget, the latter on a logarithmic axis.

    Trained networks are solid lines with a band of one standard deviation, what they are compared with is dashed, with
    bars; each line is named at its right end. Equal curves give equal bytes.

    Args:
        curves: one for each method.
        path: ``.svg`` or ``.png``; its folder is there.
        measure: what the scores are, for the axis.
    """
    with mpl.rc_context(PLOT_SETTINGS):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.subplots()
        budgets = sorted({point.budget for curve in curves for point in curve.points if point.budget})
        for curve in curves:
            _draw(axes, curve, budgets)
        _set_up(axes, budgets, measure)
        _name_lines(axes, curves)
        # neither the date nor the version of matplotlib belongs into it
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=_DPI, metadata=metadata)


def _draw(axes: Axes, curve: Curve, budgets: Sequence[int]) -> None:
    colour, marker = _STYLES[curve.method]
    if curve.points[0].budget == 0:
        axes.axhline(curve.points[0].mean, color=colour, linestyle=_line_style(curve), linewidth=1.6)
        return
    means = [point.mean for point in curve.points]
    axes.plot(
        budgets, means, color=colour, linestyle=_line_style(curve), marker=marker or ".", markersize=5, linewidth=1.8
    )
    spread = [point.spread or 0.0 for point in curve.points]
    if not any(spread):
        return
    if curve.trained and len(budgets) > 1:
        low = [mean - one for mean, one in zip(means, spread, strict=True)]
        high = [mean + one for mean, one in zip(means, spread, strict=True)]
        axes.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)
    else:  # bands of all would hide each other, and that of a single budget has no width
        axes.errorbar(budgets, means, yerr=spread, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)


def _line_style(curve: Curve) -> str:
    """Solid for what was trained; dashed, or dotted where it saw no strokes, for what that is compared with."""
    if curve.trained:
        return "-"
    return "--" if curve.points[0].budget else ":"


def _set_up(axes: Axes, budgets: Sequence[int], measure: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(budgets[0] / 1.1, budgets[-1] * 1.1)
    axes.xaxis.set_major_locator(FixedLocator([float(one) for one in budgets]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(one) for one in budgets])
    axes.set_xlabel("strokes per class and image")
    axes.set_ylabel(measure)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_lines(axes: Axes, curves: Sequence[Curve]) -> None:
    """Each name beside the right end of its line, which leads to it; moved apart where ends are close."""
    to_fractions = axes.transData + axes.transAxes.inverted()
    ends = []
    for curve in curves:
        point = curve.points[-1]
        x, y = to_fractions.transform((point.budget or axes.get_xlim()[1], point.mean))
        ends.append((float(y), float(x), curve))
    ends.sort(key=lambda end: (end[0], end[2].method))
    for height, (y, x, curve) in zip(_apart([end[0] for end in ends]), ends, strict=True):
        colour = _STYLES[curve.method][0]
        axes.plot(
            [x, _TEXT - 0.03, _TEXT - 0.01],
            [y, height, height],
            color=colour,
            linestyle=_line_style(curve),
            linewidth=1.0,
            clip_on=False,
            transform=axes.transAxes,
        )
        axes.text(_TEXT, height, curve.method, color=colour, va="center", transform=axes.transAxes)


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights in rising order, moved up where they are too close, then all down again if that led out at the top."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _LABEL_GAP) if placed else height)
    top = 1.0
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], top)
        top = placed[index] - _LABEL_GAP
    return placed
