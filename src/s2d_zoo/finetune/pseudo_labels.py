"""Pseudo-labels: what a network is to learn where nobody painted, and how much to trust it there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import check_same_space, space_dims
from s2d_zoo.data.targets import foreground_and_boundary
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

#: a member is sure of a pixel if its foreground probability is at least this, or at most 1 minus this
DEFAULT_CONFIDENCE: Final = 0.8
#: a pixel counts as kept if more than this share of the members is sure of it and agrees
_KEPT: Final = 0.5
#: what that is called in model cards
KEPT_IN_WORDS: Final = "share of pixels with sure pseudo-labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabels:
    """Soft labels of one image and their weights."""

    labels: xr.DataArray  #: channel (z) y x, float32 in [0, 1]: foreground, boundary
    weights: xr.DataArray  #: (z) y x, float32 in [0, 1]
    painted: xr.DataArray | None = None  #: (z) y x, bool, where strokes are: no weighting doubts these pixels
    strokes_only: bool = False  #: nothing is known of the other pixels, so no weighting counts them

    @property
    def kept(self) -> float:
        """Share of the pixels on which more than half of the members are sure and agree (or that were painted)."""
        return float((self.weights > _KEPT).mean())


def kept_share(labels: Sequence[PseudoLabels]) -> float:
    """Share of the pixels of several images (at least one) that are kept, in [0, 1]; see `PseudoLabels.kept`."""
    return sum(one.kept * one.weights.size for one in labels) / sum(one.weights.size for one in labels)


def consensus_labels(
    members: Sequence[xr.DataArray],
    *,
    scribbles: xr.DataArray | None = None,
    foreground: int = 2,
    confidence: float = DEFAULT_CONFIDENCE,
) -> PseudoLabels:
    """Labels from several enhanced predictions of the same image, one per forest.

    The label is the members' mean. The weight is the share of the members that are sure of their foreground
    and on the majority's side ("consensus weighting", Archit and Pape 2023, arXiv:2303.11790, with forests in
    place of samples). Strokes override both.

    Args:
        members: channel (z) y x each, float32 in [0, 1]: foreground, boundary.
        scribbles: (z) y x, 0 = unlabelled, 1…n = class; painted pixels get weight 1 and their own foreground.
        foreground: label of the foreground in the strokes.
        confidence: how sure a member must be, in [0.5, 1).

    Raises:
        UserInputError: if there are no members.
        ConfigError: if the confidence is out of range.
        AxesError: if members or strokes differ in size.
    """
    if not members:
        msg = "Pseudo-labels need at least one prediction, got none."
        raise UserInputError(msg)
    if not 0.5 <= confidence < 1:
        msg = f"The confidence must lie in [0.5, 1), got {confidence}."
        raise ConfigError(msg)
    for member in members[1:]:
        check_same_space(members[0], member, names=("first prediction", "next prediction"))
    stacked = np.stack([member.values for member in members]).astype(np.float32)
    labels = stacked.mean(axis=0)
    certain = np.abs(stacked[:, 0] - 0.5) >= confidence - 0.5
    agreeing = (stacked[:, 0] >= 0.5) == (labels[0] >= 0.5)
    weights = (certain & agreeing).mean(axis=0, dtype=np.float32)
    dims = space_dims(members[0])
    painted = None
    if scribbles is not None:
        check_same_space(members[0], scribbles, names=("predictions", "strokes"))
        painted = scribbles.values > 0
        labels[0][painted] = scribbles.values[painted] == foreground
        weights[painted] = 1.0
    return PseudoLabels(
        labels=xr.DataArray(labels, dims=(CHANNEL, *dims), coords={CHANNEL: list(OUTPUT_CHANNELS)}),
        weights=xr.DataArray(weights, dims=dims),
        painted=None if painted is None else xr.DataArray(painted, dims=dims),
    )


def stroke_labels(scribbles: xr.DataArray, *, foreground: int = 2) -> PseudoLabels:
    """The strokes themselves as labels, all else weight 0: what a network learns without an enhancer.

    Strokes say nothing of boundaries, so these labels are for comparison.
    """
    dims = space_dims(scribbles)
    painted = (scribbles.values > 0).astype(np.float32)
    labels = np.stack([(scribbles.values == foreground).astype(np.float32), np.zeros_like(painted)])
    return PseudoLabels(
        labels=xr.DataArray(labels, dims=(CHANNEL, *dims), coords={CHANNEL: list(OUTPUT_CHANNELS)}),
        weights=xr.DataArray(painted, dims=dims),
        painted=xr.DataArray(painted > 0, dims=dims),
        strokes_only=True,
    )


def dense_labels(
    instances: xr.DataArray, *, scribbles: xr.DataArray | None = None, foreground: int = 2
) -> PseudoLabels:
    """Labels of an image that is labelled throughout: every pixel counts.

    Args:
        instances: (z) y x, integers, 0 = background, each object its own number.
        scribbles: (z) y x, 0 = unlabelled; painted pixels get their own foreground.
        foreground: label of the foreground in the strokes.

    Raises:
        AxesError: if the strokes differ in size.
    """
    labels = foreground_and_boundary(instances).astype(np.float32)
    if scribbles is not None:
        check_same_space(instances, scribbles, names=("labels", "strokes"))
        labels.values[0] = np.where(scribbles.values > 0, scribbles.values == foreground, labels.values[0])
    return PseudoLabels(labels=labels, weights=xr.ones_like(labels[0], dtype=np.float32).drop_vars(CHANNEL))
