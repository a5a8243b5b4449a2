"""From file to file, whatever the size of the image."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import AxesError, ConfigError, ImageFileError, UserInputError
from s2d_zoo.pipeline.classification import classify_file, predict_to_file
from s2d_zoo.rf_adapter import feature_blocks
from s2d_zoo.rf_adapter.persistence import save_classifier


@pytest.fixture
def forest(classifier, tmp_path):
    save_classifier(classifier, tmp_path / "forest.safetensors")
    return tmp_path / "forest.safetensors"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 4, "y": 32, "x": 40})


@pytest.mark.parametrize("source", [".tif", ".h5", ".zarr"])
@pytest.mark.parametrize("target", [".tif", ".h5", ".zarr"])
def test_the_file_holds_bit_by_bit_what_memory_gives(nuclei, classifier, forest, tmp_path, source, target):
    image = nuclei[0].assign_attrs(pixel_size=PixelSize(z=0.5, y=0.5, x=0.5))
    write_image(tmp_path / f"image{source}", image)
    output = classify_file(tmp_path / f"image{source}", tmp_path / f"out{target}", classifier=forest, progress=False)
    expected = classifier.predict_proba(read_image(tmp_path / f"image{source}"))
    found = read_image(output, axes="cyx")
    np.testing.assert_array_equal(found, expected)
    write_image(tmp_path / f"whole{target}", expected)
    xr.testing.assert_identical(found, read_image(tmp_path / f"whole{target}", axes="cyx"))


def test_names_of_classes_are_for_strokes(nuclei, forest, tmp_path):
    write_image(tmp_path / "image.tif", nuclei[0])
    with pytest.raises(ConfigError, match="--class-names is for strokes"):
        classify_file(tmp_path / "image.tif", tmp_path / "out.tif", classifier=forest, class_names=("a", "b"))


def test_an_image_cut_off_leaves_no_output(nuclei, forest, tmp_path):
    write_image(tmp_path / "image.tif", nuclei[0])
    content = (tmp_path / "image.tif").read_bytes()
    (tmp_path / "image.tif").write_bytes(content[: len(content) // 2])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ImageFileError, match=r"Cannot read|truncated"):
        classify_file(tmp_path / "image.tif", tmp_path / "out.zarr", classifier=forest, progress=False)
    assert sorted(tmp_path.iterdir()) == before


def test_a_value_that_is_not_finite_leaves_the_old_output(nuclei, forest, tmp_path):
    image = nuclei[0].astype("float32")
    image[0, 90, 3] = np.inf
    write_image(tmp_path / "image.zarr", image)
    (tmp_path / "out.tif").write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserInputError, match="y=90, x=3"):
        classify_file(tmp_path / "image.zarr", tmp_path / "out.tif", classifier=forest, overwrite=True, progress=False)
    assert (tmp_path / "out.tif").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupted_run_leaves_nothing(nuclei, classifier, tmp_path):
    class Interrupted:
        contract = classifier.contract

        def predict_blocks(self, image, *, progress=None):
            yield next(classifier.predict_blocks(image, progress=progress))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_to_file(Interrupted(), nuclei[0], tmp_path / "out.zarr")
    assert not list(tmp_path.iterdir())


def test_other_channels_are_refused_before_anything_is_written(nuclei, forest, tmp_path):
    write_image(tmp_path / "image.h5", xr.concat([nuclei[0]] * 2, dim="channel"))
    with pytest.raises(AxesError, match="with 1 channels"):
        classify_file(tmp_path / "image.h5", tmp_path / "out.h5", classifier=forest, progress=False)
    assert not (tmp_path / "out.h5").exists()


def test_torch_is_not_needed():
    code = "import sys, s2d_zoo.pipeline.classification; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
