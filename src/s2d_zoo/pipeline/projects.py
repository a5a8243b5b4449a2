"""Classifiers out of files: saved ones, and those of ilastik projects. Imports no torch."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import h5py
import numpy as np
import xarray as xr

from s2d_zoo.contract import find_background
from s2d_zoo.data.axes import space_dims
from s2d_zoo.errors import ConfigError, ScribbleError
from s2d_zoo.rf_adapter.autocontext import AutocontextClassifier, stored_classifier, stored_stage
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.ilastik_images import Frame, read_frames
from s2d_zoo.rf_adapter.ilastik_project import IlastikProject, name_foreground, read_project
from s2d_zoo.rf_adapter.persistence import load_classifier

logger = logging.getLogger(__name__)

PROJECT_SUFFIX: Final = ".ilp"
#: of a forest that only tells which of two labels covers more
_FEW_TREES: Final = 10
#: px of an image on which two labels without telling names are compared
_MIDDLE: Final[Mapping[str, int]] = MappingProxyType({"z": 32, "y": 1024, "x": 1024})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedProject:
    """A project, the images on which something is painted, and the stage that counts."""

    project: IlastikProject
    frames: tuple[Frame, ...]
    stage: int

    @property
    def scribbles(self) -> tuple[xr.DataArray, ...]:
        """Strokes of that stage, one for each frame: (z) y x, uint8."""
        return tuple(frame.scribbles[self.stage] for frame in self.frames)


def open_ilastik_project(
    path: Path, images: Sequence[Path] = (), *, axes: str | None = None, retrain: bool = False
) -> OpenedProject:
    """Read a project and its painted images.

    Args:
        path: ``*.ilp``.
        images: where its images are now, one for each; where the project says when empty.
        axes: of these images, where nothing tells.
        retrain: the forest is to be fitted anew, so that none is needed.

    Raises:
        ScribbleError: if nothing is painted.
        ProjectFileError: if it cannot be read, or there is no forest.
        AxesError, ConfigError, ImageFileError: for images that cannot be read, or are others.
    """
    project = read_project(path)
    if not any(stage.count_labels() for stage in project.stages):
        msg = f"{path} has no labels. Paint some px of each class in ilastik and save the project."
        raise ScribbleError(msg)
    if not retrain:
        stored_classifier(project, foreground=1)  # before the images are read: whether there is one at all
    frames = tuple(frame for frame in read_frames(project, images, axes=axes) if frame.painted)
    stage = choose_stage(project, retrain=retrain)
    if retrain and stage > 0:
        logger.warning(
            "%s: --retrain fits one forest, on the labels of %s and the image alone; what the first forest of "
            "Autocontext says is not used.",
            path,
            project.stages[stage].name,
        )
    return OpenedProject(project=project, frames=frames, stage=stage)


def open_classifier(
    path: Path, *, foreground: int | None = None, images: Sequence[xr.DataArray] = ()
) -> PixelClassifier | AutocontextClassifier:
    """A classifier out of a file: one that was saved here, or the trained one of an ilastik project.

    Args:
        path: the file.
        foreground: label of the objects; of a project see `choose_foreground` when ``None``.
        images: channel (z) y x, like those that the project was made for; its own are taken where it holds them.

    Raises:
        SavedFileError, ProjectFileError: if it cannot be read, or is not trained.
        ConfigError: if the foreground is not one of the labels, or cannot be told.
    """
    if path.suffix.lower() != PROJECT_SUFFIX and not (path.is_file() and h5py.is_hdf5(path)):  # *.ilp.bak is one, too
        saved = load_classifier(path)
        return saved if foreground is None else saved.with_foreground(foreground)
    project = read_project(path)
    if foreground is None:
        foreground = _named_foreground(project, choose_stage(project))
    if foreground is None:
        if project.raw and all(raw.embedded for raw in project.raw):
            images = [frame.image for frame in read_frames(project)]
        foreground = choose_foreground(project, images)
    return stored_classifier(project, foreground=foreground)


def choose_foreground(
    project: IlastikProject,
    images: Sequence[xr.DataArray] = (),
    *,
    scribbles: Sequence[xr.DataArray] = (),
    stage: int | None = None,
) -> int:
    """The label of the objects, where nobody said which it is.

    That is the one that Trainable Domain Adaptation gives to its network, or what the labels' names say; of two names
    that say nothing, the label that covers less of the middle of the images, and a warning tells what was taken.

    Args:
        project: with two labels, or one of them called background.
        images: channel (z) y x; without any, label 2 is taken, as for strokes.
        scribbles: (z) y x, uint8, one for each image: to fit a small forest where there is none.
        stage: whose labels; those of the trained forest when ``None``.

    Raises:
        ConfigError: if only the user can know.
    """
    trained = choose_stage(project)
    stage = trained if stage is None else stage
    named = _named_foreground(project, stage)
    if named is not None:
        return named
    names = project.stages[stage].class_names
    listed = ", ".join(f"{label}: {name}" for label, name in enumerate(names, start=1))
    if len(names) != 2:
        msg = f"Which label of {project.path} is the foreground? There are {listed}. Say it, e.g. --foreground 2."
        raise ConfigError(msg)
    label, why = 2, "that is the usual order"
    classifier: PixelClassifier | AutocontextClassifier | None = None
    if stage == trained and project.stages[stage].forest is not None:
        classifier = stored_classifier(project, foreground=label)
    elif images and len(scribbles) == len(images):
        few = ForestSettings(n_estimators=_FEW_TREES)
        classifier = project.new_classifier(stage, foreground=label, settings=few).fit(images, scribbles)
    if images and classifier is not None:
        shares = [classifier.predict_proba(_middle(image)).mean(dim=space_dims(image)).values for image in images]
        covered = np.mean(shares, axis=0)
        label = int(covered.argmin()) + 1
        why = f"it covers less of the middle of the images, {100 * covered.min():.0f} %"
    logger.warning(
        "%s: label %d is taken for the objects, since %s; the names of the labels do not tell (%s). If that is wrong: "
        "--foreground %d.",
        project.path,
        label,
        why,
        listed,
        3 - label,
    )
    return label


def _named_foreground(project: IlastikProject, stage: int) -> int | None:
    """The label that the project itself says to be the objects', without a look at its images."""
    fed = project.stages[stage].channels
    if fed is not None and len(fed) == 1:
        return fed[0] + 1
    names = project.stages[stage].class_names
    return None if find_background(names) is None else name_foreground(names)


def retrain_classifier(
    path: Path,
    images: Sequence[Path] = (),
    *,
    axes: str | None = None,
    foreground: int | None = None,
    forest: ForestSettings | None = None,
    seed: int = 0,
) -> PixelClassifier:
    """A new forest, fitted on the labels and features of a project; see `open_ilastik_project` for what is raised."""
    opened = open_ilastik_project(path, images, axes=axes, retrain=True)
    pictures = [frame.image for frame in opened.frames]
    if foreground is None:
        foreground = choose_foreground(opened.project, pictures, scribbles=opened.scribbles, stage=opened.stage)
    classifier = opened.project.new_classifier(opened.stage, foreground=foreground, settings=forest, seed=seed)
    return classifier.fit(pictures, opened.scribbles)


def choose_stage(project: IlastikProject, *, retrain: bool = False) -> int:
    """Which stage's labels count: that of the forest that is used, or, to be retrained, the last one with labels."""
    if not retrain:
        return stored_stage(project)
    labelled = [number for number, stage in enumerate(project.stages) if stage.count_labels()]
    return max(labelled, default=0)


def _middle(image: xr.DataArray) -> xr.DataArray:
    """Enough of an image to tell which label covers more of it."""
    window = {}
    for dim, most in _MIDDLE.items():
        size = image.sizes.get(dim, 0)
        start = max(0, (size - most) // 2)
        window[dim] = slice(start, start + most)
    return image.isel(window, missing_dims="ignore")
