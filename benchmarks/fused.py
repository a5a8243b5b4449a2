"""What does it cost to have filters, forest and enhancer in one network, and is it still the same?

One forest is fitted on ten simulated strokes per class; another, on 4000 labelled pixels, stands for the large ones.
Times are medians of several runs that alternate, on one image of 512 x 512 px.

    python benchmarks/fused.py --data-dir ../shared/data

Writes benchmarks/results/fused.md and .json.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import xarray as xr
from outcome import command_of, write_outcome

from s2d_zoo._version import __version__
from s2d_zoo.architectures.pixel_forest import FilterBank
from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.export import weights
from s2d_zoo.pipeline.fusion import Fused, FusionSettings, fuse
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.zoo.collection import find_model

ENHANCER = "nuclei-fluo-2d"
TARGET = "nuclei_gowt1"
N_STROKES = 10  #: per class
SIZE = 512
#: px; a little more than the filters reach
BORDER = 40
RUNS = 5
#: runs weights on noise, and writes how far memory grew, in kB
MEMORY = """
import sys
import numpy as np

def kilobytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

image = np.random.default_rng(0).integers(0, 255, (1, {channels}, {size}, {size})).astype(np.float32)
if sys.argv[1].endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1])
    run = lambda: session.run(None, {{"raw": image}})
else:
    import torch
    script = torch.jit.load(sys.argv[1])
    run = lambda: script(torch.from_numpy(image))
before = kilobytes("VmRSS")
run()
print(kilobytes("VmHWM") - before)
"""
LIMITS = (FusionSettings(), FusionSettings(trees=50), FusionSettings(trees=20), FusionSettings(max_depth=6))


def strokes_forest(data_dir: Path | None) -> PixelClassifier:
    """Fitted on strokes on the first training image of the target."""
    first = load_dataset(TARGET, "train", data_dir=data_dir)[0]
    strokes = simulate_scribbles(binary_classes(first.labels), n_strokes=N_STROKES, seed=0)
    return PixelClassifier(random_state=0).fit(first.image, strokes)


def large_forest(data_dir: Path | None) -> PixelClassifier:
    """Fitted on 4000 labelled pixels of the first training image of mito_vnc."""
    first = load_dataset("mito_vnc", "train", data_dir=data_dir)[0]
    classes = binary_classes(first.labels)
    chosen = np.random.default_rng(0).choice(classes.size, 4000, replace=False)
    labels = np.zeros(classes.shape, dtype=np.uint8)
    labels.flat[chosen] = classes.values.flat[chosen]
    return PixelClassifier(random_state=0).fit(first.image, xr.DataArray(labels, dims=classes.dims))


def measure(fused: Fused, image: xr.DataArray) -> dict[str, Any]:
    """Times, sizes and differences of one fused network on one image (channel y x)."""
    values = np.ascontiguousarray(image.values[np.newaxis, :, :SIZE, :SIZE], dtype=np.float32)
    tensor = torch.from_numpy(values)
    model = weights.for_export(fused.model)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        weights.write_weights(model, folder, example=tensor[..., :256, :256], input_name="raw", output_name="enhanced")
        megabytes = {path.name: round(path.stat().st_size / 1e6, 2) for path in folder.iterdir()}
        session = onnxruntime.InferenceSession(str(folder / weights.ONNX_FILE))
        script = torch.jit.load(str(folder / weights.TORCHSCRIPT_FILE))
        ways: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
            "unfused": lambda: fused.unfused(values),
            "ONNX": lambda: session.run(None, {"raw": values})[0],
            "TorchScript": lambda: script(tensor).numpy(),
            "state dict": lambda: model(tensor).numpy(),
        }
        memory = {
            name: gigabytes(folder / name, values.shape[1]) for name in (weights.ONNX_FILE, weights.TORCHSCRIPT_FILE)
        }
        first, seconds, outputs = {}, {way: [] for way in ways}, {}
        for way, call in ways.items():
            first[way], outputs[way] = timed(call)
        for _ in range(RUNS):
            for way, call in ways.items():
                seconds[way].append(timed(call)[0])
    forest = fused.classifier.forest
    return {
        "trees": forest.n_trees,
        "nodes": len(forest.feature),
        "depth": int(forest.depths().max()),
        "seconds": {way: round(statistics.median(times), 2) for way, times in seconds.items()},
        "first_seconds": {way: round(value, 2) for way, value in first.items()},
        "megabytes": megabytes,
        "gigabytes_of_memory_per_megapixel": memory,
        "difference": {
            way: {
                "largest": float(np.abs(output - outputs["unfused"]).max()),
                "above_0.001_per_million": round(1e6 * float((np.abs(output - outputs["unfused"]) > 1e-3).mean())),
            }
            for way, output in outputs.items()
            if way != "unfused"
        },
    }


def gigabytes(weights_file: Path, channels: int) -> float:
    """Memory that weights need for a million pixels, measured on 1024 x 1024 px in a process of its own."""
    code = MEMORY.format(channels=channels, size=1024)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(weights_file)], check=True, capture_output=True, text=True
    )
    return round(int(done.stdout) * 1024 / 1e9 / (1024 * 1024 / 1e6), 2)


def timed(call: Callable[[], np.ndarray[Any, Any]]) -> tuple[float, np.ndarray[Any, Any]]:
    """Seconds and result of one call."""
    begin = time.perf_counter()
    output = call()
    return time.perf_counter() - begin, output


def score(network: Callable[[xr.DataArray], xr.DataArray], data_dir: Path | None) -> float:
    """Foreground IoU at 0.5 on all test images of the target."""
    tests = load_dataset(TARGET, "test", data_dir=data_dir)
    masks = [network(entry.image).values[0] >= 0.5 for entry in tests]
    return score_masks(masks, [entry.labels.values > 0 for entry in tests]).iou


def compare_filters(image: xr.DataArray) -> dict[str, dict[str, float]]:
    """Largest error of each feature against float64, relative to its largest value: of our filters, of bioimage-cpp."""
    selection = FeatureSelection()
    values = torch.from_numpy(np.ascontiguousarray(image.values[np.newaxis, :, :SIZE, :SIZE], dtype=np.float32))
    bank = FilterBank(selection.scales, channels=image.sizes["channel"])
    with torch.inference_mode():
        ours = bank(values)[0].numpy()
        exact = bank.double()(values.double())[0].numpy()
    theirs = selection.compute(image.isel(y=slice(0, SIZE), x=slice(0, SIZE)))
    largest = np.abs(exact).max(axis=(1, 2))
    pairs = {"ours": (ours, exact), "bioimage-cpp": (theirs.values, exact), "difference": (ours, theirs.values)}
    errors = {name: np.abs(one - two).max(axis=(1, 2)) / largest for name, (one, two) in pairs.items()}
    return {
        feature: {name: float(error[index]) for name, error in errors.items()}
        for index, feature in enumerate(theirs.feature.values.tolist())
    }


def not_fused(fused: Fused, image: xr.DataArray) -> xr.DataArray:
    """What `adapt` calls enhanced: the whole forest's probabilities, which the enhancer mirrors at the border."""
    forest = fused.original
    return fused.enhancer.enhance(forest.predict_proba(image), forest.contract)


def compare_at_border(fused: Fused, image: xr.DataArray) -> dict[str, float]:
    """Largest difference between what `adapt` calls fused and enhanced, near the border of an image and inside."""
    difference = np.abs(apply_network(fused.model, image).values - not_fused(fused, image).values)
    inside = difference[:, BORDER:-BORDER, BORDER:-BORDER]
    near = difference.copy()
    near[:, BORDER:-BORDER, BORDER:-BORDER] = 0
    return {"border": float(near.max()), "inside": float(inside.max())}


def to_markdown(figures: dict[str, Any], command: str) -> str:
    """Two tables: accuracy, and cost."""
    lines = [
        "# One network instead of filters, forest and enhancer",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}, enhancer",
        f"`{ENHANCER}`; {torch.get_num_threads()} cores.",
        "",
        "## Accuracy",
        "",
        f"Foreground IoU at 0.5 on the test split of {TARGET}; forest fitted on {N_STROKES} strokes per class of one",
        f"training image, seed 0. Not fused: {figures['unfused_iou']:.4f}.",
        "",
        "| fused | IoU | difference | pixels of the training image that change sides |",
        "|---|---|---|---|",
    ]
    for name, entry in figures["accuracy"].items():
        lost = "–" if entry["changed"] is None else f"{100 * entry['changed']:.2f} %"
        lines.append(f"| {name} | {entry['iou']:.4f} | {entry['iou'] - figures['unfused_iou']:+.4f} | {lost} |")
    lines += [
        "",
        "Filters: largest error against a float64 computation, relative to the largest value of the feature, on",
        f"the first {SIZE} x {SIZE} px of an image. All features whose difference from bioimage-cpp is above 1e-4,",
        "else the worst one.",
        "",
        "| image | feature | ours | bioimage-cpp | ours from bioimage-cpp |",
        "|---|---|---|---|---|",
    ]
    for name, features in figures["filters"].items():
        ordered = sorted(features.items(), key=lambda item: -item[1]["difference"])
        shown = [item for item in ordered if item[1]["difference"] > 1e-4] or ordered[:1]
        lines += [
            f"| {name} | {feature} | {one['ours']:.1e} | {one['bioimage-cpp']:.1e} | {one['difference']:.1e} |"
            for feature, one in shown
        ]
    border = figures["border"]
    lines += [
        "",
        (
            f"On the training image, the fused network (on the mirrored raw image) and the enhancer (on mirrored "
            f"probabilities) differ by at most {border['border']:.3f} within {BORDER} px of the border, and by at most "
            f"{border['inside']:.3f} further inside."
        ),
        "",
        "## Cost",
        "",
        f"Seconds for {SIZE} x {SIZE} px, median of {RUNS} runs that alternate (in brackets the first call); MB of the",
        "ONNX, TorchScript and state dict files; GB: memory for a million pixels with ONNX and TorchScript.",
        "“Unfused” are bioimage-cpp's filters, sklearn's trees and the enhancer, one after another. The last columns",
        "are the largest difference of any format from that, and how many values differ by more than 0.001.",
        "",
        "| forest | trees | nodes | depth | unfused | ONNX | TorchScript | state dict | MB | GB | largest | > 0.001 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in figures["cost"].items():
        times = [f"{entry['seconds'][way]} ({entry['first_seconds'][way]})" for way in entry["seconds"]]
        size = entry["megabytes"]
        sizes = f"{size['weights.onnx']}, {size['weights.pt']}, {size['weights_state_dict.pt']}"
        largest = max(one["largest"] for one in entry["difference"].values())
        above = max(one["above_0.001_per_million"] for one in entry["difference"].values())
        counts = f"{entry['trees']} | {entry['nodes']} | {entry['depth']}"
        memory = ", ".join(map(str, entry["gigabytes_of_memory_per_megapixel"].values()))
        lines.append(f"| {name} | {counts} | {' | '.join(times)} | {sizes} | {memory} | {largest:.4f} | {above} ppm |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with local copies of the datasets")
    options = parser.parse_args()
    enhancer = load_enhancer(find_model(ENHANCER))
    classifier = strokes_forest(options.data_dir)
    training = load_dataset(TARGET, "train", data_dir=options.data_dir)[0].image
    accuracy, cost = {}, {}
    for limits in LIMITS:
        fused = fuse(classifier, enhancer, limits)
        loss = fused.loss([training])
        kept = {"trees": limits.trees, "depth": limits.max_depth}
        name = ", ".join(f"{key} {value}" for key, value in kept.items() if value) or "whole forest"
        iou = score(partial(apply_network, fused.model), options.data_dir)
        accuracy[name] = {"iou": iou, "changed": None if loss is None else loss.changed}
        cost[f"strokes, {name}"] = measure(fused, training)
    large = large_forest(options.data_dir)
    picture = load_dataset("mito_vnc", "train", data_dir=options.data_dir)[0].image
    for name, limits in (("whole forest", FusionSettings()), ("depth 10", FusionSettings(max_depth=10))):
        cost[f"4000 labelled px, {name}"] = measure(fuse(large, enhancer, limits), picture)
    whole = fuse(classifier, enhancer, FusionSettings())
    figures = {
        "unfused_iou": score(partial(not_fused, whole), options.data_dir),
        "filters": {TARGET: compare_filters(training), "mito_vnc": compare_filters(picture)},
        "border": compare_at_border(whole, training),
        "accuracy": accuracy,
        "cost": cost,
    }
    write_outcome("fused", to_markdown(figures, command_of(__file__)), figures)


if __name__ == "__main__":
    main()
