"""What a recipe says of the measurement of its enhancer."""

import json
from dataclasses import replace

import pytest

from s2d_zoo.data.microscopes import MicroscopeVariation
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.enhancer.training import EnhancerSettings
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.pretrain_sources import SourceDataset, SourceSettings, source_images
from s2d_zoo.pipeline.quality_inputs import QualitySettings
from s2d_zoo.pipeline.quality_recipe import (
    direct_like,
    enhancer_of,
    segmentors_like,
    sources_of,
    stated_datasets,
    tell_if_made_otherwise,
)
from s2d_zoo.pipeline.recipes import Recipe
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.rf_adapter.source_forests import SourceForestSettings, hash_sources
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.zoo.collection import find_model

from .quality_cases import NUCLEI, write_datasets


@pytest.fixture
def recipe():
    pretrain = PretrainSettings(
        id="no-such-enhancer",
        name="Tiny enhancer",
        description="Enhances.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        source=SourceSettings(datasets=(SourceDataset(name="mito_vnc", label="membrane"),), n_simulated=3),
    )
    return Recipe(pretrain=pretrain, targets=(NUCLEI,))


def test_the_enhancer_is_what_was_given_or_what_was_just_made_or_the_bundled_one(
    recipe, package, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert enhancer_of(recipe, str(package)) == package
    bundled = replace(recipe, pretrain=replace(recipe.pretrain, id="nuclei-fluo-2d"))
    assert enhancer_of(bundled) == find_model("nuclei-fluo-2d")
    with pytest.raises(PackageError, match=r"no-such-enhancer\.zip is not there\. .*--enhancer"):
        enhancer_of(recipe)
    made = tmp_path / "build" / "no-such-enhancer" / "no-such-enhancer.zip"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"")
    assert enhancer_of(recipe).resolve() == made
    newer = tmp_path / "build" / "nuclei-fluo-2d" / "nuclei-fluo-2d.zip"
    newer.parent.mkdir()
    newer.write_bytes(b"")
    assert enhancer_of(bundled).resolve() == newer


def test_the_direct_network_sees_the_images_of_the_enhancer(recipe, tmp_path):
    folder = write_datasets(tmp_path)
    found = sources_of(recipe, data_dir=folder)
    training, validation = source_images(recipe.pretrain.source, folder, seed=recipe.pretrain.seed)
    assert [one.name for one in found.training] == [one.name for one in training]
    assert [one.name for one in found.validation] == [one.name for one in validation]
    assert found.names == ("mito_vnc (membrane)", "3 simulated images of nuclei")
    assert found.datasets == {"mito_vnc"}
    assert found.training[0].labels.values.mean() < 0.2
    without = replace(recipe.pretrain, source=replace(recipe.pretrain.source, n_simulated=0))
    assert sources_of(replace(recipe, pretrain=without), data_dir=folder).names == ("mito_vnc (membrane)",)


def test_a_recipe_without_targets_is_refused(recipe):
    with pytest.raises(ConfigError, match="names no target"):
        sources_of(replace(recipe, targets=()))


def test_the_direct_network_is_trained_as_the_enhancer_but_in_float32_and_sees_objects_of_the_same_sizes(recipe):
    enhancer = EnhancerSettings(training=TrainingSettings(steps=70, precision="bfloat16"))
    forests = SourceForestSettings(microscopes=MicroscopeVariation(zoom=(0.5, 2.0)))
    direct = direct_like(replace(recipe.pretrain, enhancer=enhancer, forests=forests))
    assert direct.training == TrainingSettings(steps=70, precision="float32")
    assert direct.patches.zoom == (enhancer.patches.zoom[0] * 0.5, enhancer.patches.zoom[1] * 2)
    assert replace(direct.patches, zoom=enhancer.patches.zoom) == enhancer.patches


@pytest.mark.parametrize(("upright", "zoom"), [(0.8, (0.35, 2.8)), (1.0, (0.5, 2.0))])
def test_every_patch_of_the_direct_network_varies_in_size(recipe, upright, zoom):
    enhancer = EnhancerSettings(patches=PatchSettings(size=64, zoom=(0.7, 1.4), upright=upright))
    forests = SourceForestSettings(microscopes=MicroscopeVariation(zoom=(0.5, 2.0)))
    direct = direct_like(replace(recipe.pretrain, enhancer=enhancer, forests=forests))
    assert direct.patches == PatchSettings(size=64, zoom=zoom, upright=0.0)


def test_segmentors_are_trained_in_the_precision_of_the_enhancer_and_weighted_as_asked_for(recipe):
    pretrain = recipe.pretrain
    usual = QualitySettings().segmentor
    assert segmentors_like(pretrain, weighting="consensus") == usual
    half = replace(pretrain.enhancer, training=replace(pretrain.enhancer.training, precision="bfloat16"))
    other = segmentors_like(replace(pretrain, enhancer=half), weighting="none")
    assert other == replace(usual, weighting="none", training=replace(usual.training, precision="bfloat16"))


def test_a_package_that_was_made_otherwise_than_the_recipe_says_is_told_of(recipe, package, tmp_path):
    sources = sources_of(recipe, data_dir=write_datasets(tmp_path))
    told = tell_if_made_otherwise(package, recipe, sources)
    assert "was not made from the images that the recipe names (mito_vnc (membrane)" in told
    provenance = {
        "inputs": {"training images": hash_sources(sources.training)},
        "options": {"settings": to_plain(recipe.pretrain)},
    }
    folder = tmp_path / "package"
    folder.mkdir()
    rdf = {"type": "model", "config": {"s2d_zoo": {"provenance": provenance}}}
    (folder / "rdf.yaml").write_text(json.dumps(rdf), encoding="utf-8")
    assert tell_if_made_otherwise(folder, recipe, sources) == ""
    assert stated_datasets(folder) == {"mito_vnc"}
    assert stated_datasets(package) == set()
    assert stated_datasets(find_model("nuclei-fluo-2d")) == {"nuclei_dsb_fluo"}  # made when datasets had no labels
    assert replace(sources, stated=frozenset({"nuclei_hela"})).datasets == {"mito_vnc", "nuclei_hela"}
    for odd in ([], {"s2d_zoo": "?"}, {"s2d_zoo": {"provenance": {"inputs": 3, "options": {"settings": ["?"]}}}}):
        (folder / "rdf.yaml").write_text(json.dumps({"type": "model", "config": odd}), encoding="utf-8")
        assert stated_datasets(folder) == set()
        assert "was not made from the images" in tell_if_made_otherwise(folder, recipe, sources)
    (folder / "rdf.yaml").write_text(json.dumps(rdf), encoding="utf-8")
    forests = replace(recipe.pretrain.forests, n_forests=7)
    renamed = replace(recipe, pretrain=replace(recipe.pretrain, name="Another name", forests=forests))
    assert "made with other forests.n_forests than the recipe says" in tell_if_made_otherwise(folder, renamed, sources)
