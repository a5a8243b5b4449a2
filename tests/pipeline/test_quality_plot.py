"""The picture of an enhancer's quality."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from s2d_zoo.data.images import read_image
from s2d_zoo.pipeline.quality_plot import Panel, draw_quality
from s2d_zoo.pipeline.quality_summary import ORDER
from s2d_zoo.pipeline.summary import Summary

from .quality_cases import KNOWN


def panel(title="mito_epfl", spread=0.02):
    return Panel(
        title=title,
        scores={
            method: {strokes: Summary(mean=mean, spread=spread, n=3) for strokes, mean in scores.items()}
            for method, scores in KNOWN.items()
        },
    )


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figure, as it was when it was written."""

    def draw(*panels):
        figures, save = [], Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure) or save(figure, *a, **k))
        draw_quality(panels, tmp_path / "quality.svg", measure="score")
        return figures[0]

    return draw


@pytest.mark.parametrize(("n", "hidden"), [(1, 0), (2, 0), (4, 2)])
def test_every_target_has_a_panel(drawn, n, hidden):
    figure = drawn(*(panel(f"target {number}") for number in range(n)))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"target {number}" for number in range(n)]
    assert len(figure.axes) - len(shown) == hidden
    assert all([label.get_text() for label in axes.get_xticklabels()] == ["5", "15"] for axes in shown)
    assert all(axes.get_xscale() == "log" for axes in shown)


@pytest.mark.parametrize("n", [1, 3])
def test_every_method_is_named_once_within_the_picture(drawn, n):
    figure = drawn(*(panel(str(number)) for number in range(n)))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(ORDER)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    box, whole = legend.get_window_extent(renderer), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert all(box.y1 <= axes.get_tightbbox(renderer).y0 + 1 for axes in figure.axes[-n:])


def test_what_learns_from_strokes_has_bars_and_the_rest_is_a_line_with_a_band(drawn):
    axes = drawn(panel()).axes[0]
    assert len(axes.containers) == 5
    level = [line for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    assert [line.get_ydata()[0] for line in level if line.get_linestyle() in {"--", ":"}] == [0.51, 0.9]
    assert len(axes.patches) == 2
    assert not drawn(panel(spread=None)).axes[0].patches


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_equal_panels_give_equal_bytes(tmp_path, kind):
    for name in "ab":
        draw_quality([panel(), panel("other")], tmp_path / f"{name}.{kind}", measure="score")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert first == second
    assert b"matplotlib v" not in first.lower()


def test_the_picture_is_not_empty(tmp_path):
    draw_quality([panel()], tmp_path / "quality.png", measure="score")
    assert len(np.unique(read_image(tmp_path / "quality.png").values)) > 20
