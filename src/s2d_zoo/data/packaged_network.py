"""A network of anybody's package, in the form in which ours are applied and trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch
from bioimageio.spec.model.v0_5 import ClipDescr, EnsureDtypeDescr, OutputTensorDescr, SigmoidDescr
from torch import nn

from s2d_zoo.errors import PackageError

#: px of a tile, without halo: on a CPU networks are no faster on larger ones
_USUAL_TILE: Final = 512
#: keeps the logarithm finite where a probability is 0 or 1
_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSizes:
    """Which sizes (px, y and x alike) a network takes: the smallest, and larger ones by a step."""

    smallest: int
    step: int  #: 0 where there is but one size

    def at_least(self, size: int) -> int:
        """The smallest that is not below a size, or the only one there is."""
        if size <= self.smallest or self.step == 0:
            return self.smallest
        return self.smallest + -(-(size - self.smallest) // self.step) * self.step


class PackagedNetwork(nn.Module):
    """A network whose inner workings are not known; its description tells sizes, halo and what its output means.

    Input: ``(batch, channel, y, x)`` float32, preprocessed as the description says.
    Output: the same size, float32 probabilities in [0, 1], postprocessing included.
    The network stays in eval mode: normalisation is as in the package, also while its weights are trained.

    Args:
        network: as loaded, in eval mode.
        channels: of input and output.
        tiles: sizes that it takes.
        halo: px at a tile's border that are not to be trusted.
        gives_logits: a sigmoid follows as postprocessing; without, the network gives probabilities itself.
        one_by_one: it takes a batch of one only.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: tuple[int, int],
        tiles: TileSizes,
        halo: int,
        gives_logits: bool,
        one_by_one: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.channels = channels
        self.tiles = tiles
        self.halo = halo
        self.gives_logits = gives_logits
        self._one_by_one = one_by_one

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Change the mode of this module, but not of the network in it."""
        self.training = mode
        return self

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The output before the sigmoid, for losses."""
        output = self._run(image)
        return output if self.gives_logits else torch.logit(output, eps=_EPSILON)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the output channels."""
        output = self._run(image)
        return torch.sigmoid(output) if self.gives_logits else output.clamp(0, 1)

    def tile_for(self, size: int) -> int:
        """Px of the tiles, halo included, in which to look at an image whose larger side is ``size`` px."""
        return self.tiles.at_least(min(size, _USUAL_TILE) + 2 * self.halo)

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        pieces = torch.split(image, 1) if self._one_by_one else (image,)
        return torch.cat([_single(self.network(piece)) for piece in pieces])


def _single(output: object) -> torch.Tensor:
    """What a network gives, alone or in a list of one."""
    if isinstance(output, list | tuple) and len(output) == 1:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        msg = f"The network gives {type(output).__name__}, expected one tensor."
        raise PackageError(msg)
    return output


def ends_with_sigmoid(output: OutputTensorDescr) -> bool:
    """Whether postprocessing turns logits into probabilities.

    Raises:
        PackageError: for postprocessing through which nothing can be trained.
    """
    steps: Sequence[object] = output.postprocessing
    unknown = [step for step in steps if not isinstance(step, EnsureDtypeDescr | SigmoidDescr | ClipDescr)]
    if unknown:
        names = ", ".join(str(getattr(step, "id", step)) for step in unknown)
        msg = (
            f"The package's postprocessing ({names}) leaves no probabilities to train on. Expected a sigmoid, or none. "
            "It can still be used as a teacher: let it predict, and give the result with --probabilities."
        )
        raise PackageError(msg)
    return any(isinstance(step, SigmoidDescr) for step in steps)
