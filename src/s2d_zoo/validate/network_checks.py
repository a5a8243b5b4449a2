"""Checks that run the network: each weights format by itself, against the others, at other sizes, in tiles."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.parity import FloatArray, open_format, reason_not_to_run, run_core_test
from s2d_zoo.validate.report import CheckResult

#: largest difference between two formats; other orders of summation make about 1e-6
FORMAT_TOLERANCE: Final = 1e-4
#: largest difference between a tile and the whole image, which are the same sums in other blocks
TILE_TOLERANCE: Final = 1e-5

#: formats in the order in which ilastik prefers them; the first that runs stands for all where one suffices
_PREFERENCE: Final = ("torchscript", "pytorch_state_dict", "onnx")
_AXES: Final = ("batch", "channel", "y", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSizes:
    """What the description says about y or x, in px."""

    min_size: int
    step: int
    halo: int


def check_network(contents: PackageContents) -> Iterator[CheckResult]:
    """W01, W02, A01 and T01, in this order; the description and files must be good."""
    running = []
    for name in sorted(name for name, entry in contents.rdf["weights"].items() if entry is not None):
        result = _check_format(contents, name)
        yield result
        if result.status == "passed":
            running.append(name)
    running.sort(key=_PREFERENCE.index)
    reason = _reason_to_skip(contents, running)
    if reason is not None:
        yield from skip_checks((Check.W02, Check.A01, Check.T01), reason)
        return
    sizes = read_sizes(contents.rdf)
    outputs: dict[str, list[FloatArray]] = {}
    try:
        for name in running:
            with open_format(contents, name) as run:
                outputs[name] = [run(values) for values in _inputs(contents, sizes)]
    except PackageError as error:
        result = CheckResult(check=Check.A01, status="failed", message=str(error))
    else:
        result = _check_sizes(contents, sizes, outputs)
    if result.status == "failed":  # so that what follows compares finite values
        yield result
        yield from skip_checks((Check.W02, Check.T01), "A01 failed")
        return
    yield _compare_formats(outputs)
    yield result
    with open_format(contents, running[0]) as run:
        yield _check_tiles(contents, sizes, run)


def skip_checks(checks: tuple[Check, ...], reason: str) -> Iterator[CheckResult]:
    """Results of checks whose precondition does not hold."""
    for check in checks:
        yield CheckResult(check=check, status="skipped", message=reason)


def read_sizes(rdf: Mapping[str, Any]) -> dict[str, AxisSizes]:
    """Sizes of y and x; empty where the description does not give them as ``{min, step}``."""
    halos = {axis.get("id", "x"): axis.get("halo", 0) for axis in rdf["outputs"][0]["axes"] if axis["type"] == "space"}
    return {
        axis.get("id", "x"): AxisSizes(
            min_size=axis["size"]["min"], step=axis["size"]["step"], halo=halos.get(axis.get("id", "x"), 0)
        )
        for axis in rdf["inputs"][0]["axes"]
        if axis["type"] == "space" and isinstance(axis["size"], dict) and {"min", "step"} <= set(axis["size"])
    }


def _check_format(contents: PackageContents, name: str) -> CheckResult:
    reason = reason_not_to_run(contents, name)
    if reason is not None:
        return CheckResult(check=Check.W01, status="skipped", message=reason, part=name)
    problem = run_core_test(contents, name)
    if problem is not None:
        return CheckResult(check=Check.W01, status="failed", message=problem, part=name)
    return CheckResult(check=Check.W01, status="passed", message="reproduces the test output", part=name)


def _reason_to_skip(contents: PackageContents, running: list[str]) -> str | None:
    if not running:
        return "no weights format passed W01"
    inputs, outputs = contents.rdf["inputs"], contents.rdf["outputs"]
    if len(inputs) != 1 or len(outputs) != 1:
        return f"only for one input and one output, there are {len(inputs)} and {len(outputs)}"
    if "test_tensor" not in inputs[0]:
        return "there is no test input to make others from"
    axes = tuple(axis.get("id", "x" if axis["type"] == "space" else axis["type"]) for axis in inputs[0]["axes"])
    if axes != _AXES:
        return f"only for the axes {' '.join(_AXES)}, found {' '.join(axes)}"
    if set(read_sizes(contents.rdf)) != {"y", "x"}:
        return "only for sizes given as min and step, which this package does not allow"
    return None


def _inputs(contents: PackageContents, sizes: Mapping[str, AxisSizes]) -> tuple[FloatArray, ...]:
    """The test input; one step larger; and one that is not square."""
    y, x = sizes["y"], sizes["x"]
    test_input = _test_input(contents)
    return (
        test_input,
        mirrored(test_input, y.min_size + y.step, x.min_size + x.step),
        mirrored(test_input, y.min_size + 3 * y.step, x.min_size + x.step),
    )


def _test_input(contents: PackageContents) -> FloatArray:
    path = contents.folder / contents.rdf["inputs"][0]["test_tensor"]["source"]
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)


def mirrored(values: FloatArray, height: int, width: int) -> FloatArray:
    """Bring ``(batch, channel, y, x)`` to another size, mirroring what is there."""
    sides = (max(0, height - values.shape[2]), max(0, width - values.shape[3]))
    padded = np.pad(values, [(0, 0), (0, 0), (0, sides[0]), (0, sides[1])], mode="symmetric")
    return np.ascontiguousarray(padded[:, :, :height, :width])


def _compare_formats(outputs: Mapping[str, list[FloatArray]]) -> CheckResult:
    if len(outputs) < 2:
        return CheckResult(check=Check.W02, status="skipped", message="fewer than two weights formats passed W01")
    differences = {
        pair: max(float(np.abs(one - two).max()) for one, two in zip(outputs[pair[0]], outputs[pair[1]], strict=True))
        for pair in combinations(outputs, 2)
        if [output.shape for output in outputs[pair[0]]] == [output.shape for output in outputs[pair[1]]]
    }
    if len(differences) < len(tuple(combinations(outputs, 2))):
        return CheckResult(check=Check.W02, status="failed", message="the formats give outputs of different shapes")
    pair = max(differences, key=lambda key: differences[key])
    message = f"largest difference {differences[pair]:.1e} ({pair[0]} and {pair[1]}), at most {FORMAT_TOLERANCE:.0e}"
    agree = differences[pair] <= FORMAT_TOLERANCE
    return CheckResult(check=Check.W02, status="passed" if agree else "failed", message=message)


def _check_sizes(
    contents: PackageContents, sizes: Mapping[str, AxisSizes], outputs: Mapping[str, list[FloatArray]]
) -> CheckResult:
    """Outputs of the size of their inputs, finite."""
    expected = [values.shape[2:] for values in _inputs(contents, sizes)]
    for name, found in outputs.items():
        for size, output in zip(expected, found, strict=True):
            if output.shape[2:] != size or not np.isfinite(output).all():
                message = (
                    f"{name}: expected a finite output of {size[0]} x {size[1]} px for an input of that size, found "
                    f"{' x '.join(map(str, output.shape[2:]))} px with {np.count_nonzero(~np.isfinite(output))} "
                    "values that are not finite"
                )
                return CheckResult(check=Check.A01, status="failed", message=message)
    shown = " and ".join(f"{height} x {width} px" for height, width in expected[1:])
    return CheckResult(check=Check.A01, status="passed", message=f"runs on {shown}: {', '.join(outputs)}")


def _check_tiles(
    contents: PackageContents, sizes: Mapping[str, AxisSizes], run: Callable[[FloatArray], FloatArray]
) -> CheckResult:
    """Tiles of the smallest size, at multiples of the step, cut from an image twice as large."""
    y, x = sizes["y"], sizes["x"]
    if min(axis.min_size - 2 * axis.halo for axis in (y, x)) <= 0:
        message = f"nothing is left of a tile of {y.min_size} x {x.min_size} px without its halo"
        return CheckResult(check=Check.T01, status="failed", message=message)
    whole_input = _scrambled(mirrored(_test_input(contents), y.min_size * 2, x.min_size * 2))
    whole = run(whole_input)
    largest = 0.0
    for top, left in zip(_origins(y), _origins(x)[::-1], strict=True):
        tile = run(np.ascontiguousarray(whole_input[:, :, top : top + y.min_size, left : left + x.min_size]))
        inner = tile[:, :, y.halo : y.min_size - y.halo, x.halo : x.min_size - x.halo]
        there = whole[:, :, top + y.halo : top + y.min_size - y.halo, left + x.halo : left + x.min_size - x.halo]
        largest = float(np.maximum(largest, np.abs(inner - there).max()))  # NaN stays NaN, and fails
    message = (
        f"largest difference {largest:.1e} inside a halo of {y.halo} (y) and {x.halo} (x) px, "
        f"at most {TILE_TOLERANCE:.0e}"
    )
    if largest <= TILE_TOLERANCE:
        return CheckResult(check=Check.T01, status="passed", message=message)
    advice = "; the halo is smaller than what the network looks at, or its normalisation depends on the tile"
    return CheckResult(check=Check.T01, status="failed", message=message + advice)


def _origins(axis: AxisSizes) -> tuple[int, int, int]:
    """Three tiles: near the border of the image, in its middle, and between."""
    middle = axis.min_size // 2 // axis.step * axis.step
    return (0, middle // 2 // axis.step * axis.step, middle)


def _scrambled(values: FloatArray) -> FloatArray:
    """The same values in another order: a smooth image would hide how far the network looks."""
    flat = np.random.default_rng(0).permutation(values.reshape(*values.shape[:2], -1), axis=-1)
    return flat.reshape(values.shape)
