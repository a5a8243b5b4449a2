"""The measurement of an enhancer: every cell of every target, once."""

import json
import re
import shutil
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
from filelock import FileLock

from s2d_zoo.data.images import read_labels
from s2d_zoo.data.patches import PatchDataset, PatchSettings
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import ConfigError, SavedFileError
from s2d_zoo.pipeline import quality, quality_cells, quality_runs
from s2d_zoo.pipeline.quality import evaluate_quality
from s2d_zoo.pipeline.quality_cells import Cell, cell_facts, load_measured, plan_cells
from s2d_zoo.pipeline.quality_inputs import QualityTarget, read_target
from s2d_zoo.pipeline.quality_runs import CellJob, Forests, run_cell
from s2d_zoo.pipeline.record import Clock
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection

from .quality_cases import MEMBRANES, NUCLEI, RIM, TARGETS, sources, tiny, write_datasets

#: of one target
NAMES = {
    *(f"probabilities-00{strokes}-seed{seed}" for strokes in (2, 4) for seed in (0, 1)),
    "direct-seed0",
    "pseudo-labels-002-seed0",
    "strokes-only-002-seed0",
    "ceiling-seed0",
}


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    """Not to be changed."""
    return write_datasets(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, package, datasets):
    """Two small targets, and their folder. Not to be changed."""
    output = tmp_path_factory.mktemp("quality") / "output"
    return evaluate_quality(package, TARGETS, sources(), tiny(), output, data_dir=datasets, progress=False), output


@pytest.fixture
def kept(finished, tmp_path, package, datasets):
    """A copy of the finished cells, and a call that goes on from it with something changed."""
    output = tmp_path / "out"
    shutil.copytree(finished[1], output)

    def go_on(targets=TARGETS, learnt_from=None, **changes):
        options = {name: changes.pop(name) for name in ("chosen", "overwrite", "tell") if name in changes}
        return evaluate_quality(
            package,
            targets,
            learnt_from or sources(),
            tiny(**changes),
            output,
            data_dir=datasets,
            progress=False,
            **options,
        )

    return go_on


@pytest.fixture
def count_runs(monkeypatch):
    """Names of the cells that are run; from the n-th on, the user presses Ctrl-C."""

    def install(stop_at=None):
        names = []

        def counted(job):
            names.append(f"{job.data.target.name}/{job.cell.name}")
            if len(names) == stop_at:
                raise KeyboardInterrupt
            return run_cell(job)

        monkeypatch.setattr(quality, "run_cell", counted)
        return names

    return install


def make_job(package, datasets, tmp_path, cell, target=NUCLEI, **changes):
    settings = tiny(**changes)
    return CellJob(
        cell=cell,
        data=read_target(target, settings, data_dir=datasets),
        settings=settings,
        measured=load_measured(package),
        direct=None,
        folder=tmp_path / "cell",
        progress=None,
    )


# ---- what is run


def test_every_cell_of_every_target_is_a_file(finished):
    result, output = finished
    for target in TARGETS:
        assert {path.stem for path in (output / "cells" / target.name).iterdir()} == NAMES
    assert [len(one.cells) for one in result.targets] == [len(NAMES)] * 2
    assert (result.missing, result.n_kept, result.sources) == ((), 0, ("nuclei_dsb_fluo",))
    assert list((output / "checkpoints").iterdir()) == []


def test_a_target_without_trainings_has_forests_and_enhancer_only(kept, count_runs):
    names = count_runs()
    result = kept(targets=(replace(NUCLEI, trainings=False), MEMBRANES))
    assert [len(one.cells) for one in result.targets] == [4, len(NAMES)]
    assert {one.cell.kind for one in result.targets[0].cells} == {"probabilities"}
    assert names == []


def test_checkpoints_of_another_process_stay(kept, tmp_path):
    other = tmp_path / "out" / "checkpoints" / NUCLEI.name / "ceiling-seed1"
    other.mkdir(parents=True)
    kept()
    assert other.is_dir()


def test_each_structure_has_its_measures(finished):
    nuclei, membranes = (
        [score for one in target.cells for score in one.scores.values()] for target in finished[0].targets
    )
    assert all(one.boundary_f1 is None and 0 <= one.average_precision <= 1 for one in nuclei)
    assert all(one.average_precision is None and 0 <= one.boundary_f1 <= 1 for one in membranes)


def test_cells_tell_seconds_and_what_the_strokes_and_labels_were(finished):
    cells = {path.stem: json.loads(path.read_text()) for path in (finished[1] / "cells" / "nuclei_hela").glob("*.json")}
    told = cells["probabilities-002-seed0"]
    assert (told["kind"], told["strokes"], told["seed"]) == ("probabilities", 2, 0)
    assert told["figures"]["strokes"] == 8  # two of each class on each of two images
    assert told["figures"]["painted_px"] > 40
    assert 0 < told["seconds"]["RF"] <= told["seconds"]["enhancer"]
    labels = cells["pseudo-labels-002-seed0"]["figures"]
    assert 0 <= labels["labels_iou"] <= 1
    assert 0 <= labels["kept"] <= 1


def test_the_direct_network_is_trained_once_for_all_targets(finished, kept, monkeypatch):
    assert {path.name for path in (finished[1] / "direct").iterdir()} >= {"seed0.json", "seed0.safetensors"}
    told = json.loads((finished[1] / "direct" / "seed0.json").read_text())
    seconds = [cell.seconds["direct network"] for target in finished[0].targets for cell in target.cells
               if cell.cell.kind == "direct"]  # fmt: skip
    assert len(seconds) == 2
    assert all(one >= round(told["seconds"], 1) for one in seconds)

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(quality, "train_direct", never)
    whole = finished[0].targets[1]
    again = kept(targets=(replace(MEMBRANES, n_pseudo=1),), overwrite=True)  # the direct network does not see them
    found = [one.scores for one in again.targets[0].cells if one.cell.kind == "direct"]
    assert found == [one.scores for one in whole.cells if one.cell.kind == "direct"]


def test_a_direct_network_that_another_process_trains_is_waited_for(finished, kept, tmp_path, monkeypatch):
    output = tmp_path / "out"
    for name in ("seed0.json", "seed0.safetensors"):
        (output / "direct" / name).unlink()
    (output / "cells/nuclei_hela/direct-seed0.json").unlink()
    locked, asked = Event(), Event()

    def another_process():
        with FileLock(output / "direct" / "seed0.lock"):
            locked.set()
            asked.wait(10)
            for name in ("seed0.json", "seed0.safetensors"):
                shutil.copy(finished[1] / "direct" / name, output / "direct" / name)

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(quality, "train_direct", never)
    other = Thread(target=another_process)
    other.start()
    locked.wait(10)
    result = kept(chosen=("nuclei_hela",), tell=lambda _: asked.set())
    other.join()
    assert [one.scores for one in result.targets[0].cells] == [one.scores for one in finished[0].targets[0].cells]


# ---- forests


def test_forests_asked_together_say_what_each_says_by_itself(package, datasets, tmp_path):
    job = make_job(package, datasets, tmp_path, Cell(kind="probabilities", strokes=4, seed=1))
    strokes, image = job.paint(), job.data.test[0].image
    forests = Forests(job, strokes, Clock())
    single, *drawn = forests.ask(image)
    images = [job.images[number] for number in job.data.painted]
    painted = [strokes[number] for number in job.data.painted]
    alone = PixelClassifier(settings=ForestSettings(n_estimators=3), random_state=1).fit(images, painted)
    np.testing.assert_array_equal(single.values, alone.predict_proba(image).values)
    assert alone.contract == forests.contract
    assert len(drawn) == 2
    assert not np.array_equal(drawn[0], drawn[1])
    for one, other in zip(drawn, forests.ask(image, drawn_only=True), strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_features_of_an_image_are_computed_once_for_all_forests(package, datasets, tmp_path, monkeypatch):
    asked, compute = [], FeatureSelection.compute

    def counted(selection, image):
        asked.append(image.shape)
        return compute(selection, image)

    monkeypatch.setattr(FeatureSelection, "compute", counted)
    run_cell(make_job(package, datasets, tmp_path, Cell(kind="probabilities", strokes=2), n_forests=3))
    assert len(asked) == 2 + 2  # painted and test images


def test_strokes_lie_on_the_painted_images_and_change_with_the_seed(package, datasets, tmp_path):
    jobs = [make_job(package, datasets, tmp_path, Cell(kind="probabilities", strokes=2, seed=seed)) for seed in (0, 1)]
    painted = [job.paint() for job in jobs]
    assert jobs[0].data.painted == (0, 2)
    for seed, strokes in enumerate(painted):
        assert not strokes[1].any()
        for number, name in ((0, "t0"), (2, "t3")):
            labels = read_labels(datasets / "nuclei_hela" / "train" / "label" / f"{name}.tif")
            truth = binary_classes(labels.isel(y=slice(RIM, -RIM), x=slice(RIM, -RIM)))
            expected = simulate_scribbles(truth, n_strokes=2, seed=1000 * seed + number)
            np.testing.assert_array_equal(strokes[number].values, expected.values)
    assert not np.array_equal(painted[0][0], painted[1][0])


def test_the_enhancer_is_given_the_factor_of_the_target(package, datasets, tmp_path, monkeypatch):
    factors, enhance = [], Enhancer.enhance

    def noted(enhancer, *arguments, rescale):
        factors.append(rescale)
        return enhance(enhancer, *arguments, rescale=rescale)

    monkeypatch.setattr(Enhancer, "enhance", noted)
    cell = Cell(kind="probabilities", strokes=2)
    run_cell(make_job(package, datasets, tmp_path, cell, target=MEMBRANES))
    assert factors == [0.5] * (2 * (1 + 2))


# ---- trainings


@pytest.mark.parametrize(
    ("kind", "n_images", "weighting"),
    [("pseudo-labels", 3, "consensus"), ("strokes-only", 2, "consensus"), ("ceiling", 3, "none")],
)
def test_segmentors_learn_from_train_images_alone(package, datasets, tmp_path, monkeypatch, kind, n_images, weighting):
    seen = []

    def fit_segmentor(network, images, labels, settings, **_):
        seen.append((network, images, labels, settings))
        raise KeyboardInterrupt

    monkeypatch.setattr(quality_runs, "fit_segmentor", fit_segmentor)
    job = make_job(package, datasets, tmp_path, Cell(kind=kind, strokes=0 if kind == "ceiling" else 2, seed=1))
    with pytest.raises(KeyboardInterrupt):
        run_cell(job)
    network, images, labels, settings = seen[0]
    allowed = job.images if kind != "strokes-only" else [job.images[number] for number in job.data.painted]
    assert [one.values.tobytes() for one in images] == [one.values.tobytes() for one in allowed]
    assert (len(images), len(labels)) == (n_images, n_images)
    assert (settings.weighting, settings.training.seed) == (weighting, 1)
    sizes = {name: values.shape for name, values in network.state_dict().items()}
    assert sizes == {name: one.shape for name, one in job.measured.enhancer.model.state_dict().items()}
    assert float(network.input_scale.max()) != 1  # normalised for these images


def test_the_ceiling_knows_borders_between_objects(package, datasets, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(quality_runs, "_train_segmentor", lambda job, images, labels: seen.extend(labels))
    run_cell(make_job(package, datasets, tmp_path, Cell(kind="ceiling"), target=QualityTarget(dataset="mito_vnc")))
    job = make_job(package, datasets, tmp_path, Cell(kind="ceiling"), target=QualityTarget(dataset="mito_vnc"))
    for one, objects in zip(seen, job.data.training_objects, strict=True):
        np.testing.assert_array_equal(one.labels.values[0] > 0, objects.labels.values > 0)


# ---- going on


def test_after_an_interruption_only_the_rest_is_run(finished, package, datasets, tmp_path, count_runs):
    call = {"data_dir": datasets, "progress": False, "chosen": ("nuclei_hela",)}
    begun = count_runs(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_quality(package, TARGETS, sources(), tiny(), tmp_path / "out", **call)
    assert begun == ["nuclei_hela/probabilities-002-seed0", "nuclei_hela/probabilities-004-seed0"]
    rest = count_runs()
    result = evaluate_quality(package, TARGETS, sources(), tiny(), tmp_path / "out", **call)
    assert len(rest) == len(NAMES) - 1
    assert (result.n_kept, result.missing) == (1, ("membrane_isbi",))
    whole = finished[0].targets[0]
    assert [one.scores for one in result.targets[0].cells] == [one.scores for one in whole.cells]


def test_what_another_process_has_finished_is_part_of_the_result(kept, count_runs, tmp_path):
    names = count_runs()
    result = kept(chosen=("membrane_isbi",))
    assert names == []
    assert [one.data.target.name for one in result.targets] == ["nuclei_hela", "membrane_isbi"]
    (tmp_path / "out/cells/nuclei_hela/ceiling-seed0.json").unlink()
    result = kept(chosen=("membrane_isbi",))
    assert ([one.data.target.name for one in result.targets], result.missing) == (["membrane_isbi"], ("nuclei_hela",))
    shutil.rmtree(tmp_path / "out/cells/nuclei_hela")
    assert kept(chosen=("membrane_isbi",)).missing == ("nuclei_hela",)


def test_cells_that_another_process_is_at_are_waited_for_in_the_end(finished, kept, count_runs, tmp_path):
    cells = tmp_path / "out/cells/nuclei_hela"
    theirs, ours = "probabilities-002-seed0", "ceiling-seed0"
    for name in (theirs, ours):
        (cells / f"{name}.json").unlink()
    locked, we_began = Event(), Event()

    def another_process():
        with FileLock(cells / f"{theirs}.lock"):
            locked.set()
            we_began.wait(10)
            shutil.copy(finished[1] / "cells/nuclei_hela" / f"{theirs}.json", cells)

    names = count_runs()
    other = Thread(target=another_process)
    other.start()
    locked.wait(10)
    result = kept(chosen=("nuclei_hela",), tell=lambda _: we_began.set())
    other.join()
    assert names == [f"nuclei_hela/{ours}"]
    assert [one.cell for one in result.targets[0].cells] == [one.cell for one in finished[0].targets[0].cells]


def test_what_was_finished_with_other_settings_is_no_part_of_the_result(kept):
    result = kept(chosen=("membrane_isbi",), forest=ForestSettings(n_estimators=4), overwrite=True)
    assert result.missing == ("nuclei_hela",)


def test_within_a_direct_network_the_training_goes_on(kept, tmp_path, monkeypatch, finished):
    for path in ("direct", "cells/nuclei_hela/direct-seed0.json"):
        where = tmp_path / "out" / path
        shutil.rmtree(where) if where.is_dir() else where.unlink()
    ask, asked = PatchDataset.__getitem__, []

    def interrupted(patches, index):
        if patches._settings.augment and index >= 5:
            raise KeyboardInterrupt
        return ask(patches, index)

    def noted(patches, index):
        if patches._settings.augment:
            asked.append(index)
        return ask(patches, index)

    monkeypatch.setattr(PatchDataset, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept()
    assert (tmp_path / "out/checkpoints/direct-seed0").is_dir()
    monkeypatch.setattr(PatchDataset, "__getitem__", noted)
    result = kept()
    assert min(asked) == 4  # the first epoch had two steps of two patches
    assert [one.scores for one in result.targets[0].cells] == [one.scores for one in finished[0].targets[0].cells]
    weights = [(folder / "direct/seed0.safetensors").read_bytes() for folder in (tmp_path / "out", finished[1])]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"forest": ForestSettings(n_estimators=4)}, r"probabilities-002-seed0.json was made with other forest."),
        ({"n_forests": 3}, "n_forests"),
        ({"direct": replace(tiny().direct, patches=PatchSettings(size=64))}, "direct network.settings.patches.size"),
        ({"segmentor": replace(tiny().segmentor, weighting="both")}, "segmentor.weighting"),
        ({"targets": (replace(NUCLEI, n_pseudo=2),)}, "painted images"),
        ({"targets": (replace(NUCLEI, rescale=2.0),)}, "rescale"),
        ({"learnt_from": sources(2)}, "direct network.source images"),
    ],
)
def test_cells_of_something_else_are_refused_and_named(kept, change, named):
    with pytest.raises(ConfigError, match=re.escape(named)) as error:
        kept(**change)
    assert "--overwrite" in str(error.value)


def test_only_the_cells_that_differ_are_run_again(kept, count_runs):
    names = count_runs()
    kept(segmentor=replace(tiny().segmentor, weighting="both"), overwrite=True)
    # the ceiling weights nothing
    assert names == [
        f"{target.name}/{kind}-002-seed0" for target in TARGETS for kind in ("pseudo-labels", "strokes-only")
    ]


def test_more_seeds_and_strokes_can_be_added(kept, count_runs):
    names = count_runs()
    kept(strokes=(2, 4, 6), n_seeds=1, chosen=("nuclei_hela",))
    assert names == ["nuclei_hela/probabilities-006-seed0"]


def test_a_damaged_cell_is_refused(kept, tmp_path):
    path = tmp_path / "out/cells/nuclei_hela/direct-seed0.json"
    cell = json.loads(path.read_text())
    for key in ("scores", "seconds", "figures"):
        path.write_text(json.dumps({**cell, key: "nothing"}))
        with pytest.raises(SavedFileError, match="Remove it to run this cell again"):
            kept()


def test_it_is_told_which_cell_is_run(kept, tmp_path):
    (tmp_path / "out/cells/membrane_isbi/ceiling-seed0.json").unlink()
    lines = []
    kept(tell=lines.append)
    assert lines == ["membrane_isbi, cell 7 of 8: segmentor, all true labels; seed 0"]


# ---- what is refused at once


def test_the_output_must_be_a_folder(package, datasets, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="must be a folder"):
        evaluate_quality(package, TARGETS, sources(), tiny(), tmp_path / "out", data_dir=datasets)


def test_patches_must_fit_the_enhancers_depth(package, datasets, tmp_path):
    settings = tiny(direct=replace(tiny().direct, patches=PatchSettings(size=31)))
    with pytest.raises(ConfigError, match="patches of 31 px"):
        evaluate_quality(package, TARGETS, sources(), settings, tmp_path / "out", data_dir=datasets)


def test_the_network_of_somebody_else_has_no_rival_of_its_size(package, monkeypatch):
    enhancer = replace(load_measured(package).enhancer, model=None)
    monkeypatch.setattr(quality_cells, "load_enhancer", lambda _: enhancer)
    with pytest.raises(ConfigError, match="not s2d-zoo's"):
        load_measured(package)


# ---- cells


def test_cells_without_training_come_first_seed_by_seed():
    names = [cell.name for cell in plan_cells(tiny(strokes=(4, 2), n_training_seeds=2), NUCLEI)]
    assert names[:3] == ["probabilities-002-seed0", "probabilities-004-seed0", "probabilities-002-seed1"]
    assert names[4:] == [
        f"{name}-seed{seed}"
        for seed in (0, 1)
        for name in ("pseudo-labels-002", "strokes-only-002", "ceiling", "direct")
    ]
    assert str(Cell(kind="pseudo-labels", strokes=2)) == (
        "segmentor, pseudo-labels; strokes per class and image: 2; seed 0"
    )


def test_a_cell_depends_on_nothing_that_it_does_not_use(package, datasets):
    """Or hours of training would be lost for a change elsewhere."""
    settings, measured = tiny(), load_measured(package)
    data = read_target(NUCLEI, settings, data_dir=datasets)
    facts = {kind: cell_facts(Cell(kind=kind), data, settings, measured, {"any": 1}) for kind in
             ("probabilities", "direct", "pseudo-labels", "strokes-only", "ceiling")}  # fmt: skip
    assert [kind for kind, one in facts.items() if "enhancer" in one] == ["probabilities", "pseudo-labels"]
    assert [kind for kind, one in facts.items() if "direct network" in one] == ["direct"]
    assert [kind for kind, one in facts.items() if "training images" in one] == ["pseudo-labels", "ceiling"]
    assert [kind for kind, one in facts.items() if "painted images" not in one] == ["direct", "ceiling"]
    assert "forest" not in facts["strokes-only"]
    assert "features" not in facts["ceiling"]["segmentor"]
