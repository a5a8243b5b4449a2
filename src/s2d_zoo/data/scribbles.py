"""Strokes: label images that are mostly 0 (unlabelled), with 1…n for the classes.

A *stroke* is a connected piece of one class. Whoever holds out labels to test a model must hold out whole
strokes: pixels of one stroke are all but copies of each other.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.data.axes import as_labels, check_same_space
from s2d_zoo.data.images import read_labels
from s2d_zoo.errors import ConfigError, ScribbleError, UserInputError

logger = logging.getLogger(__name__)

MAX_CLASSES: Final = 32
#: strokes of more classes than this are rather instances of one
_UNLIKELY_CLASSES: Final = 6
#: share of the strokes of each class in each draw
_RESAMPLED: Final = 0.75


def read_scribbles(path: Path | str, *, axes: str | None = None) -> xr.DataArray:
    """Read strokes from a label image: (z) y x, uint8.

    Raises:
        ScribbleError: if the file holds no usable strokes (see `check_scribbles`), or floats.
        ImageFileError: if it cannot be read.
    """
    try:
        scribbles = check_scribbles(read_labels(path, axes=axes))
    except UserInputError as error:
        msg = f"Strokes in {path}: {error}"
        raise ScribbleError(msg) from error
    n_classes = len(np.unique(scribbles.values[scribbles.values > 0]))
    if n_classes > _UNLIKELY_CLASSES:
        logger.warning("Strokes in %s: %d classes. Are these instances, not strokes?", path, n_classes)
    return scribbles


def check_scribbles(scribbles: xr.DataArray, *, image: xr.DataArray | None = None) -> xr.DataArray:
    """Check that a forest can learn from these strokes.

    Args:
        scribbles: (z) y x, integers, 0 = unlabelled.
        image: the image that they were painted on, to compare sizes.

    Returns:
        The strokes as (z) y x, uint8.

    Raises:
        ScribbleError: for floats, or labels that are negative or above `MAX_CLASSES`.
        AxesError: if the image has other pixels.
    """
    scribbles = as_labels(scribbles, what="strokes")
    if not np.issubdtype(scribbles.dtype, np.integer):
        msg = f"Strokes are a label image of integers (0 = unlabelled, 1…n = class), found {scribbles.dtype}. "
        raise ScribbleError(msg + "Save the label image itself, not a normalised or colour picture of it.")
    found = np.unique(scribbles.values)
    if found[0] < 0 or found[-1] > MAX_CLASSES:
        msg = f"Labels must lie in 0…{MAX_CLASSES}, found {found[0]} to {found[-1]}. Is this an instance label image?"
        raise ScribbleError(msg)
    if image is not None:
        check_same_space(image, scribbles, names=("image", "strokes"))
    return scribbles.astype(np.uint8)


def count_classes(scribbles: Sequence[xr.DataArray], *, names: Sequence[str] = ("background", "foreground")) -> int:
    """Number of classes that these strokes speak of, over all images.

    Args:
        scribbles: (z) y x, unsigned, 0 = unlabelled, 1…n = class.
        names: of label 1, 2, …, for the message.

    Raises:
        ScribbleError: if there are none, or all are of one class.
    """
    painted = sorted({int(label) for one in scribbles for label in np.unique(one.values) if label})
    if not painted:
        sizes = ", ".join(str(dict(one.sizes)) for one in scribbles)
        msg = f"There are no strokes: every px is 0 ({sizes}). Paint some px of each class with 1, 2, … first."
        raise ScribbleError(msg)
    if len(painted) < 2:
        msg = (
            f"Strokes of at least two classes are needed, found only label {painted[0]}. "
            f"Paint the others as well ({', '.join(f'label {i}: {name}' for i, name in enumerate(names, start=1))})."
        )
        raise ScribbleError(msg)
    return painted[-1]


def split_strokes(scribbles: xr.DataArray) -> tuple[xr.DataArray, int]:
    """Number the strokes.

    Args:
        scribbles: (z) y x, uint8.

    Returns:
        (z) y x, int32, 0 = unlabelled, 1…n = stroke, and n. Strokes of class 1 come first.
    """
    numbered = np.zeros(scribbles.shape, dtype=np.int32)
    structure = ndimage.generate_binary_structure(scribbles.ndim, scribbles.ndim)
    count = 0
    for label in np.unique(scribbles.values):
        if label:
            pieces, n_pieces = ndimage.label(scribbles.values == label, structure=structure)
            numbered[pieces > 0] = pieces[pieces > 0] + count
            count += n_pieces
    return scribbles.copy(data=numbered), count


@dataclass(frozen=True, slots=True, kw_only=True)
class StrokeSplit:
    """Strokes to learn from, and strokes to be tested on."""

    training: tuple[xr.DataArray, ...]  #: (z) y x, uint8, one per image
    held_out: tuple[xr.DataArray, ...]  #: (z) y x, uint8, one per image; all 0 where nothing could be spared
    n_training: int  #: strokes
    n_held_out: int  #: strokes


def hold_out_strokes(scribbles: Sequence[xr.DataArray], *, fraction: float = 0.2, seed: int = 0) -> StrokeSplit:
    """Set whole strokes aside, of each class its share, at least one where a class has three or more, never all.

    Args:
        scribbles: one per image, (z) y x, uint8.
        fraction: share of the strokes of each class, over all images, in [0, 1).
        seed: decides which.

    Raises:
        ConfigError: if the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        msg = f"The fraction of strokes to hold out must be in [0, 1), got {fraction}."
        raise ConfigError(msg)
    generator = np.random.default_rng(seed)
    strokes = _Strokes.find(scribbles)
    spared: set[_Stroke] = set()
    for members in strokes.by_class():
        share = min(max(1, round(fraction * len(members))), len(members) - 1)
        wanted = share if fraction > 0 and len(members) >= 3 else 0
        spared.update(members[position] for position in generator.permutation(len(members))[:wanted])
    return strokes.split(spared)


def fold_strokes(
    scribbles: Sequence[xr.DataArray], *, foreground: int, n_folds: int, seed: int = 0
) -> tuple[StrokeSplit, ...]:
    """Hold every stroke out once, whole, with each class dealt evenly.

    Args:
        scribbles: (z) y x, uint8, one for each image.
        foreground: label of the objects.
        n_folds: how often to split; less often where there are fewer strokes.
        seed: decides which strokes go together.

    Returns:
        The folds. A class of one stroke is always learnt from, never held out. None unless there are two strokes or
        more of the foreground and of another class.
    """
    generator = np.random.default_rng(seed)
    strokes = _Strokes.find(scribbles)
    by_class = {members[0].label: members for members in strokes.by_class()}
    others = max((len(members) for label, members in by_class.items() if label != foreground), default=0)
    n_folds = min(n_folds, len(by_class.get(foreground, ())), others)
    if n_folds < 2:
        return ()
    folds: list[set[_Stroke]] = [set() for _ in range(n_folds)]
    for members in by_class.values():
        if len(members) > 1:
            for position, chosen in enumerate(generator.permutation(len(members))):
                folds[position % n_folds].add(members[chosen])
    return tuple(strokes.split(spared) for spared in folds)


def resample_strokes(scribbles: Sequence[xr.DataArray], *, seed: int, spare: bool = False) -> tuple[xr.DataArray, ...]:
    """Draw three quarters of the strokes of each class, rounded up, without replacement.

    Which strokes a person paints is chance; forests fitted on different draws show how much their output owes to
    it. A bootstrap (with replacement) would leave out more than a third of the few strokes that there are, and its
    forests would be worse by more than they differ.

    Args:
        scribbles: one per image, (z) y x, uint8.
        seed: decides which.
        spare: leave at least one stroke of each class out, where it has two or more.
    """
    generator = np.random.default_rng(seed)
    strokes = _Strokes.find(scribbles)
    drawn: set[_Stroke] = set()
    for members in strokes.by_class():
        wanted = math.ceil(_RESAMPLED * len(members))
        if spare:
            wanted = max(1, min(wanted, len(members) - 1))
        drawn.update(members[position] for position in generator.permutation(len(members))[:wanted])
    return strokes.paint(drawn)


class _Stroke(NamedTuple):
    """One stroke: its class, the image it is in, and its number there."""

    label: int
    image: int
    number: int


@dataclass(frozen=True, slots=True)
class _Strokes:
    """All strokes of several images."""

    scribbles: tuple[xr.DataArray, ...]
    numbers: tuple[xr.DataArray, ...]
    members: tuple[_Stroke, ...]

    @classmethod
    def find(cls, scribbles: Sequence[xr.DataArray]) -> "_Strokes":
        numbers, members = [], []
        for image, labels in enumerate(scribbles):
            numbered, count = split_strokes(labels)
            first_pixels = ndimage.maximum(labels.values, numbered.values, range(1, count + 1))
            members += [_Stroke(int(label), image, number) for number, label in enumerate(first_pixels, start=1)]
            numbers.append(numbered)
        return cls(tuple(scribbles), tuple(numbers), tuple(members))

    def by_class(self) -> list[list[_Stroke]]:
        return [list(group) for _, group in itertools.groupby(sorted(self.members), key=lambda stroke: stroke.label)]

    def split(self, spared: set[_Stroke]) -> StrokeSplit:
        kept = set(self.members) - spared
        return StrokeSplit(
            training=self.paint(kept), held_out=self.paint(spared), n_training=len(kept), n_held_out=len(spared)
        )

    def paint(self, chosen: set[_Stroke]) -> tuple[xr.DataArray, ...]:
        """Only these strokes, one array per image."""
        painted = []
        for image, (labels, numbers) in enumerate(zip(self.scribbles, self.numbers, strict=True)):
            mask = np.isin(numbers.values, [stroke.number for stroke in chosen if stroke.image == image])
            painted.append(labels.copy(data=np.where(mask, labels.values, 0).astype(np.uint8)))
        return tuple(painted)
