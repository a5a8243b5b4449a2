import numpy as np
import pytest
import xarray as xr

from s2d_zoo.errors import AxesError, UserInputError
from s2d_zoo.export.reference_tensors import make_test_input, make_test_output, write_test_tensors


def image(*shape, dims=("channel", "y", "x")):
    return xr.DataArray(np.arange(np.prod(shape), dtype="uint16").reshape(shape), dims=dims)


def test_the_middle_is_cut_out():
    example = image(1, 8, 10)
    found = make_test_input(example, channels=1, shape=(4, 4))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[0], example.values[:, 2:6, 3:7])


@pytest.mark.parametrize("size", [8, 16])
def test_a_small_image_is_mirrored(size):
    example = image(2, 3, 20)
    found = make_test_input(example, channels=2, shape=(size, size))
    assert found.shape == (1, 2, size, size)
    np.testing.assert_array_equal(np.unique(found[0, 0, :, 0] // 20), [0, 1, 2])


def test_a_missing_channel_axis_is_added():
    assert make_test_input(image(8, 8, dims=("y", "x")), channels=1, shape=(4, 4)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("example", [image(2, 8, 8), image(1, 3, 8, 8, dims=("channel", "z", "y", "x"))])
def test_other_axes_than_the_network_takes_are_refused(example):
    with pytest.raises(AxesError, match=r"1 channel\(s\)"):
        make_test_input(example, channels=1, shape=(4, 4))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(UserInputError, match="NaN or infinity"):
        make_test_input(xr.full_like(image(1, 8, 8), np.nan, dtype="float32"), channels=1, shape=(4, 4))


def test_the_tensors_are_written_as_float32(tmp_path, model):
    test_input = make_test_input(image(1, 16, 16) / 256, channels=1, shape=(16, 16))
    test_output = make_test_output(model.eval(), test_input)
    write_test_tensors(tmp_path, test_input, test_output)
    for name, shape in {"test_input.npy": (1, 1, 16, 16), "test_output.npy": (1, 2, 16, 16)}.items():
        found = np.load(tmp_path / name, allow_pickle=False)
        assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, shape, True)
