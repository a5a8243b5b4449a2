"""What forests say that saw different strokes."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.scribbles import split_strokes
from s2d_zoo.errors import ScribbleError
from s2d_zoo.pipeline.ranking_forests import fit_members, foreground_of, perturb
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.rf_adapter.features import FeatureSelection

FEW_TREES = ForestSettings(n_estimators=4)


@pytest.fixture
def data(nuclei, scribbles):
    """What is read from files, as far as forests need it."""

    def make(strokes=scribbles, foreground=2):
        selection = FeatureSelection({"GaussianSmoothing": (0.7, 1.6)})
        classes = name_classes(2, foreground=foreground)
        return SimpleNamespace(
            images=(nuclei[0],), scribbles=(strokes,), classes=classes, foreground=foreground, selection=selection
        )

    return make


def test_forests_predict_without_having_seen_what_is_held_out(data, monkeypatch):
    computed = []
    compute = FeatureSelection.compute
    monkeypatch.setattr(FeatureSelection, "compute", lambda *args: computed.append(1) or compute(*args))
    given = data()
    members, held_out = fit_members(given, FEW_TREES)
    assert held_out
    assert len(members) == 3
    assert len(computed) == 1  # one image, whatever the number of forests
    assert (sum(member.held_out[0].values for member in members) == given.scribbles[0].values).all()
    for member in members:
        (probabilities,), (perturbed,) = member.probabilities, member.perturbed
        assert probabilities.dims == perturbed.dims == ("channel", "y", "x")
        assert probabilities.dtype == perturbed.dtype == np.float32
        assert 0 < np.abs(perturbed - probabilities).mean() < 0.15
    first, second, _ = (member.probabilities[0] for member in members)
    assert (first != second).any()


def test_the_same_seed_gives_the_same_maps(data):
    (first, _), (again, _), (other, _) = (fit_members(data(), FEW_TREES, seed=seed) for seed in (0, 0, 1))
    assert first[1].perturbed[0].equals(again[1].perturbed[0])
    assert not first[1].perturbed[0].equals(other[1].perturbed[0])


def test_of_too_few_strokes_none_is_held_out(data, scribbles):
    numbered, _ = split_strokes(scribbles)
    last = int(numbered.max())
    one_each = scribbles.copy(data=np.where(np.isin(numbered, (1, last)), scribbles, 0).astype(np.uint8))
    members, held_out = fit_members(data(one_each), FEW_TREES)
    assert not held_out
    assert len(members) == 3
    assert not any(member.held_out[0].any() for member in members)


@pytest.mark.parametrize(("keep", "foreground"), [(1, 2), (2, 2), (1, 1)], ids=str)
def test_strokes_of_one_class_are_refused(data, scribbles, keep, foreground):
    one_class = scribbles.where(scribbles == keep, 0)
    with pytest.raises(ScribbleError, match=rf"label {foreground}\) and of another class .* found labels \[{keep}\]"):
        fit_members(data(one_class, foreground), FEW_TREES)


def test_perturbed_probabilities_are_probabilities():
    values = np.random.default_rng(0).dirichlet((0.3, 0.3, 0.3), size=(40, 40)).transpose(2, 0, 1).astype(np.float32)
    values[:, 0, 0] = 1, 0, 0
    given = xr.DataArray(values, dims=("channel", "y", "x"))
    less, more = (perturb(given, np.random.default_rng(1), exponent=exponent) for exponent in (0.8, 1.25))
    for changed in (less, more):
        assert changed.values.min() >= 0
        assert np.allclose(changed.sum("channel"), 1, atol=1e-6)
    assert less.max("channel").mean() < given.max("channel").mean()
    assert less.max("channel").mean() < more.max("channel").mean()


def test_the_foreground_is_the_channel_of_its_label():
    given = xr.DataArray(np.arange(12.0).reshape(3, 2, 2), dims=("channel", "y", "x"))
    assert foreground_of(given, 3).values.tolist() == [[8, 9], [10, 11]]
