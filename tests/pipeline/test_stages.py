"""The stages of a run, looked at one by one: forests, predictions, segmentors, packages."""

import hashlib
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from bioimageio.spec.utils import read_yaml

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.weighting import WEIGHTING_IN_WORDS
from s2d_zoo.pipeline.job import open_job
from s2d_zoo.pipeline.packages import Models, write_packages
from s2d_zoo.pipeline.prediction import add_pseudo_labels, fit_forests, fuse_forest, predict, write_maps
from s2d_zoo.pipeline.segmentors import add_segmentations, train_segmentors
from s2d_zoo.rf_adapter.classifier import PixelClassifier


@pytest.fixture(scope="module")
def job(inputs, tmp_path_factory, tiny_settings):
    return open_job(inputs, tiny_settings(), tmp_path_factory.mktemp("job") / "out", progress=False)


@pytest.fixture(scope="module")
def forests(job):
    return fit_forests(job)


@pytest.fixture(scope="module")
def predictions(job, forests):
    return add_pseudo_labels(job, forests, predict(job, forests)[0])


def same_forest(first, second):
    one, other = first.forest.to_arrays(), second.forest.to_arrays()
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_the_members_differ_from_each_other_and_from_the_forest_that_is_shown(forests):
    assert len(forests.members) == 2
    assert not same_forest(forests.members[0], forests.members[1])
    assert not same_forest(forests.forest, forests.members[0])


def test_forests_carry_the_names_of_the_classes(inputs, tmp_path, tiny_settings):
    job = open_job(inputs, tiny_settings(class_names=("sky", "cloud")), tmp_path, progress=False)
    assert [entry.name for entry in fit_forests(job).contract.classes] == ["sky", "cloud"]


def test_the_foreground_may_have_the_first_label(inputs, tmp_path, job, forests, tiny_settings):
    turned = open_job(inputs, tiny_settings(foreground=1), tmp_path, progress=False)
    (mine,), _ = predict(turned, fit_forests(turned))
    (plain,), _ = predict(job, forests)
    np.testing.assert_allclose(mine.foreground, 1 - plain.foreground, atol=1e-6)


def test_maps_of_what_was_not_made_are_not_written(job, forests, tmp_path):
    write_maps(job, *predict(job, forests))
    folder = job.image_folder(0)
    assert sorted(path.name for path in folder.iterdir()) == ["enhanced.tif", "forest_foreground.tif"]


def test_segmentor_and_baseline_start_alike_and_end_apart(job, predictions):
    trained = train_segmentors(job, predictions, baseline=True)
    assert trained.problem is None
    assert trained.training.steps == 5
    (image,) = job.data.images
    (done,) = add_segmentations(trained, predictions, [image])
    assert done.segmentation.shape == done.strokes_only.shape == (2, 96, 96)
    assert not np.allclose(done.segmentation, done.strokes_only, atol=1e-4)


def test_the_package_says_where_its_model_comes_from(run):
    package = run.output / "packages" / "tiny-segmentor.zip"
    with open_package(package) as contents:
        own = contents.rdf["config"]["s2d_zoo"]
        card = (contents.folder / "README.md").read_text()
    provenance = own["provenance"]
    record = json.loads((run.output / "run.json").read_text())
    assert set(provenance["inputs"]) == {"image 1, cells.tif", "scribbles 1, cells-strokes.tif"}  # names, no folders
    assert set(provenance["inputs"].values()) <= set(record["inputs"].values())
    assert provenance["versions"] == record["versions"]
    assert provenance["seed"] == 4
    digest = hashlib.sha256((run.output / "packages" / "enhancer.zip").read_bytes()).hexdigest()
    assert provenance["enhancer"] == {"id": "tiny-enhancer", "sha256": digest}
    assert provenance["strokes"] == {"training": 6, "held_out": 2}
    assert provenance["kept_pseudo_labels"] == [round(run.result.kept, 4)]
    assert "cells.tif" in card
    assert "Foreground IoU at 0.5" in card
    assert f"Loss function: binary cross-entropy and soft Dice, {WEIGHTING_IN_WORDS['consensus']}" in card
    assert "pseudo-labels of 2 forests" in card
    for subset, methods in run.result.scores.items():
        for method in methods:
            assert (f"{method}, {subset} images" in card) == (method != "fused")


def test_the_fused_package_says_where_its_forest_and_enhancer_come_from(run):
    with open_package(run.output / "packages" / "tiny-segmentor-fused.zip") as contents:
        rdf = contents.rdf
        card = (contents.folder / "README.md").read_text()
    own = rdf["config"]["s2d_zoo"]
    with open_package(run.output / "packages" / "tiny-segmentor.zip") as contents:
        beside = contents.rdf["config"]["s2d_zoo"]["provenance"]
    assert own["kind"] == "fused"
    assert {name: own["provenance"][name] for name in ("inputs", "versions", "seed", "enhancer")} == {
        name: beside[name] for name in ("inputs", "versions", "seed", "enhancer")
    }
    assert own["fused"]["enhancer"] == "tiny-enhancer"
    assert own["fused"]["trees"] == 5
    assert "loss" not in own["fused"]
    assert (rdf["id"], rdf["name"]) == ("tiny-segmentor-fused", "Tiny segmentor (fused)")
    assert "shallow2deep" not in rdf["tags"]
    painted = int((run.result.job.data.scribbles[0] > 0).sum())
    assert f"Strokes: {painted} px painted on 1 image(s)" in card
    for subset, methods in run.result.scores.items():
        for method in methods:
            assert (f"| {method}, {subset} images |" in card) == (method in ("RF", "enhanced", "fused"))


def test_cards_say_what_validation_found(run):
    for name in ("tiny-segmentor", "tiny-segmentor-fused"):
        with zipfile.ZipFile(run.output / "packages" / f"{name}.zip") as archive:
            card = archive.read("README.md").decode()
        assert "- **QuPath**: runs with limits\n  - T04: &lt;seams&gt;\n" in card
        assert "- **ilastik**: runs.\n" in card


def test_what_cannot_be_fused_is_told_why(job, forests):
    fused, reason = fuse_forest(job, forests)
    assert fused is not None
    assert reason == ""
    contract = forests.contract
    in_3d = contract.model_copy(update={"features": contract.features.model_copy(update={"compute_in_2d": False})})
    main = PixelClassifier.from_forest(forests.forest.forest, in_3d)
    fused, reason = fuse_forest(job, replace(forests, main=(main,)))
    assert fused is None
    assert "3D features" in reason


def test_the_package_names_its_makers_and_terms(run):
    with zipfile.ZipFile(run.output / "packages" / "tiny-segmentor.zip") as archive, archive.open("rdf.yaml") as file:
        rdf = read_yaml(file)
    assert rdf["authors"][0]["name"] == "Ada"
    assert rdf["license"] == "MIT"
    assert rdf["name"] == "Tiny segmentor"
    assert "shallow2deep" not in rdf.get("tags", [])


def test_a_package_that_cannot_be_written_leaves_the_old_one(run, tmp_path, monkeypatch, contents):
    job = replace(run.result.job, output=tmp_path)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "tiny-segmentor.zip").write_bytes(b"old")

    def refuse(*_, **__):
        msg = "not today"
        raise ConfigError(msg)

    monkeypatch.setattr("s2d_zoo.export.package._zip_folder", refuse)
    with pytest.raises(ConfigError):
        write_packages(
            job, Models(segmentors=run.result.segmentors, fused=None, members=(), seconds=1), run.result.predictions, {}
        )
    assert contents(tmp_path)["packages/tiny-segmentor.zip"] == b"old"
    assert not list(tmp_path.rglob(".*"))
