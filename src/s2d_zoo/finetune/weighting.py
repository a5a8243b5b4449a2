"""How much each pseudo-label counts in training: one option, and what it means for patches and loss."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.losses import RectifiedLoss
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.trainer import Loss, weighted_bce_and_dice
from s2d_zoo.types import OUTPUT_CHANNELS

#: ``"consensus"``: by the share of the forests that are sure and agree (`s2d_zoo.finetune.pseudo_labels`).
#: ``"rectified"``: by what the network in training thinks of them (`s2d_zoo.finetune.losses`).
#: ``"both"``: by the product of the two. ``"none"``: all alike. Strokes always count fully.
Weighting: TypeAlias = Literal["consensus", "rectified", "both", "none"]

WEIGHTINGS: Final[tuple[Weighting, ...]] = get_args(Weighting)
_RECTIFIED: Final = ("rectified", "both")
#: schemes for which the weights of pseudo-labels count
BY_CONSENSUS: Final = ("consensus", "both")
_AGREEMENT: Final = "each pixel by how far the pseudo-labels' predictions are sure and agree"
_CONFIDENCE: Final = "by how usual the network's confidence in its label is"
WEIGHTING_IN_WORDS: Final[Mapping[Weighting, str]] = {
    "consensus": _AGREEMENT,
    "rectified": f"each pixel {_CONFIDENCE}",
    "both": f"{_AGREEMENT}, and {_CONFIDENCE}",
    "none": "all pixels alike",
}


def check_weighting(weighting: str) -> None:
    """Refuse an unknown scheme.

    Raises:
        ConfigError: naming those that there are.
    """
    if weighting not in WEIGHTINGS:
        msg = f"The weighting of pseudo-labels must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}."
        raise ConfigError(msg)


def pixel_weights(labels: PseudoLabels, weighting: Weighting) -> np.ndarray[Any, Any]:
    """The weights that go into patches.

    Args:
        labels: of one image.
        weighting: the scheme.

    Returns:
        channel (z) y x, float32 in [0, 1]. Channel 0: how much each pixel counts, before any rectification. For a
        scheme that rectifies, channel 1: where strokes are, which is left alone. What `weighted_loss` of the same
        scheme takes.

    Raises:
        ConfigError: if the scheme is unknown.
    """
    check_weighting(weighting)
    painted = np.zeros(labels.weights.shape, bool) if labels.painted is None else labels.painted.values
    if weighting in BY_CONSENSUS or labels.strokes_only:
        counted = np.where(painted, np.float32(1), labels.weights.values)
    else:
        counted = np.ones(labels.weights.shape, np.float32)
    channels = [counted, painted] if weighting in _RECTIFIED else [counted]
    return np.stack(channels).astype(np.float32)


def weighted_loss(weighting: Weighting, *, channels: int = len(OUTPUT_CHANNELS)) -> Loss:
    """A new loss for patches with the weights of `pixel_weights`.

    Args:
        weighting: the scheme.
        channels: of the network's output.

    Raises:
        ConfigError: if the scheme is unknown.
    """
    check_weighting(weighting)
    return RectifiedLoss(channels) if weighting in _RECTIFIED else weighted_bce_and_dice
