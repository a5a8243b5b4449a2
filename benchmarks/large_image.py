"""How much memory does `s2d-zoo classify` need for an image that is larger than memory?

Simulated nuclei are tiled to images of 16384 x 16384 and 4096 x 4096 px (uint8), a forest is fitted on a few strokes
on one tile, and `s2d-zoo classify` predicts from file to file in a process of its own, whose largest resident memory
is measured. One run is made to believe that there are 64 cores.

    python benchmarks/large_image.py            (about ten minutes on two cores; --quick leaves out the large image)

Writes benchmarks/results/large_image.md and .json.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from outcome import write_outcome

from s2d_zoo._version import __version__
from s2d_zoo.data.images import write_blocks
from s2d_zoo.data.lazy_images import open_image
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.stored import PlacedBlock, outline_of
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.feature_blocks import blocking_for
from s2d_zoo.rf_adapter.persistence import save_classifier

TILE = 1024
LIMIT = 2.0  # GiB
#: runs the command in a process that believes to have so many cores (0: as many as it has)
COMMAND = """
import os, sys
cores = int(sys.argv.pop(1))
os.cpu_count = (lambda: cores) if cores else os.cpu_count
from s2d_zoo.cli import cli
cli()
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run."""

    size: int
    suffix: str
    channels: int = 1
    cores: int = 0  #: as many as there are when 0


CASES = (
    Case(size=16384, suffix=".zarr"),
    Case(size=4096, suffix=".zarr"),
    Case(size=4096, suffix=".tif"),
    Case(size=4096, suffix=".h5"),
    Case(size=4096, suffix=".zarr", cores=64),
    Case(size=2048, suffix=".zarr", channels=4),
    Case(size=2048, suffix=".zarr", channels=4, cores=64),
)


def make_tile(channels: int) -> tuple[xr.DataArray, xr.DataArray]:
    """One tile (channel y x, uint8), each channel with its own noise, and its instances."""
    image, instances = simulate_nuclei(NucleiSimulation.low_noise(size=TILE), seed=0)
    scaled = np.clip(image.values * (255 / np.percentile(image.values, 99.9)), 0, 255)
    noise = np.random.default_rng(0).normal(0, 4, (channels, TILE, TILE)) * (np.arange(channels) > 0)[:, None, None]
    values = np.clip(scaled + noise, 0, 255).astype(np.uint8)
    return xr.DataArray(values, dims=("channel", "y", "x")), instances


def tiled(tile: xr.DataArray, size: int) -> Iterator[PlacedBlock]:
    """The tile, again and again."""
    for y in range(0, size, TILE):
        for x in range(0, size, TILE):
            yield {"y": slice(y, y + TILE), "x": slice(x, x + TILE)}, tile


def run(case: Case, folder: Path, classifier: Path) -> dict[str, Any]:
    """Predict in a child process: seconds, and its largest resident memory."""
    image, output = folder / f"image{case.suffix}", folder / f"probabilities{case.suffix}"
    tile = make_tile(case.channels)[0]
    like = outline_of({"channel": case.channels, "y": case.size, "x": case.size}, tile.dtype, {})
    write_blocks(image, tiled(tile, case.size), like=like)
    options = ["classify", "--image", image, "--classifier", classifier, "--output", output, "--quiet"]
    if case.channels > 1 and case.suffix != ".zarr":
        options += ["--axes", "cyx"]
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", COMMAND, str(case.cores), *map(str, options)])
    # of this child only: RUSAGE_CHILDREN is the largest of all so far
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return {
        **asdict(case),
        "cores": case.cores or os.cpu_count(),
        "seconds": round(seconds, 1),
        "gibibytes": round(usage.ru_maxrss / 2**20, 2),
        "output_gibibytes": round(2 * case.size**2 * 4 / 2**30, 2),
    }


def differing(case: Case, folder: Path, classifier: PixelClassifier) -> int:
    """Values of the block in the middle that are not what the same image gives in memory, bit by bit."""
    image = open_image(folder / f"image{case.suffix}", axes="cyx" if case.channels > 1 else None)
    found = open_image(folder / f"probabilities{case.suffix}", axes="cyx")
    block = blocking_for(classifier.selection, image).block
    begin = {dim: case.size // 2 // block[dim] * block[dim] for dim in ("y", "x")}
    # a block more before it; behind it half a block is more than the filters reach
    around = {dim: slice(begin[dim] - block[dim], begin[dim] + block[dim] * 3 // 2) for dim in begin}
    expected = classifier.predict_proba(image.isel(around).load())
    expected = expected.isel({dim: slice(block[dim], 2 * block[dim]) for dim in begin})
    there = found.isel({dim: slice(begin[dim], begin[dim] + block[dim]) for dim in begin})
    return int((there.values != expected.values).sum())


def to_markdown(figures: dict[str, Any]) -> str:
    """One table."""
    lines = [
        "# Predicting images that are larger than memory",
        "",
        f"Made by `python benchmarks/large_image.py` with s2d-zoo {__version__}, {os.cpu_count()} cores. Simulated",
        f"nuclei, uint8; all features; {figures['trees']} trees with {figures['nodes']} nodes, two classes. Memory:",
        "largest resident memory of the process of `s2d-zoo classify`, libraries included. Different: values of the",
        "block in the middle that are not bit by bit what the image gives in memory. 64 cores are pretended.",
        "",
        "| image | features | files | cores | seconds | memory, GiB | result, GiB | different |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {entry['size']}² x {entry['channels']} | {49 * entry['channels']} | {entry['suffix']} | "
        f"{entry['cores']} | {entry['seconds']:.0f} | {entry['gibibytes']:.2f} | {entry['output_gibibytes']:.2f} | "
        f"{entry['different']} |"
        for entry in figures["runs"]
    ]
    largest = max(entry["gibibytes"] for entry in figures["runs"])
    verdict = "met" if largest < LIMIT else "MISSED"
    lines += ["", f"Limit: {LIMIT:g} GiB in every run; {verdict} (largest: {largest:.2f}).", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the image of 16384 x 16384 px; write nothing")
    options = parser.parse_args()
    runs = []
    for case in CASES[1:] if options.quick else CASES:
        with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
            folder = Path(name)
            tile, instances = make_tile(case.channels)
            strokes = simulate_scribbles(binary_classes(instances), n_strokes=10, seed=0)
            classifier = PixelClassifier(random_state=0)
            small = {"y": slice(0, 512), "x": slice(0, 512)}
            classifier.fit(tile.isel(small), strokes.isel(small))
            save_classifier(classifier, folder / "forest.safetensors")
            entry = run(case, folder, folder / "forest.safetensors")
            entry["different"] = differing(case, folder, classifier)
        runs.append(entry)
        sys.stderr.write(f"{entry}\n")
        if case == CASES[0] or "figures" not in locals():
            figures = {"trees": classifier.forest.n_trees, "nodes": len(classifier.forest.feature)}
    figures["parent_gibibytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    figures["runs"] = runs
    if options.quick:
        sys.stdout.write(to_markdown(figures))
    else:
        write_outcome("large_image", to_markdown(figures), figures)


if __name__ == "__main__":
    main()
