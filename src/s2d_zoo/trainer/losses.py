"""Losses in which each pixel counts by its weight."""

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch.nn import functional

#: of logits, target and weight; a module is saved and resumed with the network
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

#: keeps Dice defined where a channel is empty
_SMOOTH: Final = 1.0


def weighted_bce_and_dice(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice, each pixel counting by its weight.

    Args:
        logits: batch channel y x.
        target: batch channel y x, in [0, 1], soft or hard.
        weight: batch 1 y x, in [0, 1].
    """
    weight = weight.expand_as(target)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    return cross_entropy / weight.sum().clamp_min(1.0) + soft_dice(torch.sigmoid(logits), target, weight)


def soft_dice(probabilities: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """1 minus the soft Dice score, mean over the channels; all three are batch channel y x, in [0, 1]."""
    axes = (0, 2, 3)
    overlap = (weight * probabilities * target).sum(axes)
    total = (weight * (probabilities.square() + target.square())).sum(axes)
    dice = (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    return (1 - dice).mean()
