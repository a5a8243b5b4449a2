"""The RF contract: what an enhancer takes, compared with what a forest delivers."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from s2d_zoo.contract import (
    ClassContract,
    FeatureContract,
    FilterSelection,
    ForestContract,
    PixelSize,
    RFContract,
)
from s2d_zoo.contract_fit import check_fit, find_misfits, matching_channels
from s2d_zoo.errors import ContractMismatchError
from s2d_zoo.rf_adapter.features import FeatureSelection

NUCLEI = (ClassContract(name="glass", role="background"), ClassContract(name="nucleus", role="foreground"))
SMOOTHED = FeatureContract(filters=(FilterSelection(name="GaussianSmoothing", scales=(1.0,)),), compute_in_2d=True)


def contract(**changes):
    fields = {
        "ndim": 2,
        "classes": NUCLEI,
        "channels": (1,),
        "forest": ForestContract(implementation="sklearn", labels="strokes"),
        "features": SMOOTHED,
        "pixel_size": PixelSize(y=0.5, x=0.5),
    }
    return RFContract(**{**fields, **changes})


roles = st.sampled_from(["background", "foreground", "other"])
contracts = st.builds(
    contract,
    ndim=st.sampled_from([2, 3]),
    classes=st.lists(st.builds(ClassContract, name=st.text(min_size=1), role=roles), min_size=2, max_size=4),
    channels=st.lists(st.integers(0, 1), min_size=1, max_size=2),
    features=st.sampled_from([None, SMOOTHED, FeatureSelection().to_contract()]),
    pixel_size=st.none() | st.builds(PixelSize, y=st.floats(0.01, 100), x=st.floats(0.01, 100)),
)


@given(original=contracts)
@settings(deadline=None, max_examples=25)
def test_json_and_back_is_the_identity(original):
    assert RFContract.model_validate(json.loads(original.model_dump_json())) == original


@given(original=contracts)
@settings(deadline=None, max_examples=25)
def test_a_contract_never_misfits_itself_but_for_roles_that_several_classes_share(original):
    misfits = find_misfits(original, original)
    shared = any(sum(entry.role == role for entry in original.classes) > 1 for role in original.roles)
    assert [misfit.field for misfit in misfits] == (["channels"] if shared else [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ndim": 4},
        {"channels": ()},
        {"channels": (2,)},
        {"channels": (-1,)},
        {"classes": NUCLEI[:1], "channels": (0,)},
        {"value_range": (0, 255)},
        {"raw_channels": 0},
        {"object_diameter": -1.0},
        {"raw_normalisation": "percentile"},
        {"contract_version": 2},
        {"colour": "red"},
        {"classes": (*NUCLEI, {"name": "", "role": "other"})},
        {"features": {"filters": [], "compute_in_2d": True}},
        {"features": {"filters": [{"name": "Sobel", "scales": [1.0]}], "compute_in_2d": True}},
        {"features": {"filters": [{"name": "GaussianSmoothing", "scales": [0.0]}], "compute_in_2d": True}},
        {"pixel_size": {"y": 1.0, "x": float("nan")}},
    ],
    ids=str,
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        contract(**wrong)


def test_a_channel_without_class_is_named():
    with pytest.raises(ValidationError, match="there are 2 classes"):
        contract(channels=(1, 2))


def test_a_contract_cannot_be_changed():
    with pytest.raises(ValidationError):
        contract().ndim = 3


def test_roles_follow_the_channels():
    assert contract(channels=(1, 0)).roles == ("foreground", "background")


def test_the_schema_names_its_draft_and_every_field():
    schema = RFContract.json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]) == set(RFContract.model_fields)


@pytest.mark.parametrize(("unit", "micrometer"), [("nanometer", 3e-3), ("micrometer", 3.0), ("millimeter", 3e3)])
def test_pixel_sizes_are_compared_in_micrometer(unit, micrometer):
    assert PixelSize(y=2, x=4, unit=unit).in_plane_micrometer == pytest.approx(micrometer)


@pytest.mark.parametrize(
    ("delivered", "field", "fatal"),
    [
        (contract(ndim=3), "ndim", True),
        (contract(value_range=(0.0, 0.5)), "value_range", True),
        (contract(classes=tuple(entry.model_copy(update={"role": "other"}) for entry in NUCLEI)), "channels", True),
        (contract(classes=(NUCLEI[1], *NUCLEI)), "channels", True),
        (contract(pixel_size=PixelSize(y=1.01, x=1.01)), "pixel_size", False),
        (contract(pixel_size=PixelSize(y=240, x=240, unit="nanometer")), "pixel_size", False),
        (contract(features=FeatureSelection(compute_in_2d=False).to_contract()), "features", False),
    ],
    ids=["ndim", "range", "no foreground", "two foregrounds", "coarser", "finer", "features"],
)
def test_a_misfit_says_what_was_expected_what_was_found_and_what_to_do(delivered, field, fatal):
    (misfit,) = find_misfits(contract(), delivered)
    assert (misfit.field, misfit.fatal) == (field, fatal)
    assert misfit.expected != misfit.found
    assert all(text in str(misfit) for text in (field, misfit.expected, misfit.found, misfit.advice))


@pytest.mark.parametrize(
    "delivered",
    [
        contract(),
        contract(pixel_size=PixelSize(y=1.0, x=1.0)),
        contract(pixel_size=PixelSize(y=250, x=250, unit="nanometer")),
        contract(pixel_size=None),
        contract(features=None),
        contract(raw_channels=3, object_diameter=40.0),
    ],
    ids=["same", "twice", "half", "unknown size", "unknown features", "other raw data"],
)
def test_what_fits_has_no_misfit(delivered):
    assert check_fit(contract(), delivered) == ()


def test_fatal_misfits_come_first_and_are_raised_together():
    delivered = contract(ndim=3, value_range=(0.0, 0.5), pixel_size=PixelSize(y=9, x=9))
    assert [misfit.fatal for misfit in find_misfits(contract(), delivered)] == [True, True, False]
    with pytest.raises(ContractMismatchError, match="ndim") as caught:
        check_fit(contract(), delivered)
    assert "value_range" in str(caught.value)
    assert "pixel_size" not in str(caught.value)


def test_advice_alone_is_returned():
    (misfit,) = check_fit(contract(), contract(pixel_size=PixelSize(y=2, x=2)))
    assert "by 4" in misfit.advice


@pytest.mark.parametrize(("channels", "expected"), [((1,), (0,)), ((0,), (2,)), ((0, 1), (2, 0))])
def test_channels_are_matched_by_role_in_the_enhancers_order(channels, expected):
    classes = (NUCLEI[1], ClassContract(name="dirt", role="other"), NUCLEI[0])
    assert matching_channels(contract(channels=channels), contract(classes=classes)) == expected


def test_channels_without_counterpart_are_refused():
    classes = (NUCLEI[0], ClassContract(name="dirt", role="other"))
    with pytest.raises(ContractMismatchError, match="2: dirt"):
        matching_channels(contract(), contract(classes=classes))
