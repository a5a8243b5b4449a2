"""Apply a function to an image block by block, each block with a halo, so that memory stays bounded."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from s2d_zoo.data.axes import space_dims
from s2d_zoo.errors import ConfigError
from s2d_zoo.types import CHANNEL

#: px in plane; with z, blocks are thinner
DEFAULT_BLOCK: Final[Mapping[str, int]] = MappingProxyType({"z": 64, "y": 1024, "x": 1024})


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """How to cut an image into blocks.

    Attributes:
        halo: px that the function must see around a block, per dim; none where a dim is missing.
        align: blocks begin at multiples of this many px, and their sizes (halo included) are multiples of it.
        border: ``"clip"``: at the image's border the halo ends with the image, and the function deals with the
            border itself; ``"symmetric"``: the image is mirrored outwards, edge included, as bioimageio.core and
            deepImageJ do.
        block: px per block, halo not included, per dim.

    Raises:
        ConfigError: if a halo or block is not a multiple of ``align``.
    """

    halo: Mapping[str, int]
    align: int = 1
    border: Literal["clip", "symmetric"] = "clip"
    block: Mapping[str, int] = field(default_factory=lambda: DEFAULT_BLOCK)

    def __post_init__(self) -> None:
        wrong = {name: size for name, size in (*self.halo.items(), *self.block.items()) if size % self.align}
        if wrong:
            msg = f"Blocks and halos must be multiples of {self.align} px, got {wrong}."
            raise ConfigError(msg)


def map_blocks(
    function: Callable[[xr.DataArray], xr.DataArray],
    image: xr.DataArray,
    *,
    blocking: Blocking,
    progress: str | None = None,
) -> xr.DataArray:
    """Apply a function to an image block by block.

    Args:
        function: takes channel (z) y x, gives channel (z) y x of the same size (channels may differ), float32.
        image: channel (z) y x.
        blocking: sizes and borders.
        progress: label of the progress bar on stderr; none when ``None``.

    Returns:
        channel (z) y x, float32, of the image's size.
    """
    dims = space_dims(image)
    padded, before = _pad(image, dims, blocking)
    result: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None
    channels = None
    windows = list(_windows({dim: image.sizes[dim] for dim in dims}, blocking))
    for window in tqdm(windows, desc=progress, disable=progress is None or len(windows) == 1, unit="block"):
        seen = {dim: _grown(window[dim], before.get(dim, 0), padded.sizes[dim], blocking, dim) for dim in dims}
        values = function(padded.isel(seen))
        if result is None:
            result = np.empty((values.sizes[CHANNEL], *(image.sizes[dim] for dim in dims)), dtype=np.float32)
            channels = values.coords.get(CHANNEL)
        inner = {dim: slice(window[dim].start + before.get(dim, 0) - seen[dim].start, None) for dim in dims}
        cropped = values.isel(inner).isel({dim: slice(0, window[dim].stop - window[dim].start) for dim in dims})
        result[(slice(None), *(window[dim] for dim in dims))] = cropped.values
    coords = {} if channels is None else {CHANNEL: channels.values}
    return xr.DataArray(result, dims=(CHANNEL, *dims), coords=coords, attrs=image.attrs)


def _windows(sizes: Mapping[str, int], blocking: Blocking) -> Iterator[dict[str, slice]]:
    """The blocks, without halo, in the image's coordinates."""
    cuts = [
        [slice(start, min(start + blocking.block[dim], size)) for start in range(0, size, blocking.block[dim])]
        for dim, size in sizes.items()
    ]
    for combination in itertools.product(*cuts):
        yield dict(zip(sizes, combination, strict=True))


def _pad(image: xr.DataArray, dims: tuple[str, ...], blocking: Blocking) -> tuple[xr.DataArray, dict[str, int]]:
    """Mirror the image outwards by its halo, and up to a whole number of ``align`` px."""
    if blocking.border == "clip":
        return image, {}
    before = {dim: blocking.halo.get(dim, 0) for dim in dims}
    widths = {dim: (halo, halo + -image.sizes[dim] % blocking.align) for dim, halo in before.items()}
    return image.pad(widths, mode="symmetric"), before


def _grown(window: slice, before: int, size: int, blocking: Blocking, dim: str) -> slice:
    """A block with its halo, in the padded image's coordinates."""
    halo = blocking.halo.get(dim, 0)
    stop = window.stop + -window.stop % blocking.align
    return slice(max(0, window.start + before - halo), min(size, stop + before + halo))
