"""What makes an enhancer better: variants of the recipe mito-em-2d, one change each, all with the same short training.

What learns faster need not be better in the end. So there is the bundled enhancer, too, which was trained as long as
the recipe says.

Scored where nothing was trained on, and on no test split: on validation sections of the source (mito_vnc, forests of
their own), and on training slices of a target (mito_epfl, strokes on two of them, scores on six others). The latter
are the question: how does it do on a data set that it never saw? By them the recipe was chosen, so what it reaches on
that target's test split is what a user gets who had labels of some slices to choose an enhancer by.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --data-dir ../shared/data

Writes benchmarks/results/ablations.md. Each variant is a file of its own in benchmarks/results/ablations, which is not
run again; with --variant, only that one is run, so that several processes can share the work. Forests, and what an
interrupted training needs to go on, are kept below --output.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from ablation_variants import SIZE, STEPS, VARIANTS, Variant, forest_sets
from outcome import RESULTS, command_of, write_table

from s2d_zoo._version import __version__
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.data.atomic import atomic_write, read_json, write_json
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.dataset import ProbabilityMap
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.enhancer.training import EnhancerSettings, train_enhancer
from s2d_zoo.pipeline.cell_files import checkpoint_folder, read_finished
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.pretrain_sources import source_images
from s2d_zoo.pipeline.recipes import read_recipe
from s2d_zoo.pipeline.record import to_plain
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.persistence import load_classifier, save_classifier
from s2d_zoo.rf_adapter.source_forests import SourceForests, SourceForestSettings, SourceMap, hash_sources
from s2d_zoo.types import CHANNEL
from s2d_zoo.zoo.collection import find_model

FORMAT = "s2d-zoo/ablation"
FORMAT_VERSION = 1  #: of how a variant is measured, too
RECIPE = "mito-em-2d"
RECIPE_FILE = Path(__file__).parent.parent / "recipes" / f"{RECIPE}.toml"
CELLS = RESULTS / "ablations"
TARGET = "mito_epfl"
PAINTED = (8, 15)  #: of the target's train split
SCORED = (1, 5, 11, 18, 20, 23)
STROKES = ((5, 0), (15, 0), (15, 1), (40, 0))  #: per class and painted slice; seed
FACTORS = (0.75, 1.5)  #: by which the target's probabilities are resized, too,
RESIZED = 15  #: at this number of strokes


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie."""

    data: Path
    output: Path
    recipe_forests: Path


def run(name: str, settings: PretrainSettings, places: Places, *, overwrite: bool) -> dict[str, Any]:
    """Train and score one variant, or read what was found before."""
    variant = VARIANTS[name]
    training, validation = source_images(settings.source, places.data, seed=settings.seed)
    facts = {
        "s2d_zoo_version": __version__,
        **_how(variant, settings),
        "images": hash_sources(training),
        "validation images": hash_sources(validation),
        "target": [TARGET, list(PAINTED), list(SCORED), [list(one) for one in STROKES], list(FACTORS), RESIZED],
        "target images": hash_sources(load_dataset(TARGET, "train", data_dir=places.data)),
    }
    path = CELLS / f"{name}.json"
    found = read_finished(path, facts, form=FORMAT, version=FORMAT_VERSION, what="an ablation", overwrite=overwrite)
    if found is not None:
        return found
    fewer = replace(settings.forests, n_forests=24, seed=settings.seed + 1)
    held_out = _grown(validation, places.output / "forests-validation", fewer, "validation forests").maps()
    if variant.bundled:
        enhancer = load_enhancer(find_model(RECIPE))
    else:
        maps, contract = _forests(name, settings, training, places)
        folder = checkpoint_folder(places.output / "checkpoints" / name, facts) / "training"
        trained = train_enhancer(
            _plain(maps), _plain(held_out), _network(variant, settings), folder=folder, progress=name
        )
        enhancer = Enhancer(id=name, model=trained.model, contract=contract)
    if not isinstance(enhancer.model, UNet):
        msg = f"{enhancer.id} has a network of somebody else's."
        raise SystemExit(msg)
    network = enhancer.model
    source = score_masks(
        [apply_network(network, _as_map(one.probabilities / np.float32(255))).values[0] >= 0.5 for one in held_out],
        [one.labels.values > 0 for one in held_out],
    )
    figures = {
        "source": round(source.iou, 4),
        "target": _on_target(enhancer, places),
        "parameters": sum(values.numel() for values in network.parameters()),
        "receptive_radius": network.receptive_radius,
    }
    write_json(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **figures, "facts": facts})
    written: dict[str, Any] = read_json(path)
    return written


def _how(variant: Variant, settings: PretrainSettings) -> dict[str, Any]:
    """What decides the network of a variant, as plain JSON."""
    if variant.bundled:
        return {"package": hash_path(find_model(RECIPE))}
    sets = forest_sets(replace(settings.forests, seed=settings.seed))
    further = {} if variant.further is None else {"further forests": to_plain(sets[variant.further])}
    return {
        "enhancer": to_plain(_network(variant, settings)),
        "forests": to_plain(sets[variant.forests]),
        **further,
        "n_forests": variant.n_forests,
    }


def _network(variant: Variant, settings: PretrainSettings) -> EnhancerSettings:
    training = replace(settings.enhancer.training, steps=STEPS, seed=settings.seed, precision="float32")
    patches = replace(settings.enhancer.patches, size=SIZE)
    return variant.enhancer(replace(settings.enhancer, training=training, patches=patches))


def _forests(
    name: str, settings: PretrainSettings, images: Sequence[LabelledImage], places: Places
) -> tuple[list[SourceMap], RFContract]:
    """What the forests of a variant say of the source, and which they are."""
    variant = VARIANTS[name]
    sets = forest_sets(replace(settings.forests, seed=settings.seed))
    named = [variant.forests, *([variant.further] if variant.further else [])]
    grown = []
    for one in named:
        where = places.recipe_forests if one == "recipe" else places.output / f"forests-{one.replace(' ', '-')}"
        grown.append(_grown(images, where, sets[one], f"{name}: forests"))
    maps = [one for forests in grown for one in forests.maps()]
    if variant.n_forests is not None:
        chosen = _spread(grown[0].settings, variant.n_forests)
        maps = [one for one in maps if one.forest in chosen]
    return maps, grown[0].classifier(0).contract


def _plain(maps: Sequence[SourceMap]) -> list[ProbabilityMap]:
    return [ProbabilityMap(probabilities=one.probabilities, labels=one.labels) for one in maps]


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


def _on_target(enhancer: Enhancer, places: Places) -> dict[str, dict[str, float]]:
    """IoU of forest and enhancer for each number of strokes, on slices of the target's train split."""
    slices = load_dataset(TARGET, "train", data_dir=places.data)
    truth = [slices[index].labels.values > 0 for index in SCORED]
    found: dict[str, dict[str, float]] = {}
    for strokes, seed in STROKES:
        maps, contract = _target_maps(slices, strokes, seed, places.output)
        masks = {"RF": [one.values[1] >= 0.5 for one in maps]}
        for factor in (1.0, *FACTORS) if strokes == RESIZED else (1.0,):
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
            *[""] * (len(FACTORS) + 2),
        ]
    )
    for name, cell in cells.items():
        rows.append(
            [
                VARIANTS[name].words,
                f"{cell['source']:.3f}",
                *(f"{mean(cell, count, 'x1'):.3f}" for count in counts),
                *(f"{mean(cell, RESIZED, f'x{factor:g}'):.3f}" for factor in FACTORS),
                f"{cell['parameters'] / 1000:.0f}",
                f"{cell['receptive_radius']}",
            ]
        )
    head = [
        "variant",
        "source",
        *(f"target, {count} strokes" for count in counts),
        *(f"{RESIZED} strokes, x{factor:g}" for factor in FACTORS),
    ]
    head += ["parameters / 1000", "reach / px"]
    lines = [
        "# What makes an enhancer better",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}.",
        "Foreground IoU at 0.5. Every variant is the recipe mito-em-2d with one change; all but the bundled",
        f"one: {STEPS} steps, patches of {SIZE} px, float32, one seed. *Source*: validation sections of",
        "mito_vnc, 24 forests of their own, which also chose the weights of a training that are kept. *Target*:",
        f"mito_epfl, train split: strokes per class on each of {len(PAINTED)} slices, scores on {len(SCORED)} others",
        f"(mean of two seeds at {RESIZED} strokes); *x1.5*: probabilities resized by that factor. By the",
        "target's slices the recipe was chosen. No test split was looked at.",
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
    parser.add_argument("--output", type=Path, default=Path("build/ablations"), help="folder for forests")
    parser.add_argument(
        "--forests", type=Path, default=Path(f"build/{RECIPE}/forests"), help="forests of the recipe, if grown before"
    )
    parser.add_argument("--overwrite", action="store_true", help="run cells again that were made from something else")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only this one, without the table")
    options = parser.parse_args()
    settings = read_recipe(RECIPE_FILE).pretrain
    places = Places(data=options.data_dir, output=options.output, recipe_forests=options.forests)
    names = options.variant or VARIANTS
    cells = {name: run(name, settings, places, overwrite=options.overwrite) for name in names}
    if not options.variant:
        write_table("ablations", to_markdown(cells, command_of(__file__)))


if __name__ == "__main__":
    main()
