"""What `evaluate quality` is told, what it hands on, and what it prints."""

import json

import pytest
from tests.pipeline.quality_cases import write_datasets

from s2d_zoo.pipeline import quality
from s2d_zoo.pipeline.quality_inputs import QualitySettings

RECIPE = """
id = "tiny-enhancer"
name = "Tiny enhancer"
description = "Enhances."
attribution = {license = "MIT", authors = [{name = "Ada"}]}
[source]
datasets = [{name = "nuclei_hela"}]
n_simulated = 0
[enhancer]
features = 2
depth = 2
patches = {size = 32}
training = {steps = 50, device = "cpu"}
[[targets]]
dataset = "nuclei_hela"
n_pseudo = 2
[[targets]]
dataset = "membrane_isbi"
structure = "membranes"
"""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return write_datasets(tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def arguments(package, datasets, tmp_path):
    """All that is needed."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    needed = {"recipe": recipe, "enhancer": package, "data-dir": datasets, "output": tmp_path / "out"}
    return ["evaluate", "quality", *(part for name, value in needed.items() for part in (f"--{name}", value))]


@pytest.fixture
def handed_on(call, arguments, monkeypatch):
    """What a command line becomes."""

    def make(*options):
        seen = []

        def remember(*positional, **others):
            seen.extend((*positional, others))
            raise KeyboardInterrupt

        monkeypatch.setattr(quality, "evaluate_quality", remember)
        outcome = call(*arguments, *options)
        assert "same command goes on" in outcome.stderr
        return seen

    return make


def test_a_small_run_prints_the_tables_and_writes_the_report(call, arguments, tmp_path):
    small = [
        *("--target", "nuclei_hela", "--strokes", "2", "--seeds", "1", "--training-strokes", "2"),
        *("--training-seeds", "1", "--forests", "1", "--trees", "3", "--steps", "1", "--direct-steps", "1", "--quiet"),
    ]
    outcome = call(*arguments, *small)
    assert outcome.exit_code == 0
    lines = outcome.stdout.splitlines()
    assert lines[:3] == ["nuclei_hela", "", "| IoU, strokes per class and image | 2 | none |"]
    report = tmp_path / "out" / "quality.md"
    assert f"report: {report}" in outcome.stderr
    assert "Not finished, and not in here: membrane_isbi." in report.read_text()
    assert "this is no transfer" in report.read_text()
    facts = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert "s2d-zoo" in facts["command"]
    assert "5 cells were there already" in call(*arguments, *small).stderr
    changed = [*small, "--trees", "4"]
    assert call(*arguments, *changed).exit_code == 2
    assert "--overwrite" in call(*arguments, *changed).message


def test_without_options_the_defaults_are_taken(handed_on, package, tmp_path):
    given, targets, sources, settings, output, others = handed_on()
    assert (given, output) == (package, tmp_path / "out")
    assert [one.name for one in targets] == ["nuclei_hela", "membrane_isbi"]
    assert sources.names == ("nuclei_hela",)
    usual = QualitySettings()
    assert (settings.strokes, settings.n_seeds, settings.n_forests) == (usual.strokes, 5, 5)
    assert (settings.training_strokes, settings.n_training_seeds) == (15, 3)
    assert settings.segmentor == usual.segmentor
    assert settings.forest == usual.forest
    # as the recipe trains the enhancer
    assert (settings.direct.training.steps, settings.direct.patches.size) == (50, 32)
    assert others.pop("tell") is not None
    assert others.pop("data_dir") is not None
    assert others == {"chosen": (), "overwrite": False, "progress": True}


def test_segmentors_learn_from_the_most_strokes_where_15_are_not_compared(handed_on):
    _, _, _, settings, *_ = handed_on("--strokes", "5,10")
    assert settings.training_strokes == 10


def test_options_become_settings(handed_on):
    _, _, _, settings, _, others = handed_on(
        *(
            "--target",
            "membrane_isbi",
            "--strokes",
            "3, 6",
            "--training-strokes",
            "6",
            "--seeds",
            "2",
            "--forests",
            "4",
        ),
        *("--training-seeds", "1", "--trees", "9", "--steps", "7", "--direct-steps", "8", "--overwrite", "--quiet"),
    )
    assert (settings.strokes, settings.training_strokes, settings.n_seeds) == ((3, 6), 6, 2)
    assert (settings.n_training_seeds, settings.n_forests, settings.forest.n_estimators) == (1, 4, 9)
    assert (settings.segmentor.training.steps, settings.direct.training.steps) == (7, 8)
    del others["data_dir"]
    assert others == {"chosen": ("membrane_isbi",), "overwrite": True, "tell": None, "progress": False}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strokes", "1,few"], "--strokes takes whole numbers"),
        (["--strokes", "3", "--training-strokes", "15"], "15 for training must be one of 3"),
        (["--training-strokes", "0"], "0 for training must be one of 5"),
        (["--seeds", "0"], "At least one seed"),
        (["--steps", "0"], "positive"),
        (["--target", "moon"], "No target moon"),
        (["--recipe", "missing.toml"], "Cannot read the recipe"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, arguments, options, said):
    outcome = call(*arguments, *options)
    assert outcome.exit_code == 2
    assert said in outcome.message
    assert outcome.stdout == ""


def test_an_enhancer_that_is_not_there_is_named(call, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    position = arguments.index("--enhancer")
    outcome = call(*arguments[:position], *arguments[position + 2 :])
    assert outcome.exit_code == 1
    assert "There is no enhancer tiny-enhancer" in outcome.message
