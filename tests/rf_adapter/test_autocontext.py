"""Autocontext: the second forest sees the image, and what the first says of it."""

import h5py
import numpy as np
import pytest
import xarray as xr

from s2d_zoo.errors import AxesError, ProjectFileError, UserInputError
from s2d_zoo.rf_adapter import feature_blocks
from s2d_zoo.rf_adapter.autocontext import AutocontextClassifier, stored_classifier
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.ilastik_images import read_frames
from s2d_zoo.rf_adapter.ilastik_project import read_project

from .nuclei_projects import apply, autocontext_project, fit, make_stage, pass_on


@pytest.fixture(scope="module")
def stored(tmp_path_factory, nuclei, scribbles):
    """Write a project of both stages, changed, and read it."""

    def make(image=nuclei[0], **changes):
        path = tmp_path_factory.mktemp("project") / "auto.ilp"
        return read_project(autocontext_project(image, scribbles, **changes).write(path))

    return make


def as_colour(image):
    return xr.concat([image, image // 2, 200 - image], dim="channel")


@pytest.mark.parametrize("channels", [1, 3])
def test_both_stages_are_what_they_are_by_hand(stored, nuclei, scribbles, channels):
    image = nuclei[0] if channels == 1 else as_colour(nuclei[0])
    classifier = stored_classifier(stored(image))
    assert isinstance(classifier, AutocontextClassifier)
    seen = pass_on(image, apply(fit(image, scribbles), image))
    assert seen.sizes["channel"] == channels + 2
    expected = apply(fit(seen, scribbles, seed=1), seen)
    found = classifier.predict_proba(image)
    assert (found.dims, found.dtype) == (("channel", "y", "x"), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(expected - apply(fit(image, scribbles), image)).max() > 0.1, "the second stage matters"


def test_it_delivers_the_second_stages_classes_of_the_raw_image(stored, nuclei, scribbles):
    classifier = stored_classifier(stored(names=("cells", "glass")), foreground=1)
    assert [entry.name for entry in classifier.contract.classes] == ["cells", "glass"]
    assert classifier.contract.channels == (0,)
    assert (classifier.contract.raw_channels, classifier.second.contract.raw_channels) == (1, 3)


def test_blocks_are_equal_to_the_whole(stored, nuclei, monkeypatch):
    classifier = stored_classifier(stored())
    whole = classifier.predict_proba(nuclei[0])
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 8, "y": 32, "x": 32})
    assert len(list(classifier.predict_blocks(nuclei[0]))) > 4
    np.testing.assert_allclose(classifier.predict_proba(nuclei[0]), whole, atol=1e-6)


def test_volumes_are_worked_on_slice_by_slice(stored, nuclei):
    classifier = stored_classifier(stored())
    volume = xr.concat([nuclei[0], nuclei[0] // 2], dim="z").transpose("channel", "z", "y", "x")
    found = classifier.predict_proba(volume)
    assert found.dims == ("channel", "z", "y", "x")
    for z in range(2):
        np.testing.assert_allclose(found.isel(z=z), classifier.predict_proba(volume.isel(z=z)), atol=1e-6)


def make_volume():
    values = np.random.default_rng(0).integers(0, 200, (1, 11, 26, 34)).astype(np.uint8)
    return xr.DataArray(values, dims=("channel", "z", "y", "x"))


@pytest.fixture(scope="module")
def on_volumes():
    """Both stages, fitted on a volume; each filters it slice by slice, or in 3D."""
    volume = make_volume()
    strokes = volume.isel(channel=0).astype(np.uint8)
    strokes.values[:] = np.where(volume.values[0] > 100, 2, 1) * (np.random.default_rng(1).random(strokes.shape) < 0.2)

    def make(*, first_in_2d, second_in_2d):
        def fitted(image, in_2d, seed):
            scales = {"GaussianSmoothing": (0.7, 1.6), "HessianOfGaussianEigenvalues": (1.0,)}
            selection = FeatureSelection(scales, compute_in_2d=in_2d)
            settings = ForestSettings(n_estimators=4)
            return PixelClassifier(selection=selection, settings=settings, random_state=seed).fit(image, strokes)

        first = fitted(volume, first_in_2d, 0)
        second = fitted(pass_on(volume, first.predict_proba(volume)), second_in_2d, 1)
        return AutocontextClassifier(first, second)

    return make


@pytest.mark.parametrize("second_in_2d", [True, False])
@pytest.mark.parametrize("first_in_2d", [True, False])
def test_each_stage_filters_volumes_in_its_own_way(on_volumes, monkeypatch, first_in_2d, second_in_2d):
    classifier = on_volumes(first_in_2d=first_in_2d, second_in_2d=second_in_2d)
    volume = make_volume()
    expected = classifier.second.predict_proba(pass_on(volume, classifier.first.predict_proba(volume)))
    assert expected.values.std() > 0.1
    np.testing.assert_allclose(classifier.predict_proba(volume), expected, atol=1e-6)
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 3, "y": 16, "x": 24})
    assert len(list(classifier.predict_blocks(volume))) == 16
    np.testing.assert_allclose(classifier.predict_proba(volume), expected, atol=1e-6)


@pytest.mark.parametrize("second_in_2d", [True, False])
def test_planes_are_refused_where_a_stage_filters_in_3d(on_volumes, second_in_2d):
    classifier = on_volumes(first_in_2d=not second_in_2d, second_in_2d=second_in_2d)
    with pytest.raises(AxesError, match="filters images in 3D; this one has the axes"):
        classifier.predict_proba(make_volume().isel(z=0))


def test_images_with_other_channels_or_nan_are_refused(stored, nuclei):
    classifier = stored_classifier(stored())
    with pytest.raises(AxesError, match="images with 1 channels; this one has 3"):
        classifier.predict_proba(as_colour(nuclei[0]))
    with pytest.raises(UserInputError, match="NaN"):
        classifier.predict_proba(nuclei[0].astype(float).where(nuclei[0].y != 3))


def test_a_second_stage_that_does_not_see_all_classes_is_refused(stored, nuclei, scribbles):
    other = make_stage(nuclei[0], scribbles)
    with pytest.raises(ProjectFileError, match=r"takes 1 channels, but the raw image and the classes .* are 3"):
        stored_classifier(stored(forests=other.forests, channels=1))


@pytest.mark.parametrize(("first", "second"), [(True, False), (True, True)])
def test_one_stage_is_taken_where_the_second_is_not_trained(stored, first, second):
    project = stored(first=first, second=second)
    assert isinstance(stored_classifier(project), AutocontextClassifier if second else PixelClassifier)


def test_a_second_stage_that_is_a_pickle_is_not_passed_over(tmp_path, nuclei, scribbles):
    path = autocontext_project(nuclei[0], scribbles, second=False).write(tmp_path / "auto.ilp")
    with h5py.File(path, "a") as file:
        pickled = b"clazyflow.classifiers.sklearnLazyflowClassifier\nSklearnLazyflowClassifier\np0\n."
        file["PixelClassification01/ClassifierForests/pickled_type"] = pickled
    with pytest.raises(ProjectFileError, match=r"classifier in PixelClassification01 .* is one of scikit-learn"):
        stored_classifier(read_project(path))


@pytest.mark.parametrize("second", [True, False])
def test_without_the_first_forest_there_is_nothing_to_build_on(stored, second):
    with pytest.raises(ProjectFileError, match=r"no trained forest in PixelClassification\b"):
        stored_classifier(stored(first=False, second=second))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "moved", "label_px"),
    [
        ("ilastik_pc", [], 1132),
        ("ilastik_autocontext", [], 2028),
        ("ilastik_mitocheck", ["ilastik_mitocheck_small_2D+t.h5"], 113),
    ],
)
def test_ilastiks_own_projects_are_fitted_nearly_perfectly(realdata_dir, name, moved, label_px):
    project = read_project(realdata_dir / "ilp" / f"{name}.ilp")
    right, painted = 0, 0
    classifier = stored_classifier(project, foreground=2)
    for frame in read_frames(project, [realdata_dir / "ilp" / file for file in moved]):
        if not frame.painted:
            continue
        labels = frame.scribbles[-1].values
        predicted = classifier.predict_proba(frame.image).values.argmax(axis=0) + 1
        right += int((predicted == labels)[labels > 0].sum())
        painted += int((labels > 0).sum())
    assert painted == label_px
    assert right / painted >= 0.97
