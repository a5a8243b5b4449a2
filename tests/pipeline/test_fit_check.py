"""Whether a classifier in a file fits an enhancer."""

import numpy as np
import pytest
import xarray as xr
from tests.rf_adapter.nuclei_projects import nuclei_project

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.images import write_image
from s2d_zoo.errors import AxesError, ConfigError, ImageFileError, PackageError
from s2d_zoo.pipeline.fit_check import check_fit_files
from s2d_zoo.rf_adapter.persistence import save_classifier


@pytest.fixture
def project(tmp_path, nuclei, scribbles):
    def make(**changes):
        return nuclei_project(nuclei[0], scribbles, **changes).write(tmp_path / "made.ilp")

    return make


def maps(path, values, **attrs):
    write_image(path, xr.DataArray(np.asarray(values), dims=("channel", "y", "x"), attrs=attrs))
    return path


def fields(report):
    return {misfit.field: misfit.fatal for misfit in report.misfits}


def test_a_project_that_fits_is_said_to_fit(package, project):
    report = check_fit_files(str(package), classifier=project())
    assert report.fits
    assert report.misfits == ()
    assert report.to_text().splitlines() == [
        "made.ilp fits tiny-enhancer",
        "  the enhancer takes: foreground, 2D",
        "  the classifier delivers: 1: background (background), 2: cells (foreground), 2D",
    ]


def test_a_wrong_label_is_named_with_the_right_one(package, project):
    report = check_fit_files(str(package), classifier=project(), foreground=1)
    assert not report.fits
    assert fields(report) == {"classes": True}
    last = report.to_text().splitlines()[-1]
    assert last.startswith("  WRONG: classes: ")
    assert "--foreground 2" in last
    assert report.verdict == "made.ilp does not fit tiny-enhancer"


def test_a_saved_forest_is_compared_in_its_features(folder, project, classifier, tmp_path):
    contract = classifier.contract.model_copy(update={"features": None}).model_dump(mode="json")
    contract["features"] = {
        "filters": [{"name": "GaussianSmoothing", "scales": [0.7, 1.6, 5.0]}],
        "compute_in_2d": True,
    }
    folder.rdf["config"]["s2d_zoo"]["rf_contract"] = contract
    save_classifier(classifier, tmp_path / "forest.safetensors")
    for source in (tmp_path / "forest.safetensors", project()):
        report = check_fit_files(str(folder.save()), classifier=source)
        assert report.fits
        assert fields(report) == {"features": False}
        assert report.verdict.endswith("with reservations")
        words = "add GaussianSmoothing at 5; leave out HessianOfGaussianEigenvalues at 1."
        assert words in report.to_text().splitlines()[-1]
        assert report.to_text().splitlines()[-1].startswith("  note: ")


def test_maps_are_compared_by_channels_and_values(package, tmp_path):
    good = maps(tmp_path / "good.tif", np.full((2, 8, 9), 0.5, dtype=np.float32))
    assert check_fit_files(str(package), probabilities=good).fits
    assert check_fit_files(str(package), probabilities=good, foreground=1).delivered.channels == (0,)
    bytes_ = maps(tmp_path / "bytes.tif", np.full((2, 8, 9), 127, dtype=np.uint8))
    report = check_fit_files(str(package), probabilities=bytes_)
    assert fields(report) == {"value_range": True}
    assert "divided by 255" in report.to_text()
    with pytest.raises(ConfigError, match=r"has 2 channels.*no channel 3"):
        check_fit_files(str(package), probabilities=good, foreground=3)


def test_maps_that_do_not_add_up_are_told(package, tmp_path, caplog):
    maps(tmp_path / "some.tif", np.full((2, 8, 9), 0.2, dtype=np.float32))
    assert check_fit_files(str(package), probabilities=tmp_path / "some.tif").fits
    assert "should add up to 1 at every px, but are up to 0.6 off" in caplog.text


def test_a_volume_does_not_fit_an_enhancer_of_planes(package, tmp_path):
    volume = xr.DataArray(np.full((2, 3, 8, 9), 0.5, dtype=np.float32), dims=("channel", "z", "y", "x"))
    write_image(tmp_path / "volume.tif", volume)
    report = check_fit_files(str(package), probabilities=tmp_path / "volume.tif")
    assert fields(report) == {"ndim": True}


def test_an_image_tells_the_pixel_size(folder, project, tmp_path, nuclei):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["pixel_size"] = {"y": 4.6, "x": 4.6, "unit": "nanometer"}
    size = PixelSize(y=0.012, x=0.012)
    write_image(tmp_path / "raw.tif", nuclei[0].assign_attrs(pixel_size=size))
    package = str(folder.save())
    assert check_fit_files(package, classifier=project()).misfits == ()
    report = check_fit_files(package, classifier=project(), image=tmp_path / "raw.tif")
    assert fields(report) == {"pixel_size": False}
    assert "Rescale 12 nm to 4.6 nm" in report.to_text()


def test_an_image_tells_which_unnamed_label_is_the_objects(package, project, tmp_path, nuclei, caplog):
    write_image(tmp_path / "raw.tif", nuclei[0])
    path = project(names=("Label 1", "Label 2"), path="away.tif")
    assert check_fit_files(str(package), classifier=path, image=tmp_path / "raw.tif").fits
    assert "covers less of the middle of the images" in caplog.text


def test_a_stack_of_classes_as_fiji_writes_it_is_no_volume(package, tmp_path, nuclei):
    stack = xr.DataArray(np.full((2, 96, 96), 0.5, dtype=np.float32), dims=("z", "y", "x"))
    write_image(tmp_path / "weka.tif", stack)
    assert check_fit_files(str(package), probabilities=tmp_path / "weka.tif").fits
    write_image(tmp_path / "raw.tif", nuclei[0])
    assert check_fit_files(str(package), probabilities=tmp_path / "weka.tif", image=tmp_path / "raw.tif").fits
    report = check_fit_files(str(package), probabilities=tmp_path / "weka.tif", axes="zyx")
    assert fields(report) == {"ndim": True}


def test_the_image_must_be_one_of_those_that_the_classifier_is_for(package, project, tmp_path):
    maps(tmp_path / "rgb.tif", np.zeros((3, 40, 40), dtype=np.uint8))
    with pytest.raises(AxesError, match=r"takes images with 1 channel\(s\); .*rgb.tif has 3"):
        check_fit_files(str(package), classifier=project(), image=tmp_path / "rgb.tif")
    volume = xr.DataArray(np.zeros((3, 40, 40), dtype=np.uint8), dims=("z", "y", "x"))
    write_image(tmp_path / "volume.tif", volume)
    with pytest.raises(AxesError, match=r"one for 2D images; .*volume.tif has axes channel, z, y, x"):
        check_fit_files(str(package), classifier=project(), image=tmp_path / "volume.tif")


def test_files_that_cannot_be_read_are_refused(package, tmp_path, project):
    with pytest.raises(PackageError):
        check_fit_files("no-such-model", classifier=project())
    with pytest.raises(ImageFileError, match="no file"):
        check_fit_files(str(package), probabilities=tmp_path / "missing.tif")
    maps(tmp_path / "rgb.tif", np.zeros((3, 40, 40), dtype=np.uint8))
    unnamed = project(names=("a", "b"), path="away.tif")
    with pytest.raises(AxesError, match="images with 1 channels; this one has 3"):
        check_fit_files(str(package), classifier=unnamed, image=tmp_path / "rgb.tif")
