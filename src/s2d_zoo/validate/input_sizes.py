"""The test inputs of a package, and inputs of other sizes made from them."""

from collections.abc import Mapping

import numpy as np
from bioimageio.spec.model.v0_5 import InputTensorDescr, ModelDescr, ParameterizedSize

from s2d_zoo.data.written_description import local_file
from s2d_zoo.errors import PackageError
from s2d_zoo.types import SPACE
from s2d_zoo.validate.differences import axes_of
from s2d_zoo.validate.file_checks import MOST_VALUES, as_float, open_array
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.sandbox import FloatArray
from s2d_zoo.validate.tilers import AxisSizes

_LAYOUTS = (("batch", "channel", "y", "x"), ("batch", "channel", "z", "y", "x"))


def read_test_inputs(model: OpenedModel) -> dict[str, FloatArray]:
    """Every input that has a test tensor, float32, by tensor id.

    Raises:
        PackageError: if one cannot be read, has not the axes of its tensor, or is far too large; or if a tensor that
            is not optional has none.
    """
    inputs = {}
    for tensor in model.description.inputs:
        if tensor.test_tensor is None:
            if tensor.optional:
                continue
            msg = f"There is no test tensor for the input {tensor.id}, so the network cannot be tried."
            raise PackageError(msg)
        inputs[str(tensor.id)] = _read_test_input(model, str(tensor.test_tensor.source), len(tensor.axes))
    return inputs


def _read_test_input(model: OpenedModel, name: str, ndim: int) -> FloatArray:
    """One test input, of so many axes.

    Raises:
        PackageError: as `read_test_inputs`.
    """
    path = local_file(model.contents, name)
    if path is None:
        msg = f"the test input {name} is not in the package"
        raise PackageError(msg)
    array = open_array(path)
    if array.ndim != ndim or not 0 < array.size <= MOST_VALUES:
        msg = (
            f"expected a test input of {ndim} axes, not empty, of at most {MOST_VALUES} values in {name}; found "
            f"the shape {array.shape}"
        )
        raise PackageError(msg)
    return as_float(array)


def read_sizes(description: ModelDescr) -> dict[str, AxisSizes]:
    """Smallest size, step and halo in px of the spatial axes of the first input, as far as it has ``{min, step}``."""
    halos = {str(axis.id): getattr(axis, "halo", 0) for axis in description.outputs[0].axes}
    return {
        str(axis.id): AxisSizes(min_size=axis.size.min, step=axis.size.step, halo=halos.get(str(axis.id), 0))
        for axis in description.inputs[0].axes
        if axis.type == "space" and isinstance(axis.size, ParameterizedSize)
    }


def reason_against_other_sizes(description: ModelDescr) -> str | None:
    """Why inputs of other sizes cannot be made from the test input, or None."""
    inputs, outputs = description.inputs, description.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        return f"only for one input and one output, there are {len(inputs)} and {len(outputs)}"
    axes = axes_of(description)[str(inputs[0].id)]
    if axes not in _LAYOUTS:
        return f"only for the axes batch channel (z) y x, found {' '.join(axes)}"
    if len(read_sizes(description)) < len(axes) - 2:
        return f"only for sizes given as min and step, found {_shown_sizes(inputs[0])}"
    return None


def other_inputs(model: OpenedModel, test_input: FloatArray) -> dict[str, FloatArray]:
    """The test input brought to two other sizes, by their labels: one step more; and not square.

    Only if there is no `reason_against_other_sizes`.
    """
    sizes = read_sizes(model.description)
    larger = {axis: size.min_size + size.step for axis, size in sizes.items()}
    oblong = {**larger, "y": sizes["y"].min_size + 3 * sizes["y"].step}
    if "z" in sizes:
        oblong["z"] = sizes["z"].min_size
    made = (resized(test_input, [target[axis] for axis in SPACE if axis in target]) for target in (larger, oblong))
    return {"x".join(map(str, values.shape[2:])): values for values in made}


def resized(values: FloatArray, shape: list[int]) -> FloatArray:
    """Bring ``(batch, channel, (z,) y, x)`` to another size, mirroring what is there."""
    missing = [max(0, wanted - found) for wanted, found in zip(shape, values.shape[2:], strict=True)]
    padded = np.pad(values, [(0, 0), (0, 0), *((0, count) for count in missing)], mode="symmetric")
    return np.ascontiguousarray(padded[(slice(None), slice(None), *map(slice, shape))])


def size_label(description: ModelDescr, inputs: Mapping[str, FloatArray]) -> str:
    """``"512x512"``: the size of the first input along its spatial axes, or along all if it has none."""
    tensor = description.inputs[0]
    axes = tuple(axis.type == "space" for axis in tensor.axes)
    shape = inputs[str(tensor.id)].shape if str(tensor.id) in inputs else ()
    sizes = [size for size, is_space in zip(shape, axes, strict=False) if is_space] or list(shape)
    return "x".join(map(str, sizes)) or "test"


def _shown_sizes(tensor: InputTensorDescr) -> str:
    return ", ".join(
        f"{axis.id} = {axis.size if isinstance(axis.size, int) else type(axis.size).__name__}"
        for axis in tensor.axes
        if axis.type == "space"
    )
