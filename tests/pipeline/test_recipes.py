"""Recipes: one file says everything, and what it says wrong is told with its place."""

import re
from pathlib import Path

import numpy as np
import pytest

from s2d_zoo.data.datasets import describe_dataset
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.pretrain_sources import median_diameter, source_images
from s2d_zoo.pipeline.quality_inputs import QualityTarget
from s2d_zoo.pipeline.recipes import read_recipe
from s2d_zoo.trainer import TrainingSettings

RECIPES = Path(__file__).parents[2] / "recipes"

TEXT = """
id = "tiny"
name = "Tiny enhancer"
description = "Enhances."
tags = ["mitochondria"]
seed = 3

[attribution]
authors = [{name = "Ada Lovelace"}]
license = "CC-BY-4.0"

[source]
datasets = [{name = "mito_vnc", label = "membrane"}]
n_simulated = 0

[forests]
n_forests = 7
microscopes = {zoom = [0.4, 1.0], blur = 1.0}

[enhancer]
depth = 4
patches = {size = 64}
training = {steps = 10, precision = "bfloat16"}

[[targets]]
dataset = "mito_epfl"
"""


def read(tmp_path, text):
    path = tmp_path / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_a_recipe_holds_all_settings_and_the_rest_is_as_by_default(tmp_path):
    recipe = read(tmp_path, TEXT)
    settings = recipe.pretrain
    assert (recipe.id, settings.seed, settings.tags) == ("tiny", 3, ("mitochondria",))
    assert str(settings.source.datasets[0]) == "mito_vnc (membrane)"
    assert settings.forests.n_forests == 7
    assert settings.forests.microscopes.zoom == (0.4, 1.0)
    assert settings.enhancer.training == TrainingSettings(steps=10, precision="bfloat16")
    assert settings.attribution.authors[0].name == "Ada Lovelace"
    assert recipe.targets == (QualityTarget(dataset="mito_epfl"),)


def test_targets_may_be_left_out(tmp_path):
    assert read(tmp_path, TEXT.partition("[[targets]]")[0]).targets == ()


def test_a_recipe_may_learn_from_simulated_images_alone(tmp_path):
    text = TEXT.replace('datasets = [{name = "mito_vnc", label = "membrane"}]\nn_simulated = 0', "n_simulated = 8")
    source = read(tmp_path, text).pretrain.source
    assert (source.datasets, source.n_simulated) == ((), 8)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("depth = 4", "dept = 4", "no setting enhancer.dept. Did you mean depth?"),
        ("depth = 4", "qqqq = 4", "no setting enhancer.qqqq. There are: features, max_features, depth"),
        ("size = 64", "siez = 64", "no setting enhancer.patches.siez. Did you mean size?"),
        ('"mito_vnc", label', '"mito_vnc", lable', "no setting source.datasets.0.lable. Did you mean label?"),
        ('dataset = "mito_epfl"', 'dataset = "mito_epfl"\nstructur = "x"', "no setting targets.0.structur"),
        ("depth = 4", 'depth = "x"', "enhancer.depth: Input should be a valid integer"),
        ("depth = 4", "depth = 9", "a multiple of 2**depth px"),
        ('"bfloat16"', '"half"', "enhancer.training.precision: Input should be"),
        ('label = "membrane"', 'label = "nucleus"', "mito_vnc has the labels"),
        ("[0.4, 1.0]", "[1.0, 0.4]", "rising order"),
        ('id = "tiny"', "", "id: Field required"),
        ('id = "tiny"', 'id = "Not An Id"', "id"),
        ('id = "tiny"', 'idd = "tiny"', "the recipe cannot be used: id: Field required (found idd, name, "),
        ('"CC-BY-4.0"', '"cc by 4.0"', "Did you mean CC-BY-4.0?"),
        ("seed = 3", "seed = ", "not valid TOML"),
        ("n_forests = 7", "seed = 7", "leave out forests.seed"),
        ("steps = 10", "seed = 10", "leave out enhancer.training.seed"),
        ("depth = 4", "max_features = 0", "at least 1 channel"),
        ("n_forests = 7", "n_forests = 0", "forests: Counts must be at least 1, and there must be a forest for every"),
        ('datasets = [{name = "mito_vnc", label = "membrane"}]', "", "got datasets: none, n_simulated: 0"),
        ('dataset = "mito_epfl"', 'dataset = "mito_epf"', "mito_epf"),
        ('dataset = "mito_epfl"', 'dataset = "mito_epfl"\nlabel = "membrane"', "mito_epfl has the labels"),
    ],
)
def test_what_a_recipe_says_wrong_is_told_with_its_place(tmp_path, right, wrong, told):
    assert right in TEXT
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        read(tmp_path, TEXT.replace(right, wrong))
    assert "tiny.toml" in str(caught.value)


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read the recipe .*no\.toml: No such file"):
        read_recipe(tmp_path / "no.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_published_recipes_are_named_by_their_id_and_grow_a_hundred_forests(path):
    recipe = read_recipe(path)
    assert recipe.id == path.stem
    assert recipe.pretrain.forests.n_forests >= 100
    assert recipe.pretrain.forests.n_stages > 1
    few, many = recipe.pretrain.forests.strokes
    assert many >= 10 * few
    assert recipe.targets


@pytest.mark.realdata
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_published_recipes_grow_forests_at_several_pixel_sizes(path, realdata_dir):
    settings = read_recipe(path).pretrain
    low, high = settings.forests.microscopes.zoom
    if low == high:  # then the source itself must be of several magnifications
        images, _ = source_images(settings.source, realdata_dir, seed=settings.seed)
        of_a_data_set = [one for one in images if one.dataset]  # not simulated
        low, high = np.percentile([median_diameter([one]) for one in of_a_data_set], (10, 90))
        assert high > 2 * low
    assert low < high


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_licences_follow_the_training_data(path):
    settings = read_recipe(path).pretrain
    sources = [describe_dataset(source.name).license for source in settings.source.datasets]
    free = all(license_ == "CC0-1.0" for license_ in sources)
    assert free or "NC" in settings.attribution.license


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_rivals_are_trained_where_the_enhancer_never_was(path):
    recipe = read_recipe(path)
    seen = {source.name for source in recipe.pretrain.source.datasets}
    assert {target.name: target.trainings for target in recipe.targets} == {
        target.name: target.dataset not in seen for target in recipe.targets
    }
