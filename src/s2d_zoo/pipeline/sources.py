"""The files that a user gave to `adapt`, read, checked against each other, and with what is known of the classifier."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from s2d_zoo.contract import ClassContract, ForestContract, ProbabilityPredictor, RFContract
from s2d_zoo.data.axes import check_same_space, count_space_dims, space_dims
from s2d_zoo.data.images import read_image, read_labels
from s2d_zoo.data.scribbles import count_classes, read_scribbles
from s2d_zoo.errors import AxesError, ConfigError, ScribbleError, UserInputError
from s2d_zoo.pipeline.cell_files import hash_array
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.probabilities import check_image, read_maps, with_pixel_size
from s2d_zoo.pipeline.projects import choose_foreground, open_ilastik_project
from s2d_zoo.rf_adapter.autocontext import stored_classifier
from s2d_zoo.rf_adapter.classes import foreground_channels, name_classes
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.types import CHANNEL

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptData:
    """What the files hold."""

    names: tuple[str, ...]  #: of the images, for people and file names
    images: tuple[xr.DataArray, ...]  #: channel (z) y x
    scribbles: tuple[xr.DataArray, ...]  #: (z) y x, uint8; all 0 where nothing was painted
    ground_truth: tuple[xr.DataArray, ...]  #: (z) y x, integers, 0 = background
    test_images: tuple[xr.DataArray, ...]  #: channel (z) y x
    test_ground_truth: tuple[xr.DataArray, ...]  #: (z) y x, integers, 0 = background
    classes: tuple[ClassContract, ...]  #: name and meaning of label 1, 2, …
    predictors: tuple[ProbabilityPredictor, ...]  #: one for each image; none where forests are to be fitted on strokes
    selection: FeatureSelection | None  #: features of forests that are fitted; all where None
    found_images: tuple[Path, ...] = ()  #: files that a project led to

    @property
    def foreground(self) -> int:
        """Label of the objects, counted from 1."""
        return foreground_channels(self.classes)[0] + 1

    @property
    def painted(self) -> bool:
        """Whether there are any strokes."""
        return any(bool((strokes > 0).any()) for strokes in self.scribbles)

    @property
    def delivered(self) -> RFContract:
        """What the classifier delivers, or the forest that is to be fitted."""
        if self.predictors:
            return with_pixel_size(self.predictors[0].contract, self.images[0])
        return RFContract(
            ndim=count_space_dims(self.images[0]),
            classes=self.classes,
            channels=foreground_channels(self.classes),
            features=None if self.selection is None else self.selection.to_contract(),
            forest=ForestContract(implementation="sklearn", labels="strokes"),
            raw_channels=self.images[0].sizes[CHANNEL],
            pixel_size=self.images[0].attrs.get("pixel_size"),
        )


def read_inputs(
    inputs: AdaptInputs,
    *,
    foreground: int | None = None,
    class_names: tuple[str, ...] | None = None,
    classifier: ProbabilityPredictor | None = None,
) -> AdaptData:
    """Read all files and check them against each other.

    Args:
        inputs: the files.
        foreground: label of the objects (of maps: the channel, counted from 1); 2 where ``None``, unless the names of
            a project's labels say otherwise.
        class_names: one for each label; those of the project, or made up, where ``None``.
        classifier: gives the probabilities, instead of a forest that is fitted on the strokes.

    Raises:
        ImageFileError, ProjectFileError: for a file that cannot be read.
        ScribbleError: for strokes that nothing can be learnt from.
        AxesError: for files that do not cover the same pixels, or differ in channels or dimensions.
        UserInputError: for NaN in an image, labels that are no integers, or a test image that is painted on.
        ConfigError: for a foreground that does not exist, or cannot be told.
    """
    if inputs.ilastik_project is not None:
        source = _read_project(inputs, inputs.ilastik_project, foreground, class_names)
    elif inputs.probabilities:
        source = _read_maps(inputs, foreground, class_names)
    else:
        source = _read_strokes(inputs, foreground, class_names)
    if classifier is not None:
        if source.predictors:
            msg = "A classifier was given as well as a project or probabilities: give one of them."
            raise ConfigError(msg)
        predictors = (classifier,) * len(source.images)
        source = replace(source, predictors=predictors, classes=classifier.contract.classes)
    _check_predictors(source)
    test_images = tuple(read_image(path, axes=inputs.axes) for path in inputs.test_images)
    truth_files = _truth_files(source, inputs.ground_truth)
    ground_truth = tuple(read_labels(path) for path in truth_files)
    test_ground_truth = tuple(read_labels(path) for path in inputs.test_ground_truth)
    _check_pairs(source.names, source.images, truth_files, ground_truth)
    _check_pairs([path.name for path in inputs.test_images], test_images, inputs.test_ground_truth, test_ground_truth)
    first = source.images[0]
    names = (*source.names, *map(str, inputs.test_images))
    for name, image in zip(names, (*source.images, *test_images), strict=True):
        if image.dims != first.dims or image.sizes[CHANNEL] != first.sizes[CHANNEL]:
            msg = (
                f"All images must have the same axes and channels: {names[0]} has {dict(first.sizes)}, "
                f"{name} has {dict(image.sizes)}."
            )
            raise AxesError(msg)
    refuse_seen(
        zip(source.names, source.images, strict=True), zip(names[len(source.names) :], test_images, strict=True)
    )
    return AdaptData(
        names=source.names,
        images=source.images,
        scribbles=source.scribbles,
        ground_truth=ground_truth,
        test_images=test_images,
        test_ground_truth=test_ground_truth,
        classes=source.classes,
        predictors=source.predictors,
        selection=source.selection,
        found_images=source.found_images,
    )


def refuse_seen(painted: Iterable[tuple[str, xr.DataArray]], tests: Iterable[tuple[str, xr.DataArray]]) -> None:
    """Refuse to test on an image that is painted on, whatever its file is called.

    Args:
        painted: names and images with strokes.
        tests: names and images that are for scores only.

    Raises:
        UserInputError: naming both.
    """
    known = {hash_array(image): name for name, image in painted}
    for name, image in tests:
        if (twin := known.get(hash_array(image))) is not None:
            msg = (
                f"The test image {name} is also one to paint on ({twin}): scores on it would praise what was learnt by "
                "heart. Give another one."
            )
            raise UserInputError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Images, and what tells their classes."""

    names: tuple[str, ...]
    images: tuple[xr.DataArray, ...]
    scribbles: tuple[xr.DataArray, ...]
    classes: tuple[ClassContract, ...]
    predictors: tuple[ProbabilityPredictor, ...] = ()
    selection: FeatureSelection | None = None
    found_images: tuple[Path, ...] = ()
    lanes: tuple[int, ...] = ()  #: of a project: where each image stands among all of its images
    n_lanes: int = 0


def _read_strokes(inputs: AdaptInputs, foreground: int | None, class_names: tuple[str, ...] | None) -> _Source:
    images = tuple(read_image(path, axes=inputs.axes) for path in inputs.images)
    scribbles = _read_scribbles(inputs, images)
    classes = name_classes(
        max(count_classes(scribbles), len(class_names or ())),
        foreground=2 if foreground is None else foreground,
        names=class_names,
    )
    _check_foreground(scribbles, foreground_channels(classes)[0] + 1)
    return _Source(names=_names(inputs.images), images=images, scribbles=scribbles, classes=classes)


def _read_maps(inputs: AdaptInputs, foreground: int | None, class_names: tuple[str, ...] | None) -> _Source:
    images = tuple(read_image(path, axes=inputs.axes) for path in inputs.images)
    predictors = tuple(
        read_maps(path, ndim=count_space_dims(image), foreground=foreground)
        for path, image in zip(inputs.probabilities, images, strict=True)
    )
    channels = {one.maps.sizes[CHANNEL] for one in predictors}
    if len(channels) > 1:
        msg = f"The files of probabilities must have the same channels, found {sorted(channels)}."
        raise AxesError(msg)
    classes = predictors[0].contract.classes
    if class_names is not None:
        label = foreground_channels(classes)[0] + 1
        classes = name_classes(len(classes), foreground=label, names=class_names)
    for path, one, image in zip(inputs.probabilities, predictors, images, strict=True):
        check_same_space(image, one.maps, names=("image", f"probabilities {path}"))
    scribbles = _read_scribbles(inputs, images) if inputs.scribbles else _nothing_painted(images)
    return _Source(
        names=_names(inputs.images), images=images, scribbles=scribbles, classes=classes, predictors=predictors
    )


def _read_project(
    inputs: AdaptInputs, path: Path, foreground: int | None, class_names: tuple[str, ...] | None
) -> _Source:
    opened = open_ilastik_project(path, inputs.images, axes=inputs.axes, retrain=inputs.retrain)
    project, frames, stage = opened.project, opened.frames, opened.stage
    if foreground is None:
        pictures = [frame.image for frame in frames]
        foreground = choose_foreground(project, pictures, scribbles=opened.scribbles, stage=stage)
    predictors: tuple[ProbabilityPredictor, ...] = ()
    if not inputs.retrain:
        predictors = (stored_classifier(project, foreground=foreground),) * len(frames)
    classes = project.classes(stage, foreground=foreground)
    if class_names is not None:
        classes = name_classes(len(classes), foreground=foreground_channels(classes)[0] + 1, names=class_names)
    scribbles = opened.scribbles
    if any(bool((one > 0).any()) for one in scribbles):  # of Autocontext, the other stage may have all labels
        count_classes(scribbles, names=[entry.name for entry in classes])
    return _Source(
        names=tuple(frame.name for frame in frames),
        images=tuple(frame.image for frame in frames),
        scribbles=scribbles,
        classes=classes,
        predictors=predictors,
        selection=project.selection(stage),
        lanes=tuple(frame.lane for frame in frames),
        n_lanes=len(project.raw),
        found_images=tuple(dict.fromkeys(frame.path for frame in frames if frame.path is not None)),
    )


def _truth_files(source: _Source, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Ground truth of the images that are worked on; of a project, one file for each of its images was given."""
    if not source.lanes or not files:
        return files
    if len(files) != source.n_lanes:
        msg = f"{len(files)} files of ground truth were given for {source.n_lanes} images of the project: one for each."
        raise ConfigError(msg)
    if len(set(source.lanes)) != len(source.lanes):
        msg = (
            "The project has several time points of one image, and a file of ground truth has one: give the painted "
            "time points as images of their own, or leave --ground-truth out."
        )
        raise ConfigError(msg)
    return tuple(files[lane] for lane in source.lanes)


def _check_predictors(source: _Source) -> None:
    """Refuse what would else be found out once there are results."""
    painted = max(int(strokes.max()) for strokes in source.scribbles)
    if painted > len(source.classes):
        named = ", ".join(entry.name for entry in source.classes)
        msg = f"The strokes use labels up to {painted}, but the classifier has {len(source.classes)} classes: {named}."
        raise ScribbleError(msg)
    for name, image, predictor in zip(source.names, source.images, source.predictors, strict=False):
        check_image(predictor.contract, image, name)


def _read_scribbles(inputs: AdaptInputs, images: Sequence[xr.DataArray]) -> tuple[xr.DataArray, ...]:
    scribbles = tuple(read_scribbles(path) for path in inputs.scribbles)
    _check_pairs(_names(inputs.images), images, inputs.scribbles, scribbles)
    return scribbles


def _check_foreground(scribbles: Sequence[xr.DataArray], foreground: int) -> None:
    if not any(bool((strokes == foreground).any()) for strokes in scribbles):
        msg = f"No stroke has the label of the foreground, {foreground}. Paint it, or say --foreground LABEL."
        raise ScribbleError(msg)


def _nothing_painted(images: Sequence[xr.DataArray]) -> tuple[xr.DataArray, ...]:
    return tuple(
        xr.DataArray(np.zeros([image.sizes[dim] for dim in space_dims(image)], dtype=np.uint8), dims=space_dims(image))
        for image in images
    )


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(path.name for path in paths)


def _check_pairs(
    names: Sequence[str], images: Sequence[xr.DataArray], label_paths: Sequence[Path], labels: Sequence[xr.DataArray]
) -> None:
    if label_paths and len(label_paths) != len(images):
        msg = f"{len(label_paths)} label images were given for {len(images)} images ({', '.join(names)}): one for each."
        raise ConfigError(msg)
    for name, image, label_path, label in zip(names, images, label_paths, labels, strict=False):
        check_same_space(image, label, names=(f"image {name}", f"labels {label_path}"))
