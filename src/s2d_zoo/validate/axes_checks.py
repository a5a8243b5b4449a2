"""A02 to A05: whether axes, sizes, halo and data types are such that every program can feed and tile the network.

What the programs do is in the comments: found by running their code, or by reading it.
"""

from collections.abc import Iterator
from math import ceil
from typing import Final

from bioimageio.spec.model.v0_5 import (
    AnyAxis,
    EnsureDtypeDescr,
    InputTensorDescr,
    OutputTensorDescr,
    ParameterizedSize,
    SizeReference,
)

from s2d_zoo.types import ENHANCER_TAG
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_FIJI, _QUPATH, _ILASTIK = Consumer.deepimagej, Consumer.qupath, Consumer.ilastik

_SPACE: Final = frozenset("zyx")
#: px; QuPath makes tiles of about this size
_QUPATH_TILE: Final = 512
#: values of a tile, channels and halo included, that deepImageJ makes at most; above, it never comes to an end
_FIJI_MOST_VALUES: Final = 4096 * 4096 * 3


def check_axes(model: OpenedModel) -> Iterator[CheckResult]:
    """A02: number of tensors, kinds and order of axes."""
    inputs, outputs = model.description.inputs, model.description.outputs
    findings: list[Finding] = []
    if len(inputs) != 1:
        # deepImageJ's window passes one image, its macro refuses; ilastik and QuPath count optional inputs, too
        message = f"expected one input, found {len(inputs)} (optional ones count)"
        findings.append(fails(message, _ILASTIK, _FIJI, _QUPATH))
    if len(outputs) != 1:
        findings.append(fails(f"expected one output, found {len(outputs)}", _ILASTIK, _QUPATH))
    findings += [*_ilastik_axes(inputs[0], outputs[0]), *_other_axes(inputs[0], outputs[0]), *_channels(model)]
    yield from to_results(Check.A02, findings, good=f"one input and one output, {_spelled(inputs[0])} in both")


def _spelled(tensor: InputTensorDescr | OutputTensorDescr) -> str:
    return " ".join(str(axis.id) for axis in tensor.axes)


def _ilastik_axes(source: InputTensorDescr, target: OutputTensorDescr) -> Iterator[Finding]:
    kinds = {axis.type for axis in source.axes}
    unknown = [axis.id for axis in _space(source) if axis.id not in _SPACE]
    if "index" in kinds or unknown or len(_space(source)) < 2:
        yield fails(f"expected axes batch channel (z) y x, found {_spelled(source)}", _ILASTIK)
    for kind in ("batch", "channel"):
        if kind not in kinds:
            # ilastik compares the axes of the image, plus batch, with those of the model
            yield fails(f"the input has no {kind} axis, without which no image fits", _ILASTIK)
    if not any(axis.type == "channel" for axis in target.axes):
        yield fails("the output has no channel axis", _ILASTIK)
    if _spelled(source) != _spelled(target):
        # both read the output with the axes of the input
        yield fails(f"expected the same axes in and out, found {_spelled(source)} and {_spelled(target)}", _ILASTIK)


def _other_axes(source: InputTensorDescr, target: OutputTensorDescr) -> Iterator[Finding]:
    for tensor in (source, target):
        if {axis.type for axis in tensor.axes} & {"time", "index"} or any(
            axis.id not in _SPACE for axis in _space(tensor)
        ):
            # an axis is one letter there
            yield fails(f"expected no axes but batch, channel, z, y and x, found {_spelled(tensor)}", _FIJI)
    layout = "".join(str(axis.id) if axis.type == "space" else axis.type[0] for axis in source.axes)
    if len(_space(source)) > 2:
        yield fails("networks for volumes are not run, only those for planes", _QUPATH)
    elif layout not in {"bcyx", "byxc"}:
        # the channel is looked for behind a first axis, and y x must be next to each other
        yield fails(f"expected axes batch channel y x or batch y x channel, found {_spelled(source)}", _QUPATH)
    elif _spelled(source) != _spelled(target):
        yield fails(f"expected the same axes in and out, found {_spelled(source)} and {_spelled(target)}", _QUPATH)


def _channels(model: OpenedModel) -> Iterator[Finding]:
    count = sum(int(axis.size) for axis in model.description.inputs[0].axes if axis.type == "channel")
    if ENHANCER_TAG in model.description.tags and count > 1:
        yield limits(
            f"Trainable Domain Adaptation gives one channel of the forest, this enhancer takes {count}: use it in "
            "Neural Network Classification, on exported probabilities",
            _ILASTIK,
        )


def _space(tensor: InputTensorDescr | OutputTensorDescr) -> list[AnyAxis]:
    return [axis for axis in tensor.axes if axis.type == "space"]


def check_sizes(model: OpenedModel) -> Iterator[CheckResult]:
    """A03: sizes of the space axes, in and out."""
    findings = [
        finding for tensor in model.description.inputs for axis in _space(tensor) for finding in _input_size(axis)
    ]
    findings += [
        finding
        for tensor in model.description.outputs
        for axis in _space(tensor)
        for finding in _output_size(axis, model)
    ]
    sizes = ", ".join(f"{axis.id} {_size_in_words(axis)}" for axis in _space(model.description.inputs[0]))
    yield from to_results(Check.A03, findings, good=f"{sizes}; outputs have the size of the input")


def _size_in_words(axis: AnyAxis) -> str:
    size = axis.size
    if isinstance(size, ParameterizedSize):
        return f"{size.min} + n * {size.step} px"
    return f"{size} px" if isinstance(size, int) else "as another axis"


def _input_size(axis: AnyAxis) -> Iterator[Finding]:
    size = axis.size
    if isinstance(size, int) and size != _QUPATH_TILE:
        yield fails(f"axis {axis.id} is always {size} px, but QuPath feeds {_QUPATH_TILE} px", _QUPATH)
    if not isinstance(size, ParameterizedSize):
        return
    if size.min % size.step:
        # tiles are made as multiples of the step, but checked as the smallest size plus multiples of it
        message = (
            f"axis {axis.id}: the smallest size {size.min} is not a multiple of the step {size.step}, and then every "
            f"run fails; write min: {ceil(size.min / size.step) * size.step}"
        )
        yield fails(message, _FIJI)
    if size.min > _QUPATH_TILE:
        yield limits(
            f"axis {axis.id}: the smallest size {size.min} is above QuPath's tile of {_QUPATH_TILE} px", _QUPATH
        )
    elif (tile := _QUPATH_TILE // size.min * size.min) and (tile - size.min) % size.step:
        # the smallest size is taken for the step
        message = f"axis {axis.id} is fed {tile} px, which {size.min} + n * {size.step} px does not allow"
        yield fails(f"{message}; choose a smallest size that is a multiple of the step and divides 512", _QUPATH)


def _output_size(axis: AnyAxis, model: OpenedModel) -> Iterator[Finding]:
    size = axis.size
    where = f"output axis {axis.id}"
    if axis.scale != 1:
        # taken alone for the ratio between output and input
        yield fails(f"{where} has the scale {axis.scale:g}, which is taken for a change of size; leave it out", _FIJI)
    if isinstance(size, int):
        yield from _fixed_output(axis, size, model)
        return
    if not isinstance(size, SizeReference):
        return
    source = _referenced(size, model)
    if source is None:
        yield fails(f"{where} has the size of another output; refer to the input", _FIJI)
        return
    ratio = source.scale / axis.scale
    if size.offset:
        yield fails(f"{where}: the offset {size.offset} is counted twice; expected 0", _FIJI)
    if ratio != 1 and axis.scale == 1:
        yield fails(f"{where} is {ratio:g} times as large as its input, expected the same size", _FIJI)
    if size.offset or ratio != 1:
        # its tiles are cut out of the output at the places that they have in the input
        yield fails(f"{where} is not of the size of its input, as which it is read", _ILASTIK)


def _fixed_output(axis: AnyAxis, size: int, model: OpenedModel) -> Iterator[Finding]:
    same = next((other for other in _space(model.description.inputs[0]) if other.id == axis.id), None)
    if same is None or same.size != size:
        yield fails(f"output axis {axis.id} is {size} px, expected the size of the input", _ILASTIK)


def _referenced(size: SizeReference, model: OpenedModel) -> AnyAxis | None:
    """The input axis that an output axis has its size from."""
    axes = [axis for tensor in model.description.inputs if tensor.id == size.tensor_id for axis in tensor.axes]
    return next((axis for axis in axes if axis.id == size.axis_id), None)


def check_halo(model: OpenedModel) -> Iterator[CheckResult]:
    """A04: what the halo leaves of a tile; and the sizes of images, which follow from those of tiles."""
    halos = {axis.id: int(getattr(axis, "halo", 0) or 0) for axis in _space(model.description.outputs[0])}
    findings: list[Finding] = []
    for axis in _space(model.description.inputs[0]):
        smallest = axis.size if isinstance(axis.size, int) else getattr(axis.size, "min", None)
        halo = halos.get(axis.id, 0)
        if smallest is not None and smallest <= 2 * halo:
            message = (
                f"axis {axis.id}: nothing is left of the smallest tile, {smallest} px, without a halo of {halo} px"
            )
            findings.append(fails(message, _ILASTIK, _FIJI))
    findings += _image_sizes(model)
    yield from to_results(Check.A04, findings, good="the halo leaves something of the smallest tile")


def _image_sizes(model: OpenedModel) -> Iterator[Finding]:
    """An image is mirrored to three times its size at most to fill a tile, and may be too large for the tiler."""
    smallest, variable = [], False
    for axis in _space(model.description.inputs[0]):
        if isinstance(axis.size, ParameterizedSize):
            variable = True
            smallest.append(f"{ceil(axis.size.min / 3)} px ({axis.id})")
        elif isinstance(axis.size, int):
            smallest.append(f"{ceil(axis.size / 3)} px ({axis.id})")
    if smallest:
        yield limits(f"images below about {' or '.join(smallest)} fail", _FIJI)
    if variable:
        message = f"images above about {_FIJI_MOST_VALUES / 1e6:.1f} million values (pixels x channels) hang; cut them"
        yield limits(message, _FIJI)


def check_dtypes(model: OpenedModel) -> Iterator[CheckResult]:
    """A05: what the network is fed, and what it is said to give."""
    findings: list[Finding] = []
    for tensor in model.description.inputs:
        last = tensor.preprocessing[-1] if tensor.preprocessing else None
        fed = last.kwargs.dtype if isinstance(last, EnsureDtypeDescr) else tensor.dtype
        if fed != "float32":
            # both convert every image to float32, and skip the operation that would convert it back
            message = f"input {tensor.id} is fed to the network as {fed}, but these programs give it float32"
            findings.append(fails(f"{message}; convert inside of the network", _FIJI, _QUPATH))
    for target in model.description.outputs:
        if target.dtype not in {"float32", "int64"}:
            # space is reserved for the stated type, and filled with what comes out
            message = (
                f"output {target.id} is said to be {target.dtype}; this runs only if the network itself gives that"
            )
            findings.append(limits(f"{message}, which most do not: expected float32", _FIJI))
    yield from to_results(Check.A05, findings, good="the network is fed float32, and gives what is stated")
