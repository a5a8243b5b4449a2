"""Which steps are fixed, and how those that stay are written."""

import numpy as np
import pytest
from bioimageio.core.common import MemberId
from bioimageio.core.proc_ops import get_proc
from bioimageio.core.sample import Sample
from bioimageio.core.tensor import Tensor
from bioimageio.spec.model.v0_5 import (
    BatchAxis,
    ChannelAxis,
    ClipDescr,
    EnsureDtypeDescr,
    FixedZeroMeanUnitVarianceDescr,
    InputTensorDescr,
    OutputTensorDescr,
    ScaleLinearDescr,
    ScaleRangeDescr,
    SigmoidDescr,
    SpaceInputAxis,
    SpaceOutputAxis,
    ZeroMeanUnitVarianceDescr,
)

from s2d_zoo.export.processing import SplitProcessing, fixed_operations, write_steps

AXES = ("batch", "channel", "y", "x")
NUMPY = {"Sub": np.subtract, "Div": np.divide, "Mul": np.multiply, "Add": np.add, "Max": np.maximum, "Min": np.minimum}

CLIP = ClipDescr(kwargs={"min": -1, "max": 0.5})
LINEAR = ScaleLinearDescr(kwargs={"gain": 0.5, "offset": 2})
FIXED = FixedZeroMeanUnitVarianceDescr(kwargs={"mean": 0.25, "std": 0.01})
MEAN = ZeroMeanUnitVarianceDescr(kwargs={})
TO_FLOAT = EnsureDtypeDescr(kwargs={"dtype": "float32"})
TO_BYTES = EnsureDtypeDescr(kwargs={"dtype": "uint8"})


def taken(*steps, channels=1):
    names = [f"c{index}" for index in range(channels)]
    space = [SpaceInputAxis(id=axis, size=8) for axis in ("y", "x")]
    axes = [BatchAxis(), ChannelAxis(channel_names=names), *space]
    return InputTensorDescr(id="raw", axes=axes, preprocessing=list(steps))


def given(*steps):
    space = [SpaceOutputAxis(id=axis, size=8) for axis in ("y", "x")]
    axes = [BatchAxis(), ChannelAxis(channel_names=["a"]), *space]
    return OutputTensorDescr(id="map", axes=axes, postprocessing=list(steps))


def by_core(step, values):
    tensor = given()
    sample = Sample(members={MemberId(tensor.id): Tensor.from_numpy(values, dims=AXES)}, stat={}, id=None)
    get_proc(step, tensor)(sample)
    return sample.members[MemberId(tensor.id)].data.transpose(*AXES).values


@pytest.mark.parametrize(
    "step",
    [
        CLIP,
        ClipDescr(kwargs={"max": 0}),
        LINEAR,
        ScaleLinearDescr(kwargs={"gain": [1, 2, 3], "offset": [0, -1, 1], "axis": "channel"}),
        FixedZeroMeanUnitVarianceDescr(kwargs={"mean": [1, 2, 3, 4], "std": [1, 1, 2, 2], "axis": "y"}),
        FIXED,
        FixedZeroMeanUnitVarianceDescr(kwargs={"mean": [1, 2, 3], "std": [0.1, 1, 2], "axis": "channel"}),
        SigmoidDescr(),
    ],
)
def test_fixed_operations_do_what_bioimageio_core_does(step):
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = by_core(step, values)
    found = values
    for operation in fixed_operations(step, AXES):
        if operation.operator == "Sigmoid":
            found = 1 / (1 + np.exp(-found))
        else:
            found = NUMPY[operation.operator](found, operation.constant)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "step",
    [
        MEAN,
        ScaleRangeDescr(),
        ClipDescr(kwargs={"min_percentile": 1, "max_percentile": 99, "axes": ["y", "x"]}),
        TO_BYTES,
    ],
)
def test_what_depends_on_the_image_or_its_type_is_not_fixed(step):
    assert fixed_operations(step, AXES) is None


def names_of(steps):
    return [step.id for step in steps]


@pytest.mark.parametrize(
    ("before", "left", "operators"),
    [
        ((), [], []),
        ((LINEAR, CLIP), [], ["Mul", "Add", "Max", "Min"]),
        ((LINEAR, MEAN, CLIP), ["scale_linear", "zero_mean_unit_variance"], ["Max", "Min"]),
        ((TO_BYTES, FIXED, TO_FLOAT), ["ensure_dtype"], ["Sub", "Div"]),
        ((TO_FLOAT, FIXED, TO_BYTES), ["fixed_zero_mean_unit_variance", "ensure_dtype"], []),
    ],
)
def test_steps_beside_the_network_are_folded_up_to_the_first_that_is_not_fixed(before, left, operators):
    found = SplitProcessing.of(taken(*before), given())
    assert names_of(found.left_before) == left
    assert [operation.operator for operation in found.before] == operators


def test_steps_behind_the_network_are_folded_from_there_on():
    found = SplitProcessing.of(taken(), given(SigmoidDescr(), CLIP, TO_BYTES))
    assert [operation.operator for operation in found.after] == ["Sigmoid", "Max", "Min"]
    assert names_of(found.left_after) == ["ensure_dtype"]
    assert found.folded == ("sigmoid", "clip")


@pytest.mark.parametrize(
    ("step", "channels", "kwargs"),
    [
        (MEAN, 1, {"axes": ["channel", "y", "x"]}),
        (MEAN, 3, {"axes": ["channel", "y", "x"]}),
        (ZeroMeanUnitVarianceDescr(kwargs={"axes": ["y", "x"]}), 1, {"axes": ["channel", "y", "x"]}),
        (ZeroMeanUnitVarianceDescr(kwargs={"axes": ["y", "x"]}), 3, {"axes": ["y", "x"]}),
        (ZeroMeanUnitVarianceDescr(kwargs={"axes": ["batch", "y", "x"]}), 3, {"axes": ["y", "x"]}),
        (
            ScaleRangeDescr(kwargs={"axes": ["x", "y"], "min_percentile": 1}),
            1,
            {"axes": ["channel", "y", "x"], "min_percentile": 1.0},
        ),
        (LINEAR, 1, {"axis": "channel", "gain": [0.5], "offset": [2.0]}),
        (LINEAR, 2, {"axis": "channel", "gain": [0.5, 0.5], "offset": [2.0, 2.0]}),
        (
            ScaleLinearDescr(kwargs={"gain": [1, 2], "axis": "channel"}),
            2,
            {"axis": "channel", "gain": [1.0, 2.0], "offset": [0.0, 0.0]},
        ),
        (
            ScaleLinearDescr(kwargs={"gain": [2] * 8, "axis": "y"}),
            1,
            {"gain": [2.0] * 8, "offset": [0.0] * 8, "axis": "y"},
        ),
        (CLIP, 1, {"min": -1.0, "max": 0.5}),
    ],
)
def test_steps_that_stay_are_written_for_every_reader(step, channels, kwargs):
    assert write_steps([step], taken(channels=channels)) == [{"id": step.id, "kwargs": kwargs}]


def test_what_ends_as_another_type_is_converted_back():
    assert [step["id"] for step in write_steps([MEAN, TO_BYTES], taken())][1:] == ["ensure_dtype"] * 2
    assert write_steps([SigmoidDescr()], taken()) == [{"id": "sigmoid"}]
    assert write_steps([], taken()) == []
