"""A model of anybody's package as something to apply and to train: network, preprocessing, and who made it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
import xarray as xr
from bioimageio.core.common import MemberId
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.core.sample import Sample
from bioimageio.core.tensor import Tensor
from bioimageio.spec.model.v0_5 import (
    AxisId,
    InputTensorDescr,
    ModelDescr,
    OutputTensorDescr,
    ParameterizedSize,
    SizeReference,
)

from s2d_zoo.data.axes import as_image, count_space_dims
from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.package_contents import PackageContents, is_outside
from s2d_zoo.data.packaged_network import PackagedNetwork, TileSizes, ends_with_sigmoid
from s2d_zoo.data.packaged_weights import (
    WeightsFormat,
    check_weights,
    choose_weights,
    load_state_dict,
    load_torchscript,
)
from s2d_zoo.errors import AxesError, PackageError
from s2d_zoo.types import CHANNEL

#: of planes, and of volumes
_AXES: Final = (("batch", CHANNEL, "y", "x"), ("batch", CHANNEL, "z", "y", "x"))
#: a probability may leave [0, 1] by this much
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A network with one input and one output, of planes or of volumes, and its description."""

    id: str
    version: str | None
    description: ModelDescr  #: in the latest format
    network: PackagedNetwork
    weights_format: WeightsFormat  #: the one that was loaded
    weights_sha256: str

    @property
    def ndim(self) -> Literal[2, 3]:
        """2 if it takes planes, 3 if it takes volumes."""
        return self.network.ndim

    def preprocess(self, image: xr.DataArray) -> xr.DataArray:
        """What the network takes: the image after the description's preprocessing, by bioimageio.core itself.

        Args:
            image: channel (z) y x, any number type. Statistics are those of this image.

        Returns:
            channel (z) y x, float32.

        Raises:
            AxesError: if the image has other dimensions or channels than the network takes.
        """
        image = as_image(image)
        channels = self.network.channels[0]
        if count_space_dims(image) != self.ndim or image.sizes[CHANNEL] != channels:
            msg = (
                f"{self.id} takes {self.ndim}D images with {channels} channel(s), found {dict(image.sizes)}. Give the "
                "axes and channels that it was trained on."
            )
            raise AxesError(msg)
        name = MemberId(self.description.inputs[0].id)
        axes = _AXES[self.ndim - 2]
        values = xr.DataArray(image.values[np.newaxis], dims=axes)
        sample = Sample(members={name: Tensor(values, dims=[AxisId(axis) for axis in axes])}, stat={}, id=None)
        # its statistics of a dataset, if any, are those of the image, too
        for step in setup_pre_and_postprocessing(self.description, dataset_for_initial_statistics=[sample]).pre:
            step(sample)
        done = sample.members[name].data.transpose(*axes).values[0].astype(np.float32)
        return xr.DataArray(done, dims=image.dims, attrs=image.attrs)

    def predict(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Preprocessing, network and postprocessing, tile by tile.

        Args:
            image: channel (z) y x, any number type.
            progress: label of a progress bar on stderr.

        Returns:
            channel (z) y x, float32 probabilities in [0, 1].

        Raises:
            AxesError: if the image has other dimensions or channels than the network takes.
        """
        return apply_network(self.network, self.preprocess(image), progress=progress)


def load_packaged_model(
    contents: PackageContents, *, trust_code: bool = False, weights_format: WeightsFormat | None = None
) -> PackagedModel:
    """Load a model to apply or train it. Python code of the package is run only if it is trusted.

    Args:
        contents: an opened package.
        trust_code: run the architecture that lies in the package, if that is what it takes.
        weights_format: which weights; TorchScript where None and it is there, since it needs no trust.

    Raises:
        PackageError: for a description that is not valid, weights that cannot be trained or read, other than one
            input and one output of the same size, or output that is no probability.
        UnsafePackageError: if code would have to be run that nobody has trusted.
    """
    description = read_model_description(contents)
    if len(description.inputs) != 1 or len(description.outputs) != 1:
        found = f"{len(description.inputs)} and {len(description.outputs)}"
        msg = f"{contents.source}: expected a model with one input and one output, found {found}."
        raise PackageError(msg)
    (taken,), (given,) = description.inputs, description.outputs
    tiles = _sizes(taken, given, contents.source)
    chosen = weights_format or choose_weights(contents)
    sha256 = check_weights(contents, chosen)
    network = (
        load_torchscript(contents)
        if chosen == "torchscript"
        else load_state_dict(contents, description, trust_code=trust_code)
    )
    gives_logits = ends_with_sigmoid(given)
    packaged = PackagedNetwork(
        network,
        channels=(_channels(taken), _channels(given)),
        tiles=tiles["x"],
        along_z=tiles.get("z"),
        gives_logits=gives_logits,
        one_by_one=taken.axes[0].size == 1,
    )
    model = PackagedModel(
        id=str(contents.rdf.get("id") or description.id or contents.source.stem),
        version=None if description.version is None else str(description.version),
        description=description,
        network=packaged,
        weights_format=chosen,
        weights_sha256=sha256,
    )
    _try(model, contents)
    return model


def _sizes(taken: InputTensorDescr, given: OutputTensorDescr, source: Path) -> dict[str, TileSizes]:
    """Sizes that the network takes along each dim; those of y and x are the same."""
    for tensor in (taken, given):
        names = tuple(str(axis.id) for axis in tensor.axes)
        if names not in _AXES or len(names) != len(taken.axes):
            expected = f"a 2D model with axes {_AXES[0]} or a 3D model with axes {_AXES[1]}"
            msg = f"{source}: expected {expected}, found {names} in {tensor.id}."
            raise PackageError(msg)
    y, x = taken.axes[-2:]
    if y.size != x.size:
        msg = f"{source}: expected the same sizes along y and x, found {y.size} and {x.size}."
        raise PackageError(msg)
    sizes = {
        str(before.id): _sizes_along(before, after, taken, source)
        for before, after in zip(taken.axes[2:], given.axes[2:], strict=True)
    }
    halo = max(sizes["y"].halo, sizes["x"].halo)
    return sizes | {dim: replace(sizes[dim], halo=halo) for dim in ("y", "x")}


def _sizes_along(before: Any, after: Any, taken: InputTensorDescr, source: Path) -> TileSizes:  # noqa: ANN401 - axes
    """Sizes and halo along one axis, which must be as long in the output as in the input."""
    size = before.size
    if not isinstance(size, int | ParameterizedSize):
        msg = f"{source}: expected a size of {before.id} by itself, found {size}."
        raise PackageError(msg)
    as_input = SizeReference(tensor_id=taken.id, axis_id=before.id)
    if after.size not in (size, as_input) or getattr(after, "scale", 1.0) != 1.0:
        msg = f"{source}: expected an output as large as the input, found {after.id} of size {after.size}."
        raise PackageError(msg)
    smallest, step = (size, 0) if isinstance(size, int) else (size.min, size.step)
    return TileSizes(smallest=smallest, step=step, halo=int(getattr(after, "halo", 0) or 0))


def _channels(tensor: InputTensorDescr | OutputTensorDescr) -> int:
    return len(tensor.axes[1].channel_names)  # type: ignore[union-attr] # `_sizes` has looked


def _try(model: PackagedModel, contents: PackageContents) -> None:
    """Run the network once on its own test input: whether it runs, and gives what the description promises."""
    name = str(getattr(model.description.inputs[0].test_tensor, "source", ""))
    path = contents.folder / name
    network = model.network
    try:  # mapped, because a file may declare more than it holds
        there = not is_outside(name) and path.is_file()
        values = np.load(path, mmap_mode="r", allow_pickle=False) if there else None
    except (OSError, ValueError, EOFError, MemoryError) as error:
        msg = f"The test input {name} of {contents.source} cannot be read: {error}"
        raise PackageError(msg) from error
    axes = _AXES[model.ndim - 2]
    if values is None or values.ndim != len(axes):
        values = np.zeros((1, network.channels[0], *network.smallest_tile), dtype=np.float32)
    image = model.preprocess(xr.DataArray(np.array(values[0]), dims=axes[1:]))
    taken = torch.as_tensor(image.values[np.newaxis])
    try:
        with torch.no_grad():
            output = network.network(taken)
            given = network(taken)
    except (RuntimeError, ValueError, TypeError) as error:
        msg = f"The network of {contents.source} does not run on its own test input: {error}"
        raise PackageError(msg) from error
    expected = (1, network.channels[1], *taken.shape[2:])
    if tuple(given.shape) != expected or not bool(torch.isfinite(given).all()):
        msg = f"The network of {contents.source} gives an output of shape {tuple(given.shape)}, expected {expected}."
        raise PackageError(msg)
    raw = output[0] if isinstance(output, list | tuple) else output
    if not network.gives_logits and not -_ROUNDING <= float(raw.min()) <= float(raw.max()) <= 1 + _ROUNDING:
        msg = (
            f"The network of {contents.source} gives values from {float(raw.min()):g} to {float(raw.max()):g} and no "
            "sigmoid follows: expected probabilities in 0…1."
        )
        raise PackageError(msg)
