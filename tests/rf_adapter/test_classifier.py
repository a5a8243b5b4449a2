"""The pixel classifier: strokes in, probabilities out."""

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.contract import ClassContract, PixelSize
from s2d_zoo.data.scores import score_foreground
from s2d_zoo.errors import AxesError, ConfigError, ScribbleError, UserInputError
from s2d_zoo.rf_adapter import feature_blocks
from s2d_zoo.rf_adapter.classes import choose_foreground_class, foreground_channels, name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier, pair_up
from s2d_zoo.rf_adapter.features import FeatureSelection

DIMS = ("channel", "z", "y", "x")
FEW = ForestSettings(n_estimators=4)


def random_image(*shape, seed=0):
    return xr.DataArray(np.random.default_rng(seed).normal(100, 10, shape), dims=("channel", *DIMS[-len(shape) + 1 :]))


def random_scribbles(*shape, labels=(0, 1, 2), seed=0):
    return xr.DataArray(np.random.default_rng(seed).choice(labels, shape).astype("uint8"), dims=DIMS[-len(shape) :])


def small(*, compute_in_2d=True):
    scales = {"GaussianSmoothing": (0.7, 1.0), "HessianOfGaussianEigenvalues": (0.7,)}
    return FeatureSelection(scales, compute_in_2d=compute_in_2d)


@pytest.fixture(scope="module")
def in_3d():
    """Fitted on a volume, with filters in 3D."""
    return PixelClassifier(selection=small(compute_in_2d=False), settings=FEW).fit(
        random_image(1, 9, 10, 11), random_scribbles(9, 10, 11)
    )


# ---- learning and predicting


def test_the_background_stays_the_background_when_another_label_is_chosen():
    names = ("glass", "cells", "dirt")
    roles = ("background", "foreground", "other")
    classes = [ClassContract(name=name, role=role) for name, role in zip(names, roles, strict=True)]
    assert [entry.role for entry in choose_foreground_class(classes, 3)] == ["background", "other", "foreground"]
    assert [entry.role for entry in choose_foreground_class(classes, 1)] == ["foreground", "background", "other"]
    with pytest.raises(ConfigError, match="1…3, got 4"):
        choose_foreground_class(classes, 4)


def test_it_finds_the_nuclei(classifier, nuclei):
    image, instances = nuclei
    probabilities = classifier.predict_proba(image)
    assert score_foreground(probabilities.sel(channel="foreground"), instances).iou > 0.6


def test_probabilities_are_float32_named_and_sum_to_1(classifier, nuclei):
    probabilities = classifier.predict_proba(nuclei[0])
    assert probabilities.dims == ("channel", "y", "x")
    assert list(probabilities.channel.values) == ["background", "foreground"]
    assert probabilities.dtype == np.float32
    assert 0 <= probabilities.min() <= probabilities.max() <= 1
    assert probabilities.sum("channel").values == pytest.approx(1, abs=1e-6)


def test_painted_pixels_are_predicted_as_painted(classifier, nuclei, scribbles):
    predicted = classifier.predict_proba(nuclei[0]).values.argmax(axis=0) + 1
    painted = scribbles.values > 0
    assert np.mean(predicted[painted] == scribbles.values[painted]) > 0.98


def test_the_same_strokes_and_seed_give_the_same_bytes(classifier, nuclei, scribbles):
    again = PixelClassifier(selection=classifier.selection, settings=classifier.settings, random_state=3)
    again.fit([nuclei[0]], [scribbles])
    assert again.predict_proba(nuclei[0]).values.tobytes() == classifier.predict_proba(nuclei[0]).values.tobytes()


def test_another_seed_gives_another_forest(classifier, nuclei, scribbles):
    other = PixelClassifier(selection=classifier.selection, settings=classifier.settings, random_state=4)
    other.fit(nuclei[0], scribbles)
    assert not np.array_equal(other.predict_proba(nuclei[0]), classifier.predict_proba(nuclei[0]))


@pytest.mark.parametrize("block", [{"z": 4, "y": 40, "x": 17}, {"z": 1, "y": 96, "x": 95}], ids=str)
def test_blocks_give_what_the_whole_gives(classifier, nuclei, block, monkeypatch, capsys):
    whole = classifier.predict_features(classifier.selection.compute(nuclei[0]))
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", block)
    found = classifier.predict_proba(nuclei[0], progress="predict")
    # rounding at a threshold may send a pixel elsewhere in one tree
    assert np.mean(np.abs(found.values - whole.values) > 1e-6) < 1e-3
    assert "predict" in capsys.readouterr().err


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("compute_in_2d", [True, False])
def test_a_volume_may_leave_one_slice_for_its_last_block(in_3d, compute_in_2d, depth, monkeypatch):
    image = random_image(1, 4 + depth, 10, 11, seed=1)
    if compute_in_2d:
        fitted = PixelClassifier(selection=small(), settings=FEW).fit(image, random_scribbles(4 + depth, 10, 11))
    else:
        fitted = in_3d
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 4, "y": 1024, "x": 1024})
    whole = fitted.predict_features(fitted.selection.compute(image))
    found = fitted.predict_proba(image)
    assert found.dims == DIMS
    assert np.mean(np.abs(found.values - whole.values) > 1e-6) < 1e-3


def test_slices_of_a_volume_filtered_in_2d_are_predicted_like_images():
    image = random_image(1, 3, 12, 13)
    fitted = PixelClassifier(selection=small(), settings=FEW).fit(image, random_scribbles(3, 12, 13))
    assert fitted.contract.ndim == 3
    for z in range(3):
        assert np.array_equal(fitted.predict_proba(image.isel(z=z)), fitted.predict_proba(image).isel(z=z))


def test_several_images_may_differ_in_size():
    images = [random_image(2, 12, 13), random_image(2, 20, 9, seed=1)]
    strokes = [random_scribbles(12, 13, labels=(0, 1)), random_scribbles(20, 9, labels=(0, 2))]
    fitted = PixelClassifier(selection=small(), settings=FEW).fit(images, strokes)
    assert fitted.forest.n_features == len(small().names(ndim=2, channels=2))
    assert fitted.predict_proba(images[1]).shape == (2, 20, 9)


@pytest.mark.parametrize(("labels", "missing"), [((0, 1, 3), [1]), ((0, 2, 3), [0]), ((1, 2), [2]), ((2, 4), [0, 2])])
def test_classes_that_were_never_painted_get_0(labels, missing):
    image = random_image(1, 12, 13)
    fitted = PixelClassifier(selection=small(), settings=FEW, classes=name_classes(4))
    probabilities = fitted.fit(image, random_scribbles(12, 13, labels=labels)).predict_proba(image)
    assert probabilities.sizes["channel"] == 4
    assert not probabilities.isel(channel=missing).any()
    assert probabilities.sum("channel").values == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("setting", [{"max_depth": 1}, {"min_samples_leaf": 40}])
def test_settings_limit_the_trees(setting, nuclei, scribbles):
    settings = ForestSettings(n_estimators=3, **setting)
    fitted = PixelClassifier(selection=small(), settings=settings).fit(nuclei[0], scribbles)
    full = PixelClassifier(selection=small(), settings=ForestSettings(n_estimators=3)).fit(nuclei[0], scribbles)
    assert len(fitted.forest.feature) < len(full.forest.feature)
    assert getattr(fitted.contract.forest, next(iter(setting))) == next(iter(setting.values()))


# ---- the contract


def test_the_contract_says_what_it_was_fitted_on(classifier):
    contract = classifier.contract
    assert contract.ndim == 2
    assert contract.channels == (1,)
    assert contract.raw_channels == 1
    assert contract.features == classifier.selection.to_contract()
    assert contract.forest.n_estimators == 8
    assert contract.pixel_size is None


def test_the_pixel_size_of_the_image_is_in_the_contract(nuclei, scribbles):
    size = PixelSize(y=0.25, x=0.25)
    image = nuclei[0].assign_attrs(pixel_size=size)
    fitted = PixelClassifier(selection=small(), settings=FEW).fit(image, scribbles)
    assert fitted.contract.pixel_size == size


def test_a_classifier_from_its_parts_predicts_the_same(classifier, nuclei):
    again = PixelClassifier.from_forest(classifier.forest, classifier.contract, random_state=3)
    assert again.settings == classifier.settings
    assert again.selection == classifier.selection
    assert np.array_equal(again.predict_proba(nuclei[0]), classifier.predict_proba(nuclei[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"features": None},
        {"classes": name_classes(3)},
        {"features": FeatureSelection().to_contract()},
        {"raw_channels": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parts_that_do_not_belong_together_are_refused(classifier, change):
    with pytest.raises(ConfigError, match="The contract"):
        PixelClassifier.from_forest(classifier.forest, classifier.contract.model_copy(update=change))


# ---- what cannot be done


def test_before_fit_nothing_works():
    blank = PixelClassifier()
    for attempt in (
        lambda: blank.forest,
        lambda: blank.contract,
        lambda: blank.predict_proba(random_image(1, 50, 50)),
        lambda: blank.predict_features(random_image(1, 5, 5)),
    ):
        with pytest.raises(UserInputError, match="call fit"):
            attempt()


@pytest.mark.parametrize(
    ("image", "strokes", "error", "message"),
    [
        (random_image(1, 9, 9), random_scribbles(9, 8), AxesError, "cover the same pixels"),
        (random_image(1, 9, 9), random_scribbles(9, 9, labels=(0,)), ScribbleError, "no strokes"),
        (random_image(1, 9, 9), random_scribbles(9, 9, labels=(0, 2)), ScribbleError, "only label 2"),
        (random_image(1, 9, 9), random_scribbles(9, 9) * 0.5, ScribbleError, "integers"),
        (random_image(1, 9, 9), random_scribbles(9, 9, labels=(1, 3)), ConfigError, "only 2 classes are named"),
        (random_image(1, 9, 9) * np.nan, random_scribbles(9, 9), UserInputError, "NaN"),
        (random_image(1, 9, 4), random_scribbles(9, 4), UserInputError, "at least 5 px along x"),
        ([random_image(1, 9, 9)], [], UserInputError, "1 images and 0"),
        ([], [], UserInputError, "0 images"),
        (
            [random_image(1, 9, 9), random_image(2, 9, 9)],
            [random_scribbles(9, 9), random_scribbles(9, 9)],
            AxesError,
            "same axes and channels",
        ),
        (
            [random_image(1, 9, 9), random_image(1, 9, 9, 9)],
            [random_scribbles(9, 9), random_scribbles(9, 9, 9)],
            AxesError,
            "same axes and channels",
        ),
    ],
    ids=[
        "other size",
        "no strokes",
        "one class",
        "floats",
        "unnamed class",
        "NaN",
        "too small",
        "no strokes given",
        "nothing",
        "channels",
        "dims",
    ],
)
def test_what_cannot_be_learnt_from_is_refused(image, strokes, error, message):
    with pytest.raises(error, match=message):
        PixelClassifier(selection=small(), settings=FEW).fit(image, strokes)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (random_image(2, 20, 20), AxesError, "with 1 channels; this one has 2"),
        (random_image(1, 20, 20) / 0 * 0, UserInputError, "NaN"),
        (random_image(1, 20, 3), UserInputError, "along x"),
    ],
    ids=["channels", "NaN", "too small"],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_cannot_be_predicted_is_refused(classifier, image, error, message):
    with pytest.raises(error, match=message):
        classifier.predict_proba(image)


def test_a_classifier_with_3d_filters_refuses_a_2d_image(in_3d):
    with pytest.raises(AxesError, match="fitted on 3D images"):
        in_3d.predict_proba(random_image(1, 20, 20))


def test_a_classifier_with_3d_filters_fitted_in_2d_refuses_a_volume():
    fitted = PixelClassifier(selection=small(compute_in_2d=False), settings=FEW).fit(
        random_image(1, 9, 9), random_scribbles(9, 9)
    )
    assert fitted.predict_proba(random_image(1, 9, 9)).shape == (2, 9, 9)
    with pytest.raises(AxesError, match="fitted on 2D images"):
        fitted.predict_proba(random_image(1, 9, 9, 9))


def test_other_features_than_it_learnt_from_are_refused(classifier, nuclei):
    with pytest.raises(UserInputError, match="rows of 4 features"):
        classifier.predict_features(small(compute_in_2d=True).compute(nuclei[0]).isel(feature=slice(3)))


@pytest.mark.parametrize("wrong", [{"n_estimators": 0}, {"max_depth": 0}, {"min_samples_leaf": 0}], ids=str)
def test_settings_below_1_are_refused(wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        ForestSettings(**wrong)


# ---- classes


@pytest.mark.parametrize(
    ("n_classes", "foreground", "roles"),
    [
        (2, 2, ["background", "foreground"]),
        (2, 1, ["foreground", "background"]),
        (3, 2, ["background", "foreground", "other"]),
        (3, 3, ["background", "other", "foreground"]),
        (3, 1, ["foreground", "background", "other"]),
    ],
)
def test_classes_get_their_roles(n_classes, foreground, roles):
    classes = name_classes(n_classes, foreground=foreground)
    assert [entry.role for entry in classes] == roles
    assert foreground_channels(classes) == (foreground - 1,)
    assert len({entry.name for entry in classes}) == n_classes


def test_classes_may_be_named():
    classes = name_classes(3, names=["glass", "nucleus", "dirt"])
    assert [entry.name for entry in classes] == ["glass", "nucleus", "dirt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 2, "foreground": 3}, "labels 1…2, got 3"),
        ({"n_classes": 2, "foreground": 0}, "got 0"),
        ({"n_classes": 3, "names": ["a", "b"]}, "3 classes, but 2 names: a, b"),
        ({"n_classes": 2, "names": ["a", ""]}, "needs a name"),
    ],
    ids=str,
)
def test_names_at_odds_with_labels_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        name_classes(**arguments)


def test_without_a_foreground_the_first_class_is_taken():
    classes = tuple(entry.model_copy(update={"role": "other"}) for entry in name_classes(2))
    assert foreground_channels(classes) == (0,)


def test_a_pair_is_put_in_order():
    images, strokes = pair_up(random_image(1, 9, 8).isel(channel=0).transpose("x", "y"), random_scribbles(9, 8).T)
    assert images[0].dims == ("channel", "y", "x")
    assert strokes[0].dims == ("y", "x")
