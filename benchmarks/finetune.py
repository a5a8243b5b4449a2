"""What a segmentor gains from pseudo-labels, and from each way of weighting them, against its rivals.

On each target, strokes are simulated on two training images. A forest learns them, an enhancer that never saw the
target corrects it, and five forests on resampled strokes vote on pseudo-labels of several training images. The same
small network is then trained on them with each weighting, on the strokes alone, and on the true labels of the same
training images (the ceiling). All are scored on the test split, which is used for nothing else.

    OMP_NUM_THREADS=1 python benchmarks/finetune.py --data-dir ../shared/data

Segmentors have their default settings, but for the precision where one is given; with --target, only that one is run,
so that two processes can share the work.

Writes benchmarks/results/finetune.md. Each training is a file of its own in benchmarks/results/finetune, which is not
run again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import xarray as xr
from outcome import RESULTS, command_of, write_table

from s2d_zoo._version import __version__
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.scribbles import resample_strokes
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.finetune.finetuning import SegmentorSettings, fit_segmentor, new_segmentor
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, consensus_labels, dense_labels, stroke_labels
from s2d_zoo.finetune.weighting import WEIGHTINGS
from s2d_zoo.pipeline.cell_files import differing
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.source_forests import hash_sources
from s2d_zoo.trainer import TrainingSettings
from s2d_zoo.trainer.settings import Precision
from s2d_zoo.zoo.collection import find_model

N_PAINTED = 2  #: training images with strokes
ONE_PAINTED = ("nuclei_gowt1",)  #: of its three images, both positions are the one in the middle
N_STROKES = 10  #: per class and painted image
N_FORESTS = 5
SEEDS = (0, 1, 2)
TRAINED = (*(f"segmentor, {name}" for name in WEIGHTINGS), "segmentor, strokes only", "segmentor, all true labels")
METHODS = ("RF", "enhancer", *TRAINED)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A data set, and the enhancer for it."""

    name: str
    enhancer: str
    n_images: int  #: training images with pseudo-labels, evenly spread


def measure(target: Target, training: TrainingSettings, data_dir: Path) -> list[dict[str, dict[str, Any]]]:
    """All methods of one target, seed by seed.

    Raises:
        SystemExit: if files are there that were made from something else.
    """
    output = RESULTS / "finetune" / target.name
    facts = {
        "s2d_zoo_version": __version__,
        "target": to_plain(target),
        "enhancer": hash_path(find_model(target.enhancer)),
        "images": [hash_sources(load_dataset(target.name, split, data_dir=data_dir)) for split in ("train", "test")],
        "strokes": [N_PAINTED, N_STROKES],
        "n_forests": N_FORESTS,
        "segmentor": to_plain(SegmentorSettings(training=training)),
    }
    noted = output / "facts.json"
    if noted.exists() and (different := differing(facts, read_json(noted))):
        msg = f"{output} was made with other {', '.join(different)}. Remove it to measure {target.name} again."
        raise SystemExit(msg)
    output.mkdir(parents=True, exist_ok=True)
    write_json(noted, facts)
    return [_measure(target, seed, training, output / f"seed-{seed}", data_dir) for seed in SEEDS]


def _measure(
    target: Target, seed: int, training: TrainingSettings, folder: Path, data_dir: Path
) -> dict[str, dict[str, Any]]:
    """All methods of one target and seed; what lies in a file is not run again."""
    files = {method: folder / f"{method.replace(', ', '-').replace(' ', '-')}.json" for method in METHODS}
    if not all(path.exists() for path in files.values()):
        _run(target, replace(training, seed=seed), files, folder, data_dir)
    return {method: read_json(path) for method, path in files.items()}


def _run(target: Target, how: TrainingSettings, files: dict[str, Path], folder: Path, data_dir: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seed = how.seed
    training = load_dataset(target.name, "train", data_dir=data_dir)
    positions = np.linspace(0, len(training) - 1, min(target.n_images, len(training))).round().astype(int)
    training = tuple(training[position] for position in positions)
    tests = load_dataset(target.name, "test", data_dir=data_dir)
    painted = [round(position) for position in np.linspace(0, len(training) - 1, N_PAINTED + 2)[1:-1]]
    strokes = [
        simulate_scribbles(binary_classes(one.labels), n_strokes=N_STROKES, seed=seed * 1000 + index)
        if index in painted
        else xr.zeros_like(one.labels, dtype=np.uint8)
        for index, one in enumerate(training)
    ]
    enhancer = load_enhancer(find_model(target.enhancer))
    images = [one.image for one in training]
    forest = PixelClassifier(random_state=seed).fit(images, strokes)
    if not (files["RF"].exists() and files["enhancer"].exists()):
        start = time.perf_counter()
        maps = [forest.predict_proba(one.image) for one in tests]
        _write(files["RF"], [one[1] for one in maps], tests, time.perf_counter() - start)
        enhanced = [enhancer.enhance(one, forest.contract)[0] for one in maps]
        _write(files["enhancer"], enhanced, tests, time.perf_counter() - start)
    labels = None
    for method in TRAINED:
        if not files[method].exists():
            labels = labels or _pseudo_labels(enhancer, images, strokes, seed)
            _train(method, files[method], training, strokes, labels, tests, how)


def _pseudo_labels(
    enhancer: Enhancer, images: Sequence[xr.DataArray], strokes: Sequence[xr.DataArray], seed: int
) -> list[PseudoLabels]:
    members: list[list[xr.DataArray]] = [[] for _ in images]
    for number in range(1, N_FORESTS + 1):
        drawn = resample_strokes(strokes, seed=seed * 1000 + number)
        forest = PixelClassifier(random_state=seed * 1000 + number).fit(images, drawn)
        for one, image in zip(members, images, strict=True):
            one.append(enhancer.enhance(forest.predict_proba(image), forest.contract))
    return [consensus_labels(one, scribbles=drawn) for one, drawn in zip(members, strokes, strict=True)]


def _train(
    method: str,
    file: Path,
    training: Sequence[LabelledImage],
    strokes: Sequence[xr.DataArray],
    pseudo: Sequence[PseudoLabels],
    tests: Sequence[LabelledImage],
    how: TrainingSettings,
) -> None:
    settings = SegmentorSettings(training=how)
    labels, images = list(pseudo), [one.image for one in training]
    if method == "segmentor, strokes only":
        # on painted images alone: patches of others would teach nothing, and cost steps
        painted = [index for index, one in enumerate(strokes) if (one > 0).any()]
        labels, images = [stroke_labels(strokes[index]) for index in painted], [images[index] for index in painted]
    elif method == "segmentor, all true labels":
        labels = [dense_labels(one.labels) for one in training]
        settings = replace(settings, weighting="none")
    else:
        settings = replace(settings, weighting=method.removeprefix("segmentor, "))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as checkpoints:
        model: UNet = fit_segmentor(
            new_segmentor(images, settings), images, labels, settings, folder=Path(checkpoints), progress=method
        ).model
    maps = [apply_network(model, one.image)[0] for one in tests]
    kept = float(np.mean([one.kept for one in labels]))
    facts = {} if method == "segmentor, strokes only" else {"kept": kept, "labels_iou": _labels_iou(labels, training)}
    _write(file, maps, tests, time.perf_counter() - start, **facts)


def _labels_iou(labels: Sequence[PseudoLabels], training: Sequence[LabelledImage]) -> float:
    predicted = [one.labels.values[0] >= 0.5 for one in labels]
    return score_masks(predicted, [one.labels.values > 0 for one in training]).iou


def _write(
    file: Path, maps: Sequence[xr.DataArray], tests: Sequence[LabelledImage], seconds: float, **further: float
) -> None:
    score = score_masks([one.values >= 0.5 for one in maps], [one.labels.values > 0 for one in tests])
    figures = {"iou": round(score.iou, 4), "dice": round(score.dice, 4), "seconds": round(seconds, 1)}
    write_json(file, {**figures, **{name: round(value, 4) for name, value in further.items()}})


def to_markdown(
    results: dict[str, list[dict[str, dict[str, Any]]]],
    targets: Sequence[Target],
    training: TrainingSettings,
    command: str,
) -> str:
    """Methods down, targets across: mean, and spread over the seeds."""
    lines = [
        "# Segmentors on pseudo-labels",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}. Strokes: simulated, {N_STROKES} per class on each of",
        (
            f"{N_PAINTED} training images ({' and '.join(ONE_PAINTED)}: on one); "
            f"pseudo-labels by {N_FORESTS} forests on "
            + ", ".join(f"{target.n_images} images of {target.name}" for target in targets)
            + f"; segmentors with their default settings ({training.steps} steps), trained in {training.precision}."
        ),
        f"Foreground IoU at 0.5 on the test split, all its images taken together: mean and range of {len(SEEDS)} seeds",
        "(of strokes, forests and networks). Weightings: see docs/explanation/pseudo-labels.md.",
        "",
        "| method | " + " | ".join(f"{target.name}" for target in targets) + " |",
        "|---|" + "---|" * len(targets),
    ]
    for method in METHODS:
        cells = [_cell([one[method]["iou"] for one in results[target.name]]) for target in targets]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    facts = {"pseudo-labels themselves, IoU on the training images": "labels_iou", "share of them that is kept": "kept"}
    for words, key in facts.items():
        found = [[one["segmentor, consensus"][key] for one in results[target.name]] for target in targets]
        lines.append(f"| {words} | " + " | ".join(map(_cell, found)) + " |")
    return "\n".join([*lines, ""])


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run all cells and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with local copies of the datasets")
    parser.add_argument("--precision", choices=get_args(Precision), default=SegmentorSettings().training.precision)
    parser.add_argument("--target", action="append", help="only this one; its table is shown, not written")
    options = parser.parse_args()
    training = replace(SegmentorSettings().training, precision=options.precision)
    targets = (
        Target(name="mito_epfl", enhancer="mito-em-2d", n_images=8),
        Target(name="nuclei_gowt1", enhancer="nuclei-fluo-2d", n_images=3),
    )
    results: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for target in targets:
        if options.target and target.name not in options.target:
            continue
        results[target.name] = measure(target, training, options.data_dir)
    chosen = [target for target in targets if target.name in results]
    table = to_markdown(results, chosen, training, command_of(__file__))
    if options.target:
        sys.stdout.write(table)
    else:
        write_table("finetune", table)


if __name__ == "__main__":
    main()
