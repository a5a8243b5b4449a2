"""A transfer curve in words, figures and a picture."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import xarray as xr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.scores import Score
from s2d_zoo.pipeline.transfer import TransferResult
from s2d_zoo.pipeline.transfer_cells import METHODS, CellResult, Models, plan_cells
from s2d_zoo.pipeline.transfer_inputs import TransferData, TransferInputs, TransferSettings
from s2d_zoo.pipeline.transfer_report import curves, to_facts, to_markdown, to_table, write_transfer_report

#: of the cells of two budgets and two seeds, with all starts
N_CELLS = 1 + 2 * 2 * 4


def named(*names):
    """Images of which nothing but the name matters."""
    return tuple(LabelledImage(name=name, image=xr.DataArray(0), labels=xr.DataArray(0)) for name in names)


def known_result(n_seeds=2):
    """A result whose scores are known: 0.5 at one stroke, 0.7 at three, 0.1 to either side for the two seeds."""
    settings = TransferSettings(budgets=(1, 3), n_seeds=n_seeds)
    cells = []
    for cell in plan_cells(settings, with_base=True):
        iou = {0: 0.3, 1: 0.5, 3: 0.7}[cell.budget] + (0.1 if cell.seed else -0.1) * (cell.budget > 0)
        scores = dict.fromkeys(METHODS[cell.start], Score(iou=iou, dice=2 * iou / (1 + iou)))
        painted = (100, 100 + 20 * cell.seed) if cell.budget else ()
        cells.append(CellResult(cell=cell, scores=scores, painted_px=painted, strokes=(2,), seconds=1.5))
    return TransferResult(
        inputs=TransferInputs(dataset="any"),
        settings=settings,
        data=TransferData(
            training=named("cells-0.tif", "cells-1.tif"), test=named("cells-2.tif"), split="given as test images"
        ),
        models=Models(
            enhancer=SimpleNamespace(id="tiny-enhancer"),
            enhancer_sha256="e" * 64,
            base=SimpleNamespace(id="tiny-base"),
            base_sha256="b" * 64,
        ),
        cells=tuple(cells),
        n_kept=0,
    )


@pytest.fixture
def told():
    return known_result()


def test_the_table_tells_mean_and_standard_deviation_over_the_seeds(told):
    rows = {row.split(" | ")[0].strip("| "): row for row in to_table(told).splitlines()}
    assert rows["random start"] == "| random start | 0.500 ± 0.141 | 0.700 ± 0.141 |"
    assert rows["painted px, all images"] == "| painted px, all images | 210 | 210 |"
    assert rows["base model as it is"] == "| base model as it is | 0.300 | 0.300 |"
    assert set(rows) >= {method for methods in METHODS.values() for method in methods}
    assert "| Dice, strokes per class and image | 1 | 3 |" in to_table(told, "dice")
    widths = {row.count("|") for row in to_table(told).splitlines()}
    assert widths == {4}


def test_of_one_seed_no_spread_is_told():
    alone = known_result(n_seeds=1)
    assert "±" not in to_table(alone)
    assert all(point.spread is None for curve in curves(alone, "iou") for point in curve.points)
    assert "One seed" in to_markdown(alone)


def test_the_report_tells_which_images_and_how_to_do_it_again(told):
    text = to_markdown(told, command="s2d-zoo evaluate transfer --image cells.tif")
    assert "Made by `s2d-zoo evaluate transfer --image cells.tif`" in text
    assert "2 images: `cells-0.tif`, `cells-1.tif`" in text
    assert "1 image: `cells-2.tif` (given as test images)" in text
    assert "transfer.svg" in text
    many = replace(told.data, training=named(*"012345"))
    assert "6 images: `0`, `1`, `2`, `3`, …" in to_markdown(replace(told, data=many))


def test_the_figures_hold_every_cell_and_every_curve(told):
    facts = json.loads(json.dumps(to_facts(told, command="as given")))
    assert len(facts["cells"]) == N_CELLS
    assert facts["command"] == "as given"
    assert facts["enhancer"]["id"] == "tiny-enhancer"
    curve = next(one for one in facts["curves"]["iou"] if one["method"] == "random start")
    assert curve["points"][0] == {"budget": 1, "mean": 0.5, "spread": pytest.approx(0.1414, abs=1e-4), "n": 2}
    without = replace(told, models=Models(enhancer=told.models.enhancer, enhancer_sha256="0"))
    assert to_facts(without)["base_model"] is None
    assert "base model `" not in to_markdown(without)


def test_that_figures_come_from_several_machines_is_told(told):
    assert "environments" not in to_markdown(told)
    first = replace(told.cells[0], made_with={"machine": "another"})
    told = replace(told, cells=(first, *told.cells[1:]))
    assert "Figures come from 2 environments" in to_markdown(told)
    assert to_facts(told)["made_with"][0] == {"machine": "another"}


def test_the_report_is_the_same_bytes_each_time(told, tmp_path):
    for name in ("a", "b"):
        assert write_transfer_report(told, tmp_path / name) == tmp_path / name / "transfer.md"
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert written[0] == written[1]
    assert set(written[0]) == {"transfer.json", "transfer.md", "transfer.svg", "transfer.png"}
