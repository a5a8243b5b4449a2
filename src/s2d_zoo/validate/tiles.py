"""T01 to T04: whether tiles give the values of the whole image, cut as the programs cut them.

With a smallest size of 256 px, a step of 8 and a halo of 96 the network is run 11 times, on 2 million px together.

A program that feeds tiles which do not run gives nothing, so that this hinders; values that differ are a limit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import ALL_CONSUMERS, Check, Consumer
from s2d_zoo.validate.report import CheckResult, Status
from s2d_zoo.validate.sandbox import FloatArray
from s2d_zoo.validate.tile_differences import (
    VISIBLE,
    Differences,
    NothingToCompareError,
    Run,
    WholeImage,
    measure,
    trusted,
)
from s2d_zoo.validate.tilers import (
    TARGET,
    AxisSizes,
    Tile,
    Tiling,
    deepimagej_tiling,
    ilastik_tiling,
    qupath_tiling,
    qupath_tiling_with_halo,
)

#: largest difference that is none: the same sums in other blocks; of the largest value if that is above 1
TILE_TOLERANCE: Final = 1e-5
#: an output that varies less than this, likewise, cannot show a difference
_LEAST_SPREAD: Final = 1e-3

_Sizes: TypeAlias = Mapping[str, AxisSizes]
_Tiler: TypeAlias = Callable[[int, int, _Sizes], Tiling]
_PROGRAMS: Final[Mapping[Check, Consumer]] = {
    Check.T02: Consumer.ilastik,
    Check.T03: Consumer.deepimagej,
    Check.T04: Consumer.qupath,
}
#: which tiles do not begin at multiples of the step
_OFF: Final = {
    Check.T02: "tiles at the image's border begin anywhere",
    Check.T03: "the second tile of an image whose size is not a multiple of the step begins anywhere",
    Check.T04: "tiles that the image does not fill are padded on both sides and begin anywhere",
}
_ADVICE: Final = (
    "either the halo is smaller than what the network looks at (state at least its receptive radius), or its "
    "normalisation depends on the tile (replace instance or group normalisation by batch normalisation)"
)


def check_tiles(
    sizes: _Sizes, test_input: FloatArray, run: Run, *, qupath_reads_halo: bool = False
) -> Iterator[CheckResult]:
    """T01 to T04, in this order: the network is run on tiles, and on the whole image.

    Args:
        sizes: of ``y`` and ``x``.
        test_input: ``(batch, channel, y, x)``, of any height and width.
        run: the network; takes the sizes that are allowed.
        qupath_reads_halo: whether the package is of format 0.4.
    """
    if set(sizes) != {"y", "x"}:
        yield from skip_tiles("only for the axes batch channel y x")
        return
    for name, axis in sizes.items():
        if axis.min_size <= 2 * axis.halo:
            message = (
                f"nothing is left of the smallest tile along {name}, {axis.min_size} px, without its halo of "
                f"{axis.halo} px on either side; state a smaller halo or a larger smallest size"
            )
            # what that means for a program is for A04 to say
            yield _result(Check.T01, "failed", message, hinders=False)
            yield from _skip(_PROGRAMS, "T01 failed")
            return
    tilers: dict[Check, _Tiler] = {
        Check.T02: ilastik_tiling,
        Check.T03: deepimagej_tiling,
        Check.T04: qupath_tiling_with_halo if qupath_reads_halo else qupath_tiling,
    }
    height = _height(sizes["y"])
    widths = {check: _width(tiler, height, sizes) for check, tiler in tilers.items()}
    whole = WholeImage((height, max(widths.values())), test_input, sizes, run)
    try:
        spread = whole.spread
    except NothingToCompareError as error:
        # no program feeds such an image, but each feeds its tiles
        yield _result(Check.T01, "failed", f"cannot be run: {error}", hinders=False)
    else:
        if spread < _LEAST_SPREAD * whole.scale:
            yield from skip_tiles(
                f"the output varies by {spread:.1e} only, so that tiles could not be told from the whole image"
            )
            return
        yield _check_smallest(whole, sizes)
    for check, tiler in tilers.items():
        yield _check_program(check, tiler, whole, widths[check], sizes)


def skip_tiles(reason: str) -> Iterator[CheckResult]:
    """T01 to T04, skipped."""
    return _skip((Check.T01, *_PROGRAMS), reason)


def _check_smallest(whole: WholeImage, sizes: _Sizes) -> CheckResult:
    """T01: three tiles of the smallest size, at multiples of the step: at two corners and between them."""
    y, x = (
        [_plain_tile(axis, first) for first in _origins(axis, length)]
        for axis, length in zip((sizes["y"], sizes["x"]), whole.image.shape[2:], strict=True)
    )
    tiling = Tiling(y=tuple(y), x=tuple(x), mirror="reflect")
    try:
        found = measure(whole, tiling, zip(y, reversed(x), strict=True))
    except NothingToCompareError as error:
        return _result(Check.T01, "skipped", str(error))
    except PackageError as error:
        return _result(Check.T01, "failed", f"cannot be run: {error}")
    return _judge(Check.T01, found, whole, f"tiles of {y[0].size} x {x[0].size} px", [])


def _plain_tile(axis: AxisSizes, first: int) -> Tile:
    stop = first + axis.min_size
    kept = range(first + axis.halo, stop - axis.halo)
    return Tile(start=first, size=axis.min_size, read=range(first, stop), kept=kept)


def _origins(axis: AxisSizes, length: int) -> tuple[int, int, int]:
    last = (length - axis.min_size) // axis.step
    return 0, last // 2 * axis.step, last * axis.step


def _check_program(check: Check, tiler: _Tiler, whole: WholeImage, width: int, sizes: _Sizes) -> CheckResult:
    """T02 to T04: the first and the last tile of a row of the program's tiles."""
    consumer = _PROGRAMS[check]
    try:
        tiling = tiler(whole.image.shape[2], width, sizes)
        y, _ = _ends(tiling.y, sizes["y"])
        found = measure(whole, tiling, [(y, x) for x in dict.fromkeys(_ends(tiling.x, sizes["x"]))])
    except NothingToCompareError as error:
        return _result(check, "limited", f"{consumer.value}'s tiles run, but were not compared: {error}")
    except PackageError as error:
        return _result(check, "failed", f"{consumer.value} gets no output: {error}")
    limits = []
    if found.seam > VISIBLE * whole.scale and tiler is qupath_tiling:
        limits.append(
            "the halo of the package is not read and tiles do not overlap, so values differ by up to "
            f"{found.seam:.2g} from those of the whole image, up to {found.seam_width} px from the seams, which are "
            f"{found.tile[1]} px apart"
        )
    if found.phase > VISIBLE * whole.scale:
        limits.append(
            f"values differ by up to {found.phase:.2g} from those of the whole image, because {_OFF[check]}, not at "
            f"multiples of {sizes['x'].step} px"
        )
    return _judge(check, found, whole, f"{consumer.value}'s tiles of {found.tile[0]} x {found.tile[1]} px", limits)


def _ends(tiles: tuple[Tile, ...], axis: AxisSizes) -> tuple[Tile, Tile]:
    """The first and the last with pixels that are a halo away from seams and from the image's border."""
    apart = [tile for tile in tiles if trusted(tile, axis.halo)] or tiles
    return apart[0], apart[-1]


def _judge(check: Check, found: Differences, whole: WholeImage, what: str, limits: Sequence[str]) -> CheckResult:
    tolerance = TILE_TOLERANCE * whole.scale
    message = f"{what}: largest difference {found.inside:.1e} inside of the halo, at most {tolerance:.0e}"
    figures = {
        **{name: value for name, value in found.figures.items() if check is Check.T04 or not name.startswith("seam")},
        "spread": whole.spread,
    }
    if found.inside > tolerance:
        return _result(check, "failed", f"{message}; {_ADVICE}", hinders=False, figures=figures)
    if limits:
        message = "; ".join([*limits, "measured on a patchwork of the test input"])
        return _result(check, "limited", message, figures=figures)
    return _result(check, "passed", message, figures=figures)


def _height(y: AxisSizes) -> int:
    """Room for three positions of the smallest tile; if possible such that tiles which are centred are aligned.

    Tiles then differ in their phase along x only, which needs fewer runs.
    """
    heights = (y.min_size + 2 * y.step, y.min_size + 3 * y.step)
    return next((height for height in heights if (TARGET - height) % (2 * y.step) == 0), heights[0])


def _width(tiler: _Tiler, height: int, sizes: _Sizes) -> int:
    """The least width of which a program makes several tiles, the last of them half a step off.

    The first and the last have pixels that are a halo away from seams and from the image's border. If there is no such
    width: one that is large enough for two tiles.
    """
    axis = sizes["x"]
    enough = 2 * max(TARGET, axis.min_size) + 2 * axis.step
    for width in range(axis.min_size // 2, enough):
        try:
            tiles = tiler(height, width, sizes).x
        except PackageError:  # too small for this program
            continue
        apart = all(len(trusted(tile, axis.halo)) >= 2 * axis.step for tile in (tiles[0], tiles[-1]))
        off = tiles[-1].start % axis.step == axis.step // 2
        if len(tiles) > 1 and apart and off and tiles[0].size >= axis.min_size:
            return width
    return enough


def _skip(checks: Iterable[Check], reason: str) -> Iterator[CheckResult]:
    for check in checks:
        yield _result(check, "skipped", reason)


def _result(
    check: Check, status: Status, message: str, *, hinders: bool = True, figures: Mapping[str, Any] | None = None
) -> CheckResult:
    consumers = frozenset({_PROGRAMS[check]}) if check in _PROGRAMS else ALL_CONSUMERS
    return CheckResult(
        check=check, status=status, message=message, consumers=consumers, hinders=hinders, figures=figures or {}
    )
