"""A model of anybody's package as something to apply and to train: network, preprocessing, and who made it."""

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
import xarray as xr
from bioimageio.core.common import MemberId
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.core.sample import Sample
from bioimageio.core.tensor import Tensor
from bioimageio.spec.model.v0_5 import (
    ArchitectureFromLibraryDescr,
    AxisId,
    InputTensorDescr,
    ModelDescr,
    OutputTensorDescr,
    ParameterizedSize,
    SizeReference,
)
from torch import nn

from s2d_zoo.data.axes import as_image
from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.package_contents import PackageContents, is_remote
from s2d_zoo.data.packaged_network import PackagedNetwork, TileSizes, ends_with_sigmoid
from s2d_zoo.data.torchscript_file import reason_not_to_run
from s2d_zoo.errors import AxesError, PackageError, UnsafePackageError
from s2d_zoo.types import CHANNEL

WeightsFormat: TypeAlias = Literal["torchscript", "pytorch_state_dict"]

_AXES: Final = ("batch", CHANNEL, "y", "x")
#: a probability may leave [0, 1] by this much
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A 2D network with one input and one output, and its description."""

    id: str
    version: str | None
    description: ModelDescr  #: in the latest format
    network: PackagedNetwork
    weights_format: WeightsFormat  #: the one that was loaded
    weights_sha256: str

    def preprocess(self, image: xr.DataArray) -> xr.DataArray:
        """What the network takes: the image after the description's preprocessing, by bioimageio.core itself.

        Args:
            image: channel y x, any number type. Statistics are those of this image.

        Returns:
            channel y x, float32.

        Raises:
            AxesError: if the image has other channels than the network takes.
        """
        image = as_image(image)
        channels = self.network.channels[0]
        if image.dims != _AXES[1:] or image.sizes[CHANNEL] != channels:
            msg = (
                f"{self.id} takes 2D images with {channels} channel(s), found {dict(image.sizes)}. Give the channels "
                "that it was trained on."
            )
            raise AxesError(msg)
        name = MemberId(self.description.inputs[0].id)
        values = xr.DataArray(image.values[np.newaxis], dims=_AXES)
        sample = Sample(members={name: Tensor(values, dims=[AxisId(axis) for axis in _AXES])}, stat={}, id=None)
        # its statistics of a dataset, if any, are those of the image, too
        for step in setup_pre_and_postprocessing(self.description, dataset_for_initial_statistics=[sample]).pre:
            step(sample)
        done = sample.members[name].data.transpose(*_AXES).values[0].astype(np.float32)
        return xr.DataArray(done, dims=image.dims, attrs=image.attrs)

    def predict(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Preprocessing, network and postprocessing, tile by tile.

        Args:
            image: channel y x, any number type.
            progress: label of a progress bar on stderr.

        Returns:
            channel y x, float32 probabilities in [0, 1].

        Raises:
            AxesError: if the image has other channels than the network takes.
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
    tiles, halo = _sizes(taken, given, contents.source)
    chosen = weights_format or _choose_weights(contents)
    sha256 = _check_weights(contents, chosen)
    network = (
        _load_torchscript(contents) if chosen == "torchscript" else _load_state_dict(contents, description, trust_code)
    )
    gives_logits = ends_with_sigmoid(given)
    packaged = PackagedNetwork(
        network,
        channels=(_channels(taken), _channels(given)),
        tiles=tiles,
        halo=halo,
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


def _choose_weights(contents: PackageContents) -> WeightsFormat:
    there = [name for name, entry in dict(contents.rdf.get("weights") or {}).items() if entry is not None]
    if "torchscript" in there:  # no Python of the package is run
        return "torchscript"
    if "pytorch_state_dict" in there:
        return "pytorch_state_dict"
    msg = (
        f"{contents.source} has weights as {', '.join(there) or 'nothing'} only, which cannot be trained: "
        "TorchScript or a PyTorch state dict is needed. It can still be used as a teacher: let it predict, and give "
        "the result with --probabilities."
    )
    raise PackageError(msg)


def _check_weights(contents: PackageContents, chosen: WeightsFormat) -> str:
    """SHA-256 of the weights, which must be the one that the description states."""
    entry: Any = dict(contents.rdf.get("weights") or {}).get(chosen)
    if not isinstance(entry, Mapping):
        msg = f"{contents.source} has no weights as {chosen}."
        raise PackageError(msg)
    return _hash_of(contents, entry.get("source"), entry.get("sha256"), what=f"weights ({chosen})")


def _hash_of(contents: PackageContents, name: object, stated: object, *, what: str) -> str:
    path = contents.folder / str(name)
    if is_remote(str(name)) or not path.is_file():
        msg = f"The {what} of {contents.source} are not in the package: {name}. Get the whole of it: s2d-zoo download."
        raise PackageError(msg)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if stated is not None and found != stated:
        msg = (
            f"The {what} of {contents.source}, {name}, are not those that its description names: expected SHA-256 "
            f"{stated}, found {found}. Download the package again."
        )
        raise PackageError(msg)
    return found


def _load_torchscript(contents: PackageContents) -> nn.Module:
    path = contents.folder / contents.rdf["weights"]["torchscript"]["source"]
    reason = reason_not_to_run(path)  # loading it may already run its code
    if reason is not None:
        msg = f"The TorchScript weights of {contents.source} are not loaded: {reason}."
        raise UnsafePackageError(msg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # packages hold TorchScript, whatever torch advises
        try:
            network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:  # damaged files raise many kinds
            msg = f"The TorchScript weights of {contents.source} cannot be read: {type(error).__name__}: {error}"
            raise PackageError(msg) from error
    return network


def _load_state_dict(contents: PackageContents, description: ModelDescr, trust_code: bool) -> nn.Module:  # noqa: FBT001
    written = contents.rdf["weights"]["pytorch_state_dict"]
    architecture = written.get("architecture")
    if isinstance(architecture, Mapping):
        name, stated = architecture.get("source"), architecture.get("sha256")
    else:  # format 0.4: file.py:Class
        name, stated = str(architecture).rpartition(":")[0], written.get("architecture_sha256")
    sha256 = "" if name is None else _hash_of(contents, name, stated, what="architecture's code")
    if not trust_code:
        code = f"the file {name} of the package, SHA-256 {sha256}" if name else f"what it names: {architecture}"
        msg = (
            f"{contents.source} has a state dict as weights. To build its network, Python code would have to be run: "
            f"{code}. Read it; if you trust it, say --trust-code, and it is run with your rights."
        )
        raise UnsafePackageError(msg)
    path = contents.folder / written["source"]
    try:
        tensors = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged files raise many kinds; torch's own text advises to run their code
        msg = (
            f"The weights {written['source']} of {contents.source} cannot be read as tensors, and other content (a "
            "pickle that runs code) is not loaded."
        )
        raise PackageError(msg) from error
    try:
        network = _build_trusted(contents.folder, description)
        network.load_state_dict(tensors)
    except Exception as error:  # code of the package may raise anything
        msg = f"The network of {contents.source} cannot be built: {type(error).__name__}: {error}"
        raise PackageError(msg) from error
    return network


def _build_trusted(folder: Path, description: ModelDescr) -> nn.Module:
    """Run the architecture's code."""
    entry = description.weights.pytorch_state_dict
    if entry is None:
        msg = "a state dict in the description"
        raise TypeError(msg)
    architecture = entry.architecture
    if isinstance(architecture, ArchitectureFromLibraryDescr):
        module = importlib.import_module(architecture.import_from)
    else:
        # under a name of its own: two packages may have files of one name
        path = folder / str(architecture.source)
        name = f"s2d_zoo_trusted_{hashlib.sha256(path.read_bytes()).hexdigest()}"
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            msg = f"Python code in {path.name}"
            raise TypeError(msg)
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
    network = getattr(module, str(architecture.callable))(**architecture.kwargs)
    if not isinstance(network, nn.Module):
        msg = f"{architecture.callable} gives {type(network).__name__}, no torch.nn.Module"
        raise TypeError(msg)
    return network


def _sizes(taken: InputTensorDescr, given: OutputTensorDescr, source: Path) -> tuple[TileSizes, int]:
    """Sizes that the network takes, and its halo."""
    for tensor in (taken, given):
        names = tuple(str(axis.id) for axis in tensor.axes)
        if names != _AXES:
            msg = f"{source}: expected a 2D model with axes {_AXES}, found {names} in {tensor.id}."
            raise PackageError(msg)
    sizes = [axis.size for axis in taken.axes[2:]]
    if sizes[0] != sizes[1] or not isinstance(sizes[0], int | ParameterizedSize):
        msg = f"{source}: expected the same sizes along y and x, found {sizes[0]} and {sizes[1]}."
        raise PackageError(msg)
    for axis, size in zip(given.axes[2:], sizes, strict=True):
        same = axis.size == size or (
            isinstance(axis.size, SizeReference) and axis.size.offset == 0 and axis.size.tensor_id == taken.id
        )
        if not same or getattr(axis, "scale", 1.0) != 1.0:
            msg = f"{source}: expected an output as large as the input, found {axis.id} of size {axis.size}."
            raise PackageError(msg)
    size = sizes[0]
    tiles = TileSizes(smallest=size, step=0) if isinstance(size, int) else TileSizes(smallest=size.min, step=size.step)
    halo = max(int(getattr(axis, "halo", 0) or 0) for axis in given.axes[2:])
    if tiles.smallest <= 2 * halo and tiles.step == 0:
        msg = f"{source}: tiles of {tiles.smallest} px with a halo of {halo} px leave nothing in their middle."
        raise PackageError(msg)
    return tiles, halo


def _channels(tensor: InputTensorDescr | OutputTensorDescr) -> int:
    return len(tensor.axes[1].channel_names)  # type: ignore[union-attr] # `_sizes` has looked


def _try(model: PackagedModel, contents: PackageContents) -> None:
    """Run the network once on its own test input: whether it runs, and gives what the description promises."""
    path = contents.folder / str(getattr(model.description.inputs[0].test_tensor, "source", ""))
    network = model.network
    try:
        values = np.load(path, allow_pickle=False) if path.is_file() else None
    except (OSError, ValueError, EOFError, MemoryError) as error:
        msg = f"The test input of {contents.source} cannot be read: {error}"
        raise PackageError(msg) from error
    tile = network.tiles.smallest
    if values is None or values.ndim != len(_AXES):
        values = np.zeros((1, network.channels[0], tile, tile), dtype=np.float32)
    image = model.preprocess(xr.DataArray(values[0], dims=_AXES[1:]))
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
