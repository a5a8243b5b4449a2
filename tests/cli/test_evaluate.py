"""What `evaluate transfer` is told, what it hands on, and what it prints."""

import json

import pytest

from s2d_zoo.data.images import write_image
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.pipeline import transfer
from s2d_zoo.pipeline.transfer_inputs import DEFAULT_BUDGETS, DEFAULT_ENHANCER, DEFAULT_STEPS, TransferSettings


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Options that name two small labelled images."""
    folder = tmp_path_factory.mktemp("pairs")
    named = []
    for number in range(2):
        image, instances = simulate_nuclei(NucleiSimulation(size=64, n_nuclei=4, diameter=18, photons=60), seed=number)
        write_image(folder / f"cells-{number}.tif", image)
        write_image(folder / f"truth-{number}.tif", instances)
        named += ["--image", folder / f"cells-{number}.tif", "--ground-truth", folder / f"truth-{number}.tif"]
    return named


@pytest.fixture
def handed_on(call, pairs, monkeypatch, tmp_path):
    """Inputs, settings and options that a command line becomes."""

    def make(*options):
        seen = []

        def remember(inputs, settings, output, **others):
            seen.extend((inputs, settings, others))
            raise KeyboardInterrupt

        monkeypatch.setattr(transfer, "evaluate_transfer", remember)
        outcome = call("evaluate", "transfer", *pairs, "--output", tmp_path / "out", *options)
        assert "same command goes on" in outcome.stderr
        return seen

    return make


def test_a_small_run_prints_the_table_and_writes_the_report(call, pairs, package, tmp_path):
    small = ["--budgets", "2", "--seeds", "1", "--steps", "2", "--trees", "5", "--starts", "random", "--quiet"]
    arguments = ["evaluate", "transfer", *pairs, *small, "--enhancer", package, "--output", tmp_path / "out"]
    outcome = call(*arguments)
    assert outcome.exit_code == 0
    lines = outcome.stdout.splitlines()
    assert lines[0] == "| IoU, strokes per class and image | 2 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| random start",
        "| RF",
        "| RF + enhancer as it is",
        "| painted px, all images",
    ]
    report = tmp_path / "out" / "transfer.md"
    assert f"report: {report}" in outcome.stderr
    assert "cells-1.tif` (the last third of the images, held out" in report.read_text()
    facts = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert "s2d-zoo" in facts["command"]
    assert "2 of 2 cells were there already" in call(*arguments).stderr
    assert call(*arguments[:-1], tmp_path / "out", "--steps", "3").exit_code == 2
    assert "--overwrite" in call(*arguments, "--steps", "3").message
    assert call(*arguments, "--steps", "3", "--overwrite").exit_code == 0


def test_without_options_the_defaults_are_taken(handed_on):
    inputs, settings, others = handed_on()
    assert settings == TransferSettings(starts=("random", "enhancer"))
    assert (inputs.enhancer, inputs.base_model, inputs.trust_code) == (DEFAULT_ENHANCER, None, False)
    assert (settings.budgets, settings.segmentor.training.steps) == (DEFAULT_BUDGETS, DEFAULT_STEPS)
    assert others.pop("tell") is not None
    assert others == {"overwrite": False, "progress": True}


def test_a_base_model_is_a_start_by_itself(handed_on):
    inputs, settings, _ = handed_on("--base-model", "affable-shark", "--trust-code")
    assert (inputs.base_model, inputs.trust_code) == ("affable-shark", True)
    assert settings.starts == ("random", "pretrained", "enhancer")


def test_options_become_settings(handed_on):
    _, settings, others = handed_on(
        *("--budgets", "4, 8", "--starts", "enhancer,random", "--seeds", "2", "--steps", "7", "--trees", "9"),
        *("--overwrite", "--quiet"),
    )
    assert (settings.budgets, settings.starts, settings.n_seeds) == ((4, 8), ("enhancer", "random"), 2)
    assert (settings.segmentor.training.steps, settings.forest.n_estimators) == (7, 9)
    assert others == {"overwrite": True, "tell": None, "progress": False}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budgets", "1,few"], "whole numbers"),
        (["--budgets", "0"], "at least 1"),
        (["--starts", "luck"], "random, pretrained, enhancer"),
        (["--starts", "pretrained"], "--base-model"),
        (["--seeds", "0"], "At least one seed"),
        (["--steps", "0"], "positive"),
        (["--trees", "0"], "at least 1"),
        (["--test-image", "other.tif"], "--test-ground-truth was given 0 times"),
        (["--dataset", "nuclei_hela"], "or --dataset"),
        (["--enhancer", "no-such-model"], "No model"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, pairs, package, tmp_path, options, said):
    given = [] if "--enhancer" in options else ["--enhancer", package]
    outcome = call("evaluate", "transfer", *pairs, *given, "--output", tmp_path / "out", *options)
    assert outcome.exit_code == (1 if "--enhancer" in options else 2)
    assert said in outcome.message
    assert outcome.stdout == ""


def test_a_group_without_a_command_is_misuse(call):
    assert call("evaluate").exit_code == 2
    assert call("evaluate", "nonsense").exit_code == 2
