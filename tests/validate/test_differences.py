import numpy as np
import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate.differences import (
    FORMAT_TOLERANCE,
    Tolerance,
    axes_of,
    core_tolerance,
    difference,
    has_stated_tolerance,
    same_shapes,
    stated_tolerance,
)
from s2d_zoo.validate.static_checks import open_model

EXPECTED = np.zeros((1, 1, 10, 100), dtype="float32")
AXES = ("batch", "channel", "y", "x")


@pytest.fixture
def description(folder):
    """The description of `folder` with some tolerances."""

    def read(*tolerances):
        folder.rdf["config"]["bioimageio"]["reproducibility_tolerance"] = list(tolerances)
        with open_package(folder.save()) as contents:
            return open_model(contents).description

    return read


def test_the_largest_difference_is_found_with_its_place():
    found = EXPECTED.copy()
    found[0, 0, 3, 7] = -0.5
    measured = difference(found, EXPECTED, AXES, Tolerance(absolute=0.1, mismatched_per_million=1000))
    assert measured.figures == {
        "largest": 0.5,
        "mean": pytest.approx(0.0005),
        "p99": 0.0,
        "where": {"batch": 0, "channel": 0, "y": 3, "x": 7},
        "mismatched_per_million": 1000.0,
    }
    assert measured.tolerable


def test_one_element_more_is_too_many():
    found = EXPECTED.copy()
    found[0, 0, 3, 7:9] = 0.5
    assert not difference(found, EXPECTED, AXES, Tolerance(absolute=0.1, mismatched_per_million=1000)).tolerable


def test_large_values_may_differ_more():
    expected = EXPECTED + 1000
    assert difference(expected + 0.5, expected, AXES, Tolerance(absolute=0.0, relative=1e-3)).tolerable
    assert not difference(expected + 2, expected, AXES, Tolerance(absolute=0.0, relative=1e-3)).tolerable


def test_nan_is_never_tolerable_and_no_json():
    measured = difference(EXPECTED * np.float32("nan"), EXPECTED, AXES, Tolerance(absolute=1.0))
    assert not measured.tolerable
    assert measured.figures["largest"] is None


def test_a_tolerance_is_told_in_words():
    assert str(Tolerance(absolute=1e-4)) == "1e-04"
    assert str(Tolerance(absolute=1e-4, relative=1e-3, mismatched_per_million=50)) == (
        "1e-04 and 1e-03 of the value, but for 50 elements in a million"
    )


def test_the_first_tolerance_that_matches_is_taken(description):
    stated = description(
        {"absolute_tolerance": 1e-5, "output_ids": ["enhanced"], "weights_formats": ["onnx"]},
        {"absolute_tolerance": 1e-4, "relative_tolerance": 0, "mismatched_elements_per_million": 7},
    )
    assert has_stated_tolerance(stated)
    assert stated_tolerance(stated, "enhanced", "onnx", FORMAT_TOLERANCE).absolute == 1e-5
    for name, weights_format in (("enhanced", "torchscript"), ("other", "onnx")):
        found = stated_tolerance(stated, name, weights_format, FORMAT_TOLERANCE)
        assert found == Tolerance(absolute=1e-4, mismatched_per_million=7)


def test_without_a_tolerance_that_matches_there_is_a_default(description):
    stated = description({"absolute_tolerance": 1e-5, "weights_formats": ["onnx"]})
    assert stated_tolerance(stated, "enhanced", "torchscript", FORMAT_TOLERANCE) == FORMAT_TOLERANCE
    assert core_tolerance(stated, "enhanced", "torchscript") == Tolerance(
        absolute=1e-3, relative=1e-3, mismatched_per_million=100
    )
    assert not has_stated_tolerance(description())


def test_axes_go_by_tensor(description):
    assert axes_of(description()) == {"probabilities": AXES, "enhanced": AXES}


def test_shapes_are_those_of_all_tensors():
    assert same_shapes({"a": EXPECTED}, {"a": EXPECTED + 1})
    assert not same_shapes({"a": EXPECTED}, {"a": EXPECTED[0]})
    assert not same_shapes({"a": EXPECTED}, {"b": EXPECTED})
