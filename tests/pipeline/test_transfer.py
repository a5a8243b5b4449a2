"""A transfer curve: every start on the same strokes, scored on images that nothing was trained on."""

import json
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from bioimageio.spec.utils import read_yaml, write_yaml

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.images import read_image, read_labels, write_image
from s2d_zoo.data.patches import PatchDataset, PatchSettings
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import AxesError, ConfigError, SavedFileError
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline import transfer, transfer_training
from s2d_zoo.pipeline.cell_files import hash_array
from s2d_zoo.pipeline.transfer import evaluate_transfer
from s2d_zoo.pipeline.transfer_cells import METHODS, Cell, CellResult, load_models, plan_cells
from s2d_zoo.pipeline.transfer_inputs import TransferInputs, TransferSettings, read_transfer_data
from s2d_zoo.pipeline.transfer_training import CellJob, run_cell
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.trainer import TrainingSettings

#: of the cells of two budgets and two seeds, with all starts
N_CELLS = 1 + 2 * 2 * 4


def tiny(**changes):
    training = TrainingSettings(steps=4, steps_per_epoch=2, batch_size=2, device="cpu")
    patches = PatchSettings(size=32, zoom=(0.8, 1.25), soft_target=True)
    segmentor = SegmentorSettings(features=2, depth=2, patches=patches, training=training)
    forest = ForestSettings(n_estimators=3)
    settings = TransferSettings(
        budgets=(1, 3), n_seeds=2, forest=forest, n_forests=1, segmentor=segmentor, finetuning_rate=0.05
    )
    return replace(settings, **changes)


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """Four small images of nuclei, from 0 to 1 as the tiny enhancer takes them, with their truth. Not to be changed."""
    folder = tmp_path_factory.mktemp("cells")
    simulation = NucleiSimulation(size=64, n_nuclei=4, diameter=18, photons=60)
    for number in range(4):
        image, instances = simulate_nuclei(simulation, seed=number)
        write_image(folder / f"cells-{number}.tif", image.astype(np.float32) / image.values.max())
        write_image(folder / f"truth-{number}.tif", instances)
    return folder


def raw_model(package, folder, description="Somebody's network."):
    """The network of the tiny enhancer as a model of raw images."""
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    rdf = read_yaml(folder / "rdf.yaml")
    del rdf["config"]["s2d_zoo"]
    write_yaml(rdf | {"tags": ["nuclei"], "description": description}, folder / "rdf.yaml")
    return folder


@pytest.fixture(scope="session")
def inputs(cells, package, tmp_path_factory):
    """Two images to paint on and one to score on; the tiny enhancer, and a model of raw images."""
    return TransferInputs(
        images=(cells / "cells-0.tif", cells / "cells-1.tif"),
        ground_truth=(cells / "truth-0.tif", cells / "truth-1.tif"),
        test_images=(cells / "cells-2.tif",),
        test_ground_truth=(cells / "truth-2.tif",),
        enhancer=str(package),
        base_model=str(raw_model(package, tmp_path_factory.mktemp("base") / "base")),
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory, inputs):
    """A whole small curve, and its folder. Not to be changed."""
    output = tmp_path_factory.mktemp("transfer") / "output"
    return evaluate_transfer(inputs, tiny(), output, progress=False), output


def cell_files(output):
    return {path.stem: json.loads(path.read_text()) for path in (output / "cells").glob("*.json")}


# ---- what is run


def test_every_start_is_run_at_every_budget_and_seed_and_the_base_model_once(finished):
    result, output = finished
    starts = ("forest", "random", "pretrained", "enhancer")
    expected = {f"{start}-00{budget}-seed{seed}" for start in starts for budget in (1, 3) for seed in (0, 1)}
    assert set(cell_files(output)) == {"base-model", *expected}
    assert len(result.cells) == N_CELLS
    assert not (output / "checkpoints").exists()


def test_a_cell_tells_what_it_is_and_what_came_out(finished):
    _, output = finished
    cell = cell_files(output)["forest-003-seed1"]
    assert (cell["start"], cell["budget"], cell["seed"]) == ("forest", 3, 1)
    assert set(cell["scores"]) == {"RF", "RF + enhancer as it is"}
    assert all(0 < score["iou"] <= score["dice"] <= 1 for score in cell["scores"].values())
    assert len(cell["painted_px"]) == 2
    assert all(px > 20 for px in cell["painted_px"])
    assert cell["strokes"] == [6, 6]
    assert cell["seconds"] > 0


def test_cells_of_one_budget_and_seed_learn_from_the_same_strokes_and_no_others_do(finished, inputs):
    """Fails if strokes of one seed leaked into cells of another, or starts were compared on different ones."""
    truth = [binary_classes(read_labels(path)) for path in inputs.ground_truth]
    seen = set()
    for budget in (1, 3):
        for seed in (0, 1):
            painted = [
                simulate_scribbles(one, n_strokes=budget, seed=1000 * seed + number) for number, one in enumerate(truth)
            ]
            expected = [hash_array(one) for one in painted]
            seen.add(tuple(expected))
            for start in ("forest", "random", "pretrained", "enhancer"):
                cell = cell_files(finished[1])[f"{start}-00{budget}-seed{seed}"]
                assert cell["strokes_sha256"] == expected
                assert cell["painted_px"] == [int((one > 0).sum()) for one in painted]
    assert len(seen) == 4


def test_every_start_is_given_the_strokes_of_its_cell_and_no_test_image(inputs, tmp_path, monkeypatch):
    learnt = []

    def fit_segmentor(start, images, labels, settings, **_):
        strokes = [np.where(one.painted, one.labels[0] + 1, 0) for one in labels]
        learnt.append((type(start).__name__, images, strokes, settings.training.seed))
        raise KeyboardInterrupt

    def fit_enhancer(enhancer, images, strokes, settings, **_):
        learnt.append((type(enhancer).__name__, images, [one.values for one in strokes], settings.seed))
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer_training, "fit_segmentor", fit_segmentor)
    monkeypatch.setattr(transfer_training, "fit_enhancer", fit_enhancer)
    data = read_transfer_data(inputs)
    models = load_models(inputs, tiny(), data)
    for start in ("random", "pretrained", "enhancer"):
        for seed in (0, 1):
            painting = transfer_training.Painting(data, tiny(), budget=3, seed=seed)
            job = CellJob(
                cell=Cell(start=start, budget=3, seed=seed),
                data=data,
                settings=tiny(),
                models=models,
                painting=painting,
                folder=tmp_path,
                progress=None,
            )
            with pytest.raises(KeyboardInterrupt):
                run_cell(job)
    assert [(name, seed) for name, _, _, seed in learnt] == [
        (name, seed) for name in ("UNet", "PackagedModel", "Enhancer") for seed in (0, 1)
    ]
    truth = [binary_classes(read_labels(path)) for path in inputs.ground_truth]
    for _, images, strokes, seed in learnt:
        assert [hash_array(one) for one in images] == [hash_array(read_image(path)) for path in inputs.images]
        for number, (one, painted) in enumerate(zip(truth, strokes, strict=True)):
            expected = simulate_scribbles(one, n_strokes=3, seed=1000 * seed + number)
            np.testing.assert_array_equal(painted, expected.values)


def test_a_cell_refuses_the_strokes_of_another_seed(inputs, tmp_path):
    data = read_transfer_data(inputs)
    models = load_models(inputs, tiny(), data)
    painting = transfer_training.Painting(data, tiny(), budget=3, seed=0)
    job = CellJob(
        cell=Cell(start="random", budget=3, seed=1),
        data=data,
        settings=tiny(),
        models=replace(models, base=None),
        painting=painting,
        folder=tmp_path,
        progress=None,
    )
    with pytest.raises(ConfigError, match="those of another one"):
        run_cell(job)
    with pytest.raises(ConfigError, match="needs a base model"):
        run_cell(replace(job, cell=Cell(start="base-model"), painting=None))


def test_training_changes_each_start(finished):
    """Untouched and finetuned models would else be the same line twice."""
    scores = {
        method: score for cell in finished[0].cells if cell.cell.seed == 0 for method, score in cell.scores.items()
    }
    assert scores["base model, finetuned"] != scores["base model as it is"]
    assert len(scores) == sum(len(methods) for methods in METHODS.values())


def test_pretrained_networks_learn_more_slowly():
    settings = TransferSettings()
    assert settings.finetuning(1).training.learning_rate < settings.fresh(1).training.learning_rate / 5
    enhancer = settings.enhancer_finetuning(1)
    assert enhancer.training == replace(settings.finetuning(1).training, freeze_batch_norm=True)
    assert settings.fresh(1).training.seed == settings.finetuning(1).training.seed == 1


def test_the_forest_is_fitted_once_for_all_cells_that_use_it(inputs, tmp_path, monkeypatch):
    seeds = []
    fit = PixelClassifier.fit

    def counted(classifier, *arguments):
        seeds.append(classifier.random_state)
        return fit(classifier, *arguments)

    monkeypatch.setattr(PixelClassifier, "fit", counted)
    settings = tiny(budgets=(2,), starts=("enhancer",), n_forests=1, n_seeds=1)
    result = evaluate_transfer(replace(inputs, base_model=None), settings, tmp_path / "out", progress=False)
    assert len(seeds) == 2  # one that is scored, one that the enhancer is trained on
    forest, enhancer = result.cells
    assert enhancer.seconds > 0.9 * forest.seconds / 2


# ---- going on


@pytest.fixture
def count_runs(monkeypatch):
    """Names of the cells that are run; from the n-th on, the user presses Ctrl-C."""

    def install(stop_at=None):
        names = []

        def counted(job):
            names.append(job.cell.name)
            if len(names) == stop_at:
                raise KeyboardInterrupt
            return run_cell(job)

        monkeypatch.setattr(transfer, "run_cell", counted)
        return names

    return install


def test_after_an_interruption_only_the_rest_is_run(inputs, finished, tmp_path, count_runs):
    output, settings = tmp_path / "out", tiny(starts=("random",), budgets=(1,))
    begun = count_runs(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_transfer(inputs, settings, output, progress=False)
    assert begun == ["base-model", "forest-001-seed0"]
    assert set(cell_files(output)) == {"base-model"}
    rest = count_runs()
    result = evaluate_transfer(inputs, settings, output, progress=False)
    assert rest == ["forest-001-seed0", "random-001-seed0", "forest-001-seed1", "random-001-seed1"]
    assert result.n_kept == 1
    again = count_runs()
    result = evaluate_transfer(inputs, settings, output, progress=False)
    assert again == []
    whole = {one.cell: one for one in finished[0].cells}
    assert [one.scores for one in result.cells] == [whole[one.cell].scores for one in result.cells]
    assert {one.cell for one in result.cells} < set(whole)


def test_within_a_cell_the_training_goes_on(inputs, finished, tmp_path, monkeypatch):
    output, settings = tmp_path / "out", tiny(starts=("random",), budgets=(1,), n_seeds=1)
    ask, asked = PatchDataset.__getitem__, []

    def interrupted(patches, index):
        if index >= 5:
            raise KeyboardInterrupt
        return ask(patches, index)

    def noted(patches, index):
        asked.append(index)
        return ask(patches, index)

    monkeypatch.setattr(PatchDataset, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_transfer(inputs, settings, output, progress=False)
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["random-001-seed0"]
    monkeypatch.setattr(PatchDataset, "__getitem__", noted)
    result = evaluate_transfer(inputs, settings, output, progress=False)
    assert min(asked) == 4  # the first epoch had two steps of two patches
    assert not (output / "checkpoints").exists()
    whole = {one.cell: one.scores for one in finished[0].cells}
    assert result.cells[-1].scores == whole[Cell(start="random", budget=1, seed=0)]


def test_checkpoints_of_other_images_are_not_gone_on_with(inputs, cells, finished, tmp_path, monkeypatch):
    """Of the same settings and shapes, they would be taken for this training's."""
    output, settings = tmp_path / "out", tiny(starts=("random",), budgets=(1,), n_seeds=1)
    ask = PatchDataset.__getitem__

    def interrupted(patches, index):
        if index >= 5:
            raise KeyboardInterrupt
        return ask(patches, index)

    others = replace(inputs, images=(cells / "cells-0.tif", cells / "cells-3.tif"), ground_truth=(
        cells / "truth-0.tif", cells / "truth-3.tif"))  # fmt: skip
    monkeypatch.setattr(PatchDataset, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_transfer(others, settings, output, progress=False)
    monkeypatch.setattr(PatchDataset, "__getitem__", ask)
    result = evaluate_transfer(inputs, settings, output, overwrite=True, progress=False)
    whole = {one.cell: one.scores for one in finished[0].cells}
    assert result.cells[-1].scores == whole[Cell(start="random", budget=1, seed=0)]


@pytest.fixture
def kept(inputs, finished, tmp_path):
    """A copy of the finished cells, and a call that goes on from it with something changed."""
    for name, cell in cell_files(finished[1]).items():
        path = tmp_path / "out" / "cells" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cell))

    def go_on(changed=inputs, **changes):
        overwrite = changes.pop("overwrite", False)
        return evaluate_transfer(changed, tiny(**changes), tmp_path / "out", overwrite=overwrite, progress=False)

    return go_on


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"forest": ForestSettings(n_estimators=4)}, "settings.n_estimators"),
        ({"finetuning_rate": 1e-3}, "settings.training.learning_rate"),
    ],
)
def test_cells_of_other_settings_are_refused_and_named(kept, change, named):
    with pytest.raises(ConfigError, match=re.escape(named)) as error:
        kept(**change)
    assert "--overwrite" in str(error.value)


def test_cells_of_other_files_models_and_versions_are_refused_and_named(
    kept, inputs, cells, monkeypatch, package, tmp_path
):
    other_test = replace(inputs, test_images=(cells / "cells-3.tif",))
    with pytest.raises(ConfigError, match=r"base-model\.json was made with other test image 1\."):
        kept(other_test)
    other_truth = replace(inputs, ground_truth=(cells / "truth-0.tif", cells / "truth-3.tif"))
    with pytest.raises(ConfigError, match=r"forest-001-seed0\.json was made with other ground truth of image 2\."):
        kept(other_truth)
    with pytest.raises(ConfigError, match=r"other base model\."):
        kept(replace(inputs, base_model=str(raw_model(package, tmp_path / "other", "Another."))))
    monkeypatch.setattr("s2d_zoo.pipeline.transfer_cells.__version__", "0.0.0")
    with pytest.raises(ConfigError, match="s2d_zoo_version"):
        kept()


def test_only_the_cells_that_differ_are_run_again(kept, count_runs):
    names = count_runs()
    result = kept(finetuning_rate=1e-3, starts=("random", "pretrained"), overwrite=True)
    assert names == [f"pretrained-00{budget}-seed{seed}" for seed in (0, 1) for budget in (1, 3)]
    assert result.n_kept == 9


def test_another_start_or_budget_can_be_added(kept, count_runs):
    names = count_runs()
    kept(budgets=(1, 2, 3), starts=("random",), n_seeds=1)
    assert names == ["forest-002-seed0", "random-002-seed0"]


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is damaged"), ("[]", "no cell"), ('{"format": "other"}', "no cell")],
)
def test_a_file_that_is_no_cell_is_refused(kept, tmp_path, content, said):
    (tmp_path / "out/cells/base-model.json").write_text(content)
    with pytest.raises(SavedFileError, match=said):
        kept()


@pytest.mark.parametrize("key", ["scores", "seconds", "strokes"])
def test_a_cell_with_something_missing_is_refused(kept, tmp_path, key):
    path = tmp_path / "out/cells/base-model.json"
    cell = json.loads(path.read_text())
    path.write_text(json.dumps({**cell, key: "nothing"}))
    with pytest.raises(SavedFileError, match="Remove it to run this cell again"):
        kept()


def test_the_output_must_be_a_folder(inputs, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="must be a folder"):
        evaluate_transfer(inputs, tiny(), tmp_path / "out", progress=False)


def test_it_is_told_which_cell_is_run(inputs, tmp_path, capsys):
    lines = []
    settings = tiny(budgets=(1,), n_seeds=1, starts=("enhancer",))
    evaluate_transfer(inputs, settings, tmp_path / "out", tell=lines.append)
    assert lines == [
        "cell 1 of 3: base model as it is",
        "cell 2 of 3: RF and RF + enhancer as it is; strokes per class and image: 1; seed 0",
        "cell 3 of 3: RF + enhancer, finetuned; strokes per class and image: 1; seed 0",
    ]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "enhancer: 100%" in shown.err
    evaluate_transfer(inputs, settings, tmp_path / "out", tell=lines.append)
    assert len(lines) == 3


# ---- cells and models


def test_without_a_base_model_there_is_no_line_of_it():
    cells = plan_cells(tiny(starts=("random",), n_seeds=1), with_base=False)
    assert [cell.name for cell in cells] == [
        "forest-001-seed0",
        "random-001-seed0",
        "forest-003-seed0",
        "random-003-seed0",
    ]


def test_the_start_pretrained_needs_a_base_model_that_takes_the_images(inputs):
    data = read_transfer_data(inputs)
    with pytest.raises(ConfigError, match="--base-model"):
        load_models(replace(inputs, base_model=None), tiny(), data)
    coloured = LabelledImage(
        name="coloured", image=xr.concat([data.test[0].image] * 3, "channel"), labels=data.test[0].labels
    )
    with pytest.raises(AxesError, match="1 channel"):
        load_models(inputs, tiny(), replace(data, test=(coloured,)))


def test_a_cell_is_called_what_it_is():
    assert str(Cell(start="base-model")) == "base model as it is"
    assert Cell(start="random", budget=20, seed=1).name == "random-020-seed1"
    assert CellResult(cell=Cell(start="random", budget=1), scores={}).strokes == ()
