"""How to train."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer.layers import LAYERS, Layers

Precision: TypeAlias = Literal["float32", "bfloat16"]

_DEVICES: Final = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How long and how fast to train, and what of the network.

    Raises:
        ConfigError: if a number is not positive, or the device or the layers are unknown.
    """

    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 2e-3
    steps_per_epoch: int = 200  #: steps between validations and checkpoints
    patience: int = 5  #: validations without improvement before stopping
    ema_decay: float = 0.97  #: of the running mean of the weights, which is what is kept; 0 switches it off
    seed: int = 0
    device: str = "auto"  #: "auto", "cpu", "cuda" or "mps"
    #: of the layers; weights and losses are float32 always. "bfloat16" is two to three times as fast on processors and
    #: GPUs made for it, and slow on others
    precision: Precision = "float32"
    layers: Layers = "all"  #: what is trained (see `s2d_zoo.trainer.layers`); the rest stays as it is, bit by bit
    #: how strongly trained weights are pulled to where they began, in place of the weight decay towards 0: half of
    #: this times the squared distance joins the loss (L2-SP, Li et al. 2018, arXiv:1802.01483); 1e-3…1e-2 is usual
    l2_to_start: float = 0.0
    freeze_batch_norm: bool = False  #: keep running statistics as they are, e.g. where batches are small
    mean_teacher: bool = False  #: learn to agree with the running mean of the network (see `s2d_zoo.trainer.teacher`)

    def __post_init__(self) -> None:
        positive = (self.steps, self.batch_size, self.learning_rate, self.steps_per_epoch, self.patience)
        if not all(value > 0 for value in positive) or not 0 <= self.ema_decay < 1 or self.seed < 0:
            msg = (
                "Steps, sizes, rates and patience must be positive, ema_decay in [0, 1) and the seed not negative, "
                f"got {self}."
            )
            raise ConfigError(msg)
        if not 0 <= self.l2_to_start < math.inf:
            msg = f"l2_to_start, the pull to the starting weights, must be 0 or positive, got {self.l2_to_start}."
            raise ConfigError(msg)
        choices = (
            ("device", self.device, _DEVICES),
            ("layers", self.layers, LAYERS),
            ("precision", self.precision, get_args(Precision)),
        )
        for what, value, known in choices:
            if value not in known:
                msg = f"The {what} must be one of {', '.join(known)}, got {value!r}."
                raise ConfigError(msg)


def check_network_size(features: int, depth: int, *, patch: int) -> None:
    """Refuse a network that cannot be built, or cannot take its patches.

    Args:
        features: channels of the first level.
        depth: how often a patch is halved.
        patch: px, side of the patches.

    Raises:
        ConfigError: saying what must hold.
    """
    if min(features, depth, patch) < 1 or patch % 2**depth:
        msg = (
            f"A network needs at least 1 channel and 1 level, and patches of a multiple of 2**depth px; got {features} "
            f"channels, depth {depth} and patches of {patch} px."
        )
        raise ConfigError(msg)
