"""Network, data and optimiser, in the form that Lightning wants."""

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self, cast

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from typing_extensions import TypeVar

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT, Sample
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer.layers import TrainedPart
from s2d_zoo.trainer.losses import Loss
from s2d_zoo.trainer.settings import TrainingSettings
from s2d_zoo.trainer.teacher import TEACHER_IMAGE, disagreement, new_teacher

VALIDATION_LOSS: Final = "validation_loss"
#: AdamW's own
_WEIGHT_DECAY: Final = 1e-2


class Trainable(Protocol):
    """A ``torch.nn.Module`` that gives logits, e.g. a U-Net, or one around a network that came as TorchScript."""

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, channel, y, x)`` float32 to the same size: the output before the sigmoid, with its gradient."""
        ...

    def cpu(self) -> Self:
        """As every module has it."""
        ...

    def eval(self) -> Self:
        """As every module has it."""
        ...


#: a network, of the kind that comes out of a training as it went in
NetworkT = TypeVar("NetworkT", bound=Trainable, default=UNet)


def as_module(network: Trainable) -> nn.Module:
    """What a Protocol cannot say: every network is a module."""
    return cast("nn.Module", network)


class Task(lightning.LightningModule):
    """Training steps of one network.

    Args:
        network: changed in place; its weights of now are those that ``l2_to_start`` pulls to.
        part: what of it is trained.
        patches: endless.
        validation: finite.
        loss: of logits, target and weight.
        settings: how to train.
    """

    def __init__(
        self,
        network: Trainable,
        part: TrainedPart,
        patches: Dataset[Sample],
        validation: Dataset[Sample] | None,
        loss: Loss,
        settings: TrainingSettings,
    ) -> None:
        super().__init__()
        self.network = network
        self.teacher = new_teacher(as_module(network)) if settings.mean_teacher else None
        self._part = part
        self._patches = patches
        self._validation = validation
        self._loss = loss
        self._settings = settings
        self._start = [values.detach().clone() for values in self._trained()] if settings.l2_to_start else []

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Change the mode, except of what stays as it is."""
        super().train(mode)
        for module in (*self._part.still, *([self.teacher] if self.teacher else [])):
            module.eval()
        return self

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        """Seed what the network itself may draw (dropout), so that a resumed training draws the same."""
        torch.manual_seed((self._settings.seed * 1_000_003 + self.global_step) % 2**63)

    def training_step(self, batch: Mapping[str, torch.Tensor], _batch_index: int) -> torch.Tensor:
        """Loss of a batch."""
        logits = self.network.logits(batch[IMAGE]).float()
        loss = self._loss(logits, batch[TARGET], batch[WEIGHT])
        if self.teacher is not None:
            loss = loss + disagreement(logits, self._ask_teacher(self.teacher.module, batch))
        if self._start:
            away = [
                (now - start.to(now)).square().sum() for now, start in zip(self._trained(), self._start, strict=True)
            ]
            loss = loss + self._settings.l2_to_start / 2 * torch.stack(away).sum()
        return loss

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        """Let the teacher follow."""
        if self.teacher is not None:
            self.teacher.update_parameters(as_module(self.network))

    def validation_step(self, batch: Mapping[str, torch.Tensor], _batch_index: int) -> None:
        """Note the loss of a batch."""
        loss = self._loss(self.network.logits(batch[IMAGE]).float(), batch[TARGET], batch[WEIGHT])
        self.log(VALIDATION_LOSS, loss, batch_size=len(batch[IMAGE]))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's type has no public name
        """AdamW, and the schedule of its rate."""
        # a pull to 0 beside the one to the start would be one too many
        decay = 0.0 if self._settings.l2_to_start else _WEIGHT_DECAY
        optimiser = torch.optim.AdamW(self._trained(), lr=self._settings.learning_rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _trained(self) -> list[torch.Tensor]:
        named = as_module(self.network).named_parameters()
        return [values for name, values in named if name in self._part.parameters]

    @staticmethod
    @torch.no_grad()
    def _ask_teacher(teacher: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if TEACHER_IMAGE not in batch:
            msg = "A mean teacher needs its own view of each patch, found none: give the patches a finish=TwoViews(…)."
            raise ConfigError(msg)
        return cast("Trainable", teacher).logits(batch[TEACHER_IMAGE])

    def _rate(self, step: int) -> float:
        """Share of the learning rate: up over the first tenth, then down along a cosine."""
        total = self._settings.steps
        rise = max(1, total // 10)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def train_dataloader(self) -> DataLoader[Sample]:
        """The patches of this epoch, whichever was the first of this run."""
        count = self._settings.steps_per_epoch * self._settings.batch_size
        first = self.current_epoch * count
        end = min(first + count, self._settings.steps * self._settings.batch_size)
        return DataLoader(Subset(self._patches, range(first, end)), batch_size=self._settings.batch_size)

    def val_dataloader(self) -> DataLoader[Sample] | list[Any]:
        """The validation patches, if any."""
        if self._validation is None:
            return []
        return DataLoader(self._validation, batch_size=self._settings.batch_size)
