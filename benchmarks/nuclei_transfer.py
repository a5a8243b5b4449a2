"""Does the bundled enhancer help on nuclei that it was not trained on?

For each target, strokes are simulated on the first training image (10 per class, seed 0), `adapt` runs with its
defaults, and every method is scored on the test split, which is used for nothing else.

    python benchmarks/nuclei_transfer.py --data-dir ../shared/data

Writes benchmarks/results/nuclei_transfer.md and .json; a finished target is not run again (--output keeps it).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from outcome import command_of, write_outcome

from s2d_zoo._version import __version__
from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.images import write_image
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.inputs import AdaptInputs, hash_path
from s2d_zoo.pipeline.job import AdaptSettings
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.zoo.collection import find_model

TARGETS = ("nuclei_hela", "nuclei_gowt1")
ENHANCER = "nuclei-fluo-2d"
N_STROKES = 10
SEED = 0


def write_inputs(target: str, folder: Path, data_dir: Path | None) -> AdaptInputs:
    """First training image with simulated strokes, and all test images, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    first = load_dataset(target, "train", data_dir=data_dir)[0]
    strokes = simulate_scribbles(binary_classes(first.labels), n_strokes=N_STROKES, seed=SEED)
    write_image(folder / "train.tif", first.image, overwrite=True)
    write_image(folder / "strokes.tif", strokes, overwrite=True)
    tests = load_dataset(target, "test", data_dir=data_dir)
    for entry in tests:
        write_image(folder / f"test-{entry.name}.tif", entry.image, overwrite=True)
        write_image(folder / f"truth-{entry.name}.tif", entry.labels, overwrite=True)
    return AdaptInputs(
        images=(folder / "train.tif",),
        scribbles=(folder / "strokes.tif",),
        enhancer=ENHANCER,
        test_images=tuple(folder / f"test-{entry.name}.tif" for entry in tests),
        test_ground_truth=tuple(folder / f"truth-{entry.name}.tif" for entry in tests),
    )


def run_target(target: str, output: Path, data_dir: Path | None) -> dict[str, Any]:
    """Adapt to a target, or take the result that is there."""
    folder = output / f"{target}-{hash_path(find_model(ENHANCER))[:8]}"  # another enhancer is another run
    report = folder / "adapted" / "report.json"
    if not report.exists():
        inputs = write_inputs(target, folder / "inputs", data_dir)
        attribution = Attribution(authors=(Author(name="The s2d-zoo developers"),), license="CC-BY-NC-4.0")
        settings = AdaptSettings(attribution=attribution, model_name=f"Benchmark {target}", seed=SEED)
        result = adapt(inputs, settings, folder / "adapted", existing="overwrite")
        write_report(result)
    facts: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return facts


def to_markdown(results: dict[str, dict[str, Any]], command: str) -> str:
    """A table: methods down, targets across."""
    methods = list(next(iter(results.values()))["scores"]["test"])
    lines = [
        "# Nuclei: from DSB 2018 to HeLa and GOWT1",
        "",
        f"Made by `{command}` with s2d-zoo {__version__} and the bundled enhancer `{ENHANCER}` (trained on",
        (
            "nuclei_dsb_fluo and simulated nuclei only). Strokes: simulated, "
            f"{N_STROKES} per class on one training image, seed {SEED}."
        ),
        "Foreground IoU at 0.5 on the test split, all its images taken together.",
        "",
        "| method | " + " | ".join(results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for method in methods:
        scores = [f"{facts['scores']['test'][method]['iou']:.3f}" for facts in results.values()]
        lines.append(f"| {method} | " + " | ".join(scores) + " |")
    kept = [f"{100 * facts['kept_fraction']:.1f} %" for facts in results.values()]
    lines.append("| pseudo-labels kept | " + " | ".join(kept) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run all targets and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with local copies of the datasets")
    parser.add_argument("--output", type=Path, default=Path("build/nuclei_transfer"), help="folder for the runs")
    options = parser.parse_args()
    results = {target: run_target(target, options.output, options.data_dir) for target in TARGETS}
    kept = ("scores", "kept_fraction", "held_out_iou", "strokes", "seconds", "seed", "s2d_zoo_version", "good")
    figures = {target: {key: facts[key] for key in kept} for target, facts in results.items()}
    write_outcome("nuclei_transfer", to_markdown(results, command_of(__file__)), figures)


if __name__ == "__main__":
    main()
