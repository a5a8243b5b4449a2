"""Classify an image, from file to file, without having it in memory.

Apart from the other single steps, since these import torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import xarray as xr

from s2d_zoo.contract import RFContract
from s2d_zoo.data.axes import space_shape
from s2d_zoo.data.images import read_image, write_blocks
from s2d_zoo.data.lazy_images import open_image
from s2d_zoo.data.scribbles import read_scribbles
from s2d_zoo.data.stored import PlacedBlock, outline_of
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.projects import open_classifier, retrain_classifier
from s2d_zoo.rf_adapter.autocontext import AutocontextClassifier
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.persistence import save_classifier
from s2d_zoo.types import CHANNEL


class BlockwisePredictor(Protocol):
    """A `s2d_zoo.contract.ProbabilityPredictor` that can give its result block by block."""

    @property
    def contract(self) -> RFContract:
        """What it delivers."""
        ...

    def predict_blocks(self, image: xr.DataArray, *, progress: str | None = None) -> Iterator[PlacedBlock]:
        """Where each block lies in the image (channel (z) y x), and its probabilities."""
        ...


def classify_file(
    image: Path,
    output: Path,
    *,
    scribbles: Path | None = None,
    classifier: Path | None = None,
    ilastik_project: Path | None = None,
    retrain: bool = False,
    save_to: Path | None = None,
    axes: str | None = None,
    foreground: int | None = None,
    class_names: Sequence[str] | None = None,
    forest: ForestSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Fit a forest on strokes, or take one that there is, and write its probabilities of an image.

    With a forest that there is the image may be larger than memory.

    Raises:
        ConfigError: unless exactly one of strokes, classifier and project is given, or if the output is there already.
        UserInputError: for anything wrong with image or strokes.
        ImageFileError, SavedFileError, ProjectFileError: for files that cannot be read or written.
    """
    sources = (scribbles, classifier, ilastik_project)
    if sum(source is not None for source in sources) != 1 or (retrain and ilastik_project is None):
        msg = (
            "Give one of --scribbles, to fit a forest, --classifier, to use a saved one, and --ilastik-project, to use "
            "a project's (or, with --retrain, its labels)."
        )
        raise ConfigError(msg)
    if class_names is not None and scribbles is None:
        msg = "--class-names is for strokes: the labels of a saved forest or a project have names."
        raise ConfigError(msg)
    for target in (output, save_to):
        refuse_existing(target, overwrite=overwrite, inputs=(image, *sources))
    picture = open_image(image, axes=axes)
    fitted: PixelClassifier | AutocontextClassifier
    if scribbles is not None:
        picture = read_image(image, axes=axes)
        strokes = read_scribbles(scribbles)
        n_classes = max(int(strokes.max()), len(class_names or ()), 2)
        classes = name_classes(n_classes, foreground=2 if foreground is None else foreground, names=class_names)
        fitted = PixelClassifier(settings=forest, classes=classes, random_state=seed).fit(picture, strokes)
    elif ilastik_project is not None and retrain:
        fitted = retrain_classifier(ilastik_project, foreground=foreground, forest=forest, seed=seed)
    else:
        path = classifier or ilastik_project or Path()
        fitted = open_classifier(path, foreground=foreground, images=[picture])
    if save_to is not None:
        if not isinstance(fitted, PixelClassifier):
            msg = "The two forests of Autocontext cannot be saved as one: leave out --save-classifier."
            raise ConfigError(msg)
        save_classifier(fitted, save_to)
    predict_to_file(fitted, picture, output, overwrite=overwrite, progress="forest" if progress else None)
    return output


def predict_to_file(
    predictor: BlockwisePredictor,
    image: xr.DataArray,
    output: Path,
    *,
    overwrite: bool = False,
    progress: str | None = None,
) -> None:
    """Write the probabilities of an image while they are computed; what is there at the end is whole.

    Args:
        predictor: what gives them.
        image: channel (z) y x, e.g. from `s2d_zoo.data.lazy_images.open_image`.
        output: ``.tif``, ``.h5``, ``file.h5:/key`` or ``.zarr``.
        overwrite: whether a file that is there is replaced.
        progress: label of the progress bar on stderr; none when ``None``.

    Raises:
        UserInputError: whatever the predictor has against the image.
        ImageFileError: if the image cannot be read or the output cannot be written.
    """
    sizes = {CHANNEL: len(predictor.contract.classes), **space_shape(image)}
    like = outline_of(sizes, np.dtype(np.float32), image.attrs)
    write_blocks(output, predictor.predict_blocks(image, progress=progress), like=like, overwrite=overwrite)


def refuse_existing(path: Path | None, *, overwrite: bool, inputs: Sequence[Path | None] = ()) -> None:
    """Refuse early, before anything is computed; of ``file.h5:/key`` the file counts.

    Raises:
        ConfigError: if there is something at the path, or it is one of the inputs.
    """
    if path is None:
        return
    file = Path(str(path).partition(":/")[0])
    if file.exists() and any(one is not None and one.exists() and file.samefile(one) for one in inputs):
        msg = f"{path} is an input of this command and would be lost. Give the output another name."
        raise ConfigError(msg)
    if not overwrite and file.exists():
        msg = f"{path} exists already. Give another name, or --overwrite to replace it."
        raise ConfigError(msg)
