"""Does `s2d-zoo rank-enhancers`, which never sees the truth, put an enhancer of the right kind first?

Strokes are simulated on single images of test splits; every bundled enhancer is ranked for each. Then the truth is
asked: the IoU of the enhancer that came first, of the one that would have been best, and of the forest alone, all with
one forest on all strokes.

    OMP_NUM_THREADS=1 python benchmarks/ranking.py --data-dir ../shared/data

Writes benchmarks/results/ranking.md and .json. A finished ranking is not run again (--output keeps it).
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from outcome import command_of, write_outcome

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import write_json
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.images import write_image
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.pipeline.cell_files import hash_arrays, read_finished
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.pipeline.quality_recipe import stated_datasets
from s2d_zoo.pipeline.ranking import RankInputs, RankSettings, rank_enhancers
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.types import CHANNEL, ENHANCER_TAG
from s2d_zoo.zoo.collection import bundled_models, find_model

FORMAT: Final = "s2d-zoo/ranking-benchmark"
FORMAT_VERSION: Final = 1
#: dataset, label, which images of its test split, and the tag that an enhancer of the right kind has
TARGETS: Final = (
    ("nuclei_gowt1", None, (0, 1, 2), "nuclei"),
    ("nuclei_hela", None, (0, 1), "nuclei"),
    ("mito_epfl", None, (0, 5, 10), "mitochondria"),
    ("membrane_cortex", "membrane", (0, 1, 2), "cell-membrane"),
)
STROKES: Final = (5, 15)
SEED: Final = 0


def measure(entry: LabelledImage, strokes: int, candidates: Mapping[str, Path]) -> dict[str, Any]:
    """Rank for one image, then score every row with the truth."""
    painted = simulate_scribbles(binary_classes(entry.labels), n_strokes=strokes, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        image, scribbles = Path(folder) / "image.tif", Path(folder) / "strokes.tif"
        write_image(image, entry.image)
        write_image(scribbles, painted.expand_dims(CHANNEL))
        ranking = rank_enhancers(
            RankInputs(images=(image,), scribbles=(scribbles,)), RankSettings(seed=SEED), progress=False
        )
    forest = PixelClassifier(random_state=SEED).fit([entry.image], [painted])
    said = forest.predict_features(forest.selection.compute(entry.image))
    rows = []
    for row in ranking.rows:
        enhancer = load_enhancer(candidates[row.name])
        enhanced = enhancer.enhance(said, forest.contract, rescale=row.rescale)[0]
        rows.append({"enhancer": row.name, "rescale": row.rescale, "iou": iou(enhanced, entry), "by": row.ahead_by})
    return {"rows": rows, "forest": iou(said[1], entry)}


def iou(foreground: xr.DataArray, entry: LabelledImage) -> float:
    """Of the foreground at 0.5."""
    return round(score_masks([foreground.values >= 0.5], [entry.labels.values > 0]).iou, 4)


def to_markdown(cells: Sequence[Mapping[str, Any]], command: str) -> str:
    """One line for each dataset and number of strokes, and what all come to."""
    right = sum(cell["right"] for cell in cells)
    best = sum(cell["rows"][0]["iou"] == max(row["iou"] for row in cell["rows"]) for cell in cells)
    losses = sum(cell["rows"][0]["iou"] < cell["forest"] for cell in cells)
    known = sum(cell["known"] for cell in cells)
    lines = [
        "# Ranking enhancers without ground truth",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}.",
        f"In {right} of {len(cells)} rankings an enhancer of the right kind came first; in {best} the one",
        f"(and the scale) that the truth calls best did; in {losses} the first was worse than the forest alone.",
        f"In {known} the first had been trained on other images of the dataset: no transfer.",
        f"Single images of test splits, simulated strokes (seed {SEED}); all bundled enhancers:",
        f"{', '.join(sorted(cells[0]['facts']['enhancers']))}.",
        "Strokes per class; IoU of the foreground at 0.5 on the whole image, mean over the images. *Of the best*: as",
        "the truth says. *Trained on it*: the first had been trained on other images of the dataset.",
        "",
        "| dataset | strokes | images | right kind first | trained on it | IoU of the first | of the best | RF alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dataset, *_ in TARGETS:
        of_dataset = [cell for cell in cells if cell["facts"]["target"][0] == dataset]
        for strokes in STROKES:
            some = [cell for cell in of_dataset if cell["facts"]["strokes"] == strokes]
            means = (
                np.mean([cell["rows"][0]["iou"] for cell in some]),
                np.mean([max(row["iou"] for row in cell["rows"]) for cell in some]),
                np.mean([cell["forest"] for cell in some]),
            )
            figures = " | ".join(f"{mean:.3f}" for mean in means)
            counts = " | ".join(str(sum(cell[name] for cell in some)) for name in ("right", "known"))
            lines.append(f"| {dataset} | {strokes} | {len(some)} | {counts} | {figures} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run all rankings that are not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with local copies of the datasets")
    parser.add_argument("--output", type=Path, default=Path("build/ranking"), help="folder for finished rankings")
    parser.add_argument(
        "--overwrite", action="store_true", help="run rankings again that were made from something else"
    )
    options = parser.parse_args()
    entries = {
        (name, label): load_dataset(name, "test", data_dir=options.data_dir, label=label, without_rim=True)
        for name, label, *_ in TARGETS
    }
    os.environ["S2D_ZOO_CACHE"] = str(options.output / "no-downloads")  # those would differ between machines
    enhancers = {one.id: one for one in bundled_models() if ENHANCER_TAG in one.tags}
    paths = {name: find_model(name) for name in enhancers}
    hashes = {name: hash_path(path) for name, path in paths.items()}
    cells = []
    for dataset, label, numbers, tag in TARGETS:
        for number in numbers:
            entry = entries[dataset, label][number]
            for strokes in STROKES:
                facts = {
                    "s2d_zoo_version": __version__,
                    "target": [dataset, label, number],
                    "image": hash_arrays((entry.image, entry.labels)),
                    "strokes": strokes,
                    "seed": SEED,
                    "enhancers": hashes,
                }
                path = options.output / f"{dataset}-{number}-{strokes}.json"
                found = read_finished(
                    path, facts, form=FORMAT, version=FORMAT_VERSION, what="a ranking", overwrite=options.overwrite
                )
                if found is None:
                    measured = measure(entry, strokes, paths)
                    first = measured["rows"][0]["enhancer"]
                    found = {
                        "format": FORMAT,
                        "format_version": FORMAT_VERSION,
                        **measured,
                        "right": tag in enhancers[first].tags,
                        "known": dataset in stated_datasets(paths[first]),
                        "facts": facts,
                    }
                    write_json(path, found)
                cells.append(found)
    write_outcome("ranking", to_markdown(cells, command_of(__file__)), cells)


if __name__ == "__main__":
    main()
