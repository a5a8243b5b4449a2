"""An enhancer learns a target from strokes that its forests did not see."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage

from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError, NotImprovedError
from s2d_zoo.finetune.finetuning import SegmentorTraining
from s2d_zoo.pipeline import enhancer_finetuning
from s2d_zoo.pipeline.enhancer_finetuning import EnhancerFinetuneSettings, finetune_enhancer, fit_enhancer
from s2d_zoo.rf_adapter.classifier import ForestSettings


def tiny(**changes):
    default = EnhancerFinetuneSettings()
    settings = EnhancerFinetuneSettings(
        n_forests=2,
        forest=ForestSettings(n_estimators=3),
        patches=replace(default.patches, size=32),
        training=replace(default.training, steps=2, steps_per_epoch=2, batch_size=2, device="cpu"),
        seed=1,
    )
    return replace(settings, **changes)


@pytest.fixture
def target(nuclei):
    image, instances = nuclei
    strokes = simulate_scribbles(binary_classes(instances), n_strokes=8, seed=2)
    return image, instances, strokes


@pytest.fixture
def enhancer(package):
    return load_enhancer(package)


@pytest.fixture
def trained_on(monkeypatch):
    """What the network is given, without training it."""
    seen = {}

    def fit(base_model, images, labels, settings, **options):
        seen.update(images=images, labels=labels, settings=settings, **options)
        return SegmentorTraining(model=copy.deepcopy(base_model), steps=1)

    monkeypatch.setattr(enhancer_finetuning, "train_segmentor", fit)
    return seen


def test_it_is_trained_and_the_first_one_stays_as_it_was(enhancer, target, tmp_path):
    image, _, strokes = target
    before = copy.deepcopy(enhancer.model.state_dict())
    after = fit_enhancer(enhancer, [image], [strokes], tiny(), folder=tmp_path)
    torch.testing.assert_close(enhancer.model.state_dict(), before, rtol=0, atol=0)
    assert not torch.equal(after.model.head.weight, enhancer.model.head.weight)
    assert (after.id, after.contract) == (enhancer.id, enhancer.contract)


def test_it_learns_on_each_forest_the_strokes_that_this_one_did_not_see(enhancer, target, tmp_path, trained_on):
    image, _, strokes = target
    fit_enhancer(enhancer, [image], [strokes], tiny(), folder=tmp_path)
    assert trained_on["inputs"] == "probabilities"
    assert [one.sizes["channel"] for one in trained_on["images"]] == [1, 1]
    assert all(0 <= float(one.min()) <= float(one.max()) <= 1 for one in trained_on["images"])
    assert not trained_on["images"][0].equals(trained_on["images"][1])
    learnt = [one.painted.values for one in trained_on["labels"]]
    assert all(0 < one.sum() < (strokes > 0).sum() / 2 for one in learnt)
    assert not np.array_equal(*learnt)
    for one in trained_on["labels"]:  # hard there, and elsewhere what the enhancer says itself
        painted = one.painted.values
        np.testing.assert_array_equal(one.labels[0].values[painted], strokes.values[painted] == 2)
        assert set(np.unique(one.labels.values[0][~painted])) - {0.0, 1.0}
        assert 0 < one.labels.values[1].max() < 1  # strokes say nothing of boundaries, so they do not erase them
    # where the forest was painted on, it would be all but perfect
    for maps, one in zip(trained_on["images"], learnt, strict=True):
        right = (maps.values[0] >= 0.5) == (strokes.values == 2)
        seen = (strokes.values > 0) & ~one
        assert right[seen].mean() > right[one].mean() - 0.02


@pytest.mark.parametrize("n_strokes", [1, 2, 3])
def test_few_strokes_of_each_class_are_learnt_too(enhancer, target, tmp_path, trained_on, n_strokes):
    image, instances, _ = target
    strokes = simulate_scribbles(binary_classes(instances), n_strokes=n_strokes, seed=2)
    fit_enhancer(enhancer, [image], [strokes], tiny(), folder=tmp_path)
    for labels in trained_on["labels"]:
        learnt = strokes.values[labels.painted.values]
        assert set(np.unique(learnt)) == {1, 2}
        assert labels.painted.values.sum() < (strokes > 0).sum() or n_strokes == 1


def test_where_an_image_is_labelled_throughout_every_pixel_is_learnt(enhancer, target, tmp_path, trained_on):
    image, instances, strokes = target
    settings = tiny()
    finetune_enhancer(
        enhancer,
        [image, image],
        [strokes, strokes],
        settings,
        folder=tmp_path,
        dense=[instances, None],
        held_out=[strokes] * 2,
    )
    first, second, *_ = trained_on["labels"]
    near = ndimage.maximum_filter(strokes.values > 0, size=33)
    np.testing.assert_array_equal(first.weights, ~near)  # what is tested is not trained on, nor what is next to it
    assert second.painted is not None
    np.testing.assert_array_equal(first.labels[0] > 0, (instances > 0) & ~((strokes == 1).values))
    assert len(trained_on["held_out"]) == len(trained_on["images"]) == 4
    assert trained_on["settings"].training.seed == settings.seed


def test_one_that_got_worse_is_not_given_out(enhancer, target, tmp_path):
    image, _, strokes = target
    settings = tiny()
    wrong = replace(settings.training, steps=30, steps_per_epoch=30, learning_rate=0.05)
    settings = replace(settings, training=wrong)
    inside_out = xr.where(strokes > 0, 3 - strokes, 0).astype(np.uint8)
    with pytest.raises(NotImprovedError, match="worse than its start"):
        finetune_enhancer(
            enhancer, [image], [strokes], settings, folder=tmp_path / "a", foreground=2, held_out=[inside_out]
        )


def test_without_a_forest_there_is_nothing_to_learn_on():
    with pytest.raises(ConfigError, match="At least one forest"):
        tiny(n_forests=0)
