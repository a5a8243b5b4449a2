"""What does it cost if a forest is not like those that the enhancer was trained on?

The bundled enhancer is applied to forests with other features, at another pixel size, of other sizes, and to other
classifiers. Strokes are simulated on the first training image of each target (10 per class, several seeds); every
variant is scored on the test split, against the same strokes with all of ilastik's features and 100 trees.

    python benchmarks/contract_points.py --data-dir ../shared/data

Writes benchmarks/results/contract_points.md and .json, of which `s2d_zoo.contract` quotes figures. A finished part is
not run again (--output keeps it); --only runs some of the parts, so that several can run side by side.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr
from contract_points_table import Figures, Ious, changes, gains_by_size, to_markdown
from outcome import write_outcome
from scipy import ndimage
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from s2d_zoo._version import __version__
from s2d_zoo.contract import FilterName, RFContract
from s2d_zoo.data.atomic import write_json
from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.pipeline.cell_files import read_finished
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection
from s2d_zoo.rf_adapter.source_forests import hash_sources
from s2d_zoo.zoo.collection import find_model

FORMAT: Final = "s2d-zoo/contract-points"
FORMAT_VERSION: Final = 1  #: of how it is measured, too
TARGETS: Final = ("nuclei_gowt1", "nuclei_hela")
ENHANCER: Final = "nuclei-fluo-2d"
N_STROKES: Final = 10
SEEDS: Final = (0, 1, 2)
REFERENCE: Final = "all"
#: scales that ilastik does not offer: between its own, and beyond
EXTRA_SCALES: Final = (2.5, 7.0, 20.0)
FACTORS: Final = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
#: px of the original; a factor of 4 on whole images would take hours
WINDOW: Final = 512

Maps = list[xr.DataArray]


def at_scales(scales: Sequence[float], filters: Sequence[FilterName] = FILTERS) -> FeatureSelection:
    """The filters at those of the scales at which they are defined."""
    smallest = {name: 0.3 if name == "GaussianSmoothing" else 0.7 for name in filters}
    return FeatureSelection({name: tuple(s for s in scales if s >= smallest[name]) for name in filters})


def feature_sets() -> dict[str, FeatureSelection]:
    """What users select, and what tells where a loss comes from."""
    coarse, fine = (0.3, 0.7, 1.6, 5.0), (1.0, 3.5)
    mixed: dict[FilterName, tuple[float, ...]] = {
        "GaussianSmoothing": coarse,
        "LaplacianOfGaussian": fine,
        "GaussianGradientMagnitude": fine,
        "DifferenceOfGaussians": fine,
        "StructureTensorEigenvalues": coarse[1:],
        "HessianOfGaussianEigenvalues": coarse[1:],
    }
    few: tuple[FilterName, ...] = ("GaussianSmoothing", "LaplacianOfGaussian", "GaussianGradientMagnitude")
    return {
        REFERENCE: FeatureSelection(),
        **{f"without {name}": at_scales(SCALES, [one for one in FILTERS if one != name]) for name in FILTERS},
        "scales from 1.0": at_scales(SCALES[2:]),
        "scales to 5.0": at_scales(SCALES[:6]),
        "scales to 3.5": at_scales(SCALES[:5]),
        "scales to 1.6": at_scales(SCALES[:4]),  # 25 features: ilastik_pc_oc_133.ilp
        "scales 0.7 and 1.0": at_scales(SCALES[1:3]),  # 16 features: neubias_nuclei.ilp
        "mixed scales to 5.0": FeatureSelection(mixed),  # cloud_ilastik_em.ilp: 22 features (28 in 3D)
        "three filters at 1.0, 3.5": at_scales(fine, few),
        "only GaussianSmoothing": at_scales(SCALES, ["GaussianSmoothing"]),
        "also 2.5 and 7.0": at_scales((*SCALES, 2.5, 7.0)),
        "also 20.0": at_scales((*SCALES, 20.0)),
    }


@dataclass(frozen=True, kw_only=True)
class Target:
    """A dataset, with the widest features of its images, from which smaller sets are taken."""

    image: xr.DataArray  #: the first training image
    classes: xr.DataArray
    tests: Maps
    truths: Maps
    features: Maps = field(default_factory=list)  #: of the training image, then of the test images

    def strokes(self, seed: int) -> xr.DataArray:
        """Strokes on the training image."""
        return simulate_scribbles(self.classes, n_strokes=N_STROKES, seed=seed)

    def select(self, selection: FeatureSelection) -> Iterator[xr.DataArray]:
        """Features of a smaller set: of the training image, then of the test images."""
        for features in self.features:
            yield features.sel(feature=list(selection.names(ndim=2)))


@lru_cache(maxsize=1)
def load_target(name: str, data_dir: Path | None, *, with_features: bool) -> Target:
    """Read a dataset."""
    first = load_dataset(name, "train", data_dir=data_dir)[0]
    tests = load_dataset(name, "test", data_dir=data_dir)
    images = [first.image, *(entry.image for entry in tests)] if with_features else []
    widest = at_scales((*SCALES, *EXTRA_SCALES))
    return Target(
        image=first.image,
        classes=binary_classes(first.labels),
        tests=[entry.image for entry in tests],
        truths=[entry.labels for entry in tests],
        features=[widest.compute(image) for image in images],
    )


def iou(foregrounds: Maps, truths: Maps) -> float:
    """Foreground IoU at 0.5 of all images taken together."""
    pairs = zip(foregrounds, truths, strict=True)
    masks = [(one.values >= 0.5, truth.values > 0) for one, truth in pairs]
    return score_masks([mask for mask, _ in masks], [truth for _, truth in masks]).iou


def score(enhancer: Enhancer, maps: Maps, contract: RFContract, truths: Maps, **rescale: float) -> Ious:
    """Scores of a forest's maps, and of what the enhancer makes of them, rescaled by each of the factors."""
    found = {"RF": iou([one[1] for one in maps], truths)}
    for name, factor in (rescale or {"enhanced": 1.0}).items():
        found[name] = iou([enhancer.enhance(one, contract, rescale=factor)[0] for one in maps], truths)
    return found


def grow_and_score(enhancer: Enhancer, target: Target, forest: PixelClassifier, **rescale: float) -> Ious:
    """Scores of a forest fitted on the strokes of its seed."""
    train, *tests = target.select(forest.selection)
    forest.fit_features([train], [target.strokes(forest.random_state)], contract_of=target.image)
    maps = [forest.predict_features(one) for one in tests]
    return score(enhancer, maps, forest.contract, target.truths, **rescale)


def run_features(enhancer: Enhancer, target: Target, seed: int) -> dict[str, Ious]:
    """Forests that see other features."""
    return {
        name: grow_and_score(enhancer, target, PixelClassifier(selection=selection, random_state=seed))
        for name, selection in feature_sets().items()
    }


def run_forests(enhancer: Enhancer, target: Target, seed: int) -> dict[str, Ious]:
    """Fewer trees, and trees of limited depth."""
    variants = {
        REFERENCE: ForestSettings(),
        "30 trees": ForestSettings(n_estimators=30),
        "10 trees": ForestSettings(n_estimators=10),
        "100 trees of depth 10": ForestSettings(max_depth=10),
        "100 trees of depth 5": ForestSettings(max_depth=5),
        "100 trees of depth 2": ForestSettings(max_depth=2),
    }
    return {
        name: grow_and_score(enhancer, target, PixelClassifier(settings=settings, random_state=seed))
        for name, settings in variants.items()
    }


def run_classifiers(enhancer: Enhancer, target: Target, seed: int) -> dict[str, Ious]:
    """Other classifiers of scikit-learn, with all features."""
    variants = {
        REFERENCE: RandomForestClassifier(100, random_state=seed),
        "ExtraTreesClassifier": ExtraTreesClassifier(100, random_state=seed),
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier(random_state=seed),
        "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "GaussianNB": GaussianNB(),
    }
    return {name: fit_and_score(enhancer, target, seed, classifier) for name, classifier in variants.items()}


def fit_and_score(enhancer: Enhancer, target: Target, seed: int, classifier: BaseEstimator, **rescale: float) -> Ious:
    """Scores of any classifier of scikit-learn."""
    strokes = target.strokes(seed)
    train, *tests = target.select(FeatureSelection())
    contract = PixelClassifier().fit_features([train], [strokes], contract_of=target.image).contract
    painted = strokes.values > 0
    classifier.fit(train.values[:, painted].T, strokes.values[painted])
    maps = []
    for features in tests:
        values = classifier.predict_proba(features.values.reshape(len(features), -1).T).T
        shape = (len(values), *features.shape[1:])
        maps.append(xr.DataArray(values.reshape(shape).astype(np.float32), dims=("channel", "y", "x")))
    return score(enhancer, maps, contract, target.truths, **rescale)


def run_known_size(enhancer: Enhancer, target: Target, seed: int) -> dict[str, Ious]:
    """The variants that lost most, once objects are as large as those that the enhancer knows."""
    diameter = median_diameter(target.truths)
    rescale = {"enhanced": (enhancer.contract.object_diameter or diameter) / diameter}
    names = (REFERENCE, "without GaussianSmoothing", "scales 0.7 and 1.0", "only GaussianSmoothing")
    forests = {name: PixelClassifier(selection=feature_sets()[name], random_state=seed) for name in names}
    for trees in (30, 10):
        forests[f"{trees} trees"] = PixelClassifier(settings=ForestSettings(n_estimators=trees), random_state=seed)
    found = {name: grow_and_score(enhancer, target, forest, **rescale) for name, forest in forests.items()}
    boosting = HistGradientBoostingClassifier(random_state=seed)
    return {**found, "HistGradientBoostingClassifier": fit_and_score(enhancer, target, seed, boosting, **rescale)}


def resample(array: xr.DataArray, factor: float, *, labels: bool = False) -> xr.DataArray:
    """Resample in plane: images linearly, smoothed before they shrink; labels to the nearest."""
    values = array.values if labels else array.values.astype(np.float32)
    if not labels and factor < 1:
        blur = (1 / factor - 1) / 2
        values = ndimage.gaussian_filter(values, [0] * (values.ndim - 2) + [blur, blur], mode="mirror")
    zoom = [1.0] * (values.ndim - 2) + [factor, factor]
    values = ndimage.zoom(values, zoom, order=0 if labels else 1, mode="nearest", grid_mode=True)
    return xr.DataArray(values, dims=array.dims)


def thin_out(strokes: xr.DataArray, count: int) -> xr.DataArray:
    """Keep so many painted pixels: enlarged strokes hold no more knowledge than the original ones."""
    painted = np.flatnonzero(strokes.values)
    kept = np.random.default_rng(0).choice(painted, min(count, painted.size), replace=False)
    values = np.zeros_like(strokes.values)
    values.flat[kept] = strokes.values.flat[kept]
    return strokes.copy(data=values)


def middle(array: xr.DataArray) -> xr.DataArray:
    """A window in the middle of an image."""
    begin = {dim: (array.sizes[dim] - WINDOW) // 2 for dim in ("y", "x")}
    return array.isel({dim: slice(first, first + WINDOW) for dim, first in begin.items()})


def run_pixel_size(enhancer: Enhancer, target: Target, seed: int) -> dict[str, Ious]:
    """Images at another pixel size; the forest is fitted anew, as a user of such images would do."""
    strokes, found = target.strokes(seed), {}
    diameter = median_diameter(target.truths)
    wanted = enhancer.contract.object_diameter or diameter
    for factor in FACTORS:
        painted = thin_out(resample(strokes, factor, labels=True), int((strokes.values > 0).sum()))
        forest = PixelClassifier(random_state=seed).fit(resample(target.image, factor), painted)
        maps = [forest.predict_proba(resample(middle(one), factor)) for one in target.tests]
        truths = [resample(middle(one), factor, labels=True) for one in target.truths]
        ways = {"enhanced": 1.0, "to the original": 1 / factor, "to known objects": wanted / (diameter * factor)}
        scores = score(enhancer, maps, forest.contract, truths, **ways)
        found[f"{factor:g}"] = {**scores, "diameter": round(diameter * factor, 1)}
    return found


def median_diameter(truths: Maps) -> float:
    """Median diameter (px) of the objects, as of circles of equal area."""
    areas = np.concatenate([np.bincount(truth.values.ravel())[1:] for truth in truths])
    return float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))


PARTS: Final = {
    "features": run_features,
    "forests": run_forests,
    "classifiers": run_classifiers,
    "known_size": run_known_size,
    "pixel_size": run_pixel_size,
}


def run_part(part: str, options: argparse.Namespace) -> Figures:
    """Scores by variant and target, one entry for each seed; finished ones are read."""
    package = find_model(ENHANCER)
    enhancer = load_enhancer(package)
    figures: Figures = {}
    for name in TARGETS:
        images = [hash_sources(load_dataset(name, split, data_dir=options.data_dir)) for split in ("train", "test")]
        for seed in SEEDS:
            facts = {
                "s2d_zoo_version": __version__,
                "part": part,
                "target": name,
                "images": images,
                "strokes": N_STROKES,
                "seed": seed,
                "enhancer": hash_path(package),
            }
            kept = options.output / f"{part}-{name}-{seed}.json"
            found = read_finished(kept, facts, form=FORMAT, version=FORMAT_VERSION, what="a comparison of forests")
            if found is None:
                target = load_target(name, options.data_dir, with_features=part != "pixel_size")
                scores = PARTS[part](enhancer, target, seed)
                found = {"format": FORMAT, "format_version": FORMAT_VERSION, "scores": scores, "facts": facts}
                write_json(kept, found)
            for variant, scores in found["scores"].items():
                figures.setdefault(variant, {}).setdefault(name, []).append(scores)
    return figures


def main() -> None:
    """Run the parts and write the tables, once all are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with local copies of the datasets")
    parser.add_argument("--output", type=Path, default=Path("build/contract_points"), help="folder for the runs")
    parser.add_argument("--only", choices=PARTS, action="append", help="run these parts, and write no table")
    options = parser.parse_args()
    found = {part: run_part(part, options) for part in options.only or PARTS}
    if options.only:
        return
    known = load_enhancer(find_model(ENHANCER)).contract.object_diameter
    results = {
        "enhancer": ENHANCER,
        "object_diameter": known,
        "change": changes(found),
        "rescaling": gains_by_size(found["pixel_size"], known),
        "iou": found,
    }
    write_outcome("contract_points", to_markdown(results), results)


if __name__ == "__main__":
    main()
