"""The features of a project, in whichever order its forest takes them, and what ilastik's own code gives for them."""

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_zoo.data.images import read_image
from s2d_zoo.errors import ProjectFileError
from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.rf_adapter.ilastik_features import in_our_order, read_selection
from s2d_zoo.rf_adapter.ilastik_project import read_project

from .ilastik_projects import grow, name_features

BANK = {"GaussianSmoothing": (0.3, 1.0), "StructureTensorEigenvalues": (1.6,), "HessianOfGaussianEigenvalues": (10.0,)}


def in_words(selection, *, ndim=2, channels=1, in_2d=None, scales=SCALES):
    matrix = np.array([[scale in selection.scales.get(name, ()) for scale in scales] for name in FILTERS])
    return name_features(matrix, in_2d=in_2d, ndim=ndim, channels=channels, scales=scales)


def forest_on(n_features):
    return FlatForest.from_sklearn(grow(n_features), n_classes=2)


# ---- selections


@pytest.fixture
def group(tmp_path):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["FeatureIds"] = np.array([name.encode() for name in FILTERS])
        file["Scales"] = np.array(SCALES)
        file["SelectionMatrix"] = np.zeros((6, 7), dtype=bool)
        file.flush()
        yield file["/"]


def test_a_selection_is_read(group):
    group["SelectionMatrix"][0, 0] = group["SelectionMatrix"][5, 6] = True
    group["ComputeIn2d"] = np.array([True, True, True, True, True, True, False])
    selection, in_2d = read_selection(group)
    assert dict(selection.scales) == {"GaussianSmoothing": (0.3,), "HessianOfGaussianEigenvalues": (10.0,)}
    assert in_2d == (True, False)


def test_scales_that_somebody_added_are_read(group):
    del group["Scales"]
    group["Scales"] = [*SCALES[:-1], 14.0]
    group["SelectionMatrix"][1, 6] = True
    assert dict(read_selection(group)[0].scales) == {"LaplacianOfGaussian": (14.0,)}


def test_old_projects_do_not_say_what_is_computed_in_2d(group):
    group["SelectionMatrix"][0, 1] = True
    assert read_selection(group)[1] == (False,)


def test_nothing_is_selected_where_nothing_is_said(group):
    assert read_selection(group) == (None, ())
    assert read_selection(None) == (None, ())
    del group["SelectionMatrix"]
    assert read_selection(group) == (None, ())


# ---- orders


@given(
    scales=st.dictionaries(st.sampled_from(FILTERS), st.sets(st.sampled_from(SCALES[1:]), min_size=1), min_size=1),
    ndim=st.sampled_from([2, 3]),
    channels=st.integers(1, 3),
    suffix=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_a_forest_on_shuffled_features_takes_them_in_our_order(scales, ndim, channels, suffix, seed):
    selection = FeatureSelection({name: tuple(values) for name, values in scales.items()})
    names = in_words(selection, ndim=ndim, channels=channels, in_2d=np.ones(7, dtype=bool) if suffix else None)
    assert len(names) == len(selection.names(ndim=ndim, channels=channels))
    order = np.random.default_rng(seed).permutation(len(names))
    forest = forest_on(len(names))
    moved, found = in_our_order(forest, [names[index] for index in order], selection)
    # eigenvalues are as many as dimensions; without other features beside them 2 x 3 may be 3 x 2
    clear = not set(scales).isdisjoint(FILTERS[4:]) and not set(scales).isdisjoint(FILTERS[:4])
    assert found == ndim if clear else found in {ndim, None}
    rows = np.random.default_rng(1).normal(size=(20, len(names))).astype(np.float32)
    assert np.array_equal(moved.predictor().predict_proba(rows), forest.predictor().predict_proba(rows[:, order]))


def test_scales_with_many_digits_are_the_projects(group):
    scales = [*SCALES[:-2], 1.2345678, 1.2345679]
    del group["Scales"]
    group["Scales"] = scales
    group["SelectionMatrix"][0, 5] = group["SelectionMatrix"][0, 6] = True
    selection, _ = read_selection(group)
    names = in_words(selection, scales=scales)
    assert names == ["Gaussian Smoothing (σ=1.2345678)", "Gaussian Smoothing (σ=1.2345679)"]
    forest = forest_on(2)
    moved, _ = in_our_order(forest, names[::-1], selection)
    assert np.array_equal(moved.feature, np.where(forest.feature < 0, -1, 1 - forest.feature))


@pytest.mark.parametrize(
    ("filters", "ndim", "channels", "expected"),
    [
        (FILTERS, 3, 2, 3),
        (FILTERS, 2, 3, 2),
        (FILTERS[5:], 3, 1, 3),
        (FILTERS[5:], 2, 1, 2),
        (FILTERS[5:], 3, 2, None),
        (FILTERS[5:], 2, 3, None),
        (FILTERS[:1], 2, 1, None),
    ],
    ids=str,
)
def test_whether_filters_run_in_3d_is_told_where_it_shows(filters, ndim, channels, expected):
    selection = FeatureSelection(dict.fromkeys(filters, (1.0,)))
    names = in_words(selection, ndim=ndim, channels=channels)
    assert in_our_order(forest_on(len(names)), names, selection)[1] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[:-1], "takes 6 features.*hessianofgaussianeigenvalues at 10 px"),
        (lambda names: [*names[:-1], names[0]], "selection was changed"),
        (lambda names: ["Gaussian Smoothing (σ=5.0)", *names[1:]], "gaussiansmoothing at 5 px.*--retrain"),
        (lambda names: ["Sobel of everything", *names[1:]], "'Sobel of everything'"),
        (lambda names: ["Gaussian Smoothing (σ=1.0", *names[1:]], "does not exist here"),
        (lambda names: ["", *names[1:]], "does not exist here"),
        (lambda names: [*names, "Gaussian Smoothing (σ=1.0) [7]"], "selection was changed"),
        (lambda _: [], "selection was changed"),
    ],
    ids=["one less", "one twice", "another scale", "another filter", "cut off", "empty", "one more", "none"],
)
def test_names_that_do_not_fit_the_selection_are_refused(change, message):
    selection = FeatureSelection(BANK)
    names = change(in_words(selection))
    with pytest.raises(ProjectFileError, match=message):
        in_our_order(forest_on(6), names, selection)


# ---- what ilastik's own code gives


@pytest.mark.realdata
def test_features_of_a_whole_image_equal_ilastiks(realdata_dir):
    golden = np.load(realdata_dir / "golden" / "ilastik_pc.npz", allow_pickle=False)
    project = read_project(realdata_dir / "ilp" / "ilastik_pc.ilp")
    image = read_image(realdata_dir / "ilp" / "ilastik_2d_cells_apoptotic_1channel.png")
    selection = project.selection(0)
    assert list(selection.names(ndim=2)) == golden["names"].tolist()
    found = selection.compute(image)
    for name, rows, columns in (("corner", slice(0, 60), slice(0, 60)), ("center", slice(340, 420), slice(340, 460))):
        part = found.isel(y=rows, x=columns).transpose("y", "x", "feature").values
        magnitude = np.abs(found.values).max(axis=(1, 2))
        assert (np.abs(part - golden[name]).max(axis=(0, 1)) / magnitude).max() <= 2e-4


@pytest.mark.realdata
def test_a_real_project_predicts_what_ilastiks_own_api_predicts(realdata_dir):
    golden = np.load(realdata_dir / "golden" / "ilastik_pc.npz", allow_pickle=False)
    classifier = read_project(realdata_dir / "ilp" / "ilastik_pc.ilp").classifier(0)
    image = read_image(realdata_dir / "ilp" / "ilastik_2d_cells_apoptotic_1channel.png")
    found = classifier.predict_proba(image.isel(y=slice(200, 700), x=slice(200, 700)))
    corner = found.transpose("y", "x", "channel").values[:250, :250]
    difference = np.abs(corner - golden["api_probabilities"])
    assert difference.mean() <= 1e-5
    assert (difference > 1e-3).mean() < 1e-3  # some pixels lie on a threshold


def test_an_image_of_one_value_has_no_slopes():
    image = xr.DataArray(np.full((40, 40), 7.0, dtype=np.float32), dims=("y", "x"))
    found = FeatureSelection().compute(image)
    smooth = np.char.startswith(found.feature.values.astype(str), "GaussianSmoothing")
    assert np.allclose(found.values[smooth], 7, atol=1e-4)
    assert np.allclose(found.values[~smooth], 0, atol=1e-4)
