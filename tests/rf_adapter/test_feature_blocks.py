"""Whatever the number of features and the size of the image: the memory stays the same, and so does the result."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.images import write_image
from s2d_zoo.data.lazy_images import open_image
from s2d_zoo.errors import AxesError, UserInputError
from s2d_zoo.rf_adapter import feature_blocks
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.feature_blocks import blocking_for
from s2d_zoo.rf_adapter.features import FeatureSelection

#: predicts a large image that is made up as it is read, and prints by how many bytes memory grew
MEMORY = """
import resource, sys
import numpy as np, xarray as xr
from s2d_zoo.data.stored import outline_of
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.feature_blocks import predict_in_blocks

def first(features):
    return features.isel(feature=slice(0, 1)).rename(feature="channel").drop_vars("channel")

def predict(size):
    image = outline_of({"channel": 1, "y": size, "x": size}, np.dtype("uint8"), {})
    for _ in predict_in_blocks(FeatureSelection({"GaussianSmoothing": (0.7,)}), first, image):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

predict(2048)
before = predict(2048)
print(predict(8192) - before)
"""


def image_of(*shape, dtype="float32"):
    dims = ("channel", "z", "y", "x") if len(shape) == 4 else ("channel", "y", "x")
    return xr.DataArray(np.random.default_rng(0).normal(100, 10, shape).astype(dtype), dims=dims)


def fit(image, *, compute_in_2d=True):
    scales = {"GaussianSmoothing": (0.7, 1.6), "HessianOfGaussianEigenvalues": (1.0,)}
    strokes = (np.random.default_rng(1).random(image.shape[1:]) * 3).astype("uint8")
    classifier = PixelClassifier(
        selection=FeatureSelection(scales, compute_in_2d=compute_in_2d), settings=ForestSettings(n_estimators=4)
    )
    return classifier.fit(image, xr.DataArray(strokes, dims=image.dims[1:]))


@pytest.fixture
def tiny_blocks(monkeypatch):
    monkeypatch.setattr(feature_blocks, "LARGEST_BLOCK", {"z": 3, "y": 16, "x": 24})


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr"])
@pytest.mark.parametrize(("shape", "in_2d"), [((1, 50, 60), True), ((2, 50, 60), True), ((1, 20, 22, 24), False)])
@pytest.mark.usefixtures("tiny_blocks")
def test_a_file_gives_bit_by_bit_what_memory_gives(tmp_path, suffix, shape, in_2d):
    image = image_of(*shape)
    classifier = fit(image, compute_in_2d=in_2d)
    write_image(tmp_path / f"a{suffix}", image)
    axes = "cyx" if shape[0] > 1 else None
    xr.testing.assert_identical(
        classifier.predict_proba(open_image(tmp_path / f"a{suffix}", axes=axes)), classifier.predict_proba(image)
    )


@pytest.mark.usefixtures("tiny_blocks")
def test_slices_filtered_in_2d_are_those_of_the_whole_volume():
    image = image_of(1, 7, 30, 40)
    classifier = fit(image)
    whole = classifier.predict_features(classifier.selection.compute(image))
    found = classifier.predict_proba(image)
    assert found.dims == ("channel", "z", "y", "x")
    assert list(found.channel.values) == list(whole.channel.values)
    # rounding at a threshold may send a pixel elsewhere in one tree
    assert np.mean(np.abs(found.values - whole.values) > 1e-6) < 1e-3


@pytest.mark.usefixtures("tiny_blocks")
def test_a_value_that_is_not_finite_is_placed_in_the_image():
    image = image_of(1, 50, 60)
    classifier = fit(image)
    image[0, 43, 55] = np.nan
    with pytest.raises(UserInputError, match=r"1 of .* values are NaN or infinite, the first at channel=0, y=43, x=55"):
        classifier.predict_proba(image)


def test_what_is_wrong_with_the_image_is_said_before_the_first_block():
    classifier = fit(image_of(1, 50, 60))
    with pytest.raises(AxesError, match="with 1 channels"):
        classifier.predict_blocks(image_of(2, 50, 60))
    with pytest.raises(UserInputError, match="not learnt"):
        PixelClassifier().predict_blocks(image_of(1, 50, 60))


@pytest.mark.parametrize("channels", [1, 2, 4, 16, 64])
@pytest.mark.parametrize(("sizes", "in_2d"), [((9999, 9999), True), ((200, 999, 999), True), ((200, 999, 999), False)])
def test_the_more_features_the_smaller_the_block(channels, sizes, in_2d):
    image = xr.DataArray(
        np.broadcast_to(np.uint8(0), (channels, *sizes)), dims=("channel", *("z", "y", "x")[-len(sizes) :])
    )
    blocking = blocking_for(FeatureSelection(compute_in_2d=in_2d), image)
    held = [dim for dim in blocking.block if not in_2d or dim != "z"]
    pixels = np.prod([blocking.block[dim] + 2 * blocking.halo[dim] for dim in held])
    n_features = {2: 49, 3: 61}[len(held)] * channels
    smallest = all(blocking.block[dim] == 16 for dim in held)
    assert pixels * n_features * 4 < feature_blocks._FEATURE_BYTES or smallest
    if channels <= 2 and in_2d:  # whole chunks of what is written
        assert all(blocking.block[dim] % 512 == 0 for dim in ("y", "x"))


def test_memory_does_not_grow_with_the_image():
    done = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 8192**2  # a copy of the image would be that much, its result four times as much
