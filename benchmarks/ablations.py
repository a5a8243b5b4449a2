"""What makes an enhancer better: variants of the recipe mito-em-2d, one change each, all with the same short training.

One is trained as long as the recipe says, since what learns faster need not be better in the end; so is the recipe's
rival, with whose wider network and upright patches it began.

Scored where nothing was trained on, and on no test split: on validation sections of the source (mito_vnc, forests of
their own), and on training slices of a target (mito_epfl, strokes on two of them, scores on six others). The latter
are the question: how does it do on a data set that it never saw? By them the recipe was chosen, so what it reaches on
that target's test split is what a user gets who had labels of some slices to choose an enhancer by.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --data-dir ../shared/data

Writes benchmarks/results/ablations.md and .json. Each variant is a cell of its own below --output, which is not run
again; with --variant, only that one is run, so that several processes can share the work.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ablation_variants import STEPS, VARIANTS, forest_sets
from outcome import command_of, write_outcome

from s2d_zoo._version import __version__
from s2d_zoo.contract import RFContract
from s2d_zoo.data.atomic import atomic_write, read_json, write_json
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.dataset import ProbabilityMap
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.training import train_enhancer
from s2d_zoo.pipeline.cell_files import checkpoint_folder, read_finished
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.pretrain_sources import source_images
from s2d_zoo.pipeline.recipes import read_recipe
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.persistence import load_classifier, save_classifier
from s2d_zoo.rf_adapter.source_forests import SourceForests, SourceForestSettings, hash_sources
from s2d_zoo.types import CHANNEL

FORMAT = "s2d-zoo/ablation"
FORMAT_VERSION = 1  #: of how a variant is measured, too
ROOT = Path(__file__).parent.parent
TARGET = "mito_epfl"
PAINTED = (8, 15)  #: of the target's train split
SCORED = (1, 5, 11, 18, 20, 23)
STROKES = ((5, 0), (15, 0), (15, 1), (40, 0))  #: per class and painted slice; seed
FACTORS = (1.0, 0.75, 1.5)  #: by which the target's probabilities are resized


def run(
    name: str, settings: PretrainSettings, folder: Path, recipe_forests: Path, data_dir: Path, *, overwrite: bool
) -> dict[str, Any]:
    """Train and score one variant, or read what was found before."""
    variant = VARIANTS[name]
    training, validation = source_images(settings.source, data_dir, seed=settings.seed)
    sets = forest_sets(replace(settings.forests, seed=settings.seed))
    short = replace(settings.enhancer.training, steps=variant.steps, seed=settings.seed)
    network = variant.enhancer(replace(settings.enhancer, training=short))
    facts = {
        "s2d_zoo_version": __version__,
        "enhancer": to_plain(network),
        "forests": to_plain(sets[variant.forests]),
        "n_forests": variant.n_forests,
        "images": hash_sources(training),
        "validation images": hash_sources(validation),
        "target": [TARGET, list(PAINTED), list(SCORED), [list(one) for one in STROKES], list(FACTORS)],
        "target images": hash_sources(load_dataset(TARGET, "train", data_dir=data_dir)),
    }
    if variant.further is not None:
        facts["further forests"] = to_plain(sets[variant.further])
    path = folder / "cells" / f"{name}.json"
    found = read_finished(path, facts, form=FORMAT, version=FORMAT_VERSION, what="an ablation", overwrite=overwrite)
    if found is not None:
        return found
    named = [variant.forests, *([variant.further] if variant.further else [])]
    grown = [
        _grown(
            training,
            recipe_forests if one == "recipe" else folder / f"forests-{one.replace(' ', '-')}",
            sets[one],
            f"{name}: forests",
        )
        for one in named
    ]
    fewer = replace(settings.forests, n_forests=24, seed=settings.seed + 1)
    held_out = _grown(validation, folder / "forests-validation", fewer, "validation forests")
    maps = [one for forests in grown for one in forests.maps()]
    if variant.n_forests is not None:
        chosen = _spread(grown[0].settings, variant.n_forests)
        maps = [one for one in maps if one.forest in chosen]
    start = time.perf_counter()
    trained = train_enhancer(
        [ProbabilityMap(probabilities=one.probabilities, labels=one.labels) for one in maps],
        [ProbabilityMap(probabilities=one.probabilities, labels=one.labels) for one in held_out.maps()],
        network,
        folder=checkpoint_folder(folder / "checkpoints" / name, facts) / "training",
        progress=name,
    )
    seconds = time.perf_counter() - start
    contract = grown[0].classifier(0).contract
    enhancer = Enhancer(id=name, model=trained.model, contract=contract)
    source = score_masks(
        [
            apply_network(trained.model, _as_map(one.probabilities / np.float32(255))).values[0] >= 0.5
            for one in held_out.maps()
        ],
        [one.labels.values > 0 for one in held_out.maps()],
    )
    figures = {
        "source": round(source.iou, 4),
        "target": _on_target(enhancer, folder, data_dir),
        "parameters": sum(values.numel() for values in trained.model.parameters()),
        "receptive_radius": trained.model.receptive_radius,
        "steps": trained.steps,
        "seconds": round(seconds, 1),
    }
    write_json(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **figures, "facts": facts})
    written: dict[str, Any] = read_json(path)
    return written


def _grown(images: Sequence[LabelledImage], where: Path, settings: SourceForestSettings, label: str) -> SourceForests:
    forests = SourceForests(images, where, settings)
    forests.grow(progress=label)
    return forests


def _spread(settings: SourceForestSettings, count: int) -> set[int]:
    """As many forests, the first ones of every stage."""
    order = sorted(range(settings.n_forests), key=lambda number: (number % settings.per_stage, number))
    return set(order[:count])


def _as_map(foreground: np.ndarray[Any, Any]) -> xr.DataArray:
    return xr.DataArray(foreground[np.newaxis].astype(np.float32), dims=(CHANNEL, "y", "x"))


def _on_target(enhancer: Enhancer, folder: Path, data_dir: Path) -> dict[str, dict[str, float]]:
    """IoU of forest and enhancer for each number of strokes, on slices of the target's train split."""
    slices = load_dataset(TARGET, "train", data_dir=data_dir)
    truth = [slices[index].labels.values > 0 for index in SCORED]
    found: dict[str, dict[str, float]] = {}
    for strokes, seed in STROKES:
        maps, contract = _target_maps(slices, strokes, seed, folder)
        masks = {"RF": [one.values[1] >= 0.5 for one in maps]}
        for factor in FACTORS:
            enhanced = [enhancer.enhance(one, contract, rescale=factor) for one in maps]
            masks[f"x{factor:g}"] = [one.values[0] >= 0.5 for one in enhanced]
        found[f"{strokes}-{seed}"] = {name: round(score_masks(mask, truth).iou, 4) for name, mask in masks.items()}
    return found


def _target_maps(
    slices: Sequence[LabelledImage], strokes: int, seed: int, folder: Path
) -> tuple[list[xr.DataArray], RFContract]:
    """What a forest on few strokes says of the slices that are scored; kept, since every variant needs it."""
    facts = [__version__, FORMAT_VERSION, hash_sources(slices), PAINTED, SCORED]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    path = folder / "target" / f"{strokes}-{seed}-{digest}.npy"
    saved = path.with_suffix(".safetensors")
    if not path.exists():
        painted = [
            simulate_scribbles(binary_classes(slices[index].labels), n_strokes=strokes, seed=seed * 1000 + index)
            for index in PAINTED
        ]
        forest = PixelClassifier(random_state=seed).fit([slices[index].image for index in PAINTED], painted)
        selection = FeatureSelection()
        kept = [forest.predict_features(selection.compute(slices[index].image)).values for index in SCORED]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_classifier(forest, saved)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack(kept))
    return [xr.DataArray(one, dims=(CHANNEL, "y", "x")) for one in np.load(path)], load_classifier(saved).contract


def to_markdown(cells: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """Variants down."""
    counts = sorted({strokes for strokes, _ in STROKES})

    def mean(cell: Mapping[str, Any], strokes: int, which: str) -> float:
        return float(np.mean([cell["target"][f"{one}-{seed}"][which] for one, seed in STROKES if one == strokes]))

    rows: list[Sequence[str]] = []
    first = next(iter(cells.values()))
    rows.append(
        [
            "Random Forest alone",
            "",
            *(f"{mean(first, count, 'RF'):.3f}" for count in counts),
            *[""] * (len(FACTORS) + 1),
        ]
    )
    for name, cell in cells.items():
        rows.append(
            [
                VARIANTS[name].words,
                f"{cell['source']:.3f}",
                *(f"{mean(cell, count, 'x1'):.3f}" for count in counts),
                *(f"{mean(cell, 15, f'x{factor:g}'):.3f}" for factor in FACTORS[1:]),
                f"{cell['parameters'] / 1000:.0f}",
                f"{cell['receptive_radius']}",
            ]
        )
    head = [
        "variant",
        "source",
        *(f"target, {count} strokes" for count in counts),
        *(f"15 strokes, x{factor:g}" for factor in FACTORS[1:]),
    ]
    head += ["parameters / 1000", "reach / px"]
    lines = [
        "# What makes an enhancer better",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}.",
        "Foreground IoU at 0.5. Every variant is the recipe mito-em-2d with one change, trained for",
        f"{STEPS} steps where nothing else is said, one seed. *Source*: validation sections of",
        "mito_vnc, 24 forests of their own, which also chose the weights of a training that are kept. *Target*:",
        f"mito_epfl, train split: strokes per class on each of {len(PAINTED)} slices, scores on {len(SCORED)} others",
        "(mean of two seeds at 15 strokes); *x1.5*: probabilities resized by that factor. By the target's slices the",
        "recipe was chosen. No test split was looked at.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Run all variants that are not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with local copies of the datasets")
    parser.add_argument("--output", type=Path, default=Path("build/ablations"), help="folder for the cells")
    parser.add_argument(
        "--forests", type=Path, default=Path("build/mito-em-2d/forests"), help="forests of the recipe, if grown before"
    )
    parser.add_argument("--overwrite", action="store_true", help="run cells again that were made from something else")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only this one, without the table")
    options = parser.parse_args()
    settings = read_recipe(ROOT / "recipes" / "mito-em-2d.toml").pretrain
    cells = {
        name: run(name, settings, options.output, options.forests, options.data_dir, overwrite=options.overwrite)
        for name in options.variant or VARIANTS
    }
    if options.variant:
        return
    write_outcome("ablations", to_markdown(cells, command_of(__file__)), cells)


if __name__ == "__main__":
    main()
