"""Computing and scoring one cell of the measurement of an enhancer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.data.blockwise import assemble
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.scores import score_masks
from s2d_zoo.data.scribbles import resample_strokes, split_strokes
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.finetune.finetuning import SegmentorSettings, fit_segmentor, new_segmentor
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, consensus_labels, dense_labels, stroke_labels
from s2d_zoo.pipeline.quality_cells import METHODS, Cell, CellResult, Kind, Measured, seeded_segmentor
from s2d_zoo.pipeline.quality_direct import apply_direct
from s2d_zoo.pipeline.quality_inputs import QualitySettings, TargetData
from s2d_zoo.pipeline.record import Clock
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.feature_blocks import predict_in_blocks
from s2d_zoo.types import CHANNEL

_THRESHOLD: Final = 0.5
#: the channel that counts: of a forest's classes, and of what networks give
_FOREST_FOREGROUND, _FOREGROUND = 1, 0
#: strokes and forests of one seed have seeds from a thousand times it on
_PER_SEED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CellJob:
    """All that running a cell takes."""

    cell: Cell
    data: TargetData
    settings: QualitySettings
    measured: Measured
    #: gives the direct network of the cell's seed, and the seconds that its training took
    direct: Callable[[], tuple[UNet, float]]
    folder: Path  #: for checkpoints
    progress: str | None  #: label of the progress bar on stderr

    @property
    def images(self) -> list[xr.DataArray]:
        """The training images."""
        return [one.image for one in self.data.training]

    def paint(self) -> list[xr.DataArray]:
        """Strokes on the painted images, y x, uint8; none on the other training images."""
        return [
            simulate_scribbles(
                binary_classes(one.labels), n_strokes=self.cell.strokes, seed=self.cell.seed * _PER_SEED + number
            )
            if number in self.data.painted
            else xr.zeros_like(one.labels, dtype=np.uint8)
            for number, one in enumerate(self.data.training)
        ]

    def result(
        self,
        maps: Mapping[str, Sequence[xr.DataArray]],
        seconds: Mapping[str, float],
        figures: Mapping[str, float] | None = None,
    ) -> CellResult:
        """Score foregrounds (y x, float32 in [0, 1]) of all test images, by method."""
        return CellResult(
            cell=self.cell,
            scores={method: self.data.truth.score(maps[method]) for method in METHODS[self.cell.kind]},
            seconds={method: round(seconds[method], 1) for method in METHODS[self.cell.kind]},
            figures=figures or {},
        )


def run_cell(job: CellJob) -> CellResult:
    """Compute a cell, or go on with its interrupted training, and score it.

    Seconds of a method are the wall time that a user would wait for it: features, fitting, pseudo-labels and training
    where there are such, and prediction on the test images. What an enhancer's own training took is not in them; that
    of a direct network is. Neither are reading of images and scoring.

    Raises:
        ContractMismatchError: if forests do not deliver what the enhancer takes.
    """
    return _RUNS[job.cell.kind](job)


class Forests:
    """A forest on all strokes, and one on each of several draws of them; all asked about an image at once.

    Args:
        job: with strokes.
        strokes: y x, uint8, one for each training image.
        clock: notes the seconds of ``features``, ``single`` forest and ``drawn`` forests.
    """

    def __init__(self, job: CellJob, strokes: Sequence[xr.DataArray], clock: Clock) -> None:
        self._clock = clock
        seed = job.cell.seed
        seeds = [seed, *(seed * _PER_SEED + number for number in range(1, job.settings.n_forests + 1))]
        self._forests = [PixelClassifier(settings=job.settings.forest, random_state=one) for one in seeds]
        images = [job.images[number] for number in job.data.painted]
        painted = [strokes[number] for number in job.data.painted]
        with clock.stage("features"):
            features = [self._forests[0].selection.compute(image) for image in images]
        for number, forest in enumerate(self._forests):
            drawn = resample_strokes(painted, seed=seeds[number]) if number else painted
            with clock.stage("drawn" if number else "single"):
                forest.fit_features(features, drawn, contract_of=images[0])

    @property
    def contract(self) -> RFContract:
        """What each delivers."""
        return self._forests[0].contract

    def ask(self, image: xr.DataArray, *, drawn_only: bool = False) -> list[xr.DataArray]:
        """Probabilities of each forest, channel y x, float32: that on all strokes first, unless it is left out.

        The features, which take most of the memory, are computed once for all.
        """
        forests = self._forests[1:] if drawn_only else self._forests
        n_classes = len(self.contract.classes)

        def ask_all(features: xr.DataArray) -> xr.DataArray:
            said = []
            for forest in forests:
                with self._clock.stage("single" if forest is self._forests[0] else "drawn"):
                    said.append(forest.predict_features(features))
            return xr.concat(said, dim=CHANNEL)

        before = self._forest_seconds()
        whole = Clock()
        with whole.stage("all"):
            together = assemble(predict_in_blocks(self._forests[0].selection, ask_all, image), like=image)
        rest = whole.seconds["all"] - (self._forest_seconds() - before)
        self._clock.seconds["features"] += max(0.0, rest)
        return [
            together.isel({CHANNEL: slice(first, first + n_classes)})
            for first in range(0, together.sizes[CHANNEL], n_classes)
        ]

    def _forest_seconds(self) -> float:
        return self._clock.seconds.get("single", 0.0) + self._clock.seconds.get("drawn", 0.0)


def _run_probabilities(job: CellJob) -> CellResult:
    strokes, clock = job.paint(), Clock()
    forests = Forests(job, strokes, clock)
    maps: dict[str, list[xr.DataArray]] = {method: [] for method in METHODS[job.cell.kind]}
    for entry in job.data.test:
        single, *drawn = forests.ask(entry.image)
        with clock.stage("enhancer"):
            enhanced = _enhance(job, single, forests.contract)[_FOREGROUND]
        with clock.stage("enhancers"):
            members = [_enhance(job, one, forests.contract)[_FOREGROUND] for one in drawn]
            consensus = members[0].copy(data=np.mean(members, axis=0))
        for method, said in zip(maps, (single[_FOREST_FOREGROUND], enhanced, consensus), strict=True):
            maps[method].append(said)
    spent = clock.seconds
    costs = (
        spent["features"] + spent["single"],
        spent["features"] + spent["single"] + spent["enhancer"],
        spent["features"] + spent["drawn"] + spent["enhancers"],
    )
    figures = {
        "strokes": float(sum(split_strokes(one)[1] for one in strokes)),
        "painted_px": float(sum(np.count_nonzero(one) for one in strokes)),
    }
    return job.result(maps, dict(zip(maps, costs, strict=True)), figures)


def _enhance(job: CellJob, said: xr.DataArray, contract: RFContract) -> xr.DataArray:
    return job.measured.enhancer.enhance(said, contract, rescale=job.data.target.factor)


def _run_pseudo_labels(job: CellJob) -> CellResult:
    strokes, clock = job.paint(), Clock()
    with clock.stage("pseudo-labels"):
        forests = Forests(job, strokes, Clock())
        labels = [
            consensus_labels(
                [_enhance(job, one, forests.contract) for one in forests.ask(image, drawn_only=True)], scribbles=painted
            )
            for image, painted in zip(job.images, strokes, strict=True)
        ]
    truth = [one.labels.values > 0 for one in job.data.training]
    figures = {
        "labels_iou": score_masks([one.labels.values[0] >= _THRESHOLD for one in labels], truth).iou,
        "kept": float(np.mean([one.kept for one in labels])),
    }
    return _train_segmentor(job, job.images, labels, figures, before=clock.seconds["pseudo-labels"])


def _run_strokes_only(job: CellJob) -> CellResult:
    """On painted images alone: patches of others would teach nothing, and cost steps."""
    strokes, images = job.paint(), job.images
    labels = [stroke_labels(strokes[number]) for number in job.data.painted]
    return _train_segmentor(job, [images[number] for number in job.data.painted], labels)


def _run_ceiling(job: CellJob) -> CellResult:
    return _train_segmentor(job, job.images, [dense_labels(one.labels) for one in job.data.training_objects])


def _train_segmentor(
    job: CellJob,
    images: Sequence[xr.DataArray],
    labels: Sequence[PseudoLabels],
    figures: Mapping[str, float] | None = None,
    *,
    before: float = 0.0,
) -> CellResult:
    settings = seeded_segmentor(job.settings, job.cell)
    clock = Clock(job.folder / "seconds.json")  # an interrupted training goes on counting
    with clock.stage("training"):
        fitted = fit_segmentor(
            _fresh(job.measured, images, settings),
            images,
            labels,
            settings,
            folder=job.folder / "training",
            progress=job.progress,
        ).model
    prediction = Clock()
    with prediction.stage("test"):
        maps = [apply_network(fitted, one.image)[_FOREGROUND] for one in job.data.test]
    (method,) = METHODS[job.cell.kind]
    seconds = before + clock.seconds["training"] + prediction.seconds["test"]
    return job.result({method: maps}, {method: seconds}, figures)


def _fresh(measured: Measured, images: Sequence[xr.DataArray], settings: SegmentorSettings) -> UNet:
    """A segmentor of the enhancer's size, whose input is normalised for these images."""
    usual = new_segmentor(images, settings)
    return measured.new_network(
        in_channels=images[0].sizes[CHANNEL],
        offset=tuple(usual.input_offset.flatten().tolist()),
        scale=tuple(usual.input_scale.flatten().tolist()),
        seed=settings.training.seed,
    )


def _run_direct(job: CellJob) -> CellResult:
    model, trained = job.direct()
    clock = Clock()
    with clock.stage("test"):
        maps = [apply_direct(model, one.image, rescale=job.data.target.factor)[_FOREGROUND] for one in job.data.test]
    (method,) = METHODS[job.cell.kind]
    return job.result({method: maps}, {method: trained + clock.seconds["test"]})


_RUNS: Final[Mapping[Kind, Callable[[CellJob], CellResult]]] = {
    "probabilities": _run_probabilities,
    "pseudo-labels": _run_pseudo_labels,
    "strokes-only": _run_strokes_only,
    "ceiling": _run_ceiling,
    "direct": _run_direct,
}
