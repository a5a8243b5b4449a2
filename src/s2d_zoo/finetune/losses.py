"""The loss that doubts pseudo-labels which the network itself contradicts."""

from typing import Final

import torch
from torch import nn
from torch.nn import functional

from s2d_zoo.trainer import soft_dice
from s2d_zoo.types import OUTPUT_CHANNELS

#: of the running mean of the confidence, as in the paper
_DECAY: Final = 0.9999


class RectifiedLoss(nn.Module):
    """Cross-entropy and soft Dice, each pixel rectified by how usual the network's confidence in its label is.

    After the authors' code of Shallow2Deep (Matskevych et al. 2022, doi:10.3389/fcomp.2022.805166): for each channel
    and for its two classes c, present and absent, runs a mean of the probability p_c that the network gives to pixels
    labelled c; it begins at 1 and moves by 1/10 000 of the way with each training step. Where a pixel is labelled c,
    its weight is 1 - abs(p_c - mean_c), through which no gradient flows; a soft label is a bit of both classes.
    So a pixel on which the network disagrees with its label more than is usual for the class hardly counts.
    Beyond the paper: soft Dice, weighted alike; painted pixels, whose weight is 1; and pixels that count less for
    another reason, with which the weight is multiplied. In eval mode the means stay as they are.

    Args:
        channels: of the network's output.
        decay: of the running means, in [0, 1).
    """

    confidence: torch.Tensor

    def __init__(self, channels: int = len(OUTPUT_CHANNELS), *, decay: float = _DECAY) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("confidence", torch.ones(2, channels))  # class (present, absent) x channel

    def forward(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The loss of a batch.

        Args:
            logits: batch channel y x.
            target: batch channel y x, in [0, 1], soft or hard.
            weight: batch 2 y x: how much each pixel counts in any case, in [0, 1]; and 1 where it was painted, else 0.
        """
        counted, painted = (weight[:, channel, None].expand_as(target) for channel in range(2))
        probabilities = torch.sigmoid(logits)
        if self.training:
            self._follow(probabilities.detach(), target, counted)
        present, absent = (torch.where(painted > 0, 1.0, trust) for trust in self._trust(probabilities.detach()))
        as_present = present * functional.logsigmoid(logits)
        as_absent = absent * functional.logsigmoid(-logits)
        terms = target * as_present + (1 - target) * as_absent
        cross_entropy = -(counted * terms).sum() / counted.sum().clamp_min(1.0)
        weight = counted * (target * present + (1 - target) * absent)
        loss: torch.Tensor = cross_entropy + soft_dice(probabilities, target, weight)
        return loss

    def _trust(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight of each pixel if it is labelled present, and if it is labelled absent."""
        present, absent = self.confidence[:, :, None, None]
        return 1 - (probabilities - present).abs(), 1 - (1 - probabilities - absent).abs()

    @torch.no_grad()
    def _follow(self, probabilities: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> None:
        """Move the means; the mean of a class that no pixel of the batch is labelled with stays."""
        labelled = torch.stack([target >= 0.5, target < 0.5]) & (counted > 0)
        given = torch.stack([probabilities, 1 - probabilities]) * labelled
        count = labelled.sum(dim=(1, 3, 4))
        mean = given.sum(dim=(1, 3, 4)) / count.clamp_min(1)
        moved = self._decay * self.confidence + (1 - self._decay) * mean
        self.confidence.copy_(torch.where(count > 0, moved, self.confidence))
