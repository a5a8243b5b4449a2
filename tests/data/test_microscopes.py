"""Images as other microscopes would have taken them, and their labels with them."""

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.microscopes import Microscope, MicroscopeVariation
from s2d_zoo.errors import ConfigError


def entry(size=64):
    y, x = np.indices((size, size))
    disk = (y - size / 2) ** 2 + (x - size / 2) ** 2 < (size / 4) ** 2
    labels = np.where(disk, np.where(x < size / 2, 3, 7), 0).astype(np.uint16)
    image = xr.DataArray((50 + 100 * disk)[np.newaxis].astype(np.uint8), dims=("channel", "y", "x"))
    image.attrs["pixel_size"] = PixelSize(y=4.0, x=4.0, unit="nanometer")
    return LabelledImage(name="a", image=image, labels=xr.DataArray(labels, dims=("y", "x")), dataset="d")


def test_a_microscope_that_changes_nothing_gives_the_very_same():
    same = entry()
    assert Microscope().look_at(same, seed=0) is same
    assert Microscope.draw(MicroscopeVariation(), np.random.default_rng(0)) == Microscope()


@pytest.mark.parametrize("zoom", [0.5, 0.37, 1.5])
def test_zoom_resizes_image_and_labels_alike_and_tells_the_pixel_size(zoom):
    seen = Microscope(zoom=zoom).look_at(entry(), seed=0)
    size = round(64 * zoom)
    assert seen.image.shape == (1, size, size)
    assert seen.labels.shape == (size, size)
    assert set(np.unique(seen.labels)) == {0, 3, 7}
    assert seen.labels.dtype == np.uint16
    assert seen.image.attrs["pixel_size"].x == pytest.approx(4.0 / zoom)
    assert (seen.labels > 0).mean() == pytest.approx((entry().labels > 0).mean().item(), abs=0.02)
    bright = seen.image.values[0] > 100
    assert np.mean(bright == (seen.labels.values > 0)) > 0.97
    assert (seen.name, seen.dataset) == ("a", "d")


def test_shrinking_leaves_no_pattern_of_pixels_behind():
    checks = LabelledImage(
        name="checks",
        image=xr.DataArray((np.indices((60, 60)).sum(0) % 2 * 200.0)[np.newaxis], dims=("channel", "y", "x")),
        labels=xr.DataArray(np.zeros((60, 60), np.uint8), dims=("y", "x")),
    )
    assert Microscope(zoom=0.4).look_at(checks, seed=0).image.values[0, 4:-4, 4:-4].std() < 10


def test_blur_noise_and_gamma_change_grey_values_only():
    plain = entry()
    blurred = Microscope(blur=2.0).look_at(plain, seed=0)
    assert 50 < blurred.image.values[0, 16, 32] < 150
    noisy = Microscope(noise=0.1).look_at(plain, seed=0)
    assert (noisy.image.values - plain.image.values).std() == pytest.approx(10, rel=0.1)  # of a contrast of 100
    darker = Microscope(gamma=2.0).look_at(blurred, seed=0)
    assert darker.image.values.mean() < blurred.image.values.mean()
    for seen in (blurred, noisy, darker):
        assert seen.labels.identical(plain.labels)
        assert seen.image.dtype == np.float32
        assert np.isfinite(seen.image.values).all()


def test_noise_depends_on_the_seed_and_on_nothing_else():
    noisy = Microscope(noise=0.1)
    assert noisy.look_at(entry(), seed=3).image.equals(noisy.look_at(entry(), seed=3).image)
    assert not noisy.look_at(entry(), seed=3).image.equals(noisy.look_at(entry(), seed=4).image)


def test_an_image_without_contrast_stays_finite():
    flat = entry()
    flat = LabelledImage(name="flat", image=flat.image * 0, labels=flat.labels)
    assert np.isfinite(Microscope(zoom=0.5, blur=1, noise=0.1, gamma=2).look_at(flat, seed=0).image.values).all()


def test_microscopes_are_drawn_within_their_variation_and_written_down_whole():
    variation = MicroscopeVariation(zoom=(0.4, 1.2), blur=1.5, noise=0.1, gamma=0.2)
    drawn = [Microscope.draw(variation, np.random.default_rng(seed)) for seed in range(50)]
    assert all(0.4 <= one.zoom <= 1.2 and 0 <= one.blur <= 1.5 and 0 <= one.noise <= 0.1 for one in drawn)
    assert len(set(drawn)) == 50
    assert any(one.blur == 0 for one in drawn)
    assert any(one.blur > 0 for one in drawn)
    one = drawn[0]
    assert Microscope.from_json({"zoom": one.zoom, "blur": one.blur, "noise": one.noise, "gamma": one.gamma}) == one


@pytest.mark.parametrize(
    "wrong", [{"zoom": (0, 1)}, {"zoom": (2, 1)}, {"blur": -1}, {"noise": -0.1}, {"gamma": -1}], ids=str
)
def test_variations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="rising order"):
        MicroscopeVariation(**wrong)
