"""How far the network's output on tiles is from its output on the whole image.

The image is made of patches of the test input: a trained network says little about mere noise, and a smooth image would
hide how far it looks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np

from s2d_zoo.errors import PackageError
from s2d_zoo.validate.sandbox import FloatArray
from s2d_zoo.validate.tilers import AxisSizes, Tile, Tiling

#: largest difference that no user need know of; of the largest value if that is above 1
VISIBLE: Final = 1e-4

#: px
_PATCH: Final = 32

Run: TypeAlias = Callable[[FloatArray], FloatArray]


class NothingToCompareError(PackageError):
    """Tiles run, as far as they were tried, but there is nothing to compare them with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """An output ``(batch, channel, y, x)``, and the rows and columns of the image that it is of."""

    values: FloatArray
    rows: range
    columns: range

    def at(self, rows: range, columns: range) -> FloatArray:
        y = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
        x = slice(columns.start - self.columns.start, columns.stop - self.columns.start)
        return self.values[:, :, y, x]


class WholeImage:
    """An image of a given size, made from the test input, and what the network makes of it, as a whole and in tiles."""

    def __init__(self, size: tuple[int, int], test_input: FloatArray, sizes: Mapping[str, AxisSizes], run: Run) -> None:
        self.axes = (sizes["y"], sizes["x"])
        self.image = _patchwork(test_input, *size)
        self._run = run
        self._seen: dict[tuple[int, int], _Part] = {}
        self._problem: NothingToCompareError | None = None

    @property
    def scale(self) -> float:
        """The largest value of the output on the whole image, or 1; raises as `seen_from` does."""
        return max(1.0, float(np.abs(self.seen_from(0, 0).values).max()))

    @property
    def spread(self) -> float:
        """How much the output on the whole image varies; raises as `seen_from` does."""
        return float(np.ptp(self.seen_from(0, 0).values))

    def run(self, values: FloatArray) -> FloatArray:
        """The network's output on a part of the image.

        Raises:
            PackageError: if it cannot be run, or gives another size than that of the input, or values that are not
                finite.
        """
        output = self._run(values)
        size = " x ".join(map(str, values.shape[2:]))
        if output.shape[2:] != values.shape[2:]:
            found = " x ".join(map(str, output.shape[2:]))
            msg = f"expected an output of {size} px, as the input, found {found} px"
            raise PackageError(msg)
        strange = np.count_nonzero(~np.isfinite(output))
        if strange:
            msg = f"expected finite values for an input of {size} px, found {strange} that are not"
            raise PackageError(msg)
        return output

    def run_tile(self, tiling: Tiling, y: Tile, x: Tile) -> FloatArray:
        """The output on one tile.

        Raises:
            PackageError: see `run`.
        """
        try:
            return self.run(tiling.cut(self.image, y, x))
        except PackageError as error:
            msg = f"a tile of {y.size} x {x.size} px: {error}"
            raise PackageError(msg) from error

    def seen_from(self, top: int, left: int) -> _Part:
        """The output on the whole image, cropped so that it has the phase of a tile that begins there.

        Raises:
            NothingToCompareError: if the network cannot be run on it, see `run`; then not tried again.
        """
        if self._problem is not None:
            raise self._problem
        phase = (top % self.axes[0].step, left % self.axes[1].step)
        if phase not in self._seen:
            rows, columns = (
                range(first, length - (length - first - axis.min_size) % axis.step)
                for first, length, axis in zip(phase, self.image.shape[2:], self.axes, strict=True)
            )
            values = np.ascontiguousarray(self.image[:, :, rows.start : rows.stop, columns.start : columns.stop])
            try:
                output = self.run(values)
            except PackageError as error:
                msg = f"a whole image of {len(rows)} x {len(columns)} px, to compare with: {error}"
                self._problem = NothingToCompareError(msg)
                raise self._problem from error
            self._seen[phase] = _Part(values=output, rows=rows, columns=columns)
        return self._seen[phase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Largest differences between tiles and the whole image."""

    tile: tuple[int, int]  #: y, x in px
    tiles: int  #: so many were run
    inside: float  #: from the whole image seen from the tile's phase, a halo away from the tile's border
    phase: float  #: from the whole image as it is, there
    seam: float  #: as inside, up to where the tile meets the next
    seam_width: int  #: px from the seam, on either side, to where differences are no longer visible

    @property
    def figures(self) -> dict[str, Any]:
        """For a report, plain JSON."""
        return {
            "inside": self.inside,
            "phase": self.phase,
            "seam": self.seam,
            "seam_width": self.seam_width,
            "tile": list(self.tile),
            "tiles": self.tiles,
        }


def measure(whole: WholeImage, tiling: Tiling, pairs: Iterable[tuple[Tile, Tile]]) -> Differences:
    """Run the network on some tiles, each given by its y and its x, and compare.

    Raises:
        PackageError: if it cannot be run on one.
        NothingToCompareError: if it runs on tiles, but not on the whole image, or nothing of a tile can be compared.
    """
    inside, phase, seam, widths, shape = [], [], [], [], (0, 0)
    for y, x in pairs:
        values = whole.run_tile(tiling, y, x)
        output = _Part(values=values, rows=range(y.start, y.start + y.size), columns=range(x.start, x.start + x.size))
        corner, seen = whole.seen_from(0, 0), whole.seen_from(y.start, x.start)
        halos = (whole.axes[0].halo, whole.axes[1].halo)
        rows = _common(trusted(y, halos[0]), *(_shrunk(part.rows, halos[0]) for part in (seen, corner)))
        band = _common(x.kept, *(_shrunk(part.columns, halos[1]) for part in (seen, corner)))
        columns = _common(trusted(x, halos[1]), band)
        if not rows or not columns:
            msg = f"nothing of a tile of {y.size} x {x.size} px is a halo away from its border"
            raise NothingToCompareError(msg)
        inside.append(float(np.abs(output.at(rows, columns) - seen.at(rows, columns)).max()))
        phase.append(float(np.abs(output.at(rows, columns) - corner.at(rows, columns)).max()))
        profile = np.abs(output.at(rows, band) - seen.at(rows, band)).max(axis=(0, 1, 2))
        seam.append(float(profile.max()))
        visible = (column for column, value in zip(band, profile, strict=True) if value > VISIBLE * whole.scale)
        widths.append(max((min(at - x.kept.start + 1, x.kept.stop - at) for at in visible), default=0))
        shape = (y.size, x.size)
    return Differences(
        tile=shape,
        tiles=len(inside),
        inside=max(inside),
        phase=max(phase),
        seam=max(seam),
        seam_width=max(widths),
    )


def trusted(tile: Tile, halo: int) -> range:
    """What is kept of a tile and is at least a halo away from where it ends or had to be filled."""
    return _common(tile.kept, _shrunk(tile.read, halo))


def _shrunk(pixels: range, border: int) -> range:
    return range(pixels.start + border, pixels.stop - border)


def _common(*pixels: range) -> range:
    return range(max(one.start for one in pixels), min(one.stop for one in pixels))


def _patchwork(test_input: FloatArray, height: int, width: int) -> FloatArray:
    """Patches from anywhere in the first image, side by side; the pixels of every fourth are scrambled."""
    rng = np.random.default_rng(0)
    source = test_input[0]
    edges = [min(_PATCH, size) for size in source.shape[1:]]
    image = np.empty((1, source.shape[0], height, width), dtype=np.float32)
    for number, (top, left) in enumerate(product(range(0, height, edges[0]), range(0, width, edges[1]))):
        y, x = (int(rng.integers(size - edge + 1)) for size, edge in zip(source.shape[1:], edges, strict=True))
        patch = source[:, y : y + edges[0], x : x + edges[1]]
        if number % 4 == 0:
            places = rng.permutation(patch[0].size)
            patch = patch.reshape(len(patch), -1)[:, places].reshape(patch.shape)
        space = image[0, :, top : top + edges[0], left : left + edges[1]]
        space[:] = patch[:, : space.shape[1], : space.shape[2]]
    return image
