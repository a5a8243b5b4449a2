"""Probabilities that others have made, and classifiers of others."""

import numpy as np
import pytest
import xarray as xr
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from s2d_zoo.contract import PixelSize
from s2d_zoo.errors import AxesError, ConfigError, UserInputError
from s2d_zoo.rf_adapter import feature_blocks
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.predictors import ProbabilityMaps, SklearnClassifier

SIZES = {"y": 5, "x": 6}
VOLUME = {"z": 3, **SIZES}


def maps_of(n_channels, sizes=SIZES, dtype=np.float32):
    values = np.random.default_rng(0).random((n_channels, *sizes.values()))
    return xr.DataArray((values / values.sum(axis=0)).astype(dtype), dims=("channel", *sizes))


# ---- maps


@pytest.mark.parametrize("sizes", [SIZES, VOLUME], ids=["2D", "3D"])
@pytest.mark.parametrize(
    ("n_channels", "foreground", "roles"),
    [
        (2, 2, ["background", "foreground"]),
        (2, 1, ["foreground", "background"]),
        (3, 3, ["background", "other", "foreground"]),
        (3, 1, ["foreground", "background", "other"]),
    ],
)
def test_maps_are_described_by_their_channels(sizes, n_channels, foreground, roles):
    maps = maps_of(n_channels, sizes)
    described = ProbabilityMaps.describe(maps, foreground=foreground)
    contract = described.contract
    assert [entry.role for entry in contract.classes] == roles
    assert contract.channels == (foreground - 1,)
    assert contract.ndim == len(sizes)
    assert contract.value_range == (0.0, 1.0)
    assert (contract.features, contract.raw_channels, contract.pixel_size) == (None, None, None)
    assert contract.forest.implementation == "unknown"
    assert described.largest_deviation == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(described.maps, maps)


@pytest.mark.parametrize("sizes", [SIZES, VOLUME], ids=["2D", "3D"])
@pytest.mark.parametrize("with_axis", [True, False])
def test_a_single_map_is_the_foreground_and_the_background_is_what_is_left(sizes, with_axis):
    foreground = maps_of(2, sizes).isel(channel=[1] if with_axis else 1)
    described = ProbabilityMaps.describe(foreground, foreground=1)  # there is one channel, and it is that
    assert [entry.role for entry in described.contract.classes] == ["background", "foreground"]
    assert described.contract.channels == (1,)
    assert described.maps.dims == ("channel", *sizes)
    np.testing.assert_array_equal(described.maps[1], np.squeeze(foreground))
    np.testing.assert_allclose(described.maps[0], 1 - np.squeeze(foreground), atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_pixel_size_of_the_file_is_kept(n_channels):
    size = PixelSize(y=0.5, x=0.5)
    described = ProbabilityMaps.describe(maps_of(2)[:n_channels].assign_attrs(pixel_size=size))
    assert described.contract.pixel_size == size


@pytest.mark.parametrize("n_channels", [1, 2])
def test_other_values_than_probabilities_are_told_in_the_contract(n_channels):
    values = np.zeros((n_channels, 5, 6), dtype=np.uint8)
    values[:, 0, 0] = 255
    described = ProbabilityMaps.describe(xr.DataArray(values, dims=("channel", "y", "x")))
    assert described.contract.value_range == (0.0, 255.0)
    assert described.largest_deviation > 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [([-0.1, 0.4], (-0.1, 0.4)), ([0.1, 1.2], (0.1, 1.2)), ([0.2, 0.4], (0, 1)), ([0, 1 + 5e-6], (0, 1))],
    ids=str,
)
def test_probabilities_lie_between_0_and_1_but_for_rounding(values, expected):
    maps = xr.DataArray(np.array(values).reshape(2, 1, 1), dims=("channel", "y", "x"))
    assert ProbabilityMaps.describe(maps).contract.value_range == pytest.approx(expected)


def test_channels_that_are_not_all_classes_are_told_by_their_sum():
    maps = maps_of(3)
    left = ProbabilityMaps.describe(maps.isel(channel=slice(0, 2)))
    assert left.largest_deviation == pytest.approx(float(maps[2].max()), abs=1e-6)


def test_the_sum_of_whole_numbers_does_not_wrap_around():
    values = np.full((2, 5, 6), 127, dtype=np.uint8)
    values[:, 0, 0] = 0
    described = ProbabilityMaps.describe(xr.DataArray(values, dims=("channel", "y", "x")))
    assert described.largest_deviation == 253


@pytest.mark.parametrize("n_channels", [1, 2])
def test_nan_is_refused(n_channels):
    maps = maps_of(n_channels)
    maps[0, 1, 2] = np.nan
    with pytest.raises(UserInputError, match=r"probabilities.*NaN|NaN.*probabilities"):
        ProbabilityMaps.describe(maps)


@pytest.mark.parametrize("foreground", [0, 4, -1])
def test_a_channel_that_is_not_there_is_refused(foreground):
    with pytest.raises(ConfigError, match=rf"1…3, got {foreground}"):
        ProbabilityMaps.describe(maps_of(3), foreground=foreground)


@pytest.mark.parametrize("foreground", [0, 3, 7])
def test_a_single_map_has_no_other_channel(foreground):
    with pytest.raises(ConfigError, match=f"one channel, and that is the foreground; got channel {foreground}"):
        ProbabilityMaps.describe(maps_of(1), foreground=foreground)


def test_maps_are_given_whatever_the_image_shows_if_it_is_of_that_size():
    described = ProbabilityMaps.describe(maps_of(2, dtype=np.float64))
    image = xr.DataArray(np.zeros((3, 5, 6)), dims=("channel", "y", "x"), attrs={"pixel_size": "kept"})
    given = described.predict_proba(image)
    assert given.dtype == np.float32
    assert given.attrs == image.attrs
    np.testing.assert_allclose(given, described.maps, atol=1e-7)
    for wrong in (image[:, 1:], image.expand_dims(z=3)):
        with pytest.raises(AxesError, match="image and the probabilities must cover the same pixels"):
            described.predict_proba(wrong)


# ---- classifiers with sklearn's interface

SELECTION = FeatureSelection({"GaussianSmoothing": (1.0, 1.6), "HessianOfGaussianEigenvalues": (1.0,)})
CLASSIFIERS = {
    "forest": RandomForestClassifier(n_estimators=4, random_state=0, n_jobs=1),
    "extra trees": ExtraTreesClassifier(n_estimators=4, random_state=0, n_jobs=1),
    "regression": make_pipeline(StandardScaler(), LogisticRegression()),
}


def make_image(channels=1, size=(30, 34)):
    values = np.random.default_rng(1).integers(0, 200, (channels, *size)).astype(np.uint8)
    return xr.DataArray(values, dims=("channel", "y", "x"))


def rows_of(image):
    features = SELECTION.compute(image).values
    return features.reshape(len(features), -1).T


def fit(classifier, image, labels=(1, 2)):
    rows = rows_of(image)
    order = np.argsort(np.argsort(rows[:, 0]))  # equally many darker and brighter ones
    return classifier.fit(rows, np.asarray(labels)[order * len(labels) // len(rows)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_any_classifier_gives_what_it_gives_by_hand(name, channels):
    image = make_image(channels)
    fitted = fit(CLASSIFIERS[name], image)
    predictor = SklearnClassifier(fitted, SELECTION, raw_channels=channels)
    by_hand = fitted.predict_proba(rows_of(image)).T.reshape(2, 30, 34)
    found = predictor.predict_proba(image)
    assert (found.dims, found.dtype) == (("channel", "y", "x"), np.float32)
    assert list(found.channel.values) == ["background", "foreground"]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    assert by_hand.std() > 0.1


def test_what_it_delivers_is_in_its_contract():
    image = make_image(3)
    contract = SklearnClassifier(fit(CLASSIFIERS["forest"], image), SELECTION, raw_channels=3).contract
    assert (contract.ndim, contract.channels, contract.raw_channels) == (2, (1,), 3)
    assert contract.features == SELECTION.to_contract()
    assert "RandomForestClassifier" in contract.forest.labels


def test_labels_that_were_never_seen_have_probability_0():
    image = make_image()
    classes = name_classes(4, foreground=3, names=("a", "b", "c", "d"))
    predictor = SklearnClassifier(fit(CLASSIFIERS["forest"], image, (1, 3)), SELECTION, classes=classes)
    found = predictor.predict_proba(image)
    assert predictor.contract.channels == (2,)
    assert list(found.channel.values) == ["a", "b", "c", "d"]
    assert not found.values[[1, 3]].any()
    np.testing.assert_allclose(found.sum("channel"), 1, atol=1e-6)


@pytest.mark.parametrize("labels", [(0, 1), (1, 3), ("no", "yes"), (1.0, 2.0), (-1, 1)], ids=str)
def test_labels_that_are_no_numbers_from_1_on_are_refused(labels):
    with pytest.raises(ConfigError, match="expected 1…2, one per class"):
        SklearnClassifier(fit(CLASSIFIERS["forest"], make_image(), labels), SELECTION)


@pytest.mark.parametrize(
    "settings", [{"raw_channels": 3}, {"selection": FeatureSelection({"GaussianSmoothing": (1,)})}]
)
def test_a_classifier_on_other_features_is_refused_before_it_predicts(settings):
    fitted = fit(CLASSIFIERS["forest"], make_image())
    with pytest.raises(
        ConfigError, match="RandomForestClassifier was fitted on rows of 4 features, but the selection has"
    ):
        SklearnClassifier(fitted, **{"selection": SELECTION, **settings})


def test_eigenvalues_of_volumes_are_counted():
    rows = np.random.default_rng(0).random((20, 5))
    fitted = RandomForestClassifier(n_estimators=2, random_state=0).fit(rows, np.tile([1, 2], 10))
    in_3d = FeatureSelection(SELECTION.scales, compute_in_2d=False)
    assert SklearnClassifier(fitted, in_3d, ndim=3).contract.ndim == 3
    with pytest.raises(ConfigError, match="5 features, but the selection has 4"):
        SklearnClassifier(fitted, SELECTION, ndim=3)


def test_a_classifier_without_probabilities_or_without_classes_is_refused():
    with pytest.raises(ConfigError, match=r"SVC gives no probabilities.*CalibratedClassifierCV"):
        SklearnClassifier(fit(SVC(), make_image()), SELECTION)
    with pytest.raises(ConfigError, match=r"RandomForestClassifier was not fitted.*fit\(rows, labels\)"):
        SklearnClassifier(RandomForestClassifier(), SELECTION)


def test_images_with_other_channels_are_refused():
    predictor = SklearnClassifier(fit(CLASSIFIERS["forest"], make_image()), SELECTION)
    with pytest.raises(AxesError, match="takes 1 channels; this image has 3"):
        predictor.predict_proba(make_image(3))


@pytest.mark.parametrize("name", ["forest", "regression"])
def test_blocks_are_equal_to_the_whole(monkeypatch, name):
    image = make_image(size=(70, 50))
    predictor = SklearnClassifier(fit(CLASSIFIERS[name], image), SELECTION)
    whole = predictor.predict_proba(image)
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 8, "y": 16, "x": 24})
    assert len(list(predictor.predict_blocks(image))) > 4
    np.testing.assert_allclose(predictor.predict_proba(image), whole, atol=1e-5)


def test_volumes_are_filtered_slice_by_slice():
    image = xr.concat([make_image(size=(20, 24)), make_image(size=(20, 24)) + 20], dim="z").transpose("channel", ...)
    predictor = SklearnClassifier(fit(CLASSIFIERS["forest"], image.isel(z=0)), SELECTION, ndim=3)
    found = predictor.predict_proba(image)
    assert found.dims == ("channel", "z", "y", "x")
    assert predictor.contract.ndim == 3
    for z in range(2):
        np.testing.assert_array_equal(found.isel(z=z), predictor.predict_proba(image.isel(z=z)))
