"""The commands for single stages, called one after another as a user would."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2d_zoo.data.images import read_image
from s2d_zoo.data.scores import Score
from s2d_zoo.pipeline import pretrain as pretrain_module
from s2d_zoo.pipeline.evaluation import Comparison
from s2d_zoo.pipeline.pretrain import PretrainResult
from s2d_zoo.trainer import TrainingResult
from s2d_zoo.validate.checks import Consumer
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.validate.sandbox import Limits


def test_the_stages_follow_each_other_from_file_to_file(call, files, package, tmp_path):
    def step(*arguments):
        outcome = call(*arguments)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome

    common = ("--quiet",)
    done = step(
        *("classify", "--image", files.image, "--scribbles", files.strokes, "--output", tmp_path / "forest.tif"),
        *("--save-classifier", tmp_path / "forest.safetensors", "--trees", 5, *common),
    )
    assert done.stdout == f"probabilities: {tmp_path / 'forest.tif'}\n"
    done = step(
        *("enhance", "--probabilities", tmp_path / "forest.tif", "--classifier", tmp_path / "forest.safetensors"),
        *("--enhancer", package, "--output", tmp_path / "enhanced.tif", *common),
    )
    assert done.stdout == f"enhanced: {tmp_path / 'enhanced.tif'}\n"
    assert read_image(tmp_path / "enhanced.tif").sizes["channel"] == 2
    network = tmp_path / "net.safetensors"
    done = step(
        *("finetune", "--image", files.image, "--pseudo-labels", tmp_path / "enhanced.tif", "--output", network),
        *("--held-out", files.strokes, "--steps", 2, "--segmentor-features", 2, *common),
    )
    assert done.stdout.splitlines()[-2:] == [f"network: {network}", f"report: {tmp_path / 'net.report.md'}"]
    assert "IoU on held-out strokes" in done.stdout
    done = step(
        *("export", "--network", network, "--image", files.image, "--output", tmp_path / "mine.zip"),
        *("--id", "mine", "--name", "My model", "--training-data", "simulated cells"),
        *("--authors", "Ada", "--license", "MIT"),
    )
    assert "F01" in done.stdout
    done = step("validate", tmp_path / "mine.zip", "--select", "F", "--format", "json")
    assert json.loads(done.stdout)["passed"]


def test_the_forest_gives_the_same_from_the_command_and_from_its_file(call, files, tmp_path):
    strokes = ("--scribbles", files.strokes, "--trees", 3, "--save-classifier", tmp_path / "f.safetensors")
    for name, source in (("a", strokes), ("b", ("--classifier", tmp_path / "f.safetensors"))):
        assert call("classify", "--image", files.image, "--output", tmp_path / f"{name}.tif", *source).exit_code == 0
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), read_image(tmp_path / "b.tif"))


TERMS = ("--authors", "A", "--license", "MIT")
EXPORT = ("export", "--network", "IMAGE", "--image", "IMAGE", "--output", "OUT", "--id", "x", "--name", "My model")
PRETRAIN = ("pretrain", "--output", "OUT", "--name", "My model")


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "--image", "IMAGE", "--output", "OUT"),
        ("classify", "--image", "IMAGE", "--output", "OUT", "--scribbles", "IMAGE", "--classifier", "IMAGE"),
        ("enhance", "--probabilities", "IMAGE", "--output", "OUT", "--enhancer", "PACKAGE"),
        ("enhance", "--probabilities", "IMAGE", "--output", "OUT", "--enhancer", "PACKAGE", "--rescale", "x"),
        ("finetune", "--image", "IMAGE", "--image", "IMAGE", "--pseudo-labels", "IMAGE", "--output", "OUT"),
        ("finetune", "--image", "IMAGE", "--pseudo-labels", "IMAGE", "--output", "OUT", "--segmentor-features", "0"),
        (*EXPORT, "--training-data", "x"),
        ("validate", "OUT"),
        ("validate", "PACKAGE", "--select", "Z"),
        ("validate", "PACKAGE", "--select", "F,"),
        ("validate", "PACKAGE", "--consumer", "imagej"),
        ("validate", "PACKAGE", "--time-limit", "0"),
        (*PRETRAIN, *TERMS, "--id", "Not An Id"),
        (*PRETRAIN, "--id", "x"),
        *((*PRETRAIN, *TERMS, "--id", "x", f"--{name}", "0") for name in ("forests", "steps", "features", "simulated")),
    ],
    ids=" ".join,
)
def test_misuse_is_told_and_writes_nothing(call, files, package, tmp_path, arguments):
    places = {"IMAGE": files.image, "OUT": tmp_path / "out.tif", "PACKAGE": package}
    outcome = call(*(places.get(argument, argument) for argument in arguments))
    assert outcome.exit_code == 2, outcome
    assert outcome.message
    assert outcome.stdout == ""
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "--image", "IMAGE", "--classifier", "IMAGE", "--output", "OUT"),
        ("classify", "--image", "IMAGE", "--scribbles", "STROKES", "--trees", "2", "--output", "OUT.xyz"),
        (*EXPORT, *TERMS, "--training-data", "x"),
        ("finetune", "--image", "IMAGE", "--pseudo-labels", "MISSING", "--output", "NETWORK"),
    ],
    ids=" ".join,
)
def test_files_that_cannot_be_used_are_failures(call, files, tmp_path, arguments):
    places = {
        "IMAGE": files.image,
        "STROKES": files.strokes,
        "OUT": tmp_path / "out.tif",
        "OUT.xyz": tmp_path / "out.xyz",
        "NETWORK": tmp_path / "out.safetensors",
        "MISSING": tmp_path / "missing.tif",
    }
    outcome = call(*(places.get(argument, argument) for argument in arguments))
    assert outcome.exit_code == 1, outcome
    assert outcome.message
    assert list(tmp_path.iterdir()) == []


def test_results_that_are_there_are_kept(call, files, tmp_path):
    (tmp_path / "out.tif").write_text("mine")
    outcome = call("classify", "--image", files.image, "--scribbles", files.strokes, "--output", tmp_path / "out.tif")
    assert outcome.exit_code == 2
    assert "--overwrite" in outcome.message
    assert (tmp_path / "out.tif").read_text() == "mine"


@pytest.mark.parametrize(
    ("format_", "word"),
    [("text", "F01: "), ("markdown", "| F01 |"), ("json", '"check": "F01"'), ("html", "<!DOCTYPE html>")],
)
def test_a_validation_is_written_in_the_format_asked_for(call, package, tmp_path, format_, word):
    outcome = call("validate", package, "--select", "F01", "--format", format_, "--quiet")
    assert outcome.exit_code == 0
    assert word in outcome.stdout.replace("  ", " ")
    assert outcome.stderr == ""
    to_file = call("validate", package, "--select", "F01", "--format", format_, "--output", tmp_path / "report")
    assert to_file.exit_code == 0
    assert to_file.stdout == f"passed; report: {tmp_path / 'report'}\n"
    assert (tmp_path / "report").read_text(encoding="utf-8") == outcome.stdout


@pytest.mark.parametrize(("suffix", "word"), [("html", "<!DOCTYPE html>"), ("json", '"check": "F01"'), ("txt", "F01:")])
def test_the_suffix_says_the_format(call, package, tmp_path, suffix, word):
    output = tmp_path / f"report.{suffix}"
    assert call("validate", package, "--select", "F01", "--quiet", "--output", output).exit_code == 0
    assert word in output.read_text(encoding="utf-8").replace("  ", " ")


def test_fiji_is_another_name_of_deepimagej(call, package):
    results = json.loads(call("validate", package, "--format", "json", "--select", "F,W", "--consumer", "Fiji").stdout)
    same = json.loads(
        call("validate", package, "--format", "json", "--select", "F,W", "--consumer", "deepimagej").stdout
    )
    assert results == same


@pytest.mark.parametrize("arguments", [("F00,C01",), ("F00", "C01"), (" C01, F00 ",), ("f00,c01",)])
def test_checks_are_selected_with_commas_or_one_by_one(call, package, arguments):
    selected = [part for argument in arguments for part in ("--select", argument)]
    results = json.loads(call("validate", package, "--format", "json", *selected).stdout)["results"]
    assert [result["check"] for result in results] == ["F00", "C01"]


def test_a_validation_can_be_for_some_programs(call, package, tmp_path, monkeypatch):
    seen = {}

    def pretend(path, **options):
        seen.update(options)
        return ValidationReport(package=str(path), results=())

    monkeypatch.setattr("s2d_zoo.validate.validation.validate_package", pretend)
    assert call("validate", package, "--consumer", "qupath", "--consumer", "core", "--quiet").exit_code == 0
    assert seen["consumers"] == (Consumer.core, Consumer.qupath)
    assert (seen["progress"], seen["tensors"]) == (False, None)
    limits = ("--time-limit", "5", "--memory-limit", "1.5", "--output", tmp_path / "r.txt")
    assert call("validate", package, *limits).exit_code == 0
    assert seen["consumers"] == tuple(Consumer)
    assert (seen["limits"], seen["tensors"].name) == (Limits(seconds=5, memory_gib=1.5), "r-tensors")
    assert seen["progress"]


def test_a_report_that_is_there_is_kept_and_the_package_always(call, package, folder, tmp_path):
    (tmp_path / "report.txt").write_text("mine")
    arguments = ("validate", package, "--select", "F00", "--output")
    outcome = call(*arguments, tmp_path / "report.txt")
    assert outcome.exit_code == 2
    assert "--overwrite" in outcome.message
    assert (tmp_path / "report.txt").read_text() == "mine"
    assert call(*arguments, tmp_path / "report.txt", "--overwrite").exit_code == 0
    assert "F00" in (tmp_path / "report.txt").read_text()
    copy = tmp_path / "model.zip"
    copy.write_bytes(package.read_bytes())
    assert call("validate", copy, "--select", "F00", "--output", copy, "--overwrite").exit_code == 2
    assert copy.read_bytes() == package.read_bytes()


def test_a_package_that_fails_a_check_ends_with_1(call, folder, files):
    folder.rdf["license"] = "mine"
    for path in (folder.save(), files.image):
        outcome = call("validate", path, "--select", "F", "--quiet")
        assert outcome.exit_code == 1
        assert "failed   F0" in outcome.stdout
        assert outcome.stderr == ""


def test_bundled_models_are_listed_by_tag(call):
    every = call("list")
    assert every.exit_code == 0
    assert "nuclei-fluo-2d" in every.stdout
    assert call("list", "--tag", "shallow2deep").stdout == every.stdout
    assert call("list", "--tag", "Shallow2Deep").stdout == every.stdout
    assert call("list", "--tag", "no-such-tag").stdout == ""
    assert "has the tag 'no-such-tag'." in call("list", "--tag", "no-such-tag").stderr
    assert "has the tag 'mito' (similar: mitochondria)." in call("list", "--tag", "mito").stderr
    assert "has all of these words." in call("list", "--search", "qqqq").stderr
    assert "has the tag 'nuclei' and all of these words." in call("list", "--tag", "nuclei", "--search", "qqqq").stderr


@pytest.fixture
def seen(monkeypatch):
    """What `pretrain` is called with; nothing is trained."""
    seen = {}

    def pretend(settings, output, **options):
        seen.update(settings=settings, output=output, **options)
        training = TrainingResult(model=None, steps=40, validation_loss=0.25)
        return PretrainResult(
            package=output / "x.zip", card=output / "card", training=training, comparisons=(), seconds={}
        )

    monkeypatch.setattr(pretrain_module, "pretrain", pretend)
    return seen


@pytest.mark.parametrize(("datasets", "n_simulated"), [((), 60), (("--dataset", "mito_vnc"), 0)])
def test_simulated_nuclei_are_learnt_from_where_there_is_nothing_else(call, tmp_path, seen, datasets, n_simulated):
    named = ("--id", "x", "--name", "My model", "--authors", "Ada", "--license", "MIT")
    assert call("pretrain", "--output", tmp_path, *named, *datasets).exit_code == 0
    assert seen["settings"].source.n_simulated == n_simulated


def test_pretraining_passes_every_option_on_and_tells_the_results(call, tmp_path, monkeypatch, seen):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("sys.argv", ["s2d-zoo", "pretrain"])
    outcome = call(
        *("pretrain", "--output", tmp_path, "--id", "x", "--name", "My model", "--authors", "Ada", "--license", "MIT"),
        *(
            "--simulated",
            5,
            "--dataset",
            "mito_vnc",
            "--dataset",
            "mito_vnc:membrane",
            "--data-dir",
            tmp_path,
            "--forests",
            9,
            "--stages",
            2,
        ),
        *("--features", 3, "--trees", 4, "--steps", 50, "--seed", 6, "--tag", "nuclei", "--quiet"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [
        "40 steps, best loss on validation images 0.2500",
        f"package: {tmp_path / 'x.zip'}",
        f"model card: {tmp_path / 'card'}",
    ]
    settings = seen["settings"]
    assert [str(source) for source in settings.source.datasets] == ["mito_vnc", "mito_vnc (membrane)"]
    assert settings.source.n_simulated == 5
    assert (settings.forests.n_forests, settings.forests.n_stages, settings.forests.n_estimators) == (9, 2, 4)
    assert (settings.enhancer.features, settings.enhancer.training.steps) == (3, 50)
    assert settings.enhancer.training.steps_per_epoch == 50
    assert (settings.seed, settings.tags, seen["progress"], seen["data_dir"]) == (6, ("nuclei",), False, tmp_path)
    assert seen["command"].startswith("OMP_NUM_THREADS=1 s2d-zoo pretrain")


def test_an_enhancer_that_does_harm_is_told_of(call, tmp_path, seen, monkeypatch):
    pretend = pretrain_module.pretrain
    harm = Comparison(
        name="nuclei",
        n_images=2,
        n_strokes=5,
        seed=0,
        forest=Score(iou=0.8, dice=0.9),
        enhanced=Score(iou=0.0, dice=0.0),
    )
    monkeypatch.setattr(
        pretrain_module, "pretrain", lambda *args, **options: replace(pretend(*args, **options), comparisons=(harm,))
    )
    outcome = call(
        "pretrain", "--output", tmp_path, "--id", "x", "--name", "My model", "--authors", "A", "--license", "MIT"
    )
    assert outcome.exit_code == 0
    assert "IoU, nuclei: RF 0.800, enhanced 0.000" in outcome.stdout
    assert "WARNING: On nuclei it is worse than the forest alone: IoU 0.000 against 0.800." in outcome.stderr


def test_pretraining_by_a_recipe_takes_everything_from_it(call, tmp_path, seen):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'id = "tiny"\nname = "Tiny enhancer"\ndescription = "Enhances."\nseed = 4\n'
        'attribution = {authors = [{name = "Ada"}], license = "CC-BY-4.0"}\nsource = {n_simulated = 4}\n',
        encoding="utf-8",
    )
    outcome = call("pretrain", "--recipe", recipe)
    assert outcome.exit_code == 0, outcome.stderr
    assert (seen["settings"].id, seen["settings"].seed, seen["output"]) == ("tiny", 4, Path("build/tiny"))
    assert call("pretrain", "--recipe", recipe, "--output", tmp_path / "out").exit_code == 0
    assert seen["output"] == tmp_path / "out"
    mixed = call("pretrain", "--recipe", recipe, "--steps", 5, "--tag", "nuclei")
    assert mixed.exit_code == 2
    assert "leave out --tag, --steps" in " ".join(mixed.stderr.split())
    nothing = call("pretrain", "--name", "Tiny enhancer")
    assert nothing.exit_code == 2
    assert "Missing --output, --id" in " ".join(nothing.stderr.split())


def test_the_program_writes_results_to_stdout_and_progress_to_stderr(files, tmp_path):
    """In a process of its own, as from a shell."""
    code = "import sys; from s2d_zoo.cli import cli; cli(sys.argv[1:])"
    arguments = ["classify", "--image", files.image, "--scribbles", files.strokes, "--output", tmp_path / "out.tif"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--trees", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"probabilities: {tmp_path / 'out.tif'}\n"
