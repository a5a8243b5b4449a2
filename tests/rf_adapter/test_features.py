"""ilastik's features: equal to a restatement of ilastik's recipe in scipy, and to values from ilastik's own code."""

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from scipy import ndimage

from s2d_zoo.data.images import read_image
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection

# ---- ilastik's recipe with vigra's kernels, restated


def kernel(sigma, order, window=2.0):
    """Vigra's Gaussian derivative: no constant part, moment normalised."""
    radius = max(1, int(window * sigma + 0.5))
    x = np.arange(-radius, radius + 1.0)
    gauss = np.exp(-(x**2) / (2 * sigma**2))
    if order == 0:
        return gauss / gauss.sum()
    values = gauss * (-x / sigma**2 if order == 1 else x**2 / sigma**4 - 1 / sigma**2)
    values -= values.mean()
    return values / (values * (-x) ** order / order).sum()


def convolve(image, sigma, orders, window=2.0):
    for axis, order in enumerate(orders):
        image = ndimage.convolve1d(image, kernel(sigma, order, window), axis=axis, mode="mirror")
    return image


def unit(ndim, *axes):
    return tuple(axes.count(axis) for axis in range(ndim))


def eigenvalues(entries, ndim):
    matrix = np.empty((*entries[0, 0].shape, ndim, ndim))
    for (i, j), values in entries.items():
        matrix[..., i, j] = matrix[..., j, i] = values
    return list(np.moveaxis(np.linalg.eigvalsh(matrix)[..., ::-1], -1, 0))


def gaussian(image, t):
    return [convolve(image, t, unit(image.ndim))]


def laplacian(image, t):
    return [sum(convolve(image, t, unit(image.ndim, axis, axis)) for axis in range(image.ndim))]


def gradient(image, t):
    return [np.sqrt(sum(convolve(image, t, unit(image.ndim, axis)) ** 2 for axis in range(image.ndim)))]


def difference(image, t):
    return [gaussian(image, t)[0] - gaussian(image, 0.66 * t)[0]]


def structure(image, t):
    slopes = [convolve(image, t, unit(image.ndim, axis)) for axis in range(image.ndim)]
    pairs = [(i, j) for i in range(image.ndim) for j in range(i + 1)]
    return eigenvalues({(i, j): gaussian(slopes[i] * slopes[j], 0.5 * t)[0] for i, j in pairs}, image.ndim)


def hessian(image, t):
    pairs = [(i, j) for i in range(image.ndim) for j in range(i + 1)]
    return eigenvalues({(i, j): convolve(image, t, unit(image.ndim, i, j)) for i, j in pairs}, image.ndim)


RESTATED = dict(zip(FILTERS, (gaussian, laplacian, gradient, difference, structure, hessian), strict=True))


def restate(image, selection):
    """Features of a one-channel image, in ilastik's order."""
    found = []
    for name, scales in selection.scales.items():
        for scale in scales:
            sigma = np.sqrt(scale**2 - 1) if scale > 1 else scale
            smoothed = convolve(image.astype(float), sigma, unit(image.ndim), window=3.5)
            found += RESTATED[name](smoothed, min(scale, 1.0))
    return np.stack(found)


# ---- images by formula


def waves(*shape):
    """An image without symmetry, with fine and coarse structure, and something at every border."""
    *z, y, x = np.indices(shape)
    depth = z[0] if z else 0
    return 100 + 50 * np.sin(0.3 * x + 0.1 * y + depth) + 40 * np.cos(0.02 * x * y) + (7 * x + 13 * y + 5 * depth) % 11


def as_array(values):
    return xr.DataArray(np.asarray(values), dims=("z", "y", "x")[-np.ndim(values) :])


def largest(values):
    """Largest magnitude of each feature."""
    return np.abs(values).max(axis=tuple(range(1, values.ndim)))


def assert_features_close(found, expected, tolerance, magnitude):
    difference = largest(found - expected) / magnitude
    assert difference.max() < tolerance, f"feature {difference.argmax()} differs by {difference.max()}"


# ---- values


def test_all_features_equal_the_restated_recipe_in_2d():
    values = waves(41, 53)
    found = FeatureSelection().compute(as_array(values))
    assert found.dims == ("feature", "y", "x")
    assert found.dtype == np.float32
    expected = restate(values, FeatureSelection())
    assert_features_close(found.values, expected, 5e-4, largest(expected))


@pytest.mark.parametrize("scale", [0.7, 1.0, 3.5])
def test_features_equal_the_restated_recipe_in_3d(scale):
    values = waves(13, 15, 17)
    selection = FeatureSelection(dict.fromkeys(FILTERS, (scale,)), compute_in_2d=False)
    found = selection.compute(as_array(values))
    assert found.dims == ("feature", "z", "y", "x")
    expected = restate(values, selection)
    # the smaller eigenvalues of a 3 x 3 matrix come, in float32, with half the digits of the largest
    filters = [name.partition("@")[0] for name in selection.names(ndim=3)]
    magnitude = [max(largest(expected)[np.array(filters) == name]) for name in filters]
    assert_features_close(found.values, expected, 2e-4, magnitude)


@pytest.mark.realdata
def test_features_equal_ilastiks_own(realdata_dir):
    golden = np.load(realdata_dir / "golden" / "ilastik_pc.npz", allow_pickle=False)
    image = read_image(realdata_dir / "ilp" / "ilastik_2d_cells_apoptotic_1channel.png")
    selection = FeatureSelection()
    assert selection.names(ndim=2) == tuple(golden["names"])
    halo = selection.support
    regions = {name: np.moveaxis(golden[name], -1, 0) for name in ("corner", "center")}
    magnitude = np.maximum(*map(largest, regions.values()))
    for expected, (y, x) in zip(regions.values(), [(0, 0), (340, 340)], strict=True):
        rows, columns = expected.shape[1:]
        top, left = max(0, y - halo), max(0, x - halo)
        block = image.isel(y=slice(top, y + rows + halo), x=slice(left, x + columns + halo))
        found = selection.compute(block).values[:, y - top : y - top + rows, x - left : x - left + columns]
        assert_features_close(found, expected, 2e-4, magnitude)


@pytest.mark.parametrize("scale", SCALES[1:])
def test_a_slope_and_a_bowl_have_the_features_that_they_must_have(scale):
    y, x = np.indices((101, 101)) - 50.0
    selection = FeatureSelection(
        {"GaussianGradientMagnitude": (scale,), "LaplacianOfGaussian": (scale,), "StructureTensorEigenvalues": (scale,)}
    )
    slope = selection.compute(as_array(3 * x + 4 * y)).values[:, 50, 50]
    bowl = selection.compute(as_array(0.5 * x**2 + 1.5 * y**2)).values[:, 50, 50]
    assert slope == pytest.approx([0, 5, 25, 0], abs=2e-3)
    assert bowl[:2] == pytest.approx([4, 0], abs=5e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "bool"])
def test_the_number_type_does_not_matter(dtype):
    values = (waves(12, 12) > 100).astype(dtype)
    selection = FeatureSelection({"GaussianSmoothing": (1.0,)})
    found = selection.compute(as_array(values)).values
    assert np.array_equal(found, selection.compute(as_array(values.astype("float32"))).values)


# ---- layout


def test_the_default_is_the_full_bank():
    selection = FeatureSelection()
    assert [len(scales) for scales in selection.scales.values()] == [7, 6, 6, 6, 6, 6]
    counts = (
        selection.names(ndim=2),
        selection.names(ndim=3),
        selection.names(ndim=2, channels=4),
    )
    assert [len(names) for names in counts] == [49, 61, 196]


def test_features_are_ordered_by_filter_scale_channel_eigenvalue():
    selection = FeatureSelection({"HessianOfGaussianEigenvalues": (1.6, 1.0), "GaussianSmoothing": (0.3,)})
    assert selection.names(ndim=2, channels=2) == (
        "GaussianSmoothing@0.3#0",
        "GaussianSmoothing@0.3#1",
        "HessianOfGaussianEigenvalues@1#0[0]",
        "HessianOfGaussianEigenvalues@1#0[1]",
        "HessianOfGaussianEigenvalues@1#1[0]",
        "HessianOfGaussianEigenvalues@1#1[1]",
        "HessianOfGaussianEigenvalues@1.6#0[0]",
        "HessianOfGaussianEigenvalues@1.6#0[1]",
        "HessianOfGaussianEigenvalues@1.6#1[0]",
        "HessianOfGaussianEigenvalues@1.6#1[1]",
    )


SMALL = FeatureSelection({"GaussianSmoothing": (0.7, 1.6), "StructureTensorEigenvalues": (1.0, 1.6)})


def test_each_channel_has_the_features_that_it_has_alone():
    values = np.stack([waves(14, 15), waves(14, 15)[::-1] ** 1.5])
    found = SMALL.compute(xr.DataArray(values, dims=("channel", "y", "x")))
    for channel in range(2):
        alone = SMALL.compute(as_array(values[channel]))
        names = [
            name.replace("[", f"#{channel}[") if "[" in name else f"{name}#{channel}" for name in SMALL.names(ndim=2)
        ]
        assert np.array_equal(found.sel(feature=names).values, alone.values)


def test_a_volume_filtered_in_2d_is_its_slices():
    values = waves(3, 14, 15)
    found = SMALL.compute(as_array(values))
    assert found.dims == ("feature", "z", "y", "x")
    for z in range(3):
        assert np.array_equal(found.values[:, z], SMALL.compute(as_array(values[z])).values)


def test_axes_may_come_in_any_order():
    values = waves(3, 14, 15)
    image = as_array(values)
    assert np.array_equal(SMALL.compute(image.transpose("x", "z", "y")).values, SMALL.compute(image).values)


def test_the_number_of_threads_does_not_matter():
    image = as_array(waves(20, 20))
    assert np.array_equal(SMALL.compute(image, n_threads=1).values, SMALL.compute(image, n_threads=3).values)


@given(y=st.integers(0, 40), x=st.integers(0, 44), scale=st.sampled_from(SCALES[2:6]))
@settings(deadline=None, max_examples=12)
def test_a_block_with_a_halo_of_the_support_has_the_features_of_the_whole(y, x, scale):
    selection = FeatureSelection(dict.fromkeys(FILTERS, (scale,)))
    values, halo = waves(48, 50), selection.support
    whole = selection.compute(as_array(values)).values[:, y : y + 8, x : x + 6]
    top, left = max(0, y - halo), max(0, x - halo)
    block = selection.compute(as_array(values[top : y + 8 + halo, left : x + 6 + halo])).values
    assert np.allclose(block[:, y - top :, x - left :][:, : whole.shape[1], : whole.shape[2]], whole, atol=1e-4)


def test_the_support_of_the_full_bank_is_ilastiks():
    assert FeatureSelection().support == 38


def test_the_support_is_the_widest_filters_even_where_that_is_not_the_largest_scale():
    assert FeatureSelection({"GaussianSmoothing": (1.0, 1.1)}).support == 6


# ---- selections


@pytest.mark.parametrize("compute_in_2d", [True, False])
@pytest.mark.parametrize("scales", [None, {"GaussianSmoothing": (0.3, 2.0)}, {"StructureTensorEigenvalues": (0.7, 5)}])
def test_contract_and_back_is_the_identity(scales, compute_in_2d):
    selection = FeatureSelection(scales, compute_in_2d=compute_in_2d)
    assert FeatureSelection.from_contract(selection.to_contract()) == selection


def test_the_contract_writes_outer_scales_out():
    (entry,) = FeatureSelection({"StructureTensorEigenvalues": (0.7, 5.0)}).to_contract().filters
    assert entry.outer_scales == (0.35, 0.5)


def test_scales_are_sorted_and_filters_without_scales_left_out():
    selection = FeatureSelection({"LaplacianOfGaussian": (5, 1, 5), "GaussianSmoothing": ()})
    assert dict(selection.scales) == {"LaplacianOfGaussian": (1.0, 5.0)}


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({}, "No features"),
        ({"GaussianSmoothing": ()}, "No features"),
        ({"Sobel": (1.0,)}, "Available: GaussianSmoothing"),
        ({"GaussianSmoothing": (0.2, 1.0)}, "from scale 0.3"),
        ({"LaplacianOfGaussian": (0.3,)}, "from scale 0.7"),
        ({"GaussianSmoothing": (1.0, float("nan"))}, "got nan"),
        ({"GaussianSmoothing": (1.0, float("inf"))}, "got inf"),
    ],
    ids=str,
)
def test_selections_that_cannot_be_computed_are_refused(scales, message):
    with pytest.raises(ConfigError, match=message):
        FeatureSelection(scales)


@pytest.mark.parametrize(
    ("scales", "needed"), [((0.3,), 2), ((1.0,), 5), ((1.0, 1.1), 5), ((1.6,), 5), ((3.5,), 13), ((10.0,), 36)], ids=str
)
def test_images_smaller_than_a_kernel_are_refused_and_no_others(scales, needed):
    selection = FeatureSelection({"GaussianSmoothing": scales})
    assert selection.compute(as_array(np.ones((needed, needed)))).values == pytest.approx(1.0)
    with pytest.raises(UserInputError, match=f"at least {needed} px along x; the image has {needed - 1}"):
        selection.compute(as_array(np.ones((needed, needed - 1))))


def test_a_flat_volume_can_be_filtered_in_2d_only():
    volume = as_array(waves(3, 14, 15))
    selection = FeatureSelection({"GaussianSmoothing": (1.0,)}, compute_in_2d=False)
    with pytest.raises(UserInputError, match=r"along z; the image has 3.*compute.in.2d"):
        selection.compute(volume)
