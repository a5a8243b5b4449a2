"""What maps are worth without a truth, and the order that follows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.scores import calibration_error, score_strokes
from s2d_zoo.pipeline.ranking_forests import Member, foreground_of
from s2d_zoo.pipeline.ranking_rows import Agreement, Row, Stability, is_worse, judge, order_rows


def agreement(hits, size=100, error=0.1):
    """Foreground strokes of one size, of each of which so many px are found."""
    return Agreement(overlaps=tuple(hits), unions=(size,) * len(hits), calibration_error=error)


def make_row(name, hits=(90, 90), stability=0.9, **changes):
    given = {"agreement": agreement(hits), "stability": Stability(strokes=stability, noise=stability), **changes}
    return Row(name=name, **given)


def names(rows):
    return [row.name for row in order_rows(rows)]


@pytest.fixture
def painted():
    """One image, ten strokes: background on the left, foreground on the right; three forests that know it well."""
    strokes = np.zeros((20, 20), dtype=np.uint8)
    for y in range(0, 20, 4):
        strokes[y, 2:6], strokes[y, 12:16] = 1, 2
    scribbles = xr.DataArray(strokes, dims=("y", "x"))
    generator = np.random.default_rng(0)
    members = []
    for number in range(3):
        foreground = np.clip(0.25 + 0.5 * (np.arange(20) >= 10) + generator.normal(0, 0.15, (20, 20)), 0, 1)
        maps = xr.DataArray(np.stack([1 - foreground, foreground]).astype(np.float32), dims=("channel", "y", "x"))
        held_out = scribbles.where(xr.DataArray(np.arange(20) // 4 == number, dims="y"), 0).astype(np.uint8)
        members.append(Member(probabilities=(maps,), perturbed=(maps**1.1,), held_out=(held_out,)))
    return SimpleNamespace(scribbles=(scribbles,), foreground=2), tuple(members)


# ---- one row


def test_agreement_is_that_of_held_out_strokes_together(painted):
    data, members = painted
    row = judge(data, members, lambda maps: foreground_of(maps, 2), held_out=True)
    maps = [foreground_of(member.probabilities[0], 2) for member in members]
    strokes = [member.held_out[0] for member in members]
    assert len(row.agreement.overlaps) == 6
    assert 0.5 < row.agreement.iou < 1
    assert row.agreement.iou == score_strokes(maps, strokes, foreground=2).iou
    assert row.agreement.calibration_error == calibration_error(maps, strokes, foreground=2)
    assert row.degenerate == ""
    assert judge(data, members, lambda maps: foreground_of(maps, 2), held_out=False).agreement is None


def test_stability_is_what_maps_have_in_common(painted):
    data, members = painted
    row = judge(data, members, lambda maps: foreground_of(maps, 2), held_out=True)
    assert 0.5 < row.stability.strokes < row.stability.noise < 1
    assert row.stability.value == (row.stability.strokes + row.stability.noise) / 2


def test_a_map_that_is_all_but_full_is_not_stable_because_of_its_size(painted):
    data, members = painted
    holes = iter(range(6))

    def nearly_full(maps):
        full = xr.ones_like(foreground_of(maps, 2))
        full[next(holes), :3] = 0  # three px of 400, elsewhere each time
        return full

    assert judge(data, members, nearly_full, held_out=True).stability.strokes == 0


@pytest.mark.parametrize(("value", "word"), [(0.0, "empty"), (0.49, "empty"), (1.0, "full"), (0.5, "full")])
def test_a_map_of_one_value_is_perfectly_stable_and_comes_last(painted, value, word):
    data, members = painted
    flat = judge(data, members, lambda maps: xr.full_like(foreground_of(maps, 2), value), held_out=True)
    assert flat.stability.value == 1
    assert f"as good as {word}" in flat.degenerate
    for one in (flat, replace(flat, agreement=None)):
        poor = make_row("poor", stability=0.1, agreement=None if one.agreement is None else agreement((1,) * 6))
        ordered = order_rows([replace(one, name="flat"), poor])
        assert [row.name for row in ordered] == ["poor", "flat"]
        assert ordered[0].ahead_by == "not empty or full"


def test_a_map_that_finds_a_little_of_each_is_not_called_worthless(painted):
    data, members = painted

    def stripes(maps):
        found = xr.zeros_like(foreground_of(maps, 2))
        found[:, ::2] = 1
        return found

    assert judge(data, members, stripes, held_out=True).degenerate == ""


def test_the_standard_error_is_the_jackknife_s():
    one = agreement((90, 70, 80))
    left_out = np.array([75, 85, 80]) / 100
    assert one.standard_error == pytest.approx(np.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum()))
    assert one.difference_error(one) == 0
    assert one.difference_error(agreement((80, 60, 70))) == pytest.approx(0)
    assert one.difference_error(agreement((60, 80, 80))) > 0.1


# ---- the order


def test_agreement_comes_before_stability():
    rows = [make_row("steady", hits=(85, 85), stability=0.99), make_row("right", stability=0.5)]
    assert names(rows) == ["right", "steady"]
    assert [row.ahead_by for row in order_rows(rows)] == ["held-out IoU", ""]


@pytest.mark.parametrize("hits", [(89, 88), (60, 98)], ids=["below 0.02", "below one standard error"])
def test_what_strokes_cannot_tell_apart_is_ordered_by_stability(hits):
    rows = [make_row("right", stability=0.5), make_row("steady", hits=hits, stability=0.6)]
    assert names(rows) == ["steady", "right"]
    assert order_rows(rows)[0].ahead_by == "stability"


def test_without_held_out_strokes_stability_comes_first():
    rows = [make_row(name, agreement=None, stability=stability) for name, stability in (("b", 0.6), ("a", 0.5))]
    assert names(rows) == ["b", "a"]


def test_then_fewer_notes_then_calibration_then_the_name_decide():
    rows = [
        make_row("d", stability=0.909, notes=("other features",)),
        make_row("c", agreement=agreement((90, 90), error=0.2)),
        make_row("b"),
        make_row("a", rescale=2.0),
        make_row("a"),
    ]
    ordered = order_rows(rows)
    assert [(row.name, row.rescale) for row in ordered] == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("d", 1)]
    assert [row.ahead_by for row in ordered] == ["name", "name", "calibration error", "notes", ""]
    assert order_rows(rows[::-1]) == ordered


def test_there_may_be_nothing_to_order():
    assert order_rows([]) == ()


def test_worse_means_more_than_chance():
    best, same, worse, unknown = (
        make_row("best"),
        make_row("same", hits=(89, 89)),
        make_row("worse", hits=(80, 80)),
        make_row("unknown", agreement=None),
    )
    assert is_worse(worse, best)
    assert not is_worse(best, worse)
    assert not is_worse(same, best)
    assert not is_worse(unknown, best)
    assert not is_worse(worse, unknown)
