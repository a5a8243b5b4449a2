"""Small datasets, sources and settings on which the quality of the tiny enhancer is measured, and a known result."""

from types import SimpleNamespace

import numpy as np
import xarray as xr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.images import write_image
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.data.quality_scores import QualityScore
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.quality import QualityResult, TargetResult
from s2d_zoo.pipeline.quality_cells import METHODS, CellResult, Measured, plan_cells
from s2d_zoo.pipeline.quality_inputs import (
    DirectSettings,
    QualitySettings,
    QualitySources,
    QualityTarget,
    TargetData,
)
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.trainer import TrainingSettings

NUCLEI = QualityTarget(dataset="nuclei_hela", n_pseudo=3)
MEMBRANES = QualityTarget(dataset="membrane_isbi", structure="membranes", n_pseudo=2, rescale=0.5)
TARGETS = (NUCLEI, MEMBRANES)
#: px on each side of the images of `NUCLEI` as they are written, where nuclei have no labels
RIM = 25


def tiny(**changes):
    training = TrainingSettings(steps=4, steps_per_epoch=2, batch_size=2, device="cpu")
    chosen = {
        "strokes": (2, 4),
        "n_seeds": 2,
        "training_strokes": 2,
        "n_training_seeds": 1,
        "n_forests": 2,
        "forest": ForestSettings(n_estimators=3),
        "segmentor": SegmentorSettings(
            features=2, depth=2, patches=PatchSettings(size=32, zoom=(0.8, 1.25), soft_target=True), training=training
        ),
        "direct": DirectSettings(patches=PatchSettings(size=32), training=training),
    }
    return QualitySettings(**{**chosen, **changes})


def nuclei(seed, size=64):
    """An image from 0 to 1, as the tiny networks take them, and its instances."""
    simulation = NucleiSimulation(size=size, n_nuclei=4, diameter=18, photons=60)
    image, instances = simulate_nuclei(simulation, seed=seed)
    return image.astype(np.float32) / image.values.max(), instances


def sources(n_training=3):
    images = [
        LabelledImage(name=f"source-{seed}", image=image, labels=labels, dataset="nuclei_dsb_fluo")
        for seed in range(40, 40 + n_training + 1)
        for image, labels in [nuclei(seed)]
    ]
    return QualitySources(names=("nuclei_dsb_fluo",), training=images[:-1], validation=images[-1:])


def write_datasets(folder):
    """Nuclei as single images, and stacks with masks, instances and membranes."""
    for split, seeds in (("train", range(10, 14)), ("test", range(20, 22))):
        pairs = [nuclei(seed) for seed in seeds]
        for number, (image, labels) in enumerate(pairs):
            around = {"y": RIM, "x": RIM}
            write_image(folder / "nuclei_hela" / split / "raw" / f"t{number}.tif", image.pad(around, mode="reflect"))
            unlabelled = labels.pad(around, constant_values=0)
            write_image(folder / "nuclei_hela" / split / "label" / f"t{number}.tif", unlabelled)
        raw = xr.concat([image for image, _ in pairs], dim="z").transpose("channel", "z", "y", "x")
        instances = xr.concat([labels for _, labels in pairs], dim="z")
        lines = np.zeros(instances.shape, np.uint8)
        lines[:, :, 20:24], lines[:, 40:44] = 1, 1
        stacks = {
            "mito": (instances > 0).astype(np.uint8),
            "mito_inst": instances,
            "membrane": instances.copy(data=lines),
        }
        for name in ("mito_vnc", "membrane_isbi"):
            write_image(folder / name / split / "raw.tif", raw)
            for label, values in stacks.items():
                write_image(folder / name / split / f"{label}.tif", values)
    return folder


def score(iou, **changes):
    found = {"iou": iou, "dice": iou, "soft_dice": iou, "calibration_error": 1 - iou, "average_precision": iou}
    return QualityScore(**{**found, **changes})


#: mean IoU of each method in a known result, by strokes
KNOWN = {
    "RF": {5: 0.3, 15: 0.4},
    "enhancer": {5: 0.5, 15: 0.6},
    "consensus enhancer": {5: 0.55, 15: 0.6},
    "segmentor, pseudo-labels": {15: 0.7},
    "segmentor, strokes only": {15: 0.35},
    "direct network": {0: 0.51},
    "segmentor, all true labels": {0: 0.9},
}


def known_target(
    name="mito_epfl", *, known=KNOWN, spread=0.02, is_source=False, trainings=True, settings=None, **changes
):
    """A target whose mean scores are known; the first seed is below, the last above."""
    settings = settings or known_settings()
    target = QualityTarget(dataset=name, rescale=1.5 if is_source else None, trainings=trainings)
    cells = []
    for cell in plan_cells(settings, target):
        seeds = settings.n_seeds if cell.kind == "probabilities" else settings.n_training_seeds
        away = spread * (cell.seed - (seeds - 1) / 2)
        cells.append(
            CellResult(
                cell=cell,
                scores={method: score(known[method][cell.strokes] + away, **changes) for method in METHODS[cell.kind]},
                seconds=dict.fromkeys(METHODS[cell.kind], 12.5),
                figures={"labels_iou": 0.58, "kept": 0.9} if cell.kind == "pseudo-labels" else {},
            )
        )
    data = TargetData(
        target=target,
        training=named("a", "b", "c"),
        training_objects=named("a", "b", "c"),
        painted=(0, 2),
        test=named("t1", "t2"),
        truth=None,
        instances="mito_inst",
        hashes={},
    )
    return TargetResult(data=data, cells=tuple(cells), is_source=is_source)


def known_settings(n_seeds=3):
    return QualitySettings(strokes=(5, 15), n_seeds=n_seeds, n_training_seeds=min(2, n_seeds))


def known_result(*targets, missing=(), settings=None, doubt=""):
    return QualityResult(
        measured=Measured(enhancer=SimpleNamespace(id="tiny-enhancer"), sha256="e" * 64, size={"features": 2}),
        sources=("mito_vnc", "3 simulated images of nuclei"),
        doubt=doubt,
        settings=settings or known_settings(),
        targets=targets or (known_target(),),
        missing=missing,
        n_kept=0,
    )


def named(*names):
    """Images of which nothing but the name matters."""
    return tuple(LabelledImage(name=name, image=xr.DataArray(0), labels=xr.DataArray(0)) for name in names)
