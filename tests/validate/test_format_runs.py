import numpy as np
import pytest

from s2d_zoo.validate.format_runs import FormatRuns, flaw_of


def test_the_test_input_comes_first():
    values = {"out": np.zeros((1, 2), dtype="float32")}
    runs = FormatRuns(
        weights_format="onnx",
        inputs={"8x8": values, "4x4": {}},
        outputs={"8x8": values, "4x4": {}},
        again=values,
        seconds={"8x8": 1.0},
    )
    assert runs.test_size == "8x8"
    assert runs.first is values


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_a_flaw(value):
    values = np.zeros((1, 2), dtype="float32")
    assert flaw_of({"out": values}) is None
    values[0, 1] = value
    assert "the output out holds 1 values that are not finite (NaN or infinite), of 2" in flaw_of({"out": values})


def test_nothing_at_all_is_a_flaw():
    assert flaw_of({"out": np.zeros((1, 0), dtype="float32")}) == "the output out is empty, of shape (1, 0)"
