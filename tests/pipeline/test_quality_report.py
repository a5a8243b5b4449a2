"""The quality of an enhancer as tables and figures."""

import json
from dataclasses import replace

import pytest
import torch

from s2d_zoo.pipeline.quality_report import to_facts, to_markdown, to_table, write_quality_report
from s2d_zoo.pipeline.quality_summary import ORDER

from .quality_cases import known_result, known_settings, known_target


def rows(table):
    return {line.split(" | ")[0].strip("| "): line for line in table.splitlines()}


def test_the_table_has_methods_down_and_strokes_across():
    table = rows(to_table(known_target()))
    assert table["IoU, strokes per class and image"] == "| IoU, strokes per class and image | 5 | 15 | none |"
    assert table["enhancer"] == "| enhancer | 0.500 ± 0.020 | 0.600 ± 0.020 | – |"
    assert table["segmentor, pseudo-labels"].startswith("| segmentor, pseudo-labels | – | 0.700 ± 0.014 | – |")
    assert table["direct network"].startswith("| direct network | – | – | 0.510")
    assert set(table) > set(ORDER)
    assert {line.count("|") for line in table.values()} == {5}


def test_of_one_seed_no_spread_is_told():
    assert "±" not in to_table(known_target(settings=known_settings(n_seeds=1)))


def test_the_report_tells_what_was_measured_and_how_to_do_it_again():
    result = known_result(known_target(), missing=("membrane_isbi",))
    text = to_markdown(result, command="s2d-zoo evaluate quality --recipe r.toml")
    assert text.startswith("# Quality of tiny-enhancer\n")
    assert "Made by `s2d-zoo evaluate quality --recipe r.toml`" in text
    assert "trained on mito_vnc, 3 simulated images of nuclei" in text
    assert "2 test images; strokes on a, c; networks learn from 3 images. Objects: mito_inst.\n" in text
    assert "- Not finished, and not in here: membrane_isbi." in text
    assert "IoU 0.580 ± 0.000, share kept 0.900 ± 0.000" in text
    assert "no transfer" not in text
    assert "Rescaled" not in text
    assert "- enhancer against RF: higher IoU in 2 of 2 cases." in text
    assert "s2d-zoo 0." in to_markdown(result)


def test_that_figures_come_from_several_machines_is_told():
    target = known_target()
    assert "environments" not in to_markdown(known_result(target))
    assert [one["machine"]["threads"] for one in to_facts(known_result(target))["made_with"]] == [
        torch.get_num_threads()
    ]
    first = replace(target.cells[0], made_with={"machine": "another"})
    result = known_result(replace(target, cells=(first, *target.cells[1:])))
    assert "Figures come from 2 environments" in to_markdown(result)
    assert to_facts(result)["made_with"][0] == {"machine": "another"}


def test_that_the_package_says_something_else_stands_first():
    result = known_result(doubt="x.zip was not made from the images that the recipe names.")
    assert to_markdown(result).splitlines()[4] == "**x.zip was not made from the images that the recipe names.**"
    assert to_facts(result)["doubt"] == result.doubt
    assert to_facts(known_result())["doubt"] is None


def test_measures_stand_side_by_side_at_the_strokes_of_the_trainings():
    table = rows(to_markdown(known_result()).partition("At 15 strokes")[2])
    assert table["method"] == (
        "| method | IoU | Dice | soft Dice | calibration error at borders | AP of objects at IoU 0.5 | seconds |"
    )
    assert table["RF"].startswith("| RF | 0.400 ± 0.020 |")
    assert table["RF"].endswith("| 12 |")


def test_without_trainings_only_forests_and_enhancer_are_told():
    target = known_target(trainings=False)
    assert list(rows(to_table(target)))[-3:] == ["RF", "enhancer", "consensus enhancer"]
    assert to_table(target).splitlines()[0] == "| IoU, strokes per class and image | 5 | 15 |"
    assert "trained networks" not in to_markdown(known_result(target))
    text = to_markdown(known_result(target))
    assert "2 test images; strokes on a, c; no network was trained." in text
    assert "direct" not in text.partition("## mito_epfl")[2].partition("Seconds:")[0]
    assert "segmentor" not in text.partition("Seconds:")[0]
    assert "- enhancer against RF: higher IoU in 2 of 2 cases." in text


def test_trainings_of_other_targets_stand_beside_those_without(tmp_path):
    result = known_result(known_target(), known_target("mito_vnc", trainings=False))
    text = to_markdown(result)
    assert "- enhancer against RF: higher IoU in 4 of 4 cases." in text
    assert "- enhancer against direct network: higher IoU in 1 of 2 cases" in text
    write_quality_report(result, tmp_path)
    facts = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    assert [one["trainings"] for one in facts["targets"]] == [True, False]
    assert set(facts["targets"][1]["summaries"]) == {"RF", "enhancer", "consensus enhancer"}


def test_a_target_that_was_a_source_is_no_transfer():
    text = to_markdown(known_result(known_target(is_source=True)))
    assert "The enhancer was trained on the train split of this dataset: this is no transfer." in text
    assert "Rescaled by 1.5" in text


def test_what_makes_scores_of_a_dataset_optimistic_stands_beside_them():
    assert "so scores are optimistic" in to_markdown(known_result(known_target("mito_vnc")))
    assert "optimistic" not in to_markdown(known_result(known_target("mito_epfl")))


def test_that_a_rim_without_labels_was_left_out_is_told():
    result = known_result(known_target("nuclei_hela"))
    assert "Without a rim of 25 px, where objects may be unlabelled." in to_markdown(result)
    assert to_facts(result)["targets"][0]["rim_left_out"] == 25
    assert "rim" not in to_markdown(known_result())
    assert to_facts(known_result())["targets"][0]["rim_left_out"] == 0


def test_the_figures_hold_every_cell_and_every_comparison():
    facts = json.loads(json.dumps(to_facts(known_result(missing=("membrane_isbi",)), command="as given")))
    assert (facts["command"], facts["targets_not_finished"]) == ("as given", ["membrane_isbi"])
    (target,) = facts["targets"]
    assert (target["name"], target["objects"], target["trained_on_by_enhancer"]) == ("mito_epfl", "mito_inst", False)
    assert (target["painted_images"], target["test_images"]) == (["a", "c"], ["t1", "t2"])
    assert len(target["cells"]) == 3 * 2 + 2 * 4
    assert target["summaries"]["RF"]["5"]["iou"] == {"mean": pytest.approx(0.3), "spread": pytest.approx(0.02), "n": 3}
    assert {"method": "enhancer", "rival": "RF", "strokes": 5}.items() <= target["comparisons"][0].items()


def test_the_report_is_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        written = write_quality_report(known_result(known_target(), known_target("nuclei_hela")), tmp_path / name)
        assert written == tmp_path / name / "quality.md"
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    assert set(files[0]) == {"quality.json", "quality.md", "quality.svg", "quality.png"}
