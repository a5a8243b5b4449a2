"""Tolerances are measured: large enough for what was found, and no larger than bioimage.io takes."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.export import weights
from s2d_zoo.export.tolerance import Tolerance, measure_formats


def differences(size=10_000, **numbers):
    """Zeros, but for as many as given: ``some=(how many, how much)``."""
    values = np.zeros(size, dtype=np.float32)
    begin = 0
    for count, much in numbers.values():
        values[begin : begin + count] = much
        begin += count
    return [values]


@pytest.mark.parametrize(
    ("found", "absolute", "mismatched"),
    [
        (differences(), 1e-4, 100),
        (differences(every=(10_000, 9e-6)), 1e-4, 100),
        (differences(every=(10_000, 3e-5)), 5e-4, 100),
        (differences(every=(10_000, 9e-4)), 1e-2, 100),
        (differences(one=(1, 0.9)), 1e-4, 100),
        (differences(one=(1, 0.9), others=(9_000, 3e-5)), 5e-4, 100),
        (differences(three=(3, 0.9)), 1e-2, 5000),  # 300 per million, ten times as many, and rounded up
        (differences(size=100_000, some=(18, 0.9)), 1e-2, 2000),
        (differences(every=(10_000, 0.9)), 1e-2, 5000),
    ],
    ids=["none", "rounding", "a little", "more", "one", "one and others", "three", "some", "all"],
)
def test_the_smallest_tolerance_with_room_is_taken(found, absolute, mismatched):
    largest = float(f"{max(one.max() for one in found):.1e}")
    assert Tolerance.covering(found) == Tolerance(
        absolute=absolute, mismatched_per_million=mismatched, largest_measured=largest
    )


@pytest.mark.parametrize(("largest", "absolute"), [(1.0, 1e-2), (0.3, 2e-3), (0.05, 5e-4), (1e-6, 1e-4)])
def test_it_stays_below_a_hundredth_of_the_largest_element(largest, absolute):
    assert Tolerance.covering(differences(every=(10_000, 0.9)), largest=largest).absolute == absolute


def test_arrays_of_all_shapes_are_taken_together():
    apart = [np.zeros((2, 50, 50), dtype=np.float32), np.full(5000, 0.9, dtype=np.float32)]
    assert Tolerance.covering(apart).mismatched_per_million == 5000
    assert Tolerance.covering(apart[:1]).mismatched_per_million == 100


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 1, width=32)))
def test_no_tolerance_is_smaller_than_what_was_measured(values):
    found = Tolerance.covering([values])
    wrong = 1e6 * (values > found.absolute).mean()
    assert wrong <= found.mismatched_per_million or (found.absolute, found.mismatched_per_million) == (1e-2, 5000)


@pytest.fixture
def written(model, tmp_path):
    """The tiny network and its weights files, in a folder."""
    model = weights.for_export(model)
    write(model, tmp_path)
    return model, tmp_path


def write(model, folder):
    weights.write_weights(
        model, folder, example=torch.rand(1, 1, 64, 64), input_name="probabilities", output_name="enhanced"
    )


IMAGE = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)


def test_formats_of_one_network_hardly_differ_at_any_size(written):
    found = measure_formats(*written, IMAGE, steps=(4, 4))
    assert {one.shape for one in found} == {(1, 2, 64, 64), (1, 2, 68, 68), (1, 2, 76, 68)}
    assert max(one.max() for one in found) < 1e-5


@pytest.mark.parametrize("file", [weights.ONNX_FILE, weights.TORCHSCRIPT_FILE])
def test_a_format_of_another_network_is_found(written, tmp_path_factory, file):
    model, folder = written
    other = tmp_path_factory.mktemp("other")
    torch.manual_seed(9)
    write(weights.for_export(UNet(features=2, depth=2)), other)
    (folder / file).write_bytes((other / file).read_bytes())
    found = measure_formats(model, folder, IMAGE, steps=(4, 4))
    assert sum(one.max() > 1e-2 for one in found) == 4, "once on one thread, and at three sizes on all"
    stated = Tolerance.covering(found)
    assert (stated.absolute, stated.mismatched_per_million) == (1e-2, 5000)
    assert stated.largest_measured > 1e-2


def test_one_core_measures_all_sizes_too(written, monkeypatch):
    monkeypatch.setattr("s2d_zoo.export.tolerance.os.cpu_count", lambda: None)
    assert len({one.shape for one in measure_formats(*written, IMAGE, steps=(4, 4))}) == 3


def test_the_number_of_threads_is_left_as_it_was(written):
    before = torch.get_num_threads()
    measure_formats(*written, IMAGE, steps=(4, 4))
    assert torch.get_num_threads() == before
