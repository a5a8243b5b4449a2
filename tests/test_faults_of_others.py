"""Faults that other implementations of the method have or had, which must not be here."""

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.patches import TARGET
from s2d_zoo.data.targets import foreground_and_boundary
from s2d_zoo.enhancer.dataset import PatchSettings, ProbabilityMap, make_patches
from s2d_zoo.finetune.pseudo_labels import consensus_labels
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.source_forests import SourceForests, SourceForestSettings
from s2d_zoo.trainer.losses import weighted_bce_and_dice


def test_pixels_to_ignore_do_not_become_foreground():
    """Elsewhere -1 was written into a bool array, which made the ignored rim of objects True."""
    instances = xr.DataArray(np.zeros((16, 16), np.int32), dims=("y", "x"))
    instances[4:12, 4:12] = 1
    target = foreground_and_boundary(instances)
    assert target.dtype == np.uint8
    assert set(np.unique(target)) == {0, 1}
    assert target.values[0].sum() == 64
    [labels] = [torch.as_tensor(target.values[None].astype(np.float32))]
    ignored = torch.ones(1, 1, 16, 16)
    ignored[..., 3:5, :] = 0
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    weighted_bce_and_dice(logits, labels, ignored).backward()
    assert logits.grad[..., 3:5, :].abs().max() == 0
    assert logits.grad[..., 6:8, :].abs().min() > 0


def test_targets_are_as_wide_as_the_labels_at_the_scale_of_the_patch():
    """A patch of an enhancer has the very foreground of its labels: none of it ignored, none of it added."""
    labels = xr.DataArray(np.zeros((32, 32), np.int32), dims=("y", "x"))
    labels[8:20, 8:20] = 5
    one = ProbabilityMap(probabilities=np.full((32, 32), 128, np.uint8), labels=labels)
    patch = make_patches([one], PatchSettings(size=32, augment=False), seed=0)[0]
    assert np.array_equal(patch[TARGET][0].numpy(), (labels.values > 0).astype(np.float32))


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6, 3.5, 5.0, 10.0])
def test_source_forests_see_the_structure_tensor_that_users_forests_see(tmp_path, scale):
    """Elsewhere its outer scale was half of the inner one in training, and twice in what users were told to select."""
    selection = FeatureSelection({"StructureTensorEigenvalues": (scale,)})
    values = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = 1
    image = LabelledImage(
        name="a", image=xr.DataArray(values, dims=("channel", "y", "x")), labels=xr.DataArray(labels, dims=("y", "x"))
    )
    settings = SourceForestSettings(n_forests=1, n_stages=1, n_estimators=2)
    forests = SourceForests([image], tmp_path, settings, selection=selection)
    forests.grow()
    strokes = xr.DataArray(labels + np.uint8(1), dims=("y", "x"))
    users = PixelClassifier(selection=selection).fit(image.image, strokes)
    assert forests.classifier(0).contract.features == users.contract.features
    told = forests.classifier(0).predict_proba(image.image).values[1]
    assert np.abs(forests.maps()[0].probabilities / 255 - told).max() < 1 / 255
    [stated] = users.contract.features.filters
    assert stated.outer_scales == (pytest.approx(min(scale, 1) / 2),)  # as in ilastik, which smooths beforehand


def test_consensus_is_of_the_members_and_not_of_their_mean():
    """Elsewhere members were averaged first: two that contradict each other surely look like one that is unsure."""

    def member(value):
        return xr.DataArray(np.full((2, 1, 1), value, np.float32), dims=("channel", "y", "x"))

    contradicting = consensus_labels([member(1.0), member(0.0), member(1.0), member(1.0)])
    assert float(contradicting.labels[0, 0, 0]) == pytest.approx(0.75)  # below the confidence of 0.8
    assert float(contradicting.weights[0, 0]) == pytest.approx(0.75)  # but three of four are sure and agree
    unsure = consensus_labels([member(0.75)] * 4)
    assert float(unsure.labels[0, 0, 0]) == pytest.approx(0.75)
    assert float(unsure.weights[0, 0]) == 0.0
