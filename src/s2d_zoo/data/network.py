"""Networks, applied to images of any size; and our U-Nets, kept in files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import safetensors.torch
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from torch import nn

from s2d_zoo._version import __version__
from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.sources import PIXEL_FOREST_FILE, UNET_FILE, packaged_source
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.axes import as_image, count_space_dims, space_shape
from s2d_zoo.data.blockwise import Blocking, map_blocks
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.packaged_network import PackagedNetwork
from s2d_zoo.data.state_dict_file import read_state_dict
from s2d_zoo.errors import AxesError, PackageError, SavedFileError, UnsupportedFormatVersionError
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

FORMAT: Final = "s2d-zoo/network"
FORMAT_VERSION: Final = 1
#: SHA-256 of earlier versions of the architecture files whose packages this version still reads; to be extended
#: whenever ``unet.py`` or ``pixel_forest.py`` changes, because published packages hold the file as it was
EARLIER_ARCHITECTURES: Final[frozenset[str]] = frozenset(
    {  # without max_features
        "5c189e8fbafe27faf5e5f4bd87ee8f3171b2682df40c1a8a250509ee62f6fb76",
        "de534b715d6dfcc73644dab3e3517e16ab77a2f2df21a3530f7522ced7a0fc49",
    }
)
#: a file that asks for more is not a network of ours, and could fill the memory
_LARGEST: Final[Mapping[str, int]] = {
    "in_channels": 256,
    "out_channels": 64,
    "features": 256,
    "depth": 6,
    "max_features": 4096,
}
#: px; on a CPU the network is no faster on larger blocks
_BLOCK: Final = 512


#: a network that packages can hold
Network: TypeAlias = UNet | PixelForest


def halo_of(model: Network) -> int:
    """Smallest halo in px that covers what the network sees, and is a multiple of its step."""
    return -(-model.receptive_radius // model.step) * model.step


def apply_network(
    model: Network | PackagedNetwork, image: xr.DataArray, *, progress: str | None = None
) -> xr.DataArray:
    """Apply a network block by block; borders are mirrored, edge included, as consumers of packages do.

    Args:
        model: of any kind; it is used in eval mode, and left in the mode that it is in. Ours take planes; those of
            anybody's package may take volumes.
        image: channel (z) y x, any number type; values as the network takes them (of anybody's package: preprocessed).
        progress: label of a progress bar on stderr.

    Returns:
        channel (z) y x, float32 in [0, 1]: foreground, boundary.

    Raises:
        AxesError: if the image has other dimensions or channels than the network takes.
    """
    image = as_image(image)
    if count_space_dims(image) != ndim_of(model):
        advice = "Give the slices one by one." if ndim_of(model) == 2 else "Give a volume, with axes z, y and x."
        msg = f"This network works on {ndim_of(model)}D images, found axes {image.dims}. {advice}"
        raise AxesError(msg)
    channels = channels_of(model)[0]
    if image.sizes[CHANNEL] != channels:
        msg = f"This network takes {channels} channels, the image has {image.sizes[CHANNEL]}."
        raise AxesError(msg)
    device = next(model.parameters()).device
    names = list(OUTPUT_CHANNELS) if channels_of(model)[1] == len(OUTPUT_CHANNELS) else None

    @torch.inference_mode()
    def run(block: xr.DataArray) -> xr.DataArray:
        values = torch.as_tensor(block.values.astype("float32", copy=True), device=device)
        output = model(values[None])[0].cpu().numpy()
        return xr.DataArray(output, dims=image.dims, coords={CHANNEL: names} if names else None)

    blocking = _blocking(model, image)
    was_training = model.training
    model.eval()
    if isinstance(model, UNet):  # the same sums in another order, up to twice as fast on CPUs
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        return map_blocks(run, image, blocking=blocking, progress=progress)
    finally:
        model.train(was_training)
        if isinstance(model, UNet):
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _blocking(model: Network | PackagedNetwork, image: xr.DataArray) -> Blocking:
    """Blocks that the network takes, with what it sees around them."""
    if isinstance(model, PackagedNetwork):
        return model.blocking_for(space_shape(image))
    halo = halo_of(model)
    return Blocking(halo={"y": halo, "x": halo}, align=model.step, border="symmetric", block={"y": _BLOCK, "x": _BLOCK})


def ndim_of(model: Network | PackagedNetwork) -> Literal[2, 3]:
    """2 for a network that takes planes, 3 for one that takes volumes."""
    return model.ndim if isinstance(model, PackagedNetwork) else 2


def channels_of(model: Network | PackagedNetwork) -> tuple[int, int]:
    """Channels of the input and of the output."""
    if isinstance(model, PackagedNetwork):
        return model.channels
    if isinstance(model, PixelForest):
        return model.filter_bank.channels, model.enhancer.head.out_channels
    kwargs = network_kwargs(model)
    return kwargs["in_channels"], kwargs["out_channels"]


def network_kwargs(model: Network) -> dict[str, Any]:
    """The arguments that build the network again, plain numbers, strings, lists and dicts."""
    if isinstance(model, PixelForest):
        return {
            "filters": {name: list(scales) for name, scales in model.filter_bank.filters.items()},
            "raw_channels": model.filter_bank.channels,
            "nodes": len(model.forest.left),
            "trees": len(model.forest.roots),
            "enhancer": network_kwargs(model.enhancer),
        }
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return {
        "in_channels": first.in_channels,
        "out_channels": model.head.out_channels,
        "features": model.head.in_channels,
        "depth": model.depth,
        "norm": "batch" if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) else "none",
        "input_offset": model.input_offset.flatten().tolist(),
        "input_scale": model.input_scale.flatten().tolist(),
        **_width_limit(model),
    }


def _width_limit(model: UNet) -> dict[str, int]:
    """The largest number of channels, where it is less than doubling at every level gives."""
    widest = max(module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    return {"max_features": widest} if widest < model.head.in_channels * 2**model.depth else {}


def save_network(model: UNet, path: Path) -> Path:
    """Write a network to a ``.safetensors`` file; equal networks give equal bytes.

    Raises:
        SavedFileError, OSError: if it cannot be written; a file that is there stays as it is.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kwargs": network_kwargs(model),
        "s2d_zoo_version": __version__,
    }
    tensors = {name: values.detach().cpu().contiguous() for name, values in model.state_dict().items()}
    metadata = {"s2d_zoo": json.dumps(header, sort_keys=True)}
    try:
        with atomic_write(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata=metadata)
    except SafetensorError as error:  # also a full disk: it raises no OSError
        msg = f"Cannot write {path}: {error}. Check the space on the disk and the permissions."
        raise SavedFileError(msg) from error
    return path


def load_network(path: Path) -> UNet:
    """Read a network that `save_network` wrote, in eval mode.

    Raises:
        SavedFileError: if the file is missing, damaged, or no network.
        UnsupportedFormatVersionError: if a newer s2d-zoo wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("s2d_zoo", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        msg = f"Cannot read a network from {path}: {error}. Expected a file written by s2d-zoo finetune."
        raise SavedFileError(msg) from error
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        msg = f"{path} is not a network: expected format {FORMAT!r}, found {found!r}."
        raise SavedFileError(msg)
    if not isinstance(header.get("format_version"), int) or header["format_version"] > FORMAT_VERSION:
        msg = f"{path} has format version {header.get('format_version')}; this s2d-zoo reads up to {FORMAT_VERSION}."
        raise UnsupportedFormatVersionError(msg)
    try:
        return _build(header["kwargs"], tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        msg = f"The network in {path} is damaged: {error}. Train it again."
        raise SavedFileError(msg) from error


def read_packaged_network(rdf: Mapping[str, Any], folder: Path) -> UNet:
    """Build the network of a package that s2d-zoo made, in eval mode; no code of the package is run.

    Args:
        rdf: the description, as it is written.
        folder: where the package's files lie.

    Raises:
        PackageError: if the architecture is not one of this project's, a file is not the one that the description
            names, or the weights do not fit.
    """
    try:
        entry = rdf["weights"]["pytorch_state_dict"]
        architecture = entry["architecture"]
        source, stated = folder / entry["source"], entry.get("sha256")
        architecture_sha = architecture["sha256"]
        kwargs = dict(architecture["kwargs"])
    except (KeyError, TypeError) as error:
        msg = f"The package has no PyTorch weights with an architecture file: {error} is missing in its description."
        raise PackageError(msg) from error
    if architecture_sha not in own_architectures() or architecture.get("callable") != UNet.__name__:
        msg = (
            f"The package brings its own architecture code ({architecture.get('source')}, SHA-256 "
            f"{architecture_sha}), which is none of s2d-zoo's, and code from packages is not run."
        )
        raise PackageError(msg)
    if not source.is_file() or sha256_of(source) != stated:
        msg = f"The weights {entry['source']} of the package are missing, or not those that its description names."
        raise PackageError(msg)
    tensors = read_state_dict(source)
    try:
        return _build(kwargs, tensors)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        msg = f"The weights {entry['source']} do not fit the architecture of the package: {error}"
        raise PackageError(msg) from error


def own_architectures() -> frozenset[str]:
    """SHA-256 of this project's architecture files, of this version and of earlier ones."""
    current = (packaged_source(name) for name in (UNET_FILE, PIXEL_FOREST_FILE))
    return EARLIER_ARCHITECTURES | {hashlib.sha256(text).hexdigest() for text in current}


def _build(kwargs: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> UNet:
    if not isinstance(kwargs, Mapping):
        msg = f"arguments for a network, found {type(kwargs).__name__}"
        raise TypeError(msg)
    large = {key: kwargs[key] for key, most in _LARGEST.items() if not 1 <= kwargs.get(key, 1) <= most}
    if large:
        msg = f"a network of {large}, expected at most {dict(_LARGEST)}"
        raise ValueError(msg)
    model = UNet(**kwargs)
    model.load_state_dict(tensors)
    return model.eval()
