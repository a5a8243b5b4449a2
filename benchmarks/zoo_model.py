"""A real, trained model of another project, finetuned on strokes and exported again: is it better than it was?

The nuclei model unet2d_nuclei_broad (2D U-Net, DSB 2018, fixed tiles of 512 px) is downloaded by its id from a server
on this machine, trained further by `adapt` on GOWT1 (strokes simulated on two training images, pseudo-labels by the
bundled enhancer), written as a package, tested by bioimageio.core and scored on the test split, which is used for
nothing else.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/zoo_model.py --data-dir ../shared/data

Writes benchmarks/results/zoo_model.md and .json; a finished run is not run again (--output keeps it).
"""

import argparse
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from bioimageio.core import test_model
from outcome import command_of, write_outcome
from tests.zoo.local_zoo import Server, Zoo

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import write_json
from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.images import write_image
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.finetune.finetuning import FINETUNING_RATE, SegmentorSettings
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.cell_files import read_finished
from s2d_zoo.pipeline.inputs import AdaptInputs, hash_path
from s2d_zoo.pipeline.job import AdaptSettings
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.pipeline.report import summarise, write_report
from s2d_zoo.rf_adapter.source_forests import hash_sources
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.download import download_model

FORMAT, FORMAT_VERSION = "s2d-zoo/zoo-model", 1
MODEL = "nuclei-broad"
N_PAINTED, N_STROKES, SEED, STEPS = 2, 10, 0, 300
ENHANCER = "nuclei-fluo-2d"
LINES = ("RF", "enhanced", "base model, untouched", "segmentor", "segmentor, strokes only")


def download(folder: Path, cache: Path) -> None:
    """Serve the model as the zoo does, and download it by its id into a cache of its own."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "rdf.yaml"}
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
    with Server() as server, tempfile.TemporaryDirectory() as served:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ |= {
            "S2D_ZOO_CACHE": str(cache.resolve()),
            "BIOIMAGEIO_COLLECTION_INDEX_URL": server.url("/index.json"),
            "S2D_ZOO_COLLECTION_LIST": server.url("/list.json"),
        }
        Zoo(server, Path(served)).publish(MODEL, rdf, files)
        download_model(MODEL)
        server.shutdown()


def write_inputs(folder: Path, data_dir: Path) -> AdaptInputs:
    """Training images with strokes, and test images with their labels, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    training = load_dataset("nuclei_gowt1", "train", data_dir=data_dir)[:N_PAINTED]
    for number, entry in enumerate(training):
        strokes = simulate_scribbles(binary_classes(entry.labels), n_strokes=N_STROKES, seed=SEED * 1000 + number)
        write_image(folder / f"train-{entry.name}.tif", entry.image, overwrite=True)
        write_image(folder / f"strokes-{entry.name}.tif", strokes, overwrite=True)
    tests = load_dataset("nuclei_gowt1", "test", data_dir=data_dir)
    for entry in tests:
        write_image(folder / f"test-{entry.name}.tif", entry.image, overwrite=True)
        write_image(folder / f"truth-{entry.name}.tif", entry.labels, overwrite=True)
    return AdaptInputs(
        images=tuple(folder / f"train-{entry.name}.tif" for entry in training),
        scribbles=tuple(folder / f"strokes-{entry.name}.tif" for entry in training),
        enhancer=ENHANCER,
        base_model=MODEL,
        test_images=tuple(folder / f"test-{entry.name}.tif" for entry in tests),
        test_ground_truth=tuple(folder / f"truth-{entry.name}.tif" for entry in tests),
    )


def run(output: Path, data_dir: Path, *, overwrite: bool) -> dict[str, Any]:
    """Adapt, or take the result that is there."""
    base = data_dir / "zoo" / "unet2d_nuclei_broad"
    segmentor = SegmentorSettings()
    training = replace(segmentor.training, steps=STEPS, learning_rate=FINETUNING_RATE)
    settings = AdaptSettings(
        attribution=Attribution(authors=(Author(name="The s2d-zoo developers"),), license="CC-BY-4.0"),
        model_name="Nuclei Broad on GOWT1",
        segmentor=replace(segmentor, training=training),
        seed=SEED,
    )
    facts = {
        "s2d_zoo_version": __version__,
        "settings": to_plain(settings),
        "enhancer": hash_path(find_model(ENHANCER)),
        "base model": hash_path(base),
        "images": [hash_sources(load_dataset("nuclei_gowt1", split, data_dir=data_dir)) for split in ("train", "test")],
        "strokes": [N_PAINTED, N_STROKES],
    }
    path = output / "figures.json"
    found = read_finished(
        path, facts, form=FORMAT, version=FORMAT_VERSION, what="a finetuned model", overwrite=overwrite
    )
    if found is not None:
        return found
    download(base, output / "cache")
    inputs = write_inputs(output / "inputs", data_dir)
    result = adapt(inputs, settings, output / "adapted", existing="overwrite")
    write_report(result)
    summary = summarise(result)
    package = result.packages[0]
    with open_package(package) as contents:
        rdf = dict(contents.rdf)
    difference = result.segmentors.difference
    figures = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "scores": summary["scores"]["test"],
        "held_out_iou": summary["held_out_iou"],
        "held_out_calibration_error": summary["held_out_calibration_error"],
        "kept_fraction": summary["kept_fraction"],
        "problem": summary["problem"],
        "parent": rdf.get("parent"),
        "weights_formats": list(rdf["weights"]),
        "bioimageio_test": test_model(package).status,
        "verdicts": next(one["verdicts"] for one in summary["packages"] if one["path"].endswith(package.name)),
        "weights_table": "" if difference is None else difference.table(),
        "seconds": summary["seconds"],
        "facts": facts,
    }
    write_json(path, figures)
    return figures


def to_markdown(figures: dict[str, Any], command: str) -> str:
    """What was measured."""
    kept = f"{100 * figures['kept_fraction']:.1f} % kept"
    held, calibration = figures["held_out_iou"], figures["held_out_calibration_error"]
    parent = figures["parent"]
    lines = [
        "# A model of another project, finetuned",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}: unet2d_nuclei_broad, downloaded by its id,",
        f"trained further for {STEPS} steps on nuclei_gowt1 (strokes: simulated, {N_STROKES} per class on each of",
        f"{N_PAINTED} training images, seed {SEED}; pseudo-labels by {ENHANCER}, {kept}).",
        "Foreground IoU and Dice at 0.5 on the test split, all its images taken together.",
        "",
        "| method | IoU | Dice |",
        "|---|---|---|",
        *(
            f"| {name} | {figures['scores'][name]['iou']:.3f} | {figures['scores'][name]['dice']:.3f} |"
            for name in LINES
            if name in figures["scores"]
        ),
        "",
        "*Segmentor* is the model after training on pseudo-labels, *segmentor, strokes only* the same model trained on",
        "the strokes alone.",
        "",
        "| on the held-out strokes | before | after |",
        "|---|---|---|",
        f"| IoU | {held['start']:.3f} | {held['segmentor']:.3f} |",
        f"| calibration error | {calibration['start']:.3f} | {calibration['segmentor']:.3f} |",
        "",
        (
            f"The package: parent {parent['id']}, version {parent['version']}; weights as "
            f"{' and '.join(figures['weights_formats'])}; `bioimageio test`: {figures['bioimageio_test']}."
        ),
        "",
        *(f"- {one['program']}: {one['verdict']}" for one in figures["verdicts"]),
        "",
        "What changed in the weights:",
        "",
        "```",
        figures["weights_table"],
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with local copies of data and zoo model")
    parser.add_argument("--output", type=Path, default=Path("build/zoo_model"), help="folder for the run")
    parser.add_argument("--overwrite", action="store_true", help="run again what was made from something else")
    options = parser.parse_args()
    figures = run(options.output, options.data_dir, overwrite=options.overwrite)
    # the server on this machine is that of the tests
    write_outcome("zoo_model", to_markdown(figures, f"PYTHONPATH=. {command_of(__file__)}"), figures)


if __name__ == "__main__":
    main()
