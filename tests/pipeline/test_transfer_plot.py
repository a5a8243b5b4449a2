"""The picture of a transfer curve."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from s2d_zoo.data.images import read_image
from s2d_zoo.pipeline import transfer_plot
from s2d_zoo.pipeline.transfer_cells import METHODS
from s2d_zoo.pipeline.transfer_plot import Curve, Point, draw_curves


def make_curves(*budgets, spread=0.02):
    """Every method, one above the other, all ending close to each other."""
    methods = [method for kind in METHODS for method in METHODS[kind]]
    return [
        Curve(
            method=method,
            points=(Point(budget=0, mean=0.8, spread=None, n=1),)
            if method == "base model as it is"
            else tuple(Point(budget=one, mean=0.7 + 0.01 * number, spread=spread, n=3) for one in budgets),
            trained="finetuned" in method or "random" in method,
        )
        for number, method in enumerate(methods)
    ]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of a picture, as they were when it was written."""

    def draw(curves):
        figures = []
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure) or save(figure, *a, **k))
        draw_curves(curves, tmp_path / "curve.svg", measure="score")
        return figures[0].axes[0]

    return draw


def test_every_method_has_a_look_of_its_own(drawn):
    axes = drawn(make_curves(1, 5, 20, spread=None))
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == len(make_curves(1))
    assert {text.get_text() for text in axes.texts} == {curve.method for curve in make_curves(1)}


def test_budgets_are_the_ticks_of_a_logarithmic_axis(drawn):
    axes = drawn(make_curves(1, 5, 20))
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [1, 5, 20]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "20"]
    assert not axes.get_xticks(minor=True).size


@pytest.mark.parametrize("budgets", [(1, 5), (3,)])
def test_names_never_lie_over_each_other(drawn, budgets):
    axes = drawn(make_curves(*budgets))
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw(renderer)
    boxes = sorted((text.get_window_extent(renderer) for text in axes.texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in itertools.pairwise(boxes))
    whole = axes.figure.bbox
    assert all(whole.x0 <= box.x0 < box.x1 <= whole.x1 and whole.y0 <= box.y0 < box.y1 <= whole.y1 for box in boxes)


def test_the_spread_is_a_band_for_what_was_trained_and_bars_for_the_rest(drawn):
    curves = make_curves(1, 5)
    axes = drawn(curves)
    bands = [one for one in axes.collections if isinstance(one, PolyCollection)]
    assert len(bands) == sum(curve.trained for curve in curves) == 3
    assert len(axes.containers) == 2


def test_of_a_single_budget_the_spread_is_bars(drawn):
    assert len(drawn(make_curves(5)).containers) == 5


def test_of_one_seed_no_spread_is_drawn(drawn):
    axes = drawn(make_curves(1, 5, spread=None))
    assert not axes.containers
    assert not axes.collections


def test_without_a_base_model_only_the_others_are_drawn(drawn):
    axes = drawn([curve for curve in make_curves(1, 5) if "base model" not in curve.method])
    assert len(axes.texts) == 4


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_equal_curves_give_equal_bytes(tmp_path, kind):
    for name in "ab":
        draw_curves(make_curves(1, 5), tmp_path / f"{name}.{kind}", measure="score")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert first == second
    assert b"matplotlib v" not in first.lower()


def test_the_picture_is_not_empty(tmp_path):
    draw_curves(make_curves(1, 5), tmp_path / "curve.png", measure="score")
    picture = read_image(tmp_path / "curve.png").values
    assert picture.shape[1] > 400
    assert len(np.unique(picture)) > 20


@pytest.mark.parametrize("heights", [[], [0.5], [0.5, 0.5, 0.5], [0.98, 0.99, 1.0], [0.0, 0.01, 0.9]])
def test_heights_are_moved_apart_and_stay_in_order(heights):
    placed = transfer_plot._apart(heights)
    assert len(placed) == len(heights)
    assert all(after - before > 0.06 for before, after in itertools.pairwise(placed))
    assert all(one <= 1 for one in placed)
