"""Which enhancer for nuclei is the best one, on data sets that none was trained on?

Compared are the two bundled ones, and nuclei-2d as it was before its forests saw imitated microscopes, which lies in
the history of this repository. Only training images are used, so the answer may decide which one is published and
recommended: strokes are simulated on one of them, and scores are of the others, in turn. All enhancers get the maps of
the same forests, as they are and resized.

    mkdir -p build && git show bd54bf9:src/s2d_zoo/zoo/bundled/nuclei-2d.zip > build/nuclei-2d-before.zip
    OMP_NUM_THREADS=1 python benchmarks/nuclei_enhancers.py --data-dir ../shared/data

Writes benchmarks/results/nuclei_enhancers.md and .json.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from outcome import command_of, write_outcome
from tqdm import tqdm

from s2d_zoo._version import __version__
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.zoo.collection import find_model

RF = "Random Forest"
BEFORE = Path("build/nuclei-2d-before.zip")
ENHANCERS = {"nuclei-fluo-2d": "nuclei-fluo-2d", "nuclei-2d without microscopes": BEFORE, "nuclei-2d": "nuclei-2d"}
TARGETS = {"nuclei_gowt1": (1.0, 0.5), "nuclei_hela": (1.0, 0.7, 1.4)}  #: factors by which probabilities are resized
N_STROKES = (5, 15, 40)  #: per class, on one image
SEEDS = tuple(range(8))

Case = tuple[PixelClassifier, Sequence[LabelledImage]]
#: target and factor; method; number of strokes: foreground IoU of every seed
Figures = dict[str, dict[str, dict[int, list[float]]]]


def cases(images: Sequence[LabelledImage], n_strokes: int) -> Iterator[Case]:
    """Forests, each with the images on which it is scored."""
    for seed in SEEDS:
        painted = images[seed % len(images)]
        strokes = simulate_scribbles(binary_classes(painted.labels), n_strokes=n_strokes, seed=seed)
        yield (
            PixelClassifier(random_state=seed).fit(painted.image, strokes),
            [one for one in images if one is not painted],
        )


def measure(packages: Mapping[str, Path], data_dir: Path) -> Figures:
    """All of it."""
    enhancers = {name: load_enhancer(package) for name, package in packages.items()}
    figures: Figures = {}
    total = len(TARGETS) * len(N_STROKES) * len(SEEDS)
    with tqdm(desc="forests", total=total, unit="forest") as progress:
        for target, factors in TARGETS.items():
            images = load_dataset(target, "train", data_dir=data_dir, without_rim=True)
            for n_strokes in N_STROKES:
                for forest, scored in cases(images, n_strokes):
                    maps = [forest.predict_proba(one.image) for one in scored]
                    for factor in factors:
                        found = {RF: [one[1] for one in maps]} | {
                            name: [one.enhance(each, forest.contract, rescale=factor)[0] for each in maps]
                            for name, one in enhancers.items()
                        }
                        row = figures.setdefault(f"{target}, x{factor:g}", {})
                        for name, foregrounds in found.items():
                            row.setdefault(name, {}).setdefault(n_strokes, []).append(iou(foregrounds, scored))
                    progress.update()
    return figures


def iou(foregrounds: Sequence[xr.DataArray], scored: Sequence[LabelledImage]) -> float:
    """Of the foreground at 0.5, all images taken together."""
    masks = [one.values >= 0.5 for one in foregrounds]
    return round(score_masks(masks, [one.labels.values > 0 for one in scored]).iou, 4)


def to_markdown(figures: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], command: str) -> str:
    """Targets and numbers of strokes down, methods across."""
    methods = [RF, *ENHANCERS]
    lines = [
        "# Enhancers for nuclei",
        "",
        f"Made by `{command}` with s2d-zoo {__version__}.",
        "Foreground IoU at 0.5 on training images that were not painted on, the rim without labels left out;",
        f"strokes per class on a single image; mean and range of {len(SEEDS)} seeds. *x0.5*: probabilities resized by",
        "that factor.",
        "*Without microscopes*: as it was before its forests saw images of varied sharpness, noise and contrast.",
        "No test split was looked at.",
        "",
        f"| target | strokes | {' | '.join(methods)} |",
        "|---|---|" + "---|" * len(methods),
    ]
    for target, row in figures.items():
        for n_strokes in N_STROKES:
            values = [row[method][n_strokes] for method in methods]
            cells = [f"{np.mean(one):.3f} ({min(one):.3f} to {max(one):.3f})" for one in values]
            lines.append(f"| {target} | {n_strokes} | {' | '.join(cells)} |")
        means = [f"**{np.mean([value for one in row[method].values() for value in one]):.3f}**" for method in methods]
        lines.append(f"| {target} | all | {' | '.join(means)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with local copies of the datasets")
    options = parser.parse_args()
    packages = {name: one if isinstance(one, Path) else find_model(one) for name, one in ENHANCERS.items()}
    figures = measure(packages, options.data_dir)
    hashes = {name: hash_path(package) for name, package in packages.items()}
    write_outcome("nuclei_enhancers", to_markdown(figures, command_of(__file__)), {"enhancers": hashes, "iou": figures})


if __name__ == "__main__":
    main()
