"""A network of anybody's package, in the form in which ours are applied and trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Self

import torch
from bioimageio.spec.model.v0_5 import ClipDescr, EnsureDtypeDescr, OutputTensorDescr, SigmoidDescr
from torch import nn

from s2d_zoo.data.blockwise import Blocking
from s2d_zoo.errors import PackageError

#: px of a tile, without halo: on a CPU networks are no faster on larger ones
_USUAL_TILE: Final[Mapping[str, int]] = MappingProxyType({"y": 512, "x": 512})
#: of a volume: what a network remembers of a tile must fit into memory
_USUAL_TILE_3D: Final[Mapping[str, int]] = MappingProxyType({"z": 32, "y": 128, "x": 128})
#: keeps the logarithm finite where a probability is 0 or 1
_EPSILON: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSizes:
    """Which sizes (px) a network takes along an axis: the smallest, and larger ones by a step."""

    smallest: int
    step: int  #: 0 where there is but one size
    halo: int = 0  #: px at either end of a tile that are not to be trusted

    def at_least(self, size: int) -> int:
        """The smallest that is not below a size, or the only one there is."""
        if size <= self.smallest or self.step == 0:
            return self.smallest
        return self.smallest + -(-(size - self.smallest) // self.step) * self.step


class PackagedNetwork(nn.Module):
    """A network whose inner workings are not known; its description tells sizes, halo and what its output means.

    Input: ``(batch, channel, (z), y, x)`` float32, preprocessed as the description says.
    Output: the same size, float32 probabilities in [0, 1], postprocessing included.
    The network stays in eval mode: normalisation is as in the package, also while its weights are trained.

    Args:
        network: as loaded, in eval mode.
        channels: of input and output.
        tiles: sizes that it takes along y, and along x.
        along_z: sizes that it takes along z; None for a 2D network.
        gives_logits: a sigmoid follows as postprocessing; without, the network gives probabilities itself.
        one_by_one: it takes a batch of one only.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: tuple[int, int],
        tiles: TileSizes,
        along_z: TileSizes | None = None,
        gives_logits: bool,
        one_by_one: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.channels = channels
        self.tiles = tiles
        self.along_z = along_z
        self.gives_logits = gives_logits
        self._one_by_one = one_by_one

    @property
    def ndim(self) -> Literal[2, 3]:
        """3 for a network that takes volumes."""
        return 2 if self.along_z is None else 3

    @property
    def smallest_tile(self) -> tuple[int, ...]:
        """Px of the smallest tile that it takes, (z) y x."""
        return tuple(sizes.smallest for sizes in self._sizes().values())

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Change the mode of this module, but not of the network in it."""
        self.training = mode
        return self

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The output before the sigmoid, for losses."""
        if self.gives_logits:
            return self._run(image)
        with torch.autocast(image.device.type, enabled=False):  # bfloat16 knows no value between 0.996 and 1
            return torch.logit(self._run(image), eps=_EPSILON)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the output channels."""
        output = self._run(image)
        return torch.sigmoid(output) if self.gives_logits else output.clamp(0, 1)

    def blocking_for(self, sizes: Mapping[str, int]) -> Blocking:
        """Tiles, all of one size that it takes, in which to look at an image of these sizes (px for each dim)."""
        usual = _USUAL_TILE if self.along_z is None else _USUAL_TILE_3D
        larger = max(sizes["y"], sizes["x"])  # tiles are squares in plane
        halo, block = {}, {}
        for dim, taken in self._sizes().items():
            size = min(sizes["z"] if dim == "z" else larger, usual[dim])
            halo[dim] = taken.halo
            block[dim] = taken.at_least(size + 2 * taken.halo) - 2 * taken.halo
        return Blocking(halo=halo, border="symmetric", block=block, whole=True)

    def _sizes(self) -> dict[str, TileSizes]:
        """By dim, in the order of the axes."""
        return ({} if self.along_z is None else {"z": self.along_z}) | {"y": self.tiles, "x": self.tiles}

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
    """Whether postprocessing turns logits into probabilities: it is a sigmoid, or nothing that changes probabilities.

    Raises:
        PackageError: for any other postprocessing, through which nothing can be trained.
    """
    steps = [step for step in output.postprocessing if not _keeps_probabilities(step)]
    if not steps:
        return False
    if isinstance(steps[0], SigmoidDescr) and len(steps) == 1 and isinstance(_first(output), SigmoidDescr):
        return True
    names = ", ".join(str(getattr(step, "id", step)) for step in output.postprocessing)
    msg = (
        f"The package's postprocessing ({names}) is not a sigmoid, or none, which is what can be trained through. "
        "It can still be used as a teacher: let it predict, and give the result with --probabilities."
    )
    raise PackageError(msg)


def _first(output: OutputTensorDescr) -> object:
    """The first step that does something to values outside of [0, 1], too."""
    return next(step for step in output.postprocessing if not isinstance(step, EnsureDtypeDescr))


def _keeps_probabilities(step: object) -> bool:
    """Whether values in [0, 1] stay as they are."""
    if isinstance(step, EnsureDtypeDescr):
        return step.kwargs.dtype in ("float32", "float64")
    if (
        not isinstance(step, ClipDescr)
        or step.kwargs.min_percentile is not None
        or step.kwargs.max_percentile is not None
    ):
        return False
    low, high = step.kwargs.min, step.kwargs.max
    return (low is None or low <= 0) and (high is None or high >= 1)
