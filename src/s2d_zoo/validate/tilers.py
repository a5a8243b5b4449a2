"""What ilastik, deepImageJ and QuPath do with a large image: the tiles that they cut, pad and keep.

Read from their code; nothing here runs it. Along y and x each:

- ilastik (lazyflow ``operators/tiktorch``, ``bioimageio_utils``): tiles of about 512 px. What they keep is two halos
  smaller, begins at multiples of that, and is clipped to the image. A clipped tile grows on both sides.
- deepImageJ (JDLL ``TileCalculator``, ``TileMaker``, ``TileGrid``): one tile, the image with its halo rounded down to
  the step; where this rounds, two tiles, of which the second ends with the image and overwrites the first.
- QuPath (``BioimageIoTools``, ``PixelClassificationImageServer``, ``OpenCVTools.applyTiled``): tiles of about 512 px.
  What it keeps is two halos smaller, but the halo of format 0.5 is not read, so that tiles lie side by side. A tile
  that the image does not fill mirrors itself on both sides.

See ``docs/explanation/tiles-and-halos.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

import numpy as np

from s2d_zoo.errors import PackageError
from s2d_zoo.validate.sandbox import FloatArray

#: px; what ilastik and QuPath aim at in 2D
TARGET: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSizes:
    """What the description says about y or x, in px."""

    min_size: int
    step: int
    halo: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile along one axis, in px; the image begins at 0."""

    start: int  #: where the network's input begins; may be before the image
    size: int  #: of the network's input
    read: range  #: what of the image is in it; the rest of the tile mirrors this
    kept: range  #: what of the image gets its output from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The tiles of one image: each of ``y`` with each of ``x``; where they overlap, the later one is kept."""

    y: tuple[Tile, ...]
    x: tuple[Tile, ...]
    mirror: Literal["reflect", "symmetric"]  #: as in `numpy.pad`: without or with the edge repeated

    def cut(self, image: FloatArray, y: Tile, x: Tile) -> FloatArray:
        """What the network is given for one tile of an image ``(batch, channel, y, x)``."""
        rows, columns = (
            np.pad(tile.read, (tile.read.start - tile.start, tile.start + tile.size - tile.read.stop), mode=self.mirror)
            for tile in (y, x)
        )
        return np.ascontiguousarray(image[:, :, rows[:, None], columns])


def ilastik_tiling(height: int, width: int, sizes: Mapping[str, AxisSizes]) -> Tiling:
    """The tiles of ilastik.

    Raises:
        PackageError: if nothing is left of a tile between two halos.
    """
    steps = min(max(0, ceil((TARGET - axis.min_size) / axis.step)) for axis in (sizes["y"], sizes["x"]))
    tiles = [
        tuple(_ilastik_tiles(length, axis.min_size + steps * axis.step, axis.halo))
        for length, axis in ((height, sizes["y"]), (width, sizes["x"]))
    ]
    return Tiling(y=tiles[0], x=tiles[1], mirror="reflect")


def deepimagej_tiling(height: int, width: int, sizes: Mapping[str, AxisSizes]) -> Tiling:
    """The tiles of deepImageJ, of an image of less than 50 million values.

    Raises:
        PackageError: if deepImageJ refuses the size of the image.
    """
    y = tuple(_deepimagej_tiles(height, sizes["y"]))
    x = tuple(_deepimagej_tiles(width, sizes["x"]))
    return Tiling(y=y, x=x, mirror="symmetric")


def qupath_tiling(height: int, width: int, sizes: Mapping[str, AxisSizes]) -> Tiling:
    """The tiles of QuPath, at full resolution, of a package of format 0.5: it reads no halo."""
    y = tuple(_qupath_tiles(height, sizes["y"], halo=0))
    x = tuple(_qupath_tiles(width, sizes["x"], halo=0))
    return Tiling(y=y, x=x, mirror="symmetric")


def qupath_tiling_with_halo(height: int, width: int, sizes: Mapping[str, AxisSizes]) -> Tiling:
    """The tiles of QuPath, at full resolution, of a package of format 0.4, whose halo it reads: one for both axes.

    Raises:
        PackageError: if nothing is left of a tile between two halos.
    """
    halo = max(sizes["y"].halo, sizes["x"].halo)
    y = tuple(_qupath_tiles(height, sizes["y"], halo))
    x = tuple(_qupath_tiles(width, sizes["x"], halo))
    return Tiling(y=y, x=x, mirror="symmetric")


def _ilastik_tiles(length: int, size: int, halo: int) -> Iterator[Tile]:
    block = size - 2 * halo
    if block <= 0:
        msg = f"Nothing is left of ilastik's tile of {size} px without its halo of {halo} px. State a smaller halo."
        raise PackageError(msg)
    for first in range(0, length, block):
        kept = range(first, min(first + block, length))
        start = first - halo - (block - len(kept) + 1) // 2
        yield Tile(start=start, size=size, read=_inside(start, size, length), kept=kept)


def _deepimagej_tiles(length: int, axis: AxisSizes) -> Iterator[Tile]:
    size = (length + 2 * axis.halo) // axis.step * axis.step
    if size > 3 * length and size - axis.step >= axis.min_size:
        size -= axis.step
    if size > 3 * length and ceil(length / axis.step) * axis.step >= axis.min_size:
        size = ceil(length / axis.step) * axis.step
    if size > 3 * length or size <= 2 * axis.halo or (size - axis.min_size) % axis.step:
        msg = (
            f"deepImageJ makes a tile of {size} px for an image of {length} px and refuses it: a tile is at most three "
            f"times the image, larger than two halos of {axis.halo} px, and {axis.min_size} + n * {axis.step} px. "
            "State a smallest size that is a multiple of the step, or a smaller halo."
        )
        raise PackageError(msg)
    block = size - 2 * axis.halo
    for index in range(ceil(length / block)):
        first = min(index * block, length - block)
        start = first - axis.halo
        yield Tile(start=start, size=size, read=_inside(start, size, length), kept=range(first, first + block))


def _qupath_tiles(length: int, axis: AxisSizes, halo: int) -> Iterator[Tile]:
    size = max(1, TARGET // axis.min_size) * axis.min_size
    block = size - 2 * halo
    if block <= 0:
        msg = f"Nothing is left of QuPath's tile of {size} px without its halo of {halo} px. State a smaller halo."
        raise PackageError(msg)
    for first in range(0, length, block):
        kept = range(first, min(first + block, length))
        # beyond the halo the image is not read again: a tile that is not filled mirrors itself
        read = range(max(0, first - halo), min(kept.stop + halo, length))
        yield Tile(start=first - halo - (block - len(kept)) // 2, size=size, read=read, kept=kept)


def _inside(start: int, size: int, length: int) -> range:
    return range(max(0, start), min(start + size, length))
