"""How well a prediction agrees with the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import check_same_space

#: into as many equal parts the probabilities are sorted to see whether they mean what they say
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Agreement of a thresholded probability with a binary truth.

    Attributes:
        iou: intersection over union in [0, 1]; 1 where both are empty.
        dice: ``2 iou / (1 + iou)``, also called F1.
    """

    iou: float
    dice: float


def score_foreground(
    foreground: xr.DataArray, truth: xr.DataArray, *, threshold: float = 0.5, mask: xr.DataArray | None = None
) -> Score:
    """Compare a foreground probability with labels.

    Args:
        foreground: (z) y x, float in [0, 1].
        truth: (z) y x, integers, 0 = background.
        threshold: probabilities at least this high are foreground.
        mask: (z) y x; only pixels other than 0 count. All count when ``None``.

    Raises:
        AxesError: if the arrays do not cover the same pixels.
    """
    check_same_space(foreground, truth, names=("prediction", "ground truth"))
    if mask is not None:
        check_same_space(foreground, mask, names=("prediction", "mask"))
    chosen: Any = slice(None) if mask is None else mask.values > 0
    predicted, actual = foreground.values[chosen] >= threshold, truth.values[chosen] > 0
    return score_masks([predicted], [actual])


def score_strokes(
    foregrounds: Sequence[xr.DataArray], strokes: Sequence[xr.DataArray], *, foreground: int
) -> Score | None:
    """Score of foreground probabilities on painted pixels only.

    Args:
        foregrounds: (z) y x, float in [0, 1], one for each image.
        strokes: (z) y x, 0 = not painted, one for each image.
        foreground: label of the foreground.

    Returns:
        The score, or None unless both foreground and something else is painted: on one alone, saying the same
        everywhere would be perfect.
    """
    painted = [one.values > 0 for one in strokes]
    actual = [one.values[mask] == foreground for one, mask in zip(strokes, painted, strict=True)]
    together = np.concatenate(actual) if actual else np.zeros(0, dtype=bool)
    if not together.any() or together.all():
        return None
    predicted = [one.values[mask] >= 0.5 for one, mask in zip(foregrounds, painted, strict=True)]
    return score_masks(predicted, actual)


def calibration_error(
    foregrounds: Sequence[xr.DataArray], strokes: Sequence[xr.DataArray], *, foreground: int
) -> float:
    """How far foreground probabilities are from frequencies, on painted pixels: the expected calibration error.

    Pixels are sorted by their probability into ten bins of equal width; the error is the mean, over pixels, of the
    distance between a bin's mean probability and its share of foreground (Guo et al. 2017, arXiv:1706.04599, for the
    probability of one class).

    Args:
        foregrounds: (z) y x, float in [0, 1], one for each image.
        strokes: (z) y x, 0 = not painted, one for each image.
        foreground: label of the foreground.

    Returns:
        The error in [0, 1]; 0 where nothing is painted.
    """
    pairs = [
        (one.values[mask.values > 0], mask.values[mask.values > 0])
        for one, mask in zip(foregrounds, strokes, strict=True)
    ]
    given = np.concatenate([probabilities for probabilities, _ in pairs]).astype(np.float64)
    actual = np.concatenate([labels for _, labels in pairs]) == foreground
    bins = np.minimum((given * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, given - actual, minlength=_BINS)  # mean distance of a bin, times its pixels
    return float(np.abs(gaps).sum() / max(1, given.size))


def score_masks(predicted: list[np.ndarray[Any, Any]], actual: list[np.ndarray[Any, Any]]) -> Score:
    """Score of several images taken together (bool arrays, pairwise of equal shape)."""
    overlap = sum(int(np.count_nonzero(one & other)) for one, other in zip(predicted, actual, strict=True))
    union = sum(int(np.count_nonzero(one | other)) for one, other in zip(predicted, actual, strict=True))
    iou = overlap / union if union else 1.0
    return Score(iou=iou, dice=2 * iou / (1 + iou))
