import numpy as np
import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate import input_sizes
from s2d_zoo.validate.input_sizes import (
    other_inputs,
    read_sizes,
    read_test_inputs,
    reason_against_other_sizes,
    resized,
    size_label,
)
from s2d_zoo.validate.static_checks import open_model
from s2d_zoo.validate.tilers import AxisSizes


@pytest.fixture
def asked(folder):
    """What a function says of the model in `folder`."""

    def ask(function, *arguments):
        with open_package(folder.save()) as contents:
            return function(open_model(contents), *arguments)

    return ask


def reason(model):
    return reason_against_other_sizes(model.description)


def in_3d(folder):
    for tensor in (*folder.rdf["inputs"], *folder.rdf["outputs"]):
        size = (
            {"min": 8, "step": 2} if tensor in folder.rdf["inputs"] else {"tensor_id": "probabilities", "axis_id": "z"}
        )
        tensor["axes"].insert(2, {"type": "space", "id": "z", "size": size})


def test_sizes_are_those_of_the_description(folder, asked):
    for axis, size in zip(folder.rdf["inputs"][0]["axes"][2:], (32, 64), strict=True):
        axis["size"] = {"min": size, "step": size // 4}
    for axis, halo in zip(folder.rdf["outputs"][0]["axes"][2:], (4, 8), strict=True):
        axis["halo"] = halo
    assert asked(lambda model: read_sizes(model.description)) == {
        "y": AxisSizes(min_size=32, step=8, halo=4),
        "x": AxisSizes(min_size=64, step=16, halo=8),
    }


def test_other_sizes_are_one_step_more_and_not_square(folder, asked):
    folder.rdf["inputs"][0]["axes"][2]["size"] = {"min": 32, "step": 8}
    folder.rdf["inputs"][0]["axes"][3]["size"] = {"min": 64, "step": 16}
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 4
    values = np.zeros((1, 1, 64, 64), dtype="float32")
    made = asked(other_inputs, values)
    assert {label: entry.shape for label, entry in made.items()} == {
        "40x80": (1, 1, 40, 80),
        "56x80": (1, 1, 56, 80),
    }


def test_in_3d_too(folder, asked):
    in_3d(folder)
    size = folder.rdf["inputs"][0]["axes"][3]["size"]
    larger, longer = size["min"] + size["step"], size["min"] + 3 * size["step"]
    assert asked(reason) is None
    made = asked(other_inputs, np.zeros((1, 1, 8, 64, 64), dtype="float32"))
    assert [entry.shape[2:] for entry in made.values()] == [(10, larger, larger), (8, longer, larger)]


def fix_size(rdf):
    rdf["inputs"][0]["axes"][2]["size"] = 64


def reorder(rdf):
    for tensor in (rdf["inputs"][0], rdf["outputs"][0]):
        tensor["axes"][1], tensor["axes"][3] = tensor["axes"][3], tensor["axes"][1]


def add_input(rdf):
    rdf["inputs"].append({**rdf["inputs"][0], "id": "more"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (fix_size, "only for sizes given as min and step, found y = 64, x = ParameterizedSize"),
        (reorder, "only for the axes batch channel (z) y x, found batch x y channel"),
        (add_input, "only for one input and one output, there are 2 and 1"),
    ],
)
def test_what_has_no_other_sizes_is_told(folder, asked, change, expected):
    change(folder.rdf)
    assert asked(reason) == expected


def test_test_inputs_go_by_tensor(folder, asked):
    ((name, values),) = asked(read_test_inputs).items()
    assert (name, values.dtype) == ("probabilities", np.float32)
    np.testing.assert_array_equal(values, np.load(folder.path / "test_input.npy"))


def test_an_input_without_a_test_tensor_is_told_unless_it_is_optional(folder, asked):
    add_input(folder.rdf)
    del folder.rdf["inputs"][1]["test_tensor"]
    with pytest.raises(PackageError, match="no test tensor for the input more"):
        asked(read_test_inputs)
    folder.rdf["inputs"][1]["optional"] = True
    assert list(asked(read_test_inputs)) == ["probabilities"]


def header_of(shape):
    """A .npy file that holds no values."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode()


HOSTILE = {
    "text": b"no array",
    "empty": b"",
    "zip": b"PK\x03\x04" + bytes(100),
    "huge": header_of((10**13,)),
    "negative": header_of((-1, 4)),
    "unclosed": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'shape': (".ljust(118),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_test_tensor_that_cannot_be_read_is_told(folder, asked, content):
    (folder.path / "test_input.npy").write_bytes(content)
    with pytest.raises(PackageError, match=r"expected an array of numbers \(\.npy\) in test_input\.npy"):
        asked(read_test_inputs)


def test_a_test_tensor_of_complex_numbers_is_told(folder, asked):
    np.save(folder.path / "test_input.npy", np.ones((1, 1, 64, 64), dtype="complex64"))
    with pytest.raises(PackageError, match=r"expected an array of numbers .* found the type complex64"):
        asked(read_test_inputs)


@pytest.mark.parametrize("shape", [(64, 64), (1, 1, 0, 64), (1, 1, 64, 65)])
def test_a_test_tensor_that_is_no_image_or_far_too_large_is_not_loaded(folder, asked, monkeypatch, shape):
    monkeypatch.setattr(input_sizes, "MOST_VALUES", 64 * 64)
    monkeypatch.setattr(input_sizes, "as_float", lambda _: pytest.fail("it was loaded"))
    np.save(folder.path / "test_input.npy", np.ones(shape, dtype="float32"))
    with pytest.raises(PackageError, match=r"expected a test input of 4 axes, not empty, of at most 4096 values"):
        asked(read_test_inputs)


def test_a_test_tensor_that_is_not_in_the_package_is_told(folder, asked):
    def read(model):
        (folder.path / "test_input.npy").unlink()
        return read_test_inputs(model)

    with pytest.raises(PackageError, match=r"test input test_input\.npy is not in the package"):
        asked(read)


def test_a_test_input_is_loaded_whatever_becomes_of_its_file(folder, asked):
    ((_, values),) = asked(read_test_inputs).items()
    assert type(values) is np.ndarray
    assert values.flags.owndata


@pytest.mark.filterwarnings("error")
def test_what_float32_cannot_hold_is_infinite(folder, asked):
    np.save(folder.path / "test_input.npy", np.full((1, 1, 64, 64), 1e300))
    ((_, values),) = asked(read_test_inputs).items()
    assert np.isinf(values).all()


def test_mirroring_grows_and_cuts():
    values = np.arange(6, dtype="float32").reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(resized(values, [3, 2])[0, 0], [[0, 1], [3, 4], [3, 4]])


def test_a_size_has_a_label(asked):
    values = np.zeros((1, 1, 4, 6), dtype="float32")
    assert asked(lambda model: size_label(model.description, {"probabilities": values})) == "4x6"
    assert asked(lambda model: size_label(model.description, {})) == "test"
