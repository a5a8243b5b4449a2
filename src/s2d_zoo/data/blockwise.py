"""Apply a function to an image block by block, each block with a halo, so that memory stays bounded.

The image may be one of `s2d_zoo.data.lazy_images`: only one block of it is in memory at a time.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from s2d_zoo.data.axes import space_dims, space_shape
from s2d_zoo.data.stored import PlacedBlock, Window
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
        whole: every block is as large as the first, also where the image ends: what is missing is mirrored. Only with
            ``"symmetric"`` borders.

    Raises:
        ConfigError: if a halo or block is not a multiple of ``align``.
    """

    halo: Mapping[str, int]
    align: int = 1
    border: Literal["clip", "symmetric"] = "clip"
    block: Mapping[str, int] = field(default_factory=lambda: DEFAULT_BLOCK)
    whole: bool = False

    def __post_init__(self) -> None:
        wrong = {name: size for name, size in (*self.halo.items(), *self.block.items()) if size % self.align}
        if wrong:
            msg = f"Blocks and halos must be multiples of {self.align} px, got {wrong}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of an image.

    Attributes:
        image: channel (z) y x, the block with its halo, in memory.
        start: where ``image`` begins in the whole image, in px per spatial dim (negative where it is mirrored).
        window: the block without halo, in the whole image.
        inside: the same within ``image``.
    """

    image: xr.DataArray
    start: Mapping[str, int]
    window: Window
    inside: Window


def iterate_blocks(image: xr.DataArray, *, blocking: Blocking, progress: str | None = None) -> Iterator[Block]:
    """Cut an image into blocks with halos; x runs fastest, then y.

    Args:
        image: channel (z) y x, in memory or lazily read.
        blocking: sizes and borders.
        progress: label of the progress bar on stderr; none when ``None``.

    Yields:
        Each block, read once.
    """
    sizes = space_shape(image)
    windows = list(_windows(sizes, blocking))
    for window in tqdm(windows, desc=progress, disable=progress is None or len(windows) == 1, unit="block"):
        seen = {dim: _grown(window[dim], sizes[dim], blocking, dim) for dim in sizes}
        yield Block(
            image=_read(image, seen),
            start={dim: seen[dim].start for dim in sizes},
            window=window,
            inside={
                dim: slice(window[dim].start - seen[dim].start, window[dim].stop - seen[dim].start) for dim in sizes
            },
        )


def apply_blockwise(
    function: Callable[[xr.DataArray], xr.DataArray],
    image: xr.DataArray,
    *,
    blocking: Blocking,
    progress: str | None = None,
) -> Iterator[PlacedBlock]:
    """Apply a function to an image block by block, and give the results one by one.

    Args:
        function: takes channel (z) y x, gives channel (z) y x of the same size (channels may differ), float32.
        image: channel (z) y x, in memory or lazily read.
        blocking: sizes and borders.
        progress: label of the progress bar on stderr; none when ``None``.

    Yields:
        Where a block lies in the image, and its result without halo. Together they fill the image.
    """
    for block in iterate_blocks(image, blocking=blocking, progress=progress):
        yield block.window, function(block.image).isel(block.inside)


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
        image: channel (z) y x, in memory or lazily read.
        blocking: sizes and borders.
        progress: label of the progress bar on stderr; none when ``None``.

    Returns:
        channel (z) y x, float32, of the image's size.
    """
    return assemble(apply_blockwise(function, image, blocking=blocking, progress=progress), like=image)


def assemble(blocks: Iterable[PlacedBlock], *, like: xr.DataArray) -> xr.DataArray:
    """Put blocks together in memory.

    Args:
        blocks: together they fill the image.
        like: channel (z) y x, for the sizes in space and the attrs.

    Returns:
        channel (z) y x, float32, with the channels of the first block.
    """
    dims = space_dims(like)
    result: np.ndarray[Any, np.dtype[np.float32]] | None = None
    channels = None
    for window, values in blocks:
        if result is None:
            result = np.empty((values.sizes[CHANNEL], *space_shape(like).values()), dtype=np.float32)
            channels = values.coords.get(CHANNEL)
        result[(slice(None), *(window[dim] for dim in dims))] = values.values
    coords = {} if channels is None else {CHANNEL: channels.values}
    return xr.DataArray(result, dims=(CHANNEL, *dims), coords=coords, attrs=like.attrs)


def choose_block(
    sizes: Mapping[str, int],
    *,
    halo: Mapping[str, int],
    limit: int,
    largest: Mapping[str, int] = DEFAULT_BLOCK,
    inner_weight: float = 0.0,
) -> dict[str, int]:
    """The largest block that keeps what is computed for it within a limit; depends on its arguments only.

    Args:
        sizes: of the image in space, px.
        halo: px around a block, per dim.
        limit: pixels that may be held at once, the halo counted.
        largest: px that a block never exceeds, per dim.
        inner_weight: how many more times the pixels without halo are held.

    Returns:
        px per block for each dim of ``sizes``: ``largest``, or a power of two below. The smallest there is, 16 px, is
        taken even where it exceeds the limit.
    """
    for exponent in range(10, 4, -1):
        block = {dim: min(largest[dim], 2**exponent) for dim in sizes}
        inner = math.prod(min(block[dim], size) for dim, size in sizes.items())
        outer = math.prod(min(block[dim] + 2 * halo.get(dim, 0), size) for dim, size in sizes.items())
        if outer + inner_weight * inner <= limit:
            return block
    return {dim: min(largest[dim], 16) for dim in sizes}


def _windows(sizes: Mapping[str, int], blocking: Blocking) -> Iterator[dict[str, slice]]:
    """The blocks, without halo, in the image's coordinates."""
    cuts = [
        [slice(start, min(start + blocking.block[dim], size)) for start in range(0, size, blocking.block[dim])]
        for dim, size in sizes.items()
    ]
    for combination in itertools.product(*cuts):
        yield dict(zip(sizes, combination, strict=True))


def _grown(window: slice, size: int, blocking: Blocking, dim: str) -> slice:
    """A block with its halo, in the image's coordinates; it may reach beyond the image where that is mirrored."""
    halo = blocking.halo.get(dim, 0)
    stop = window.start + blocking.block[dim] if blocking.whole else window.stop + -window.stop % blocking.align
    grown = slice(window.start - halo, stop + halo)
    return grown if blocking.border == "symmetric" else slice(max(0, grown.start), min(size, grown.stop))


def _read(image: xr.DataArray, seen: Mapping[str, slice]) -> xr.DataArray:
    """Part of an image, in memory, mirrored outwards (edge included) where it reaches beyond."""
    mirrored = {
        dim: _mirrored(np.arange(window.start, window.stop), image.sizes[dim])
        for dim, window in seen.items()
        if window.start < 0 or window.stop > image.sizes[dim]
    }
    # first what is needed of the file, then turned round
    needed = {
        dim: slice(int(mirrored[dim].min()), int(mirrored[dim].max()) + 1) if dim in mirrored else window
        for dim, window in seen.items()
    }
    loaded = image.isel(needed).load()
    return loaded.isel({dim: places - needed[dim].start for dim, places in mirrored.items()})


def _mirrored(places: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The pixel that is seen at places outside of an image that is mirrored again and again."""
    folded = places % (2 * size)
    mirrored: np.ndarray[Any, Any] = np.minimum(folded, 2 * size - 1 - folded)
    return mirrored
