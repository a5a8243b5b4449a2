"""Whether a forest fits an enhancer, and what is said where it does not."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from tests.contracts import NUCLEI, contract, contracts

from s2d_zoo.contract import (
    ClassContract,
    PixelSize,
)
from s2d_zoo.contract_fit import MEASURED, check_fit, find_misfits, matching_channels
from s2d_zoo.errors import ContractMismatchError
from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection


@given(original=contracts)
@settings(deadline=None, max_examples=25)
def test_a_contract_never_misfits_itself_but_for_roles_that_several_classes_share(original):
    misfits = find_misfits(original, original)
    shared = any(sum(entry.role == role for entry in original.classes) > 1 for role in original.roles)
    assert [misfit.field for misfit in misfits] == (["channels"] if shared else [])


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
        contract(pixel_size=PixelSize(y=0.74, x=0.74)),
        contract(pixel_size=PixelSize(y=340, x=340, unit="nanometer")),
        contract(pixel_size=None),
        contract(features=None),
        contract(raw_channels=3, object_diameter=40.0),
    ],
    ids=["same", "larger", "smaller", "unknown size", "unknown features", "other raw data"],
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


# ---- what the advice says, word by word


def features(scales, *, in_2d=True):
    return contract(features=FeatureSelection(scales, compute_in_2d=in_2d).to_contract())


ALL = FeatureSelection().to_contract()
FULL = dict.fromkeys(FILTERS, (1.0, 5.0))


def advice(taken, delivered):
    (misfit,) = find_misfits(taken, delivered)
    return misfit.advice


@pytest.mark.parametrize(
    ("taken", "delivered", "words"),
    [
        (
            features(FULL),
            features({**FULL, "LaplacianOfGaussian": (1.0,)}),
            "To be like them: add LaplacianOfGaussian at 5.",
        ),
        (
            features({**FULL, "LaplacianOfGaussian": (1.0,)}),
            features(FULL),
            "To be like them: leave out LaplacianOfGaussian at 5.",
        ),
        (features(FULL), features(dict.fromkeys(FILTERS, (1.0,))), "To be like them: add all filters at 5."),
        (
            features({"GaussianSmoothing": (0.7, 1.6), "DifferenceOfGaussians": (0.7, 1.6)}),
            features({"HessianOfGaussianEigenvalues": (3.5,)}),
            "GaussianSmoothing and DifferenceOfGaussians at 0.7, 1.6; leave out HessianOfGaussianEigenvalues at 3.5.",
        ),
        (
            features({"GaussianSmoothing": (1.0, 5.0), "LaplacianOfGaussian": (5.0,)}),
            features({"GaussianSmoothing": (1.6,)}),
            "add GaussianSmoothing at 1, 5, LaplacianOfGaussian at 5; leave out GaussianSmoothing at 1.6.",
        ),
        (features(FULL), features(FULL, in_2d=False), "To be like them: compute them in 2D."),
        (features(FULL, in_2d=False), features(FULL), "To be like them: compute them in 3D."),
        (
            features(FULL),
            features({**FULL, "LaplacianOfGaussian": (1.0,)}, in_2d=False),
            "To be like them: add LaplacianOfGaussian at 5; compute them in 2D.",
        ),
    ],
    ids=["add", "leave out", "all filters", "others", "several scales", "2D", "3D", "both"],
)
def test_features_to_add_and_to_leave_out_are_named(taken, delivered, words):
    assert words in advice(taken, delivered)


def test_a_single_scale_is_told_as_one():
    (misfit,) = find_misfits(contract(features=ALL), features({"GaussianSmoothing": (1.0,)}))
    assert "(1 filter, scale 1)" in misfit.found


def test_what_unlike_features_cost_is_what_the_benchmark_found():
    path = Path(__file__).parents[1] / "benchmarks" / "results" / "contract_points.json"
    change = json.loads(path.read_text(encoding="utf-8"))["change"]["features"]["enhanced"]
    found = {name: (change[name]["mean"], change[name]["worst"]) for name in MEASURED}
    assert found == MEASURED


def test_how_many_features_there_are_is_told():
    (misfit,) = find_misfits(contract(features=ALL), features({"GaussianSmoothing": (1.0, 5.0)}))
    assert f"(6 filters, scales {SCALES[0]:g} to {SCALES[-1]:g})" in misfit.expected
    assert "(1 filter, scales 1 to 5)" in misfit.found


@pytest.mark.parametrize(
    ("taken", "delivered", "words"),
    [
        ((4.6, "nanometer"), (6.8, "nanometer"), None),  # less than 1.5 times
        ((4.6, "nanometer"), (8, "nanometer"), "Rescale 8 nm to 4.6 nm, by 1.74"),
        ((4.0, "nanometer"), (9.2, "nanometer"), "Rescale 9.2 nm to 4 nm, by 2.3"),
        ((4.6, "nanometer"), (0.0115, "micrometer"), "Rescale 11.5 nm to 4.6 nm, by 2.5"),
        ((0.5, "micrometer"), (0.1, "micrometer"), "Rescale 0.1 µm to 0.5 µm, by 0.2"),
        ((0.001, "millimeter"), (50, "nanometer"), "Rescale 50 nm to 1 µm, by 0.05"),
    ],
    ids=str,
)
def test_pixel_sizes_are_shown_in_the_unit_that_people_use(taken, delivered, words):
    sizes = (PixelSize(y=size, x=size, unit=unit) for size, unit in (taken, delivered))
    misfits = find_misfits(*(contract(pixel_size=size) for size in sizes))
    assert [misfit.field for misfit in misfits] == ([] if words is None else ["pixel_size"])
    if words is not None:
        assert misfits[0].advice == f"{words}: --rescale auto does it."


def test_a_label_can_be_chosen_from_those_that_there_are():
    classes = (ClassContract(name="soil", role="background"), ClassContract(name="root", role="other"))
    words = advice(contract(), contract(classes=classes))
    assert "--foreground 2" in words
    assert "there are 1: soil, 2: root." in words


@pytest.mark.parametrize(
    ("names", "foreground", "named", "advised"),
    [
        (("cells", "background"), 2, 2, "--foreground 1"),
        (("bg", "cells"), 1, 1, "--foreground 2"),
        (("mito", "BACK", "er"), 2, 2, "--foreground 1"),
    ],
)
def test_what_is_called_background_is_no_foreground(names, foreground, named, advised):
    roles = dict.fromkeys(range(len(names)), "other") | {foreground % 2: "background", foreground - 1: "foreground"}
    classes = tuple(ClassContract(name=name, role=roles[index]) for index, name in enumerate(names))
    delivered = contract(classes=classes, channels=(foreground - 1,))
    (misfit,) = find_misfits(contract(), delivered)
    assert (misfit.field, misfit.fatal) == ("classes", True)
    assert f"label {named}, which is called {names[named - 1]!r}" in misfit.found
    assert advised in misfit.advice
    with pytest.raises(ContractMismatchError, match=re.escape(names[named - 1])):
        check_fit(contract(), delivered)


def test_an_enhancer_of_backgrounds_may_have_them():
    taken = contract(channels=(0,))
    assert find_misfits(taken, contract(classes=(NUCLEI[0].model_copy(update={"name": "background"}), NUCLEI[1]))) == ()


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-3.0, 4.0), (0.0, 100.0)])
def test_values_that_are_no_probabilities_are_refused_with_what_to_divide_by(value_range):
    delivered = contract().model_copy(update={"value_range": value_range})  # only files can be so wrong
    (misfit,) = find_misfits(contract(), delivered)
    assert misfit.fatal
    assert misfit.expected == "probabilities from 0 to 1"
    assert misfit.found == f"values from {value_range[0]:g} to {value_range[1]:g}"
    assert "8-bit export must be divided by 255" in misfit.advice


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("scale", SCALES)
def test_something_is_said_wherever_a_single_feature_is_missing(name, scale):
    whole = FeatureSelection()
    less = {**whole.scales, name: tuple(one for one in whole.scales[name] if one != scale)}
    found = find_misfits(contract(features=ALL), features(less))
    assert [misfit.field for misfit in found] == ([] if less == whole.scales else ["features"])


@pytest.mark.parametrize(("nanometer", "fits"), [(4.6, True), (11.0, True), (2.5, False), (20.0, False)])
def test_pixel_sizes_within_those_that_were_trained_on_fit(nanometer, fits):
    size = PixelSize(y=4.6, x=4.6, unit="nanometer")
    taken = contract(pixel_size=size, trained_zoom=(0.4, 1.0))
    misfits = find_misfits(taken, contract(pixel_size=PixelSize(y=nanometer, x=nanometer, unit="nanometer")))
    assert [misfit.field for misfit in misfits] == ([] if fits else ["pixel_size"])
    if not fits:
        assert misfits[0].expected == "pixels of 4.6 nm to 11.5 nm"
        assert f"to {4.6 if nanometer < 4 else 11.5:g} nm" in misfits[0].advice
