"""A forest and an enhancer in one network: what it gives, what is lost by limiting it, and its package."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from tests.validate.foreign import enhancer_of_the_zoo

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import ClassContract
from s2d_zoo.data.images import write_image
from s2d_zoo.data.network import apply_network
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError, ContractMismatchError, ImageFileError, SavedFileError, UserInputError
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline.fusion import FusedWords, FusionSettings, describe_lineage, fuse, fuse_files, write_fused
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.persistence import save_classifier

ALL = FusionSettings()
WORDS = FusedWords(
    id="mine-fused", name="My fused model", attribution=Attribution(authors=(Author(name="Ada"),), license="MIT")
)
FACTS = CardFacts(training_data="cells", training_data_license="CC0-1.0", strokes="few", seed=0)


@pytest.fixture(scope="module")
def enhancer(package):
    return load_enhancer(package)


@pytest.fixture(scope="module")
def image(nuclei):
    return nuclei[0]


def run(fused, image):
    """What the network says of a whole image, and what its parts say: ``(1, channel, y, x)`` each."""
    values = np.ascontiguousarray(image.values[np.newaxis], dtype=np.float32)
    with torch.inference_mode():
        return fused.model(torch.from_numpy(values)).numpy(), fused.unfused(values)


def share_apart(one, other):
    """Share of elements that differ visibly: one pixel right at a threshold of the forest changes all around it."""
    return (np.abs(one - other) > 0.01).mean()


# ---- one network


def test_the_network_gives_what_its_parts_give_one_after_another(classifier, enhancer, image):
    whole, parts = run(fuse(classifier, enhancer, ALL), image)
    assert np.median(np.abs(whole - parts)) < 1e-6
    assert share_apart(whole, parts) < 0.02
    assert parts.std() > 0.05


def test_the_parts_are_what_adapt_shows(classifier, enhancer, image):
    fused = fuse(classifier, enhancer, ALL)
    enhanced = enhancer.enhance(classifier.predict_proba(image), classifier.contract).values
    border = fused.model.receptive_radius
    inside = (..., slice(border, -border), slice(border, -border))
    np.testing.assert_allclose(run(fused, image)[1][0][inside], enhanced[inside], atol=1e-5)
    mapped = apply_network(fused.model, image).values
    assert share_apart(mapped[inside], enhanced[inside]) < 0.02


@pytest.mark.parametrize("foreground", [1, 3])
def test_the_foreground_is_fed_wherever_it_stands(nuclei, scribbles, enhancer, foreground):
    image, _ = nuclei
    strokes = scribbles.copy(data=np.where((scribbles.values == 1) & (np.arange(96) < 48), 3, scribbles.values))
    classifier = PixelClassifier(
        selection=FeatureSelection({"GaussianSmoothing": (1.0, 1.6)}),
        settings=ForestSettings(n_estimators=3),
        classes=name_classes(3, foreground=foreground),
    ).fit(image, strokes)
    fused = fuse(classifier, enhancer, ALL)
    features = classifier.selection.compute(image)
    fed = classifier.predict_features(features)[foreground - 1].values[np.newaxis, np.newaxis]
    found = fused.model.forest(torch.from_numpy(features.values[np.newaxis]))
    np.testing.assert_allclose(found.numpy(), fed, atol=1e-6)
    with torch.inference_mode():
        expected = enhancer.model(torch.from_numpy(fed)).numpy()
    np.testing.assert_allclose(run(fused, image)[1], expected, atol=1e-6)


def test_an_enhancer_of_two_channels_gets_both_in_its_order(classifier, enhancer, image):
    two = replace(
        enhancer,
        model=UNet(2, features=2, depth=1).eval(),
        contract=enhancer.contract.model_copy(update={"channels": (1, 0)}),
    )
    fused = fuse(classifier, two, ALL)
    features = torch.from_numpy(classifier.selection.compute(image).values[np.newaxis])
    fed = fused.model.forest(features)[0].numpy()
    np.testing.assert_allclose(fed, classifier.predict_proba(image).values[::-1], atol=1e-5)


def test_it_says_what_it_was_made_from(classifier, enhancer):
    fused = fuse(classifier, enhancer, ALL)
    assert fused.contract == classifier.contract
    assert describe_lineage(fused)[:2] == (
        "Random Forest: 8 trees on ilastik's features, fitted on strokes",
        "Enhancer: tiny-enhancer",
    )


# ---- limits


def test_nothing_is_lost_without_limits(classifier, enhancer, image):
    assert fuse(classifier, enhancer, ALL).loss([image]) is None
    generous = fuse(classifier, enhancer, FusionSettings(trees=100, max_depth=1000))
    assert generous.loss([image]) is None
    assert generous.contract.forest.n_estimators == 8


@pytest.mark.parametrize(("settings", "nodes"), [({"trees": 2}, None), ({"max_depth": 1}, 24)], ids=str)
def test_what_a_limited_forest_loses_is_measured(classifier, enhancer, image, settings, nodes):
    fused = fuse(classifier, enhancer, FusionSettings(**settings))
    whole, parts = run(fused, image)
    unlimited, _ = run(fuse(classifier, enhancer, ALL), image)
    assert share_apart(whole, parts) < 0.02
    assert share_apart(whole, unlimited) > 0.1
    loss = fused.loss([image])
    assert loss.trees == (8, settings.get("trees", 8))
    assert loss.nodes[0] == len(classifier.forest.feature) > loss.nodes[1]
    assert nodes in (None, loss.nodes[1])
    before, after = (
        enhancer.enhance(one.predict_proba(image), one.contract)[0].values for one in (classifier, fused.classifier)
    )
    assert loss.mean_difference == pytest.approx(np.abs(before - after).mean())
    assert 0 < loss.changed == pytest.approx(((before >= 0.5) != (after >= 0.5)).mean())
    assert f"from 8 to {loss.trees[1]} trees" in str(loss)
    assert f"{100 * loss.changed:.2f} % of the pixels change sides" in str(loss)


def test_the_loss_is_measured_on_images_of_any_size(classifier, enhancer, image):
    fused = fuse(classifier, enhancer, FusionSettings(trees=1))
    small, odd = image[:, :31, :45], image[:, :, :95]
    together = fused.loss([small, odd]).changed
    apart = [fused.loss([one]).changed * one[0].size for one in (small, odd)]
    assert together == pytest.approx(sum(apart) / (small[0].size + odd[0].size))


def test_the_limits_are_in_the_contract_and_the_whole_forest_is_kept(classifier, enhancer):
    fused = fuse(classifier, enhancer, FusionSettings(trees=3, max_depth=2))
    assert (fused.contract.forest.n_estimators, fused.contract.forest.max_depth) == (3, 2)
    assert fused.classifier.forest.depths().max() == 2
    assert len(fused.model.forest.roots) == 3
    assert fused.original is classifier
    assert classifier.contract.forest.n_estimators == 8


@pytest.mark.parametrize(
    ("settings", "option"), [({"trees": 0}, "--fused-trees"), ({"max_depth": 0}, "--max-depth")], ids=str
)
def test_limits_that_leave_nothing_are_refused(settings, option):
    with pytest.raises(ConfigError, match=f"{option} must be at least 1, got 0"):
        FusionSettings(**settings)


# ---- what cannot be fused


def changed(classifier, **contract):
    return PixelClassifier.from_forest(classifier.forest, classifier.contract.model_copy(update=contract))


def test_an_enhancer_of_another_project_is_refused(classifier, folder):
    with pytest.raises(ConfigError, match="only those of s2d-zoo can be fused"):
        fuse(classifier, load_enhancer(enhancer_of_the_zoo(folder)), ALL)


def test_a_forest_on_3d_features_is_refused(classifier, enhancer):
    features = classifier.contract.features.model_copy(update={"compute_in_2d": False})
    with pytest.raises(ConfigError, match="fitted on 3D features"):
        fuse(changed(classifier, features=features), enhancer, ALL)


def test_a_forest_of_unknown_channels_is_refused(classifier, enhancer):
    with pytest.raises(ConfigError, match="how many raw channels it takes"):
        fuse(changed(classifier, raw_channels=None), enhancer, ALL)


@pytest.mark.parametrize(
    "contract",
    [
        {"ndim": 3},
        {"classes": (ClassContract(name="a", role="background"), ClassContract(name="b", role="other"))},
    ],
    ids=["3D", "roles"],
)
def test_a_forest_that_the_enhancer_does_not_know_is_refused(classifier, enhancer, contract):
    with pytest.raises(ContractMismatchError):
        fuse(changed(classifier, **contract), enhancer, ALL)


# ---- its package


def description_of(path):
    with zipfile.ZipFile(path) as archive:
        return yaml.safe_load(archive.read("rdf.yaml")), archive.read("README.md").decode()


@pytest.mark.usefixtures("quick_validation")
def test_a_loss_is_in_card_and_description(classifier, enhancer, image, tmp_path):
    fused = fuse(classifier, enhancer, FusionSettings(trees=2))
    report, loss = write_fused(fused, WORDS, [image], tmp_path / "mine.zip", facts=FACTS, provenance={"from": "a test"})
    rdf, card = description_of(tmp_path / "mine.zip")
    own = rdf["config"]["s2d_zoo"]
    assert report.passed
    assert own["fused"]["loss"] == {"changed": loss.changed, "mean": loss.mean_difference}
    assert (own["fused"]["trees"], own["fused"]["nodes"]) == (2, loss.nodes[1])
    assert own["provenance"] == {"from": "a test"}
    assert f"- The forest was {loss}." in card
    assert f"The forest was {loss}." in rdf["config"]["bioimageio"]["bias_risks_limitations"]["limitations"]


@pytest.fixture
def saved(classifier, image, tmp_path):
    """Files of a forest and of an image, and where the package is to go."""
    write_image(tmp_path / "cells.tif", image)
    save_classifier(classifier, tmp_path / "forest.safetensors")
    return tmp_path / "forest.safetensors", tmp_path / "cells.tif", tmp_path / "mine.zip"


@pytest.mark.usefixtures("quick_validation")
def test_files_are_fused_to_a_validated_package(saved, package, classifier):
    report, loss = fuse_files(*saved, enhancer=str(package), words=WORDS, settings=ALL)
    assert loss is None
    assert report.package == str(saved[2])
    assert report.passed
    rdf, card = description_of(saved[2])
    own = rdf["config"]["s2d_zoo"]
    assert rdf["id"] == "mine-fused"
    assert own["fused"]["forest"] == json.loads(classifier.contract.model_dump_json())
    assert "loss" not in own["fused"]
    assert set(own["provenance"]["inputs"]) == {"classifier forest.safetensors", "image cells.tif"}
    assert own["provenance"]["enhancer"]["id"] == "tiny-enhancer"
    assert "- **QuPath**: runs with limits" in card
    assert "1. Enhancer: tiny-enhancer\n" in card


@pytest.mark.usefixtures("quick_validation")
def test_a_package_that_is_there_is_replaced_only_when_asked(saved, package):
    saved[2].write_text("mine")
    options = {"enhancer": str(package), "words": WORDS, "settings": ALL}
    with pytest.raises(ConfigError, match="--overwrite"):
        fuse_files(*saved, **options)
    assert saved[2].read_text() == "mine"
    fuse_files(*saved, **options, overwrite=True)
    assert zipfile.is_zipfile(saved[2])


@pytest.mark.parametrize("position", [0, 1])
def test_an_input_is_never_overwritten(saved, package, position):
    before = saved[position].read_bytes()
    with pytest.raises(ConfigError, match="is an input of this command"):
        fuse_files(*saved[:2], saved[position], enhancer=str(package), words=WORDS, settings=ALL, overwrite=True)
    assert saved[position].read_bytes() == before


@pytest.mark.parametrize(
    ("files", "error"), [((1, 1), SavedFileError), ((0, 0), ImageFileError)], ids=["no forest", "no image"]
)
def test_files_of_another_kind_are_refused(saved, package, files, error):
    with pytest.raises(error):
        fuse_files(*(saved[index] for index in files), saved[2], enhancer=str(package), words=WORDS, settings=ALL)
    assert not saved[2].exists()


@pytest.mark.usefixtures("quick_validation")
def test_an_image_with_other_channels_than_the_forests_is_refused(saved, package, image):
    write_image(saved[1], xr.concat([image, image], "channel"), overwrite=True)
    with pytest.raises(UserInputError, match="channel"):
        fuse_files(*saved, enhancer=str(package), words=WORDS, settings=ALL)
    assert not saved[2].exists()
