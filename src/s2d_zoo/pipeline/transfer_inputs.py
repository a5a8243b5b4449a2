"""What a transfer curve is measured on: labelled images to paint on, others to score on, and what was chosen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import check_same_space, space_dims
from s2d_zoo.data.datasets import LabelledImage, load_dataset
from s2d_zoo.data.images import read_image, read_labels
from s2d_zoo.errors import AxesError, ConfigError, UserInputError
from s2d_zoo.finetune.finetuning import FINETUNING_RATE, SegmentorSettings
from s2d_zoo.pipeline.enhancer_finetuning import EnhancerFinetuneSettings
from s2d_zoo.pipeline.sources import refuse_seen
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.types import CHANNEL

#: ``"random"``: a fresh segmentor. ``"pretrained"``: a raw-image model of anybody's package, trained further.
#: ``"enhancer"``: a forest, and the enhancer of its probabilities, trained further.
Start: TypeAlias = Literal["random", "pretrained", "enhancer"]

STARTS: Final[tuple[Start, ...]] = get_args(Start)
DEFAULT_BUDGETS: Final = (1, 2, 5, 10, 20)
DEFAULT_STEPS: Final = 300
DEFAULT_ENHANCER: Final = "nuclei-fluo-2d"
#: one image in so many is held out for scores where no test images are given
_HELD_OUT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferInputs:
    """Images with their ground truth, as files or as a public dataset, and the pretrained models.

    Raises:
        ConfigError: if files that belong together are not equally many, or there are none or too few.
    """

    images: tuple[Path, ...] = ()
    ground_truth: tuple[Path, ...] = ()  #: instances or a mask, 0 = background, one for each image
    test_images: tuple[Path, ...] = ()  #: where there are none, the last third of the images is held out
    test_ground_truth: tuple[Path, ...] = ()
    dataset: str | None = None  #: in place of files: strokes on its train split, scores on its test split
    data_dir: Path | None = None  #: folder with local copies of datasets
    axes: str | None = None  #: of the images, where the files do not tell
    enhancer: str = DEFAULT_ENHANCER  #: id of a bundled or downloaded model, or path of a package
    base_model: str | None = None  #: the same; takes raw images
    trust_code: bool = False  #: run Python code of these packages, if their networks need that

    def __post_init__(self) -> None:
        if (self.dataset is None) == (not self.images):
            msg = "Give either --image with --ground-truth, once for each image, or --dataset with the name of one."
            raise ConfigError(msg)
        if self.dataset is not None and (self.ground_truth or self.test_images or self.test_ground_truth):
            msg = "A dataset has its own labels and test images: leave out --ground-truth and --test-image."
            raise ConfigError(msg)
        for what, images, truth in (
            ("", self.images, self.ground_truth),
            ("test-", self.test_images, self.test_ground_truth),
        ):
            if len(images) != len(truth):
                msg = (
                    f"--{what}ground-truth was given {len(truth)} times and --{what}image {len(images)} times: give "
                    "one for each. Strokes are painted from the ground truth, and scores are against it."
                )
                raise ConfigError(msg)
        if len(self.images) == 1 and not self.test_images:
            msg = (
                "One image cannot be both painted on and scored on: give a second one (the last third of the images is "
                "held out for scores), or --test-image with --test-ground-truth."
            )
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """What is compared, and how everything is trained.

    Raises:
        ConfigError: for a budget or a number of seeds below 1, an unknown start, or one named twice.
    """

    budgets: tuple[int, ...] = DEFAULT_BUDGETS  #: strokes per class and image
    starts: tuple[Start, ...] = STARTS
    n_seeds: int = 3  #: of strokes, forests and trainings; the seeds are 0, 1, …
    forest: ForestSettings = field(default_factory=ForestSettings)
    #: forests that the enhancer is trained further on
    n_forests: int = 5
    #: network of the random start; patches and training of every start
    segmentor: SegmentorSettings = field(default_factory=lambda: with_steps(DEFAULT_STEPS))
    finetuning_rate: float = FINETUNING_RATE  #: learning rate of pretrained networks

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1 or max(Counter(self.budgets).values()) > 1:
            msg = f"Budgets are strokes per class and image, each at least 1 and named once; got {list(self.budgets)}."
            raise ConfigError(msg)
        unknown = [start for start in self.starts if start not in STARTS]
        if not self.starts or unknown or max(Counter(self.starts).values()) > 1:
            msg = f"Starts are one or more of {', '.join(STARTS)}, each named once; got {', '.join(self.starts)!r}."
            raise ConfigError(msg)
        if self.n_seeds < 1:
            msg = f"At least one seed is needed, and three to see how far chance goes; got {self.n_seeds}."
            raise ConfigError(msg)
        _ = self.finetuning(0), self.enhancer_finetuning(0)

    def fresh(self, seed: int) -> SegmentorSettings:
        """Network and training of the random start."""
        return replace(self.segmentor, training=replace(self.segmentor.training, seed=seed))

    def finetuning(self, seed: int) -> SegmentorSettings:
        """The same for a pretrained network, which learns more slowly."""
        fresh = self.fresh(seed)
        return replace(fresh, training=replace(fresh.training, learning_rate=self.finetuning_rate))

    def enhancer_finetuning(self, seed: int) -> EnhancerFinetuneSettings:
        """Forests and training of the enhancer."""
        return EnhancerFinetuneSettings(
            n_forests=self.n_forests,
            forest=self.forest,
            patches=self.segmentor.patches,
            training=replace(self.finetuning(seed).training, freeze_batch_norm=True),
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferData:
    """Images to paint on, and images that are only ever scored on; all 2D, with the same channels."""

    training: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    split: str  #: which are the test images, in words


def with_steps(steps: int) -> SegmentorSettings:
    """The usual segmentor, trained for so many steps.

    Raises:
        ConfigError: for less than one.
    """
    usual = SegmentorSettings()
    epoch = max(1, min(usual.training.steps_per_epoch, steps))
    return replace(usual, training=replace(usual.training, steps=steps, steps_per_epoch=epoch))


def read_transfer_data(inputs: TransferInputs) -> TransferData:
    """Read everything, and refuse what would fail after hours or make scores meaningless.

    Raises:
        AxesError: for volumes, images with other channels, or ground truth of another size.
        UserInputError: for ground truth without objects or without background, and images that are in both parts.
        ImageFileError, DownloadError: for what cannot be read.
    """
    if inputs.dataset is not None:
        training = load_dataset(inputs.dataset, "train", data_dir=inputs.data_dir)
        test = load_dataset(inputs.dataset, "test", data_dir=inputs.data_dir)
        split = f"the test split of {inputs.dataset}; strokes are painted on its train split"
    else:
        training = _read_pairs(inputs.images, inputs.ground_truth, inputs.axes)
        test = _read_pairs(inputs.test_images, inputs.test_ground_truth, inputs.axes)
        split = "given as test images"
    if not test:
        first = len(training) - max(1, len(training) // _HELD_OUT)
        training, test = training[:first], training[first:]
        split = "the last third of the images, held out since no test images were given"
    data = TransferData(training=training, test=test, split=split)
    _check(data)
    return data


def _read_pairs(images: Sequence[Path], truth: Sequence[Path], axes: str | None) -> tuple[LabelledImage, ...]:
    return tuple(
        LabelledImage(name=image.name, image=read_image(image, axes=axes), labels=read_labels(labels))
        for image, labels in zip(images, truth, strict=True)
    )


def _check(data: TransferData) -> None:
    for entry in (*data.training, *data.test):
        if len(space_dims(entry.image)) != 2:
            msg = (
                f"Transfer is measured on 2D images; {entry.name} has {dict(entry.image.sizes)}. Save some slices as "
                "images of their own."
            )
            raise AxesError(msg)
        check_same_space(entry.image, entry.labels, names=(f"image {entry.name}", "ground truth"))
    channels = {entry.image.sizes[CHANNEL] for entry in (*data.training, *data.test)}
    if len(channels) > 1:
        msg = f"All images must have the same number of channels, found {sorted(channels)}."
        raise AxesError(msg)
    for entry in data.training:
        _check_both(entry.name, [entry.labels], "strokes of both classes are painted on every image")
    _check_both("all test images together", [entry.labels for entry in data.test], "scores would mean nothing")
    painted, tests = ([(entry.name, entry.image) for entry in some] for some in (data.training, data.test))
    refuse_seen(painted, tests)


def _check_both(name: str, truth: Sequence[xr.DataArray], why: str) -> None:
    labelled = np.concatenate([labels.values.ravel() > 0 for labels in truth])
    if labelled.all() or not labelled.any():
        only = "objects" if labelled.all() else "background"
        msg = (
            f"The ground truth of {name} is {only} everywhere; expected objects (above 0) and background (0): {why}. "
            "Check the file, or leave the image out."
        )
        raise UserInputError(msg)
