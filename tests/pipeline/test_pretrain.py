"""From labelled images to a published enhancer, on a very small scale."""

import json
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from s2d_zoo.data.patches import PatchDataset, PatchSettings
from s2d_zoo.data.synthetic import NucleiSimulation
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.enhancer.training import EnhancerSettings
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.pipeline import pretrain as module
from s2d_zoo.pipeline import pretrain_sources
from s2d_zoo.pipeline.pretrain import PretrainSettings, pretrain
from s2d_zoo.pipeline.pretrain_sources import (
    SourceDataset,
    SourceSettings,
    cautions,
    citations,
    licences,
    simulated_images,
    source_images,
    terms_left_out,
)
from s2d_zoo.rf_adapter.source_forests import SourceForestSettings, SourceMap
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.validate.validation import validate_package

SMALL = NucleiSimulation.random


def make_settings(**changes):
    settings = PretrainSettings(
        id="tiny",
        name="Tiny enhancer",
        description="Enhances.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        tags=("nuclei",),
        source=SourceSettings(datasets=(), n_simulated=4),
        forests=SourceForestSettings(n_forests=3, n_estimators=5),
        enhancer=EnhancerSettings(
            features=2,
            depth=2,
            patches=PatchSettings(size=32),
            training=TrainingSettings(steps=4, steps_per_epoch=2, batch_size=2, device="cpu"),
        ),
        seed=1,
    )
    return replace(settings, **changes)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Images of 96 px, two of them for the evaluation, and forests of few trees there."""

    def fewer_for_evaluation(count, *, purpose, seed):
        return simulated_images(2 if purpose == "evaluation" else count, purpose=purpose, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NucleiSimulation, "random", partial(SMALL, size=96))
        patch.setattr(module, "simulated_images", fewer_for_evaluation)
        patch.setattr(module, "compare_on_images", partial(module.compare_on_images, n_strokes=3))
        patch.setattr("s2d_zoo.enhancer.training._VALIDATION_PATCHES", 4)
        yield


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture(scope="module")
def result(output):
    return pretrain(make_settings(), output, command="s2d-zoo pretrain --seed 1", progress=False)


def test_the_package_is_valid_and_loads_as_an_enhancer(result):
    assert validate_package(result.package, select=("F", "C")).passed
    enhancer = load_enhancer(result.package)
    assert enhancer.id == "tiny"
    assert enhancer.contract.forest.n_source_forests == 3
    assert enhancer.contract.forest.n_estimators == 5
    assert enhancer.contract.object_diameter > 5
    assert enhancer.contract.features is not None


def test_the_card_holds_figures_command_and_times(result):
    text = (result.card / "README.md").read_text()
    assert "s2d-zoo pretrain --seed 1" in text
    assert "simulated nuclei (2 images), RF" in text
    assert "4 simulated images of nuclei" in text
    assert (result.card / "cover.png").stat().st_size > 100


def test_the_evaluation_holds_both_scores_and_the_record_of_the_run(result):
    evaluation = json.loads((result.card / "evaluation.json").read_text())
    (comparison,) = evaluation["comparisons"]
    assert comparison == result.comparisons[0].to_json()
    assert set(comparison["iou"]) == {"RF", "enhanced"}
    assert evaluation["run"]["options"]["settings"]["forests"]["n_forests"] == 3
    assert set(evaluation["run"]["inputs"]) == {"training images", "validation images"}
    assert set(evaluation["seconds"]) == {"source forests", "training", "evaluation"}


def test_a_finished_run_is_not_done_again(result, output, monkeypatch):
    before = result.package.read_bytes()
    monkeypatch.setattr("s2d_zoo.rf_adapter.source_forests.SourceForests._grow_one", lambda *_: pytest.fail("again"))
    again = pretrain(make_settings(), output, command="again", progress=False)
    assert again.package.read_bytes() == before
    assert again.training.steps == result.training.steps
    assert again.seconds["source forests"] >= result.seconds["source forests"]


@pytest.mark.parametrize("when", ["forests", "training"])
def test_an_interrupted_run_is_resumed_to_the_same_package(result, tmp_path, monkeypatch, when):
    with monkeypatch.context() as patch:
        if when == "training":
            ask = PatchDataset.__getitem__

            def interrupted(patches, index):
                if index >= 5:
                    raise KeyboardInterrupt
                return ask(patches, index)

            patch.setattr(PatchDataset, "__getitem__", interrupted)
        else:
            grow = module.SourceForests._grow_one

            def interrupted(forests, number, maps):
                if number == 2:
                    raise KeyboardInterrupt
                grow(forests, number, maps)

            patch.setattr(module.SourceForests, "_grow_one", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(make_settings(), tmp_path, command="", progress=False)
    resumed = pretrain(make_settings(), tmp_path, command="", progress=False)
    assert resumed.package.read_bytes() == result.package.read_bytes()


def test_another_run_in_the_same_folder_is_refused(result, output, contents):
    before = contents(output)
    with pytest.raises(ConfigError, match="holds forests with other images, seed"):
        pretrain(make_settings(seed=2), output, command="", progress=False)
    after = contents(output)
    before.pop("seconds.json"), after.pop("seconds.json")
    assert after == before


def test_a_folder_in_which_another_process_trains_is_left_alone(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match="Another process is at work in"):
        pretrain(make_settings(), tmp_path, command="", progress=False)
    assert [path.name for path in tmp_path.iterdir()] in ([], [".lock"])


def test_who_made_the_data_is_cited_once_each_with_a_doi_or_a_page():
    datasets = ("membrane_isbi", "mito_epfl", "membrane_isbi:cells_inst", "membrane_cortex")
    settings = SourceSettings(datasets=tuple(map(SourceDataset.parse, datasets)))
    found = citations(settings)
    assert [one.doi for one in found] == [
        "10.3389/fnana.2015.00142",
        "10.1371/journal.pbio.1000502",
        None,
        "10.1109/TVCG.2014.2346371",
        "10.1016/j.cell.2015.06.054",
    ]
    assert found[0].text == "Arganda-Carreras et al. 2015 (training data)"
    assert found[2].url.startswith("https://www.epfl.ch/")
    assert citations(SourceSettings(datasets=(), n_simulated=2)) == ()


def test_the_terms_of_all_data_are_told_and_what_of_them_a_package_holds():
    datasets = (SourceDataset(name="mito_vnc"), SourceDataset(name="mito_epfl"))
    text = licences(SourceSettings(datasets=datasets), shown="mito_vnc")
    assert text.startswith("mito_vnc: CC-BY-NC-SA-3.0; mito_epfl: No licence stated.")
    assert text.endswith("what a forest said of a part of one image of mito_vnc, no raw image")
    assert licences(SourceSettings(datasets=(), n_simulated=2), shown=None) == "simulated"


@pytest.mark.parametrize(
    ("datasets", "license_", "told"),
    [
        (["mito_vnc"], "MIT", ["mito_vnc .*CC-BY-NC-SA-3.0.* MIT of the model leaves out NC and SA"]),
        (["mito_vnc"], "CC-BY-NC-4.0", ["leaves out SA. "]),
        (["mito_vnc"], "CC-BY-NC-SA-4.0", []),
        (["membrane_isbi"], "PolyForm-Noncommercial-1.0.0", []),
        (["membrane_isbi"], "CC0-1.0", ["leaves out NC. "]),
        (["nuclei_dsb_fluo"], "MIT", []),
        (
            ["mito_epfl", "membrane_cortex"],
            "MIT",
            ["mito_epfl: No licence stated", "cortex: Terms of .*Ask its owners"],
        ),
    ],
)
def test_terms_that_a_licence_leaves_out_are_told(datasets, license_, told):
    settings = SourceSettings(datasets=tuple(SourceDataset(name=name) for name in datasets))
    found = list(terms_left_out(settings, license_=license_))
    assert len(found) == len(told)
    assert all(re.search(words, sentence) for words, sentence in zip(told, found, strict=True))


def test_what_makes_test_scores_optimistic_and_what_is_left_out_is_told():
    settings = SourceSettings(datasets=tuple(map(SourceDataset.parse, ("mito_vnc", "mito_vnc:membrane", "mito_epfl"))))
    (told,) = cautions(settings)
    assert told.startswith("mito_vnc: Test sections follow those of the train split")
    with_rim = SourceSettings(datasets=(SourceDataset(name="nuclei_hela"),))
    assert list(cautions(with_rim)) == ["nuclei_hela: Without a rim of 25 px, where objects may be unlabelled."]


def test_the_example_of_a_package_is_of_the_dataset_that_is_named_first():
    maps = [SourceMap(forest=0, image="a", dataset=name, labels=None, probabilities=None) for name in (None, "b", "a")]
    forests = SimpleNamespace(maps=lambda: maps)
    source = SourceSettings(datasets=(SourceDataset(name="mito_vnc"),))
    assert module._example(forests, make_settings(source=source)) is maps[0]
    maps[1] = replace(maps[1], dataset="mito_vnc")
    assert module._example(forests, make_settings(source=source)) is maps[1]


def test_images_of_one_purpose_appear_in_no_other():
    groups = [simulated_images(4, purpose=purpose, seed=0) for purpose in ("training", "validation", "evaluation")]
    pictures = [image.image.values.tobytes() for group in groups for image in group]
    assert len(set(pictures)) == 12
    again = simulated_images(4, purpose="training", seed=0)
    np.testing.assert_array_equal(again[3].image, groups[0][3].image)
    assert not np.array_equal(simulated_images(1, purpose="training", seed=1)[0].image, groups[0][0].image)


def test_images_are_split_at_random_into_training_and_validation(monkeypatch):
    images = simulated_images(6, purpose="training", seed=3)
    monkeypatch.setattr(pretrain_sources, "load_dataset", lambda *_, **__: images)
    settings = SourceSettings(datasets=(SourceDataset(name="nuclei_dsb_fluo"),), n_simulated=0, validation=0.34)
    splits = [source_images(settings, None, seed=seed) for seed in range(5)]
    for training, validation in splits:
        assert len(training) == 4
        assert sorted(one.name for one in [*training, *validation]) == [one.name for one in images]
    assert len({tuple(one.name for one in validation) for _, validation in splits}) > 1


def test_of_a_stack_the_last_sections_validate(monkeypatch):
    images = simulated_images(6, purpose="training", seed=3)
    asked = []
    monkeypatch.setattr(
        pretrain_sources, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or images
    )
    settings = SourceSettings(datasets=(SourceDataset.parse("mito_vnc:membrane"),), n_simulated=0, validation=0.34)
    _, validation = source_images(settings, None, seed=0)
    assert [one.name for one in validation] == [one.name for one in images[-2:]]
    assert asked == [(("mito_vnc", "train"), {"data_dir": None, "label": "membrane", "without_rim": True})]


def test_a_dataset_of_one_image_cannot_be_trained_on(monkeypatch):
    monkeypatch.setattr(
        pretrain_sources, "load_dataset", lambda *_, **__: simulated_images(1, purpose="training", seed=3)
    )
    settings = SourceSettings(datasets=(SourceDataset(name="mito_epfl"),), n_simulated=0)
    with pytest.raises(ConfigError, match=r"mito_epfl has 1 image\(s\) to train on"):
        source_images(settings, None, seed=0)


@pytest.mark.parametrize("names", [("mito_vnc", "mito_vnc"), ("nuclei_dsb_fluo", "nuclei_dsb_fluo:inst")])
def test_a_dataset_is_named_once(names):
    with pytest.raises(ConfigError, match="named once; got"):
        SourceSettings(datasets=tuple(map(SourceDataset.parse, names)))
    SourceSettings(datasets=(SourceDataset.parse("mito_vnc"), SourceDataset.parse("mito_vnc:membrane")))


def test_a_dataset_says_which_of_its_labels_it_has():
    assert str(SourceDataset.parse("mito_vnc")) == "mito_vnc"
    assert str(SourceDataset.parse("mito_vnc:membrane")) == "mito_vnc (membrane)"
    with pytest.raises(ConfigError, match="mito_vnc has the labels mito, mito_inst, membrane, synapse"):
        SourceDataset.parse("mito_vnc:nucleus")


@pytest.mark.parametrize(
    "wrong", [{"datasets": (), "n_simulated": 1}, {"validation": 0.0}, {"validation": 1.0}], ids=str
)
def test_sources_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        SourceSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"id": "Upper Case"}, {"name": "abc"}, {"description": ""}], ids=str)
def test_words_that_no_package_takes_are_refused_before_the_training(wrong):
    with pytest.raises(ConfigError):
        make_settings(**wrong)
