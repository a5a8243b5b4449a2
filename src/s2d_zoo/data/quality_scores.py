"""How good a segmentation is, beyond its overlap: objects, lines, and whether probabilities mean what they say.

All images count as one: pixels, objects and lines are added up before anything is divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import xarray as xr
from bioimage_cpp.segmentation import watershed
from scipy import ndimage

from s2d_zoo.data.axes import check_same_space
from s2d_zoo.data.scores import calibration_error, score_masks
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import ConfigError, UserInputError

#: what the foreground is: things to be counted, or lines that divide the image
Structure: TypeAlias = Literal["objects", "membranes"]
STRUCTURES: Final[tuple[Structure, ...]] = get_args(Structure)

_THRESHOLD: Final = 0.5
#: the watershed: standard deviation of the smoothing, px, and how deep seeds are, as a share of the deepest pixel of
#: their component. Of 16 recipes, on the true masks of the train splits of six datasets, this found most true objects
#: again: average precision 0.94 on average, from 0.81 (nuclei_dsb_histo) and 0.90 (nuclei_dsb_fluo) to 0.99 (mito_vnc)
_SMOOTHING: Final = 1.0
_SEED_DEPTH: Final = 0.7
#: px; the smallest object that is annotated in the datasets has 21
MIN_AREA: Final = 20
#: px that lines may lie apart
TOLERANCE: Final = 2.0
#: px on either side of the true border
BAND: Final = 10.0

#: px by which images are mirrored outwards before lines are thinned; lines are at most twice as wide
_BEHIND: Final = 16
#: thinning: a line pixel goes where its neighbourhood looks like one of these, or of these turned. 1: foreground,
#: 0: background, -1: either (Golay's alphabet, L; e.g. Serra 1982, Image Analysis and Mathematical Morphology)
_THIN: Final = (
    np.array([[0, 0, 0], [-1, 1, -1], [1, 1, 1]]),
    np.array([[-1, 0, 0], [1, 1, 0], [-1, 1, -1]]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityScore:
    """Agreement of a foreground probability with the truth.

    Attributes:
        iou: intersection over union at 0.5, in [0, 1]; 1 where both are empty.
        dice: ``2 iou / (1 + iou)``.
        soft_dice: Dice of the probabilities as they are (Milletari et al. 2016, arXiv:1606.04797).
        calibration_error: in [0, 1], beside the true border (see `GroundTruth.score`).
        average_precision: of objects, in [0, 1]; None for membranes.
        boundary_f1: of lines, in [0, 1]; None for objects.
    """

    iou: float
    dice: float
    soft_dice: float
    calibration_error: float
    average_precision: float | None = None
    boundary_f1: float | None = None


#: every score, by its name
MEASURES: Final = tuple(field.name for field in fields(QualityScore))


class GroundTruth:
    """What predictions of some images are scored against; what takes time is computed once.

    Args:
        labels: y x, integers, 0 = background; one for each image.
        structure: what the foreground is.
        instances: y x, integers, 0 = background, each object of an image its own number, for objects only; connected
            components of the labels where ``None``. Objects of fewer than `MIN_AREA` px do not count.

    Raises:
        UserInputError: if there is no image.
        AxesError: if labels and instances of an image differ in size.
        ConfigError: for an unknown structure.
    """

    def __init__(
        self,
        labels: Sequence[xr.DataArray],
        *,
        structure: Structure,
        instances: Sequence[xr.DataArray] | None = None,
    ) -> None:
        if structure not in STRUCTURES:
            msg = f"The structure must be one of {', '.join(STRUCTURES)}, got {structure!r}."
            raise ConfigError(msg)
        if not labels:
            msg = "There is no labelled image to score on."
            raise UserInputError(msg)
        self.structure = structure
        self._labels = list(labels)
        self._masks = [one.values > 0 for one in labels]
        if instances is None:
            self._instances = [ndimage.label(one)[0] for one in self._masks]
        else:
            for one, other in zip(labels, instances, strict=True):
                check_same_space(one, other, names=("labels", "instances"))
            self._instances = [one.values for one in instances]

    def score(self, foregrounds: Sequence[xr.DataArray]) -> QualityScore:
        """Score predictions of all images, taken together.

        The calibration error is the expected one, in ten bins (`s2d_zoo.data.scores.calibration_error`), on pixels
        within `BAND` px of the nearest pixel of the other class: far from any border all are right, and sure.

        Args:
            foregrounds: y x, float in [0, 1], one for each image.

        Raises:
            UserInputError: if they are not as many as the images.
            AxesError: if one is of another size than its image.
        """
        if len(foregrounds) != len(self._labels):
            msg = f"Expected {len(self._labels)} predictions, one for each image, got {len(foregrounds)}."
            raise UserInputError(msg)
        for one, truth in zip(foregrounds, self._labels, strict=True):
            check_same_space(one, truth, names=("prediction", "ground truth"))
        values = [one.values for one in foregrounds]
        predicted = [one >= _THRESHOLD for one in values]
        overlap = score_masks(predicted, self._masks)
        objects = self.structure == "objects"
        return QualityScore(
            iou=overlap.iou,
            dice=overlap.dice,
            soft_dice=soft_dice(values, self._masks),
            calibration_error=calibration_error(foregrounds, self._bands, foreground=2),
            average_precision=self._average_precision(predicted) if objects else None,
            boundary_f1=None if objects else line_f1([thin(one) for one in predicted], self._lines),
        )

    @cached_property
    def _bands(self) -> list[xr.DataArray]:
        """Classes as strokes number them, beside the true border only: y x, uint8, 0 = elsewhere."""
        return [
            binary_classes(labels).where(xr.DataArray(_near_border(mask), dims=labels.dims), 0)
            for labels, mask in zip(self._labels, self._masks, strict=True)
        ]

    @cached_property
    def _lines(self) -> list[np.ndarray[Any, Any]]:
        return [thin(one) for one in self._masks]

    def _average_precision(self, masks: Sequence[np.ndarray[Any, Any]]) -> float:
        found = [count_matches(split_objects(one), true) for one, true in zip(masks, self._instances, strict=True)]
        matched, predicted, actual = (sum(counts) for counts in zip(*found, strict=True))
        together = predicted + actual - matched
        return matched / together if together else 1.0


def soft_dice(probabilities: Sequence[np.ndarray[Any, Any]], masks: Sequence[np.ndarray[Any, Any]]) -> float:
    """``2 Σ p t / (Σ p² + Σ t²)`` over all pixels of all images; 1 where nothing is foreground, nor said to be.

    Args:
        probabilities: y x, float in [0, 1], one for each image.
        masks: y x, bool, one for each.
    """
    pairs = [(one.astype(np.float64), mask) for one, mask in zip(probabilities, masks, strict=True)]
    overlap = sum(float(one[mask].sum()) for one, mask in pairs)
    total = sum(float(np.square(one).sum()) + int(mask.sum()) for one, mask in pairs)
    return 2 * overlap / total if total else 1.0


def split_objects(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Divide a mask into objects, by one fixed recipe that is the same for every method.

    Seeds are where the distance to the background, smoothed by 1 px, is at least 0.7 of its maximum in the same
    connected component; a watershed grows them over the mask. So objects are divided at necks, and small and large
    ones alike. Objects of fewer than `MIN_AREA` px are dropped.

    Args:
        mask: y x, bool.

    Returns:
        y x, int64, 0 = background.
    """
    components, count = ndimage.label(mask)
    if not count:
        return np.zeros(mask.shape, dtype=np.int64)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), _SMOOTHING)
    deepest = np.concatenate([[np.inf], ndimage.maximum(depth, components, range(1, count + 1))])
    seeds, _ = ndimage.label(depth >= _SEED_DEPTH * deepest[components])
    objects: np.ndarray[Any, Any] = watershed(-depth.astype(np.float32), seeds.astype(np.int64), mask=mask)
    return _without_small(objects)


def count_matches(predicted: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> tuple[int, int, int]:
    """Objects that are found again, with an IoU above 0.5, so that none can be found twice.

    From these counts, average precision as the Data Science Bowl 2018 and Cellpose define it is
    ``TP / (TP + FP + FN)`` (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; Stringer et al. 2021,
    doi:10.1038/s41592-020-01018-x).

    Args:
        predicted: y x, integers, 0 = background.
        actual: y x, integers, 0 = background.

    Returns:
        How many match, how many are predicted, and how many there are; of at least `MIN_AREA` px.
    """
    ours, n_ours = _numbered(_without_small(predicted))
    theirs, n_theirs = _numbered(_without_small(actual))
    pairs = np.bincount((ours * (n_theirs + 1) + theirs).ravel(), minlength=(n_ours + 1) * (n_theirs + 1))
    shared = pairs.reshape(n_ours + 1, n_theirs + 1)
    either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    return int(np.count_nonzero(2 * shared[1:, 1:] > either[1:, 1:])), n_ours, n_theirs


def thin(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Thin lines to their middle, about 1 px wide, without breaking or closing any (y x, bool)."""
    # lines that leave the image would be eaten up from its border, if they did not go on behind it
    line = np.pad(mask, _BEHIND, mode="symmetric")
    before = None
    while before is None or not np.array_equal(line, before):
        before = line.copy()
        for turns in range(4):
            for pattern in _THIN:
                line &= ~_looks_like(line, np.rot90(pattern, turns))
    return line[_BEHIND:-_BEHIND, _BEHIND:-_BEHIND]


def _looks_like(line: np.ndarray[Any, Any], pattern: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the 3 x 3 neighbourhood is this one: scipy's ``binary_hit_or_miss``, but ten times as fast."""
    around = np.pad(line, 1)
    found = np.ones_like(line)
    for (y, x), wanted in np.ndenumerate(pattern):
        if wanted >= 0:
            found &= around[y : y + line.shape[0], x : x + line.shape[1]] == bool(wanted)
    return found


def line_f1(predicted: Sequence[np.ndarray[Any, Any]], actual: Sequence[np.ndarray[Any, Any]]) -> float:
    """Harmonic mean of how much of the predicted lines is true, and how much of the true ones is found.

    A line pixel counts as right within `TOLERANCE` px of a line pixel of the other (Martin, Fowlkes and Malik 2004,
    doi:10.1109/TPAMI.2004.1273918, without their one-to-one matching; as Csurka et al. 2013, doi:10.5244/C.27.32).

    Args:
        predicted: y x, bool, thin lines, one for each image.
        actual: y x, bool, thin lines, one for each image.

    Returns:
        In [0, 1], all images taken together; 1 where neither has a line, 0 where only one has.
    """
    n_predicted, n_actual = (sum(int(np.count_nonzero(one)) for one in lines) for lines in (predicted, actual))
    if not (n_predicted and n_actual):
        return float(n_predicted == n_actual)
    right = sum(_count_near(one, other) for one, other in zip(predicted, actual, strict=True))
    found = sum(_count_near(other, one) for one, other in zip(predicted, actual, strict=True))
    precision, recall = right / n_predicted, found / n_actual
    return 2 * precision * recall / (precision + recall) if right and found else 0.0


def _count_near(lines: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> int:
    if not others.any():  # the distance to nothing is not defined
        return 0
    return int(np.count_nonzero(ndimage.distance_transform_edt(~others)[lines] <= TOLERANCE))


def _near_border(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if mask.all() or not mask.any():  # there is no border
        return np.zeros_like(mask)
    distance = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    near: np.ndarray[Any, Any] = distance <= BAND
    return near


def _numbered(labels: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int]:
    """Labels 1…n without gaps, and n."""
    found = np.unique(labels[labels > 0])
    numbers = np.searchsorted(found, labels) + 1
    return np.where(labels > 0, numbers, 0), len(found)


def _without_small(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    numbers, count = _numbered(labels)
    large = np.bincount(numbers.ravel(), minlength=count + 1) >= MIN_AREA
    return np.where(large[numbers], labels, 0)
