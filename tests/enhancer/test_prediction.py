"""Applying an enhancer, and refusing what it cannot take."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2d_zoo.contract import ClassContract, PixelSize, RFContract
from s2d_zoo.enhancer.prediction import Enhancer, check_rescale
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import AxesError, ConfigError, ContractMismatchError


@pytest.fixture(scope="module")
def enhancer(package):
    return load_enhancer(package)


@pytest.fixture(scope="module")
def delivered(enhancer):
    return enhancer.contract


def probabilities(height=40, width=56, channels=2, seed=0):
    values = np.random.default_rng(seed).random((channels, height, width), dtype=np.float32)
    return xr.DataArray(values, dims=("channel", "y", "x"))


def with_pixel_size(contract, size):
    return contract.model_copy(update={"pixel_size": PixelSize(y=size, x=size)})


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(5, 70), width=st.integers(5, 70), rescale=st.floats(0.2, 3.0))
def test_the_result_covers_the_same_pixels_at_any_scale(enhancer, delivered, height, width, rescale):
    enhanced = enhancer.enhance(probabilities(height, width), delivered, rescale=rescale)
    assert dict(enhanced.sizes) == {"channel": 2, "y": height, "x": width}
    assert enhanced.dims == ("channel", "y", "x")
    assert enhanced.coords["channel"].values.tolist() == ["foreground", "boundary"]
    assert enhanced.dtype == np.float32
    assert 0 <= float(enhanced.min()) <= float(enhanced.max()) <= 1


def test_attributes_such_as_the_pixel_size_stay(enhancer, delivered):
    given_ = probabilities().assign_attrs(pixel_size=PixelSize(y=1, x=1))
    assert enhancer.enhance(given_, delivered).attrs == given_.attrs


def test_rescaling_makes_the_network_see_objects_of_another_size(enhancer, delivered):
    plain, scaled = (enhancer.enhance(probabilities(), delivered, rescale=factor).values for factor in (1.0, 0.5))
    assert not np.allclose(plain, scaled, atol=1e-4)


def test_only_the_channel_with_the_foreground_is_looked_at(enhancer, delivered):
    maps = probabilities()
    changed = maps.copy(deep=True)
    changed[0] = 0.123
    np.testing.assert_array_equal(enhancer.enhance(maps, delivered), enhancer.enhance(changed, delivered))


def test_the_foreground_is_found_by_its_role_and_not_by_its_place(enhancer, delivered):
    swapped = delivered.model_copy(update={"classes": tuple(reversed(delivered.classes)), "channels": (0,)})
    maps = probabilities()
    np.testing.assert_array_equal(
        enhancer.enhance(maps, delivered), enhancer.enhance(maps.isel(channel=[1, 0]), swapped)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda maps: maps * 255, "divided by 255"),
        (lambda maps: maps - 0.5, "0…1"),
        (lambda maps: maps.where(maps < 0.99), "nan"),
        (lambda maps: maps.isel(channel=[0]), "2 classes, but the probabilities have 1 channels"),
        (lambda maps: xr.concat([maps, maps], "channel"), "4 channels"),
    ],
    ids=["0 to 255", "negative", "NaN", "a channel missing", "channels too many"],
)
def test_values_that_are_no_probabilities_of_these_classes_are_refused(enhancer, delivered, change, words):
    with pytest.raises(ContractMismatchError, match=words):
        enhancer.enhance(change(probabilities(seed=1)), delivered)


def contract_of(delivered, *roles, ndim=2):
    classes = tuple(ClassContract(name=f"{role} {i}", role=role) for i, role in enumerate(roles))
    return RFContract(ndim=ndim, classes=classes, channels=(0,), forest=delivered.forest)


@pytest.mark.parametrize(
    ("roles", "ndim", "words"),
    [
        (("background", "other"), 2, "--foreground"),
        (("foreground", "foreground"), 2, "one channel each of foreground"),
        (("background", "foreground"), 3, "2D"),
    ],
    ids=["no foreground", "two foregrounds", "3D"],
)
def test_a_forest_with_other_roles_or_dimensions_is_refused(enhancer, delivered, roles, ndim, words):
    with pytest.raises(ContractMismatchError, match=words):
        enhancer.enhance(probabilities(), contract_of(delivered, *roles, ndim=ndim))


def test_another_value_range_is_refused(enhancer, delivered):
    with pytest.raises(ContractMismatchError, match="value_range"):
        enhancer.check(delivered.model_copy(update={"value_range": (0.0, 0.5)}))


def test_a_volume_is_refused(enhancer, delivered):
    volume = probabilities().expand_dims(z=3)
    with pytest.raises(AxesError, match="2D"):
        enhancer.enhance(volume, delivered)


@pytest.mark.parametrize(("size", "noted"), [(0.35, False), (1.4, False), (1.6, True), (0.1, True)])
def test_a_pixel_size_off_by_more_than_half_is_noted_but_not_fatal(enhancer, delivered, size, noted):
    known = Enhancer(id="x", model=enhancer.model, contract=with_pixel_size(delivered, 0.5 if size < 1 else 1.0))
    misfits = known.check(with_pixel_size(delivered, size))
    assert bool(misfits) == noted
    if misfits:
        (misfit,) = misfits
        assert not misfit.fatal
        assert "--rescale auto" in str(misfit)


def test_a_forest_like_those_of_the_training_has_no_misfit(enhancer, delivered):
    assert enhancer.check(delivered) == ()


def test_the_factor_brings_objects_to_the_size_that_the_enhancer_knows(enhancer, delivered):
    known = Enhancer(id="x", model=enhancer.model, contract=with_pixel_size(delivered, 0.5))
    assert known.rescale_factor(with_pixel_size(delivered, 0.25)) == pytest.approx(0.5)


@pytest.mark.parametrize("whose", ["enhancer", "image"])
def test_without_pixel_sizes_no_factor_can_be_told(enhancer, delivered, whose):
    sized = with_pixel_size(delivered, 0.5)
    taken, given_ = (delivered, sized) if whose == "enhancer" else (sized, delivered)
    with pytest.raises(ConfigError, match=f"of the {whose} is unknown"):
        Enhancer(id="x", model=enhancer.model, contract=taken).rescale_factor(given_)


@pytest.mark.parametrize("factor", [0.0, -1.0, 17.0, 0.05, float("nan"), float("inf")])
def test_an_absurd_factor_is_refused(enhancer, delivered, factor):
    with pytest.raises(ConfigError, match="1/16…16"):
        enhancer.enhance(probabilities(), delivered, rescale=factor)
    with pytest.raises(ConfigError):
        check_rescale(factor)


def test_progress_goes_to_stderr(enhancer, delivered, capfd):
    enhancer.enhance(probabilities(16, 600), delivered, progress="enhancing")
    out, err = capfd.readouterr()
    assert out == ""
    assert "enhancing" in err


@pytest.mark.parametrize(
    ("pixel_size", "factor"), [(0.5, 1.0), (0.8, 1.0), (1.0, 1.0), (2.0, 2.0), (0.25, 0.5)], ids=str
)
def test_objects_of_a_size_that_was_trained_on_are_left_as_they_are(enhancer, delivered, pixel_size, factor):
    contract = with_pixel_size(delivered, 0.5).model_copy(update={"trained_zoom": (0.5, 1.0)})  # pixels of 0.5 to 1 µm
    known = Enhancer(id="x", model=enhancer.model, contract=contract)
    assert known.rescale_factor(with_pixel_size(delivered, pixel_size)) == pytest.approx(factor)
