"""The picture of an enhancer's quality: one panel for each target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from s2d_zoo.pipeline.quality_summary import (
    CEILING,
    CONSENSUS,
    DIRECT,
    ENHANCER,
    FOREST,
    ORDER,
    PSEUDO,
    STROKES_ONLY,
)
from s2d_zoo.pipeline.summary import Summary
from s2d_zoo.pipeline.transfer_plot import PLOT_SETTINGS


@dataclass(frozen=True, slots=True)
class _Look:
    """Okabe and Ito's colours, which people with any kind of colour vision tell apart; and more than the colour."""

    colour: str
    marker: str
    line: str


_LOOKS: Final[Mapping[str, _Look]] = {
    FOREST: _Look("#555555", "o", "-"),
    ENHANCER: _Look("#D55E00", "s", "-"),
    CONSENSUS: _Look("#E69F00", "^", "-"),
    PSEUDO: _Look("#0072B2", "D", "none"),
    STROKES_ONLY: _Look("#56B4E9", "v", "none"),
    DIRECT: _Look("#009E73", "", "--"),
    CEILING: _Look("#000000", "", ":"),
}
_COLUMNS: Final = 3
_PANEL_INCHES: Final = (3.9, 3.3)
#: of the legend below: its height, and the width of one name
_LEGEND_INCHES, _NAME_INCHES = 0.75, 2.4
_DPI: Final = 110
#: by how much error bars of different methods are moved apart, as a factor on the logarithmic axis
_APART: Final = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A target: method → strokes (0 where none are seen) → score over the seeds."""

    title: str
    scores: Mapping[str, Mapping[int, Summary]]


def draw_quality(panels: Sequence[Panel], path: Path, *, measure: str) -> None:
    """Draw score against strokes, the latter on a logarithmic axis, with bars of one standard deviation.

    What learns from strokes has markers; what was measured at several numbers of strokes is a line. What sees no
    strokes is a horizontal line, with a band. Equal panels give equal bytes.

    Args:
        panels: at least one.
        path: ``.svg`` or ``.png``; its folder is there.
        measure: what the scores are, for the axis.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (_PANEL_INCHES[0] * max(2, columns), _PANEL_INCHES[1] * rows + _LEGEND_INCHES)
    strokes = sorted({one for panel in panels for scores in panel.scores.values() for one in scores if one})
    with mpl.rc_context(PLOT_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel)
            _set_up(axes, strokes, panel.title)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel(measure)
        drawn = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        names = [name for name in ORDER if name in drawn]
        ncols = int(size[0] / _NAME_INCHES)
        figure.legend([drawn[name] for name in names], names, loc="outside lower center", ncols=ncols, frameon=False)
        # neither the date nor the version of matplotlib belongs into it
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=_DPI, metadata=metadata)


def _draw(axes: Axes, panel: Panel) -> None:
    with_strokes = [method for method in ORDER if any(panel.scores.get(method, ()))]
    for method, scores in panel.scores.items():
        look = _LOOKS[method]
        if method not in with_strokes:
            for summary in scores.values():
                axes.axhline(summary.mean, color=look.colour, linestyle=look.line, linewidth=1.5, label=method)
                if summary.spread:
                    low, high = summary.mean - summary.spread, summary.mean + summary.spread
                    axes.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0)
            continue
        moved = _APART ** (with_strokes.index(method) - (len(with_strokes) - 1) / 2)
        axes.errorbar(
            [one * moved for one in scores],
            [one.mean for one in scores.values()],
            yerr=[one.spread or 0.0 for one in scores.values()],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            markersize=5,
            linewidth=1.5,
            elinewidth=1.0,
            capsize=2,
            label=method,
        )


def _set_up(axes: Axes, strokes: Sequence[int], title: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(strokes[0] / 1.3, strokes[-1] * 1.3)
    axes.xaxis.set_major_locator(FixedLocator([float(one) for one in strokes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(one) for one in strokes])
    axes.set_xlabel("strokes per class and painted image")
    axes.set_title(title, fontsize=10)
    axes.yaxis.set_tick_params(labelleft=True)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
