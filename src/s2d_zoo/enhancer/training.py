"""Training an enhancer over the output of many forests."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch.utils.data import Subset

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.enhancer.dataset import ProbabilityMap, ProbabilityVariation, make_patches
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer import TrainingResult, TrainingSettings, check_network_size, train
from s2d_zoo.trainer.losses import weighted_bce_and_dice
from s2d_zoo.types import OUTPUT_CHANNELS

_VALIDATION_PATCHES: Final = 96
#: beside the checkpoints
_FACTS: Final = "enhancer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancerSettings:
    """Network and training of an enhancer.

    Raises:
        ConfigError: if the network would have no channels or no depth, or patches do not fit its depth.
    """

    features: int = 12  #: channels of the network's first level
    max_features: int | None = None  #: of any level; each has twice those of the level above where ``None``
    depth: int = 3
    boundary: float = 1.0  #: how much the boundary counts in the loss, beside 1 for the foreground
    variation: ProbabilityVariation = field(default_factory=ProbabilityVariation)
    patches: PatchSettings = field(default_factory=PatchSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=3000, ema_decay=0.99))

    def __post_init__(self) -> None:
        check_network_size(self.features, self.depth, patch=self.patches.size)
        if self.max_features is not None and self.max_features < 1:
            msg = f"A level has at least 1 channel, got max_features = {self.max_features}. Leave it out for no limit."
            raise ConfigError(msg)
        if not 0 <= self.boundary < math.inf:
            msg = f"The boundary counts 0 or more in the loss, got {self.boundary}."
            raise ConfigError(msg)


def train_enhancer(
    maps: Sequence[ProbabilityMap],
    validation_maps: Sequence[ProbabilityMap],
    settings: EnhancerSettings,
    *,
    folder: Path,
    progress: str | None = None,
) -> TrainingResult:
    """Train an enhancer, or go on with an interrupted training.

    Args:
        maps: what many forests say of labelled images.
        validation_maps: the same for other images, to decide when to stop.
        settings: network and training.
        folder: for checkpoints.
        progress: label of the progress bar on stderr.

    Raises:
        UserInputError: if there are no maps.
        ConfigError: if the folder holds another training.
    """
    _check_same_training(folder, maps, validation_maps, settings)
    seed = settings.training.seed
    torch.manual_seed(seed)
    model = UNet(
        in_channels=1,
        out_channels=len(OUTPUT_CHANNELS),
        features=settings.features,
        max_features=settings.max_features,
        depth=settings.depth,
        input_offset=(0.5,),
        input_scale=(0.25,),
    )
    still = PatchSettings(size=settings.patches.size, augment=False)
    validation = make_patches(validation_maps, still, seed=seed)
    return train(
        model,
        make_patches(maps, settings.patches, variation=settings.variation, seed=seed),
        settings.training,
        folder=folder,
        validation=Subset(validation, range(_VALIDATION_PATCHES)),
        loss=ForegroundAndBoundary(settings.boundary),
        progress=progress,
    )


def _check_same_training(
    folder: Path, maps: Sequence[ProbabilityMap], validation_maps: Sequence[ProbabilityMap], settings: EnhancerSettings
) -> None:
    """Checkpoints are of these maps and settings: else the weights would not be what the package says of them."""
    described = {
        "settings": json.loads(json.dumps(asdict(settings))),
        "maps": _hash_maps(maps),
        "validation maps": _hash_maps(validation_maps),
    }
    path = folder / _FACTS
    if path.exists() and read_json(path) != described:
        found = read_json(path)
        changed = sorted(key for key in described if found.get(key) != described[key])
        msg = (
            f"{folder} holds a training of an enhancer with other {' and '.join(changed)}. Choose another folder, or "
            "remove this one to train anew."
        )
        raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, described)


def _hash_maps(maps: Sequence[ProbabilityMap]) -> str:
    digest = hashlib.sha256()
    for one in maps:
        digest.update(one.probabilities.tobytes())
        digest.update(one.labels.values.tobytes())
    return digest.hexdigest()


class ForegroundAndBoundary:
    """Loss of networks with two outputs: cross-entropy and soft Dice of each, the boundary counting more or less.

    Args:
        boundary: how much it counts, beside 1 for the foreground.
    """

    def __init__(self, boundary: float) -> None:
        self._boundary = boundary

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The loss; logits and target are batch channel y x, weight is batch 1 y x."""
        foreground, boundary = (
            weighted_bce_and_dice(logits[:, [channel]], target[:, [channel]], weight) for channel in (0, 1)
        )
        return (foreground + self._boundary * boundary) / (1 + self._boundary)
