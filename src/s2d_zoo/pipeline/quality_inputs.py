"""What the quality of an enhancer is measured on: its sources, and targets that it should serve."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from s2d_zoo.data.datasets import LabelledImage, describe_dataset, load_dataset
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.data.quality_scores import STRUCTURES, GroundTruth, Structure
from s2d_zoo.enhancer.prediction import check_rescale
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.cell_files import hash_arrays
from s2d_zoo.pipeline.pretrain_sources import SourceDataset
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.trainer import TrainingSettings

_T = TypeVar("_T")
#: how labels of objects are called in the datasets: alone, or after what they are of
_INSTANCES: Final = "inst"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTarget:
    """A dataset that the enhancer should serve.

    Raises:
        UserInputError: for a dataset that is unknown.
        ConfigError: for an unknown label or structure, no image for pseudo-labels, or an absurd factor.
    """

    dataset: str
    label: str | None = None  #: which of its labels is the foreground; the first where ``None``
    structure: Structure = "objects"
    #: by which factor probabilities (and for the direct network, images) are resized to the size that the enhancer
    #: knows; not at all where ``None``
    rescale: float | None = None
    n_pseudo: int = 12  #: images of its train split that segmentors learn from, evenly spread
    #: whether segmentors and direct networks are trained, too; to see how an enhancer does on images like those that it
    #: was trained on, forests are enough
    trainings: bool = True

    def __post_init__(self) -> None:
        SourceDataset(name=self.dataset, label=self.label)  # refuses what does not exist
        if self.structure not in STRUCTURES:
            msg = f"The structure of {self.dataset} must be one of {', '.join(STRUCTURES)}, got {self.structure!r}."
            raise ConfigError(msg)
        if self.n_pseudo < 1:
            msg = f"At least one image of {self.dataset} is needed to learn from, got n_pseudo = {self.n_pseudo}."
            raise ConfigError(msg)
        check_rescale(self.factor)

    @property
    def name(self) -> str:
        """The dataset, and the label if one was chosen: as its folder is called, and ``--target`` takes it."""
        return f"{self.dataset}-{self.label}" if self.label else self.dataset

    @property
    def factor(self) -> float:
        """By which to resize; 1 where nothing is said."""
        return 1.0 if self.rescale is None else self.rescale


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSettings:
    """Training of the direct network; it is as large as the enhancer's."""

    boundary: float = 1.0  #: how much the boundary counts in the loss
    patches: PatchSettings = field(default_factory=PatchSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=3000, ema_decay=0.99))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySettings:
    """What is compared, how often, and how everything is trained.

    Raises:
        ConfigError: for numbers below 1, strokes named twice, or trainings on a number of strokes that is not compared.
    """

    strokes: tuple[int, ...] = (5, 15, 40)  #: per class and painted image
    n_seeds: int = 5  #: of strokes and forests; the seeds are 0, 1, …
    training_strokes: int = 15  #: those that segmentors learn from; one of ``strokes``
    n_training_seeds: int = 3  #: of segmentors (strokes, forests and networks) and direct networks
    n_painted: int = 2  #: images with strokes
    n_forests: int = 5  #: of a consensus
    forest: ForestSettings = field(default_factory=ForestSettings)
    #: training of all segmentors; the size of the enhancer's network takes the place of theirs
    segmentor: SegmentorSettings = field(default_factory=SegmentorSettings)
    direct: DirectSettings = field(default_factory=DirectSettings)

    def __post_init__(self) -> None:
        if not self.strokes or min(self.strokes) < 1 or max(Counter(self.strokes).values()) > 1:
            msg = f"Strokes per class and image are at least 1, each number named once; got {list(self.strokes)}."
            raise ConfigError(msg)
        if min(self.n_seeds, self.n_training_seeds, self.n_painted, self.n_forests) < 1:
            msg = (
                "At least one seed, training seed, painted image and forest is needed, got "
                f"{self.n_seeds}, {self.n_training_seeds}, {self.n_painted} and {self.n_forests}."
            )
            raise ConfigError(msg)
        if self.training_strokes not in self.strokes:
            msg = (
                f"Segmentors are compared with the enhancer at the same strokes: {self.training_strokes} for training "
                f"must be one of {', '.join(map(str, self.strokes))}."
            )
            raise ConfigError(msg)

    def with_steps(self, *, segmentor: int | None = None, direct: int | None = None) -> "QualitySettings":
        """The same with other numbers of training steps; as they are where ``None``.

        Raises:
            ConfigError: for less than one.
        """
        return replace(
            self,
            segmentor=replace(self.segmentor, training=_shortened(self.segmentor.training, segmentor)),
            direct=replace(self.direct, training=_shortened(self.direct.training, direct)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySources:
    """What the enhancer was trained on, which is what the direct network is trained on."""

    names: tuple[str, ...]  #: of the datasets, with the label where it is not the first
    training: Sequence[LabelledImage]
    validation: Sequence[LabelledImage]  #: decide when to stop
    doubt: str = ""  #: that the enhancer's package says something else, in words
    stated: frozenset[str] = frozenset()  #: datasets that the package names

    def __post_init__(self) -> None:
        if not (self.training and self.validation):
            msg = (
                f"The direct network needs images to train on and others to validate on, got {len(self.training)} and "
                f"{len(self.validation)}."
            )
            raise UserInputError(msg)

    @property
    def datasets(self) -> frozenset[str]:
        """Names of the datasets that images were taken from, or that the package names."""
        return self.stated | {one.dataset for one in self.training if one.dataset}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetData:
    """A target, read. Methods learn from its train split alone."""

    target: QualityTarget
    training: tuple[LabelledImage, ...]  #: images that segmentors learn from; labels are the foreground
    training_objects: tuple[LabelledImage, ...]  #: the same images; labels are objects where the dataset has such
    painted: tuple[int, ...]  #: which of them have strokes
    test: tuple[LabelledImage, ...]
    truth: GroundTruth  #: of the test images
    instances: str  #: what the objects are, in words
    hashes: Mapping[str, str]  #: of the images and their labels


def read_target(target: QualityTarget, settings: QualitySettings, *, data_dir: Path | None = None) -> TargetData:
    """Read a target.

    Raises:
        UserInputError: for an unknown dataset or label, or one without images.
        DownloadError, ImageFileError: for what cannot be read.
    """
    label = target.label or describe_dataset(target.dataset).labels[0]
    instances = _instances_of(target.dataset, label) if target.structure == "objects" else None
    # at an unlabelled rim, strokes would call objects background, and scores would count them as errors
    load = partial(load_dataset, target.dataset, data_dir=data_dir, without_rim=True)
    training, test = load("train", label=label), load("test", label=label)
    if not training or not test:
        msg = f"{target.dataset} has {len(training)} images to train on and {len(test)} to test on; both are needed."
        raise UserInputError(msg)
    training = spread(training, target.n_pseudo)
    objects, test_objects = training, test
    if instances is not None:
        objects = spread(load("train", label=instances), target.n_pseudo)
        test_objects = load("test", label=instances)
    painted = spread(range(len(training)), settings.n_painted)
    truth = GroundTruth(
        [one.labels for one in test],
        structure=target.structure,
        instances=None if instances is None else [one.labels for one in test_objects],
    )
    return TargetData(
        target=target,
        training=training,
        training_objects=objects,
        painted=painted,
        test=test,
        truth=truth,
        instances=instances or f"connected components of {label}",
        hashes={
            "painted images": hash_images(training[number] for number in painted),
            "training images": hash_images(training),
            "training objects": hash_images(objects),
            "test images": hash_images((*test, *test_objects)),
        },
    )


def hash_images(images: Iterable[LabelledImage]) -> str:
    """SHA-256 of images and their labels, in this order."""
    return hash_arrays(array for one in images for array in (one.image, one.labels))


def spread(items: Sequence[_T], count: int) -> tuple[_T, ...]:
    """So many items, evenly spread: the middle ones of equal parts; all where there are no more."""
    if count >= len(items):
        return tuple(items)
    return tuple(items[int(position)] for position in (np.arange(count) + 0.5) * len(items) / count)


def choose_targets(targets: Sequence[QualityTarget], names: Sequence[str]) -> tuple[QualityTarget, ...]:
    """Those that are named; all where none is.

    Raises:
        ConfigError: for an unknown name, listing the known, and where there are none or two of one name.
    """
    known = [one.name for one in targets]
    if not known or max(Counter(known).values()) > 1:
        msg = f"A recipe names at least one target, and each once; this one has {', '.join(known) or 'none'}."
        raise ConfigError(msg)
    unknown = [name for name in names if name not in known]
    if unknown:
        msg = f"No target {', '.join(unknown)}. The recipe has: {', '.join(known)}."
        raise ConfigError(msg)
    return tuple(one for one in targets if not names or one.name in names)


def _instances_of(dataset: str, label: str) -> str | None:
    """Which label of a dataset numbers the objects of another one; None if there is none."""
    if label == _INSTANCES or label.endswith(f"_{_INSTANCES}"):
        return label
    wanted = f"{label}_{_INSTANCES}"
    return wanted if wanted in describe_dataset(dataset).labels else None


def _shortened(training: TrainingSettings, steps: int | None) -> TrainingSettings:
    if steps is None:
        return training
    return replace(training, steps=steps, steps_per_epoch=max(1, min(training.steps_per_epoch, steps)))
