"""The one training loop: seeds, device, checkpoints, resume, early stop, progress."""

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT, Sample
from s2d_zoo.errors import ConfigError

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_VALIDATION_LOSS: Final = "validation_loss"
_LAST: Final = "last"
_DEVICES: Final = ("auto", "cpu", "cuda", "mps")
#: keeps Dice defined where a channel is empty
_SMOOTH: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How long and how fast to train.

    Raises:
        ConfigError: if a number is not positive, or the device is unknown.
    """

    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 2e-3
    steps_per_epoch: int = 200  #: steps between validations and checkpoints
    patience: int = 5  #: validations without improvement before stopping
    ema_decay: float = 0.97  #: of the running mean of the weights, which is what is kept; 0 switches it off
    seed: int = 0
    device: str = "auto"  #: "auto", "cpu", "cuda" or "mps"

    def __post_init__(self) -> None:
        positive = (self.steps, self.batch_size, self.learning_rate, self.steps_per_epoch, self.patience)
        if not all(value > 0 for value in positive) or not 0 <= self.ema_decay < 1 or self.seed < 0:
            msg = (
                "Steps, sizes, rates and patience must be positive, ema_decay in [0, 1) and the seed not negative, "
                f"got {self}."
            )
            raise ConfigError(msg)
        if self.device not in _DEVICES:
            msg = f"The device must be one of {', '.join(_DEVICES)}, got {self.device!r}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What came out of a training."""

    model: UNet  #: with the weights that are kept, on the CPU, in eval mode
    steps: int  #: that were made, over all resumed runs
    validation_loss: float | None  #: best one, where there was a validation set


def weighted_bce_and_dice(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice, each pixel counting by its weight.

    Args:
        logits: batch channel y x.
        target: batch channel y x, in [0, 1], soft or hard.
        weight: batch 1 y x, in [0, 1].
    """
    weight = weight.expand_as(target)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    probabilities = torch.sigmoid(logits)
    axes = (0, 2, 3)
    overlap = (weight * probabilities * target).sum(axes)
    total = (weight * (probabilities.square() + target.square())).sum(axes)
    dice = (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    return cross_entropy / weight.sum().clamp_min(1.0) + (1 - dice).mean()


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


def train(
    model: UNet,
    patches: Dataset[Sample],
    settings: TrainingSettings,
    *,
    folder: Path,
    validation: Dataset[Sample] | None = None,
    loss: Loss = weighted_bce_and_dice,
    progress: str | None = None,
) -> TrainingResult:
    """Train a network; begin where an interrupted training in the same folder ended.

    Args:
        model: changed in place.
        patches: endless (see `s2d_zoo.data.patches.PatchDataset`); ``patches[n]`` gives image, target, weight.
        settings: how long and how fast.
        folder: for checkpoints.
        validation: finite; its mean loss decides when to stop and which weights are kept. Without it the
            weights at the end are.
        loss: of logits, target and weight.
        progress: label of the progress bar on stderr; none when ``None``.

    Raises:
        ConfigError: if the folder holds checkpoints of a training with other settings.
        KeyboardInterrupt: when it is interrupted; the epochs that were finished are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_same_training(folder, model, settings)
    epochs = math.ceil(settings.steps / settings.steps_per_epoch)
    task = _Task(model, patches, validation, loss, settings)
    checkpoint = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=_VALIDATION_LOSS if validation is not None else None,
        save_last=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [checkpoint]
    if settings.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if validation is not None:
        callbacks.append(EarlyStopping(_VALIDATION_LOSS, patience=settings.patience))
    if progress:
        callbacks.append(_Progress(progress, total=settings.steps))
    last, finished = folder / f"{_LAST}.ckpt", folder / "finished.json"
    if finished.exists():  # Lightning would train on: that a training has stopped is not in its checkpoint
        return _read_finished(task, finished)
    with _quiet_lightning(), _interruptible():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if settings.device == "cuda" else settings.device,
            devices=1,
            deterministic="warn" if settings.device != "cpu" else True,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
        trainer.fit(task, ckpt_path=last if last.exists() else None, weights_only=True if last.exists() else None)
    best = checkpoint.best_model_score
    kept = last if validation is None else Path(checkpoint.best_model_path)
    loss_of_best = None if best is None else float(best)
    write_json(finished, {"steps": trainer.global_step, "validation_loss": loss_of_best, "weights": kept.name})
    return _read_finished(task, finished)


class _Task(lightning.LightningModule):
    """Network, data and optimiser, in the form that Lightning wants."""

    def __init__(
        self,
        network: UNet,
        patches: Dataset[Sample],
        validation: Dataset[Sample] | None,
        loss: Loss,
        settings: TrainingSettings,
    ) -> None:
        super().__init__()
        self.network = network
        self._patches = patches
        self._validation = validation
        self._loss = loss
        self._settings = settings

    def training_step(self, batch: Mapping[str, torch.Tensor], _batch_index: int) -> torch.Tensor:
        return self._loss(self.network.logits(batch[IMAGE]), batch[TARGET], batch[WEIGHT])

    def validation_step(self, batch: Mapping[str, torch.Tensor], _batch_index: int) -> None:
        loss = self._loss(self.network.logits(batch[IMAGE]), batch[TARGET], batch[WEIGHT])
        self.log(_VALIDATION_LOSS, loss, batch_size=len(batch[IMAGE]))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's type has no public name
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=self._settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """Share of the learning rate: up over the first tenth, then down along a cosine."""
        total = self._settings.steps
        rise = max(1, total // 10)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def train_dataloader(self) -> DataLoader[Sample]:
        count = self._settings.steps_per_epoch * self._settings.batch_size
        first = self.current_epoch * count
        end = min(first + count, self._settings.steps * self._settings.batch_size)
        return DataLoader(Subset(self._patches, range(first, end)), batch_size=self._settings.batch_size)

    def val_dataloader(self) -> DataLoader[Sample] | list[Any]:
        if self._validation is None:
            return []
        return DataLoader(self._validation, batch_size=self._settings.batch_size)


class _Progress(Callback):
    """One bar on stderr, over all epochs."""

    def __init__(self, label: str, *, total: int) -> None:
        self._bar = tqdm(total=total, desc=label, unit="step")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        self._bar.update()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        loss = trainer.callback_metrics.get(_VALIDATION_LOSS)
        if loss is not None:
            self._bar.set_postfix_str(f"validation loss {float(loss):.4f}")

    def teardown(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        self._bar.close()


def _read_finished(task: _Task, path: Path) -> TrainingResult:
    """The result of a training that has ended, from its files: there the weights are the averaged ones."""
    finished = read_json(path)
    state = torch.load(path.parent / finished["weights"], weights_only=True, map_location="cpu")["state_dict"]
    task.load_state_dict(state)
    return TrainingResult(
        model=task.network.cpu().eval(), steps=finished["steps"], validation_loss=finished["validation_loss"]
    )


def _check_same_training(folder: Path, model: UNet, settings: TrainingSettings) -> None:
    """A checkpoint continues only the training that wrote it."""
    shapes = [(name, list(values.shape)) for name, values in model.state_dict().items()]
    digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
    described = {**asdict(settings), "network": digest}
    path = folder / "settings.json"
    if path.exists():
        found = read_json(path)
        changed = sorted(key for key in {*described, *found} if described.get(key) != found.get(key))
        if changed:
            msg = (
                f"{folder} holds a training with other {', '.join(changed)}. Resume it with the same options, "
                "or choose another folder."
            )
            raise ConfigError(msg)
    write_json(path, described)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning turns an interrupt into the end of the whole program; here it stays what it is."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice on workers, loggers and tips is not for our users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*|torch\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
