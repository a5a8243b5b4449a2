"""Filters, forest and both before an enhancer: they give what bioimage-cpp and sklearn give."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from s2d_zoo.architectures.pixel_forest import FilterBank, Forest, PixelForest, _walk
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.export.fused import build_pixel_forest
from s2d_zoo.export.weights import deprecated_on_purpose
from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest

# ---- filters

ALL = FeatureSelection()
#: what is added to images, and how many values there are for a photon
CAMERAS = {"uint8": (0, 1), "uint16": (0, 250), "uint8 with offset": (40, 1), "uint16 with offset": (3000, 10)}


def cells(channels, *, offset=0, gain=1, size=(72, 85)):
    """Blurred spots with shot noise, ``(channel, y, x)`` float32."""
    generator = np.random.default_rng(channels)
    spots = np.zeros((channels, *size))
    for plane in spots:
        plane[tuple(generator.integers(0, length, 9) for length in size)] = 1
    spots = ndimage.gaussian_filter(spots, (0, 3, 3))
    spots /= spots.max()
    return (generator.poisson(offset + 180 * spots) * gain).astype(np.float32)


def filtered_three_times(image):
    """Features by bioimage-cpp, by the bank, and by the bank in float64."""
    bank = FilterBank(ALL.scales, len(image))
    with torch.inference_mode():
        ours = bank(torch.from_numpy(image)[None])[0].numpy()
        exact = bank.double()(torch.from_numpy(image)[None].double())[0].numpy()
    return ALL.compute(xr.DataArray(image, dims=("channel", "y", "x"))).values, ours, exact


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("camera", ["uint8", "uint16"])
def test_every_feature_is_the_one_that_the_forest_learnt_on(camera, channels):
    image = cells(channels, offset=CAMERAS[camera][0], gain=CAMERAS[camera][1])
    theirs, ours, _ = filtered_three_times(image)
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    difference = np.abs(ours - theirs).max(axis=(1, 2)) / np.abs(theirs).max(axis=(1, 2))
    names = ALL.names(ndim=2, channels=channels)
    for name, found in zip(names, difference, strict=True):
        # The difference of two very smooth images is a thousandth of them, so that their rounding to float32 shows:
        # measured up to 1.8e-4 between the two, of which bioimage-cpp is 1.2e-4 away from float64. Others: 8e-5.
        assert found <= (2.5e-4 if name.startswith("DifferenceOfGaussians@10") else 1e-4), name


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("camera", CAMERAS)
def test_rounding_is_hardly_worse_than_that_of_bioimage_cpp(camera, channels):
    # With an offset far above the contrast no float32 filter holds 1e-4: DifferenceOfGaussians@10 of the last camera
    # is 1.2e-2 (bioimage-cpp) and 1.7e-2 (ours) away from float64, at the worst pixel. So both are compared with
    # float64, over all pixels; measured: at most 1.3 times as far.
    image = cells(channels, offset=CAMERAS[camera][0], gain=CAMERAS[camera][1])
    theirs, ours, exact = filtered_three_times(image)
    largest = np.abs(exact).max(axis=(1, 2))
    off, allowed = (np.sqrt(((found - exact) ** 2).mean(axis=(1, 2))) / largest for found in (ours, theirs))
    worse = np.flatnonzero(off > 1.5 * allowed + 1e-6)
    assert not [ALL.names(ndim=2, channels=channels)[index] for index in worse]


def test_borders_are_mirrored_without_repeating_the_edge():
    image = np.zeros((1, 40, 41), dtype=np.float32)
    image[0, :2] = image[0, :, -1] = 100
    theirs, ours, _ = filtered_three_times(image)
    largest = np.abs(theirs).max(axis=(1, 2))
    assert (np.abs(ours - theirs).max(axis=(1, 2)) / largest).max() < 2.5e-4
    repeating, _, _ = filtered_three_times(np.pad(image, [(0, 0), (38, 38), (38, 38)], mode="symmetric"))
    assert (np.abs(repeating[:, 38:-38, 38:-38] - theirs).max(axis=(1, 2)) / largest).min() > 5e-3


@pytest.mark.parametrize(
    "scales",
    [
        {"GaussianSmoothing": (0.3,)},
        {"HessianOfGaussianEigenvalues": (1.6, 0.7), "GaussianSmoothing": (0.3, 5.0)},
        {"StructureTensorEigenvalues": (0.7, 1.0, 3.5), "DifferenceOfGaussians": ()},
        {"LaplacianOfGaussian": (1.3,), "GaussianGradientMagnitude": (2.0,)},
        dict.fromkeys(FILTERS, SCALES[1:]),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 2])
def test_any_selection_has_the_features_in_its_order(scales, channels):
    selection = FeatureSelection(scales)
    bank = FilterBank(selection.scales, channels)
    image = cells(channels, size=(50, 47))
    with torch.inference_mode():
        ours = bank(torch.from_numpy(image)[None])[0].numpy()
    theirs = selection.compute(xr.DataArray(image, dims=("channel", "y", "x"))).values
    assert bank.n_features == len(selection.names(ndim=2, channels=channels)) == len(ours)
    assert bank.support == selection.support
    largest = np.abs(theirs).max(axis=(1, 2))
    assert (np.abs(ours - theirs).max(axis=(1, 2)) <= 2.5e-4 * largest).all()


def test_filters_come_in_the_order_in_which_they_are_given():
    image = torch.from_numpy(cells(1, size=(20, 20)))[None]
    one, two = {"GaussianSmoothing": [1.0]}, {"LaplacianOfGaussian": [0.7]}
    apart = torch.cat([FilterBank(two)(image), FilterBank(one)(image)], dim=1)
    assert torch.allclose(FilterBank({**two, **one})(image), apart, atol=1e-3)
    assert not torch.allclose(FilterBank({**one, **two})(image), apart, atol=1e-3)


def test_images_of_a_batch_do_not_mix():
    images = torch.from_numpy(np.stack([cells(2, size=(30, 40)), cells(2, offset=5, size=(30, 40))]))
    bank = FilterBank({"GaussianSmoothing": [0.7, 1.6], "StructureTensorEigenvalues": [1.0]}, channels=2)
    # not to the last bit: the convolutions may add in another order
    assert torch.allclose(bank(images)[1:], bank(images[1:]), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(bank(images)[:1], bank(images[1:]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("wrong", [{}, {"GaussianSmoothing": ()}, {"Canny": (1.0,)}], ids=str)
def test_unknown_filters_and_none_at_all_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected some of the filters GaussianSmoothing, .* each with scales"):
        FilterBank(wrong)


# ---- forests

#: as many features as `grown` has, of which one is tested at many values
FEATURES = FeatureSelection({"GaussianSmoothing": (0.3, 0.7, 1.0, 1.6)})


def grown(labels, *, n_rows=120, n_estimators=5, **settings):
    """A forest of sklearn's, and rows at and right beside every threshold."""
    generator = np.random.default_rng(len(labels))
    rows = (generator.normal(size=(n_rows, 4)) / 3).astype(np.float32)
    painted = generator.permutation(np.resize(labels, n_rows))
    forest = RandomForestClassifier(n_estimators=n_estimators, random_state=1, **settings).fit(rows, painted)
    thresholds = FlatForest.from_sklearn(forest, n_classes=max(labels)).threshold
    near = thresholds.astype(np.float32)
    below, above = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
    pool = np.concatenate([near, below, above, rows.ravel()])
    return forest, generator.choice(pool, size=(2000, 4)).astype(np.float32)


def as_torch(forest, n_classes, fed):
    """`Forest` with the tables of a forest of sklearn's."""
    flat = FlatForest.from_sklearn(forest, n_classes=n_classes)
    enhancer = UNet(in_channels=len(fed), features=1, depth=1)
    contract = FEATURES.to_contract()
    return build_pixel_forest(flat.to_arrays(), contract, raw_channels=1, fed=fed, enhancer=enhancer).forest


def as_image(rows, height=40):
    """``(n, feature)`` as ``(1, feature, y, x)``."""
    return torch.from_numpy(np.ascontiguousarray(rows.T.reshape(1, rows.shape[1], height, -1)))


FORESTS = {
    "two classes": ({"labels": (1, 2)}, (1,)),
    "three classes": ({"labels": (1, 2, 3)}, (2, 0)),
    "all of three classes": ({"labels": (1, 2, 3)}, (0, 1, 2)),
    "one tree": ({"labels": (1, 2), "n_estimators": 1}, (1,)),
    "more trees than are walked at once": ({"labels": (1, 2), "n_estimators": 23}, (0,)),
    "single leaves": ({"labels": (1, 2), "min_samples_leaf": 120, "bootstrap": False}, (1,)),
    "stumps": ({"labels": (1, 2), "max_depth": 1}, (1,)),
    "one class only": ({"labels": (2,)}, (1,)),
}


@pytest.mark.parametrize(("settings", "fed"), FORESTS.values(), ids=FORESTS)
def test_a_forest_says_what_sklearns_says_also_right_at_its_thresholds(settings, fed):
    forest, rows = grown(**settings)
    n_classes = max(settings["labels"])
    expected = np.zeros((len(rows), n_classes))
    expected[:, forest.classes_ - 1] = forest.predict_proba(rows)
    found = as_torch(forest, n_classes, fed)(as_image(rows))
    assert found.shape == (1, len(fed), 40, 50)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].flatten(1).T.numpy(), expected[:, fed], atol=1e-6)


def test_the_thresholds_of_these_tests_lie_between_float32_numbers():
    forest, rows = grown((1, 2))
    thresholds = np.concatenate([tree.tree_.threshold[tree.tree_.children_left >= 0] for tree in forest.estimators_])
    rounded = thresholds.astype(np.float32)
    up = rounded[rounded > thresholds]
    assert len(up) > 10, "rounded to the nearest, these decisions would be others"
    assert np.isin(up, rows).any()


@pytest.mark.parametrize(("pixels_at_once", "trees_at_once"), [(1, 1), (7, 2), (2000, 23), (10**6, 1000)])
def test_how_many_are_walked_at_once_does_not_matter(pixels_at_once, trees_at_once):
    forest, rows = grown((1, 2, 3), n_estimators=23)
    tables = as_torch(forest, 3, (0, 2))
    columns = torch.from_numpy(rows[:50].T.copy())
    arguments = (
        *(columns, tables.feature.long(), tables.threshold, tables.left.long()),
        *(tables.value.double(), tables.roots.long()),
    )
    expected = forest.predict_proba(rows[:50])[:, [0, 2]]
    found = _walk(*arguments, pixels_at_once=pixels_at_once, trees_at_once=trees_at_once)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_traced_forest_walks_on_at_other_sizes_and_depths():
    forest, rows = grown((1, 2), n_estimators=12)
    tables = as_torch(forest, 2, (1,))
    with deprecated_on_purpose():
        # a flat example: all its pixels end high up in the trees
        traced = torch.jit.trace(tables, torch.zeros(1, 4, 3, 3), check_trace=False)
    image = as_image(rows[:1500], height=30).reshape(4, 2, 25, 30).transpose(0, 1).contiguous()
    assert torch.equal(traced(image), tables(image))
    assert traced(image).std() > 0.1


def test_an_empty_forest_is_one_leaf_for_each_tree():
    forest = Forest(nodes=2, trees=2)
    forest.roots[1] = 1
    forest.value[:, 0] = torch.tensor([0.25, 0.75])
    assert torch.equal(forest(torch.randn(2, 3, 4, 5)), torch.full((2, 1, 4, 5), 0.5))


# ---- the whole


def see_through(filters, depth):
    """Any pixel above 0 makes the forest say 1 as far as the filters reach, and the U-Net loses nothing of it."""
    enhancer = {"in_channels": 1, "out_channels": 1, "features": 1, "depth": depth, "norm": "none"}
    model = PixelForest(filters, raw_channels=1, nodes=3, trees=1, enhancer=enhancer).double().eval()
    model.forest.threshold[0] = 0
    model.forest.left[:] = torch.tensor([1, 1, 2])
    model.forest.value[2] = 1
    model.enhancer.pool = nn.AvgPool2d(2)
    for parameter in model.enhancer.parameters():
        nn.init.constant_(parameter, 0.1)
    nn.init.constant_(model.enhancer.head.bias, -1)
    return model


@pytest.mark.parametrize(
    ("filters", "depth"), [({"GaussianSmoothing": [1.6]}, 1), ({"GaussianSmoothing": [1.0, 0.7]}, 2)], ids=str
)
def test_an_output_pixel_looks_exactly_as_far_as_the_network_says(filters, depth):
    model = see_through(filters, depth)
    radius, step = model.receptive_radius, model.step
    assert radius == model.filter_bank.support + model.enhancer.receptive_radius
    middle = -(-(radius + 1) // step) * step
    size = 2 * middle + step
    farthest = 0
    with torch.inference_mode():
        dark = model.enhancer.logits(model.forest(model.filter_bank(torch.zeros(1, 1, size, size).double())))
        for phase in range(step):
            image = torch.zeros(1, 1, size, size).double()
            image[..., middle + phase, middle + phase] = 1
            lit = model.enhancer.logits(model.forest(model.filter_bank(image)))
            changed = (lit != dark)[0, 0].nonzero()
            farthest = max(farthest, int((changed - middle - phase).abs().max()))
    assert farthest == radius


def test_the_step_is_that_of_the_enhancer_and_the_output_has_the_inputs_size():
    filters = {"GaussianSmoothing": [0.7], "HessianOfGaussianEigenvalues": [1.0]}
    model = PixelForest(filters, raw_channels=2, nodes=1, trees=1, enhancer={"in_channels": 1, "depth": 3}).eval()
    assert model.step == 8
    with torch.inference_mode():
        output = model(torch.rand(2, 2, 24, 16) * 60000)
    assert output.shape == (2, 2, 24, 16)
    assert 0 <= output.min() <= output.max() <= 1
