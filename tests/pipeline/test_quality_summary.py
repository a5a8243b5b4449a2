"""Mean, spread, and who is better than whom."""

from dataclasses import replace

import pytest

from s2d_zoo.pipeline.quality_summary import ORDER, comparisons, figures, overall, summaries, verdicts
from s2d_zoo.pipeline.summary import Summary

from .quality_cases import KNOWN, known_result, known_settings, known_target


def lines_of(target, start):
    return [line for line in verdicts(target) if line.startswith(start)]


def test_a_summary_is_mean_and_standard_deviation():
    assert Summary.of([1.0, 2.0, 3.0]) == Summary(mean=2.0, spread=1.0, n=3)
    assert Summary.of([0.5]) == Summary(mean=0.5, spread=None, n=1)


def test_every_method_is_told_where_it_was_measured():
    told = summaries(known_target())
    assert tuple(told) == ORDER
    for method, by_strokes in KNOWN.items():
        assert {strokes: one["iou"].mean for strokes, one in told[method].items()} == pytest.approx(by_strokes)
    assert told["RF"][5]["iou"].spread == pytest.approx(0.02)
    assert (told["RF"][5]["iou"].n, told["direct network"][0]["iou"].n) == (3, 2)
    assert told["RF"][5]["seconds"].mean == 12.5
    assert "boundary_f1" not in told["RF"][5]
    assert figures(known_target(), "labels_iou").mean == 0.58


def test_methods_are_compared_at_the_strokes_of_the_first_one():
    found = {(one.method, one.rival, one.strokes): one for one in comparisons(known_target())}
    assert found["enhancer", "RF", 5].difference == 0.2
    assert found["enhancer", "direct network", 5].difference == -0.01
    assert found["segmentor, pseudo-labels", "enhancer", 15].difference == 0.11  # by the two seeds that both have
    assert ("segmentor, pseudo-labels", "enhancer", 5) not in found
    assert found["segmentor, pseudo-labels", "segmentor, all true labels", 15].difference == -0.2
    # on the same strokes by seed; the direct network's seeds are others
    assert (found["enhancer", "RF", 5].seeds_better, found["enhancer", "RF", 5].n_seeds) == (3, 3)
    assert found["enhancer", "direct network", 5].seeds_better is None
    assert found["segmentor, pseudo-labels", "enhancer", 15].n_seeds == 2


def test_wins_and_losses_are_said_in_words():
    (line,) = lines_of(known_target(), "enhancer against RF, IoU")
    assert line == "enhancer against RF, IoU: better at 5 (+0.200) and 15 (+0.200) strokes."
    (line,) = lines_of(known_target(), "enhancer against direct network, IoU")
    assert line == (
        "enhancer against direct network, IoU: better at 15 (+0.090) strokes; "
        "worse at 5 (-0.010, less than the spread) strokes."
    )
    (line,) = lines_of(known_target(), "consensus enhancer against enhancer")
    assert line.endswith("better at 5 (+0.050) strokes; equal at 15 (+0.000) strokes.")


def test_a_win_in_some_seeds_only_is_said():
    target = known_target()
    cells = [
        replace(one, scores={**one.scores, "enhancer": one.scores["RF"]})
        if one.cell.kind == "probabilities" and one.cell.strokes == 5 and one.cell.seed == 0
        else one
        for one in target.cells
    ]
    (line,) = lines_of(replace(target, cells=tuple(cells)), "enhancer against RF, IoU")
    assert "better in 2 of 3 seeds" in line


def test_other_measures_are_told_where_they_say_worse():
    """A lower calibration error is better."""
    (line,) = lines_of(known_target(), "enhancer against RF, worse")
    assert line == "enhancer against RF, worse by other measures: nowhere."
    (line,) = lines_of(known_target(), "enhancer against direct network, worse")
    assert line == (
        "enhancer against direct network, worse by other measures: soft Dice at 5 (-0.010, less than the spread) "
        "strokes; AP of objects at 5 (-0.010, less than the spread) strokes; calibration error at 5 (+0.010, less than "
        "the spread) strokes."
    )
    found = {one.strokes: one for one in comparisons(known_target(), "calibration_error") if one.rival == "RF"}
    assert (found[5].difference, found[5].gain, found[5].seeds_better) == (-0.25, 0.25, 3)
    assert comparisons(known_target(), "boundary_f1") == ()


def test_losses_stand_before_all_tables():
    worse = known_target("nuclei_hela", known={**KNOWN, "enhancer": {5: 0.25, 15: 0.4}}, spread=0.0)
    lines = overall(known_result(known_target(), worse))
    assert lines[0] == (
        "enhancer against RF: higher IoU in 2 of 4 cases; worse in nuclei_hela at 5 (-0.050); equal in "
        "nuclei_hela at 15 (+0.000)."
    )
    assert lines[-2:] == (
        "segmentor, pseudo-labels against enhancer: higher IoU in 2 of 2 cases.",
        "segmentor, pseudo-labels against direct network: higher IoU in 2 of 2 cases.",
    )


def test_targets_that_the_enhancer_was_trained_on_are_counted_by_themselves():
    seen = known_target("mito_vnc", known={**KNOWN, "enhancer": {5: 0.25, 15: 0.6}}, spread=0.0, is_source=True)
    assert overall(known_result(known_target(), seen))[0] == (
        "enhancer against RF: higher IoU in 2 of 2 cases. And in 1 of 2 cases on data sets of its training; worse "
        "in mito_vnc at 5 (-0.050)."
    )
    assert overall(known_result(seen))[0].startswith("enhancer against RF: higher IoU in 1 of 2 cases on data sets of")


def test_of_one_seed_nothing_is_said_of_spread():
    target = known_target(settings=known_settings(n_seeds=1))
    assert all(one.spread is None for one in comparisons(target))
    assert "spread" not in " ".join(verdicts(target))
