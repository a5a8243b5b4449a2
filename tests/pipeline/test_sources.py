"""What the files of a run say together: strokes, projects, maps, and classifiers from Python."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr
from tests.rf_adapter.ilastik_projects import axistags
from tests.rf_adapter.nuclei_projects import SELECTION, apply, fit, nuclei_project

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.images import write_image
from s2d_zoo.errors import AxesError, ConfigError, ImageFileError, ProjectFileError, ScribbleError, UserInputError
from s2d_zoo.pipeline.inputs import AdaptInputs, hash_path
from s2d_zoo.pipeline.sources import read_inputs
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.predictors import ProbabilityMaps, SklearnClassifier


@pytest.fixture
def files(tmp_path, nuclei, scribbles):
    """Write an image, strokes and maps; give the inputs that are asked for."""
    maps = apply(fit(nuclei[0], scribbles), nuclei[0]).astype(np.float32)
    for name, array in (("raw", nuclei[0]), ("strokes", scribbles), ("maps", maps), ("truth", nuclei[1])):
        write_image(tmp_path / f"{name}.tif", array)
    nuclei_project(nuclei[0], scribbles).write(tmp_path / "made.ilp")

    def make(*names, **changes):
        fields = {"raw": "images", "strokes": "scribbles", "maps": "probabilities"}
        given = {fields[name]: (tmp_path / f"{name}.tif",) for name in names}
        return AdaptInputs(enhancer="none", **{**given, **changes})

    return make


def describe(data):
    return [(entry.name, entry.role) for entry in data.classes]


# ---- strokes


def test_a_test_image_that_was_painted_on_is_refused_whatever_its_name(files, tmp_path, nuclei):
    copy, other = tmp_path / "copy.tif", tmp_path / "other.tif"
    write_image(copy, nuclei[0])
    write_image(other, nuclei[0] + 1)
    with pytest.raises(UserInputError, match=r"copy\.tif is also one to paint on \(raw\.tif\)"):
        read_inputs(files("raw", "strokes", test_images=(other, copy)))
    assert len(read_inputs(files("raw", "strokes", test_images=(other,))).test_images) == 1


def test_strokes_are_read_and_a_forest_is_to_be_fitted_on_them(files):
    data = read_inputs(files("raw", "strokes"))
    assert data.names == ("raw.tif",)
    assert (data.predictors, data.selection, data.painted, data.foreground) == ((), None, True, 2)
    assert data.delivered.channels == (1,)
    assert data.delivered.features is None
    assert describe(data) == [("background", "background"), ("foreground", "foreground")]


def test_more_names_than_strokes_name_more_classes(files):
    data = read_inputs(files("raw", "strokes"), class_names=("a", "b", "c"), foreground=2)
    assert describe(data) == [("a", "background"), ("b", "foreground"), ("c", "other")]


def test_the_foreground_must_have_been_painted(files):
    with pytest.raises(ScribbleError, match="No stroke has the label of the foreground, 3"):
        read_inputs(files("raw", "strokes"), class_names=("a", "b", "c"), foreground=3)


def test_colour_is_told_in_what_is_delivered(files, tmp_path, nuclei):
    colour = xr.concat([nuclei[0]] * 3, dim="channel")
    write_image(tmp_path / "raw.tif", colour, overwrite=True)
    assert read_inputs(files("raw", "strokes")).delivered.raw_channels == 3


# ---- projects


def test_a_project_brings_image_strokes_classes_features_and_forest(files, tmp_path, nuclei, scribbles):
    data = read_inputs(files(ilastik_project=tmp_path / "made.ilp"))
    assert data.names == ("cells",)
    assert data.painted
    np.testing.assert_array_equal(data.images[0], nuclei[0])
    np.testing.assert_array_equal(data.scribbles[0], scribbles)
    assert describe(data) == [("background", "background"), ("cells", "foreground")]
    assert data.selection.scales == SELECTION.scales
    (predictor,) = data.predictors
    assert data.delivered == predictor.contract
    np.testing.assert_allclose(
        predictor.predict_proba(nuclei[0]), apply(fit(nuclei[0], scribbles), nuclei[0]), atol=1e-6
    )


def test_of_a_project_that_is_retrained_the_forest_is_left_out(files, tmp_path):
    data = read_inputs(files(ilastik_project=tmp_path / "made.ilp", retrain=True))
    assert data.predictors == ()
    assert data.selection.scales == SELECTION.scales
    assert data.delivered.features == SELECTION.to_contract()
    assert data.delivered.forest.implementation == "sklearn"


def test_names_for_a_projects_labels_are_those_that_the_user_gives(files, tmp_path):
    inputs = files(ilastik_project=tmp_path / "made.ilp")
    assert describe(read_inputs(inputs, class_names=("sky", "bird"))) == [("sky", "background"), ("bird", "foreground")]
    assert read_inputs(inputs, foreground=1).foreground == 1
    with pytest.raises(ConfigError, match="There are 2 classes, but 3 names"):
        read_inputs(inputs, class_names=("a", "b", "c"))


def test_every_time_point_that_was_painted_is_an_image(files, tmp_path, nuclei, scribbles):
    project = nuclei_project(nuclei[0], scribbles)
    (lane,), (stage,) = project.lanes, project.stages
    lane.image = np.stack([lane.image // 2, lane.image, lane.image // 3, lane.image])
    lane.axes = "tyxc"
    (block,) = stage.labels[0]
    late = [type(block)("tyxc", (t, 0, 0, 0), block.values[np.newaxis]) for t in (1, 3)]
    stage.labels = [late]
    data = read_inputs(files(ilastik_project=project.write(tmp_path / "time.ilp")))
    assert data.names == ("cells-t1", "cells-t3")
    assert len(data.predictors) == 2
    for image, strokes in zip(data.images, data.scribbles, strict=True):
        np.testing.assert_array_equal(image, nuclei[0])
        np.testing.assert_array_equal(strokes, scribbles)


def test_truth_is_compared_with_the_images_of_a_project(files, tmp_path):
    image, truth, project = (tmp_path / name for name in ("raw.tif", "truth.tif", "made.ilp"))
    data = read_inputs(files(ilastik_project=project, images=(image,), ground_truth=(truth,)))
    assert len(data.ground_truth) == 1
    assert data.names == ("cells",)


def two_lanes(nuclei, scribbles, *, painted):
    """A project of two images, of which some are painted."""
    project = nuclei_project(nuclei[0], scribbles)
    (lane,), (stage,) = project.lanes, project.stages
    project.lanes = [lane, replace(lane, nickname="more")]
    stage.labels = [stage.labels[0] if one else [] for one in painted]
    return project


def test_truth_goes_with_the_images_that_are_painted(files, tmp_path, nuclei, scribbles):
    path = two_lanes(nuclei, scribbles, painted=(False, True)).write(tmp_path / "two.ilp")
    write_image(tmp_path / "other.tif", xr.zeros_like(nuclei[1]))
    truth = (tmp_path / "other.tif", tmp_path / "truth.tif")
    data = read_inputs(files(ilastik_project=path, ground_truth=truth))
    assert data.names == ("more",)
    np.testing.assert_array_equal(data.ground_truth[0], nuclei[1])
    with pytest.raises(ConfigError, match="1 files of ground truth were given for 2 images of the project"):
        read_inputs(files(ilastik_project=path, ground_truth=truth[1:]))


def test_truth_of_one_time_point_is_not_that_of_another(files, tmp_path, nuclei, scribbles):
    project = nuclei_project(nuclei[0], scribbles)
    (lane,), (stage,) = project.lanes, project.stages
    (block,) = stage.labels[0]
    lane.image, lane.axes = np.stack([lane.image, lane.image]), "tyxc"
    stage.labels = [[type(block)("tyxc", (t, 0, 0, 0), block.values[np.newaxis]) for t in (0, 1)]]
    path = project.write(tmp_path / "time.ilp")
    with pytest.raises(ConfigError, match="several time points of one image"):
        read_inputs(files(ilastik_project=path, ground_truth=(tmp_path / "truth.tif",)))


def test_the_pixel_size_of_the_image_is_that_of_a_projects_forest(files, tmp_path, nuclei, scribbles):
    size = PixelSize(y=0.1, x=0.1)
    write_image(tmp_path / "sized.tif", nuclei[0].assign_attrs(pixel_size=size))
    path = nuclei_project(nuclei[0], scribbles, path="sized.tif").write(tmp_path / "sized.ilp")
    assert read_inputs(files(ilastik_project=path)).delivered.pixel_size == size


def test_a_project_whose_image_is_away_names_it(files, tmp_path, nuclei, scribbles):
    path = nuclei_project(nuclei[0], scribbles, path="away.tif").write(tmp_path / "away.ilp")
    with pytest.raises(ProjectFileError, match=r"away\.tif.*--image"):
        read_inputs(files(ilastik_project=path))
    assert read_inputs(files("raw", ilastik_project=path)).names == ("cells",)


def test_the_image_that_a_project_leads_to_is_hashed_as_if_it_had_been_given(files, tmp_path, nuclei, scribbles):
    write_image(tmp_path / "there.tif", nuclei[0])
    path = nuclei_project(nuclei[0], scribbles, path="there.tif").write(tmp_path / "made.ilp")
    inputs = files(ilastik_project=path)
    data = read_inputs(inputs)
    assert data.found_images == (tmp_path / "there.tif",)
    assert inputs.hashes(data.found_images)[str(tmp_path / "there.tif")] == hash_path(tmp_path / "there.tif")
    assert sorted(inputs.named_hashes(data.found_images)) == ["ilastik project 1, made.ilp", "image 1, there.tif"]
    given = files(ilastik_project=path, images=(tmp_path / "there.tif",))
    assert given.named_hashes() == inputs.named_hashes(data.found_images)


def test_labels_of_one_class_are_not_enough(files, tmp_path, nuclei, scribbles):
    lone = scribbles.where(scribbles != 1, 0)
    path = nuclei_project(nuclei[0], lone, trained=False).write(tmp_path / "lone.ilp")
    with pytest.raises(ScribbleError, match="at least two classes"):
        read_inputs(files(ilastik_project=path, retrain=True))


# ---- maps


def test_maps_need_no_strokes(files, nuclei):
    data = read_inputs(files("raw", "maps"))
    assert not data.painted
    assert data.scribbles[0].sizes == {"y": 96, "x": 96}
    (predictor,) = data.predictors
    assert isinstance(predictor, ProbabilityMaps)
    assert describe(data) == [("background", "background"), ("foreground", "foreground")]
    assert read_inputs(files("raw", "maps"), foreground=1).foreground == 1


def test_maps_may_have_strokes_and_names(files):
    data = read_inputs(files("raw", "maps", "strokes"), class_names=("sky", "bird"))
    assert data.painted
    assert describe(data) == [("sky", "background"), ("bird", "foreground")]


def test_maps_inside_hdf5_are_read(files, tmp_path):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["exported_data"] = np.full((2, 96, 96), 0.5, dtype=np.float32)
        file["exported_data"].attrs["axistags"] = axistags("cyx")
    data = read_inputs(files("raw", probabilities=(tmp_path / "maps.h5:/exported_data",)))
    assert data.predictors[0].maps.shape == (2, 96, 96)


def test_maps_that_do_not_add_up_are_told_with_their_file(files, tmp_path, caplog):
    write_image(
        tmp_path / "maps.tif", xr.DataArray(np.full((2, 96, 96), 0.3), dims=("channel", "y", "x")), overwrite=True
    )
    read_inputs(files("raw", "maps"))
    taken, message = caplog.messages
    assert "maps.tif: channel 2 of 2 is taken for the objects (it covers 30 % of the image)" in taken
    assert message.startswith(
        f"{tmp_path / 'maps.tif'}: the channels should add up to 1 at every px, but are up to 0.4"
    )


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.full((2, 96, 95), 0.5), AxesError, r"cover the same pixels"),
        (np.full((2, 96, 96), np.nan), UserInputError, "NaN"),
    ],
    ids=["size", "NaN"],
)
def test_maps_that_do_not_fit_are_refused_with_their_file(files, tmp_path, values, error, words):
    write_image(tmp_path / "maps.tif", xr.DataArray(values, dims=("channel", "y", "x")), overwrite=True)
    with pytest.raises(error, match=words):
        read_inputs(files("raw", "maps"))


def test_which_channel_is_taken_is_told_unless_it_was_said(files, caplog):
    read_inputs(files("raw", "maps"))
    (message,) = caplog.messages
    assert "channel 2 of 2 is taken" in message
    assert "--channel foreground=1" in message
    caplog.clear()
    read_inputs(files("raw", "maps"), foreground=2)
    assert caplog.messages == []


def test_a_segmentation_is_told_from_probabilities(files, tmp_path, caplog):
    values = np.zeros((2, 96, 96), dtype=np.uint8)
    values[0, :50], values[1, 50:] = 1, 1
    write_image(tmp_path / "maps.tif", xr.DataArray(values, dims=("channel", "y", "x")), overwrite=True)
    read_inputs(files("raw", "maps"), foreground=2)
    assert "all values are 0 or 1. Is this a segmentation?" in caplog.text


def test_the_labels_of_a_project_have_their_names_in_messages(files, tmp_path, nuclei, scribbles):
    one = xr.where(scribbles == 1, scribbles, 0).astype(np.uint8)
    stage_labels = nuclei_project(nuclei[0], one).stages[0].labels
    path = nuclei_project(nuclei[0], scribbles, labels=stage_labels).write(tmp_path / "one.ilp")
    with pytest.raises(
        ScribbleError, match=r"only label 1\. Paint the others as well \(label 1: background, label 2: cells"
    ):
        read_inputs(files(ilastik_project=path))


def test_a_channel_that_the_maps_have_not_is_refused(files):
    with pytest.raises(ConfigError, match=r"has 2 channels.*no channel 3"):
        read_inputs(files("raw", "maps"), foreground=3)


def test_a_stack_of_classes_as_fiji_writes_it_is_read(files, tmp_path, nuclei, scribbles):
    values = apply(fit(nuclei[0], scribbles), nuclei[0]).astype(np.float32).values
    write_image(tmp_path / "weka.tif", xr.DataArray(values, dims=("z", "y", "x")))
    data = read_inputs(files("raw", probabilities=(tmp_path / "weka.tif",)))
    np.testing.assert_array_equal(data.predictors[0].maps, values)


def test_maps_of_unlike_classes_are_refused(files, tmp_path):
    paths = []
    for count in (2, 3):
        paths.append(tmp_path / f"{count}.tif")
        values = np.full((count, 96, 96), 1 / count, dtype=np.float32)
        write_image(paths[-1], xr.DataArray(values, dims=("channel", "y", "x")))
    with pytest.raises(AxesError, match=r"must have the same channels, found \[2, 3\]"):
        read_inputs(files("raw", images=(tmp_path / "raw.tif",) * 2, probabilities=tuple(paths)))


def test_maps_that_are_missing_are_named(files, tmp_path):
    with pytest.raises(ImageFileError, match=r"no file .*nowhere\.tif"):
        read_inputs(files("raw", probabilities=(tmp_path / "nowhere.tif",)))


# ---- classifiers from Python


def test_a_classifier_takes_the_place_of_a_forest(files, nuclei, scribbles):
    classifier = SklearnClassifier(fit(nuclei[0], scribbles), SELECTION)
    data = read_inputs(files("raw", "strokes"), classifier=classifier)
    assert data.predictors == (classifier,)
    assert data.delivered == classifier.contract
    assert data.classes == classifier.classes


@pytest.mark.parametrize("source", ["maps", "project"])
def test_a_classifier_beside_a_project_or_maps_is_refused(files, tmp_path, nuclei, scribbles, source):
    classifier = SklearnClassifier(fit(nuclei[0], scribbles), SELECTION)
    inputs = files("raw", "maps") if source == "maps" else files(ilastik_project=tmp_path / "made.ilp")
    with pytest.raises(ConfigError, match="as well as a project or probabilities: give one"):
        read_inputs(inputs, classifier=classifier)


def test_the_pixel_size_of_the_image_is_told(files, tmp_path, nuclei):
    size = PixelSize(y=0.5, x=0.5)
    write_image(tmp_path / "raw.tif", nuclei[0].assign_attrs(pixel_size=size), overwrite=True)
    assert read_inputs(files("raw", "strokes")).delivered.pixel_size == size


def test_a_classifier_for_other_channels_is_refused_at_once(files, nuclei, scribbles):
    colour = xr.concat([nuclei[0]] * 3, dim="channel")
    classifier = PixelClassifier(selection=SELECTION, settings=ForestSettings(n_estimators=2)).fit(colour, scribbles)
    with pytest.raises(AxesError, match=r"takes images with 3 channel\(s\); raw\.tif has 1"):
        read_inputs(files("raw", "strokes"), classifier=classifier)


@pytest.mark.parametrize("source", ["maps", "classifier"])
def test_strokes_of_more_classes_than_the_classifier_has_are_refused_at_once(
    files, tmp_path, nuclei, scribbles, source
):
    strokes = scribbles.copy()
    strokes[0, 0] = 3
    write_image(tmp_path / "strokes.tif", strokes, overwrite=True)
    classifier = None if source == "maps" else SklearnClassifier(fit(nuclei[0], scribbles), SELECTION)
    names = ("raw", "strokes", *(("maps",) if source == "maps" else ()))
    with pytest.raises(ScribbleError, match="up to 3, but the classifier has 2 classes: background, foreground"):
        read_inputs(files(*names), classifier=classifier)
