"""The weights of anybody's package: checked against their hash, and loaded as a network.

TorchScript is loaded after a look at its code. A state dict needs Python code to build its network: that of s2d-zoo's
own architectures is here; any other runs only if it is trusted.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from bioimageio.spec.model.v0_5 import ArchitectureFromLibraryDescr, ModelDescr
from torch import nn

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.network import own_architectures, read_packaged_network
from s2d_zoo.data.package_contents import PackageContents, is_outside, is_remote
from s2d_zoo.data.state_dict_file import read_state_dict
from s2d_zoo.data.torchscript_file import reason_not_to_run
from s2d_zoo.errors import PackageError, UnsafePackageError

WeightsFormat: TypeAlias = Literal["torchscript", "pytorch_state_dict"]

_OURS: Final = UNet.__name__


def choose_weights(contents: PackageContents) -> WeightsFormat:
    """The weights that can be trained: TorchScript where it is there, since it needs no trust.

    Raises:
        PackageError: if there are none.
    """
    weights = dict(contents.rdf.get("weights") or {})
    there = {name: entry for name, entry in weights.items() if entry is not None}
    if "torchscript" in there:  # no Python of the package is run
        return "torchscript"
    if "pytorch_state_dict" in there:
        return "pytorch_state_dict"
    files = (str(entry.get("source")) for entry in there.values() if isinstance(entry, Mapping))
    msg = (
        f"{contents.source} has weights as {', '.join(there) or 'nothing'} only, which cannot be trained "
        f"({', '.join(files)}): TorchScript or a PyTorch state dict is needed. It can still be used as a teacher: let "
        "it predict, and give the result with --probabilities."
    )
    raise PackageError(msg)


def check_weights(contents: PackageContents, chosen: WeightsFormat) -> str:
    """SHA-256 of the weights.

    Raises:
        PackageError: if they are missing, or it is not the one that the description states.
    """
    entry: Any = dict(contents.rdf.get("weights") or {}).get(chosen)
    if not isinstance(entry, Mapping):
        msg = f"{contents.source} has no weights as {chosen}."
        raise PackageError(msg)
    return _hash_of(contents, entry.get("source"), entry.get("sha256"), what=f"weights ({chosen})")


def _hash_of(contents: PackageContents, name: object, stated: object, *, what: str) -> str:
    path = contents.folder / str(name)
    if is_remote(str(name)) or is_outside(str(name)) or not path.is_file():
        msg = f"The {what} of {contents.source} are not in the package: {name}. Get the whole of it: s2d-zoo download."
        raise PackageError(msg)
    found = sha256_of(path)
    if stated is not None and found != stated:
        msg = (
            f"The {what} of {contents.source}, {name}, are not those that its description names: expected SHA-256 "
            f"{stated}, found {found}. Download the package again."
        )
        raise PackageError(msg)
    return found


def load_torchscript(contents: PackageContents) -> nn.Module:
    """The network in the TorchScript file of a package.

    Raises:
        UnsafePackageError: if its code would read or write files.
        PackageError: if it cannot be read.
    """
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


def load_state_dict(contents: PackageContents, description: ModelDescr, *, trust_code: bool) -> nn.Module:
    """The network that the architecture's code builds, with the weights of the state dict.

    A U-Net of s2d-zoo is recognised by the SHA-256 of its code and built by our own: it needs no trust.

    Raises:
        UnsafePackageError: if that code is not trusted; it names the file and its SHA-256.
        PackageError: if code or weights are missing, are not those that the description names, or do not fit.
    """
    written = contents.rdf["weights"]["pytorch_state_dict"]
    architecture = written.get("architecture")
    if isinstance(architecture, Mapping):
        name, stated = architecture.get("source"), architecture.get("sha256")
    else:  # format 0.4: file.py:Class
        name, stated = str(architecture).rpartition(":")[0], written.get("architecture_sha256")
    sha256 = "" if name is None else _hash_of(contents, name, stated, what="architecture's code")
    if sha256 in own_architectures() and isinstance(architecture, Mapping) and architecture.get("callable") == _OURS:
        return read_packaged_network(contents.rdf, contents.folder)
    if not trust_code:
        code = f"the file {name} of the package, SHA-256 {sha256}" if name else f"what it names: {architecture}"
        msg = (
            f"{contents.source} has a state dict as weights. To build its network, Python code would have to be run: "
            f"{code}. Read it; if you trust it, say --trust-code, and it is run with your rights."
        )
        raise UnsafePackageError(msg)
    tensors = read_state_dict(contents.folder / written["source"])
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
        name = f"s2d_zoo_trusted_{sha256_of(path)}"
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
