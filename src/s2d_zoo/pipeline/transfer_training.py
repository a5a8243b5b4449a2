"""Training and scoring one cell of a transfer curve."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.scores import Score, score_masks
from s2d_zoo.data.scribbles import split_strokes
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.finetuning import SegmentorSettings, apply_segmentor, fit_segmentor, new_segmentor
from s2d_zoo.finetune.pseudo_labels import stroke_labels
from s2d_zoo.pipeline.cell_files import hash_array
from s2d_zoo.pipeline.enhancer_finetuning import fit_enhancer
from s2d_zoo.pipeline.record import Clock
from s2d_zoo.pipeline.transfer_cells import METHODS, Cell, CellResult, Kind, Models
from s2d_zoo.pipeline.transfer_inputs import TransferData, TransferSettings
from s2d_zoo.rf_adapter.classifier import PixelClassifier

_THRESHOLD: Final = 0.5
#: the channel that counts: of a forest's classes, and of what networks give
_FOREST_FOREGROUND, _FOREGROUND = 1, 0


class Painting:
    """The strokes of one budget and seed, which all starts learn from, and the forest fitted on them.

    Args:
        data: images to paint on, and others that the forest is asked about.
        settings: how to grow the forest.
        budget: strokes per class and image.
        seed: of the strokes of all images, and of the forest.
    """

    def __init__(self, data: TransferData, settings: TransferSettings, *, budget: int, seed: int) -> None:
        self._data, self._settings = data, settings
        self.budget, self.seed = budget, seed
        self.images = [entry.image for entry in data.training]
        #: y x, uint8, one for each image, each with a seed of its own
        self.strokes = [
            simulate_scribbles(binary_classes(entry.labels), n_strokes=budget, seed=seed * 1000 + number)
            for number, entry in enumerate(data.training)
        ]
        self.forest_seconds = 0.0  #: that `ask_forest` took; 0 as long as nobody has asked
        self._forest: tuple[RFContract, list[xr.DataArray]] | None = None

    def ask_forest(self, progress: str | None = None) -> tuple[RFContract, list[xr.DataArray]]:
        """What the forest delivers, and what it says of the test images (channel y x, float32); fitted but once."""
        if self._forest is None:
            begun = time.perf_counter()
            classifier = PixelClassifier(settings=self._settings.forest, random_state=self.seed)
            classifier.fit(self.images, self.strokes)
            said = [classifier.predict_proba(entry.image, progress=progress) for entry in self._data.test]
            self._forest = classifier.contract, said
            self.forest_seconds = time.perf_counter() - begun
        return self._forest


@dataclass(frozen=True, slots=True, kw_only=True)
class CellJob:
    """All that running a cell takes."""

    cell: Cell
    data: TransferData
    settings: TransferSettings
    models: Models
    painting: Painting | None  #: None for the base model as it is
    folder: Path  #: for checkpoints
    progress: str | None  #: label of the progress bar on stderr

    @property
    def strokes(self) -> Painting:
        """What to learn from.

        Raises:
            ConfigError: if there is nothing.
        """
        if self.painting is None or (self.painting.budget, self.painting.seed) != (self.cell.budget, self.cell.seed):
            msg = f"The cell {self.cell.name} was given no strokes, or those of another one."
            raise ConfigError(msg)
        return self.painting

    @property
    def base(self) -> PackagedModel:
        """The base model.

        Raises:
            ConfigError: if none was loaded.
        """
        if self.models.base is None:
            msg = f"The cell {self.cell.name} needs a base model, and there is none."
            raise ConfigError(msg)
        return self.models.base

    def score(self, foregrounds: Iterable[xr.DataArray]) -> Score:
        """Score foreground probabilities (y x) of all test images, taken together."""
        predicted = [one.values >= _THRESHOLD for one in foregrounds]
        return score_masks(predicted, [entry.labels.values > 0 for entry in self.data.test])


def run_cell(job: CellJob) -> CellResult:
    """Train a cell, or go on with an interrupted training, and score it.

    Raises:
        ContractMismatchError: if the forest does not deliver what the enhancer takes.
        AxesError: if the base model takes other channels.
    """
    clock = Clock(job.folder / "seconds.json")  # an interrupted training goes on counting
    needs_forest = job.cell.start in {"forest", "enhancer"}
    # another cell of the same strokes may have fitted it already
    known = job.strokes.forest_seconds if needs_forest else 0.0
    with clock.stage(job.cell.start):
        scores = _RUNS[job.cell.start](job)
    strokes = job.painting.strokes if job.painting else []
    return CellResult(
        cell=job.cell,
        scores=dict(zip(METHODS[job.cell.start], scores, strict=True)),
        strokes=tuple(split_strokes(one)[1] for one in strokes),
        painted_px=tuple(int(np.count_nonzero(one)) for one in strokes),
        strokes_sha256=tuple(hash_array(one) for one in strokes),
        seconds=round(clock.seconds[job.cell.start] + known, 2),
    )


_Scores: TypeAlias = tuple[Score, ...]


def _run_random(job: CellJob) -> _Scores:
    settings = job.settings.fresh(job.cell.seed)
    return _fit_on_strokes(job, new_segmentor(job.strokes.images, settings), settings)


def _run_pretrained(job: CellJob) -> _Scores:
    return _fit_on_strokes(job, job.base, job.settings.finetuning(job.cell.seed))


def _fit_on_strokes(job: CellJob, start: UNet | PackagedModel, settings: SegmentorSettings) -> _Scores:
    labels = [stroke_labels(one) for one in job.strokes.strokes]
    fitted = fit_segmentor(start, job.strokes.images, labels, settings, folder=job.folder, progress=job.progress).model
    return (job.score(apply_segmentor(fitted, entry.image)[_FOREGROUND] for entry in job.data.test),)


def _run_enhancer(job: CellJob) -> _Scores:
    fitted = fit_enhancer(
        job.models.enhancer,
        job.strokes.images,
        job.strokes.strokes,
        job.settings.enhancer_finetuning(job.cell.seed),
        folder=job.folder,
        progress=job.progress,
    )
    return (_score_enhancer(job, fitted),)


def _run_forest(job: CellJob) -> _Scores:
    _, said = job.strokes.ask_forest(job.progress)
    alone = job.score(one[_FOREST_FOREGROUND] for one in said)
    return alone, _score_enhancer(job, job.models.enhancer)


def _run_base_model(job: CellJob) -> _Scores:
    said = (job.base.predict(entry.image, progress=job.progress) for entry in job.data.test)
    return (job.score(one[_FOREGROUND] for one in said),)


def _score_enhancer(job: CellJob, enhancer: Enhancer) -> Score:
    contract, said = job.strokes.ask_forest(job.progress)
    return job.score(enhancer.enhance(one, contract)[_FOREGROUND] for one in said)


_RUNS: Final[Mapping[Kind, Callable[[CellJob], _Scores]]] = {
    "random": _run_random,
    "pretrained": _run_pretrained,
    "enhancer": _run_enhancer,
    "forest": _run_forest,
    "base-model": _run_base_model,
}
