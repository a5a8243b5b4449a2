"""The RF contract: what can be said in it, and what cannot."""

import json

import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from tests.contracts import NUCLEI, contract, contracts

from s2d_zoo.contract import (
    PixelSize,
    RFContract,
    find_background,
)


@given(original=contracts)
@settings(deadline=None, max_examples=25)
def test_json_and_back_is_the_identity(original):
    assert RFContract.model_validate(json.loads(original.model_dump_json())) == original


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
    ("names", "label"),
    [
        (("Background", "cells"), 1),
        (("cells", "bg"), 2),
        (("a", "b", "the BKG"), 3),
        (("Hintergrund", "Kerne"), 1),
        (("nuclei", "back_1"), 2),
        (("Label 1", "Label 2"), None),
        (("backbone", "playback"), None),
        (("bg", "background"), None),
        ((), None),
    ],
    ids=str,
)
def test_the_background_is_told_by_its_name_where_just_one_says_so(names, label):
    assert find_background(names) == label
