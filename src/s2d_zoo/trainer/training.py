"""The one training loop: seeds, device, checkpoints, resume, early stop, progress."""

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import Dataset
from tqdm import tqdm

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.patches import Sample
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer.layers import choose_layers
from s2d_zoo.trainer.losses import Loss, weighted_bce_and_dice
from s2d_zoo.trainer.settings import TrainingSettings
from s2d_zoo.trainer.task import VALIDATION_LOSS, NetworkT, Task, as_module

_Mean: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]

_LAST: Final = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult(Generic[NetworkT]):
    """What came out of a training."""

    model: NetworkT  #: with the weights that are kept, on the CPU, in eval mode
    steps: int  #: that were made, over all resumed runs
    validation_loss: float | None  #: best one, where there was a validation set


def train(
    model: NetworkT,
    patches: Dataset[Sample],
    settings: TrainingSettings,
    *,
    folder: Path,
    validation: Dataset[Sample] | None = None,
    loss: Loss = weighted_bce_and_dice,
    progress: str | None = None,
) -> TrainingResult[NetworkT]:
    """Train a network; begin where an interrupted training in the same folder ended.

    Args:
        model: any module with ``logits``; changed in place.
        patches: endless (see `s2d_zoo.data.patches.PatchDataset`); ``patches[n]`` gives image, target, weight, and
            for a mean teacher its own view (see `s2d_zoo.trainer.teacher.TwoViews`).
        settings: how long and how fast.
        folder: for checkpoints.
        validation: finite; its mean loss decides when to stop and which weights are kept. Without it the
            weights at the end are.
        loss: of logits, target and weight; a module's buffers are saved and resumed.
        progress: label of the progress bar on stderr; none when ``None``.

    Raises:
        ConfigError: if the folder holds checkpoints of a training with other settings, the network has no layers of
            the kind that is to be trained, or a mean teacher gets no view of its own.
        KeyboardInterrupt: when it is interrupted; the epochs that were finished are kept.
    """
    part = choose_layers(as_module(model), settings.layers, freeze_batch_norm=settings.freeze_batch_norm)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same_training(folder, as_module(model), settings)
    epochs = math.ceil(settings.steps / settings.steps_per_epoch)
    task = Task(model, part, patches, validation, loss, settings)
    task.train()  # Lightning leaves modes as they are, and networks come in either
    finished = folder / "finished.json"
    if finished.exists():  # Lightning would train on: that a training has stopped is not in its checkpoint
        return _read_finished(model, task, finished)
    checkpoint = _Checkpoint(
        dirpath=folder,
        filename="best",
        monitor=VALIDATION_LOSS if validation is not None else None,
        save_last=True,
        enable_version_counter=False,
    )
    if isinstance(model, UNet):  # the same sums in another order, up to twice as fast on CPUs
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    callbacks: list[Callback] = [checkpoint]
    if settings.ema_decay:
        callbacks.append(
            WeightAveraging(
                avg_fn=_running_mean(settings.ema_decay, exact=not part.whole or _stays_partly(as_module(model)))
            )
        )
    if validation is not None:
        callbacks.append(EarlyStopping(VALIDATION_LOSS, patience=settings.patience))
    if progress:
        callbacks.append(_Progress(progress, total=settings.steps))
    last = folder / f"{_LAST}.ckpt"
    with _quiet_lightning(), _interruptible(), part.only(as_module(model)):
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if settings.device == "cuda" else settings.device,
            devices=1,
            precision="bf16-mixed" if settings.precision == "bfloat16" else "32-true",
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
    return _read_finished(model, task, finished)


class _Checkpoint(ModelCheckpoint):
    """Where the folder has moved Lightning forgets which weights were best so far; here they stay the best."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = {key: here(path) for key, path in state_dict.items() if key.endswith("_path")}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": kept, "dirpath": self.dirpath})


class _Progress(Callback):
    """One bar on stderr, over all epochs."""

    def __init__(self, label: str, *, total: int) -> None:
        self._bar = tqdm(total=total, desc=label, unit="step")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        self._bar.update()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        loss = trainer.callback_metrics.get(VALIDATION_LOSS)
        if loss is not None:
            self._bar.set_postfix_str(f"validation loss {float(loss):.4f}")

    def teardown(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as Lightning calls it
        self._bar.close()


def _stays_partly(network: nn.Module) -> bool:
    """Whether a network keeps layers in eval mode by itself, or may, because its graph is fixed."""
    return any(not module.training or isinstance(module, torch.jit.ScriptModule) for module in network.modules())


def _running_mean(decay: float, *, exact: bool) -> _Mean:
    """The exponential mean; an exact one leaves what is frozen bit by bit, where rounding would not."""
    mean: _Mean = get_ema_avg_fn(decay)  # type: ignore[no-untyped-call]
    if not exact:
        return mean
    return lambda averaged, current, count: torch.where(averaged == current, current, mean(averaged, current, count))


def _read_finished(model: NetworkT, task: Task, path: Path) -> TrainingResult[NetworkT]:
    """The result of a training that has ended, from its files: there the weights are the averaged ones."""
    finished = read_json(path)
    state = torch.load(path.parent / finished["weights"], weights_only=True, map_location="cpu")["state_dict"]
    task.load_state_dict(state)
    if isinstance(model, UNet):
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return TrainingResult(
        model=model.cpu().eval(), steps=finished["steps"], validation_loss=finished["validation_loss"]
    )


def _check_same_training(folder: Path, model: nn.Module, settings: TrainingSettings) -> None:
    """A checkpoint continues only the training that wrote it."""
    shapes = [(name, list(values.shape)) for name, values in model.state_dict().items()]
    digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
    described = {**asdict(settings), "network": digest}
    if settings.l2_to_start:  # else only the checkpoint's weights matter, not where they began
        described["starting weights"] = _digest(model)
    path = folder / "settings.json"
    if path.exists():
        found = {**asdict(TrainingSettings()), **read_json(path)}  # an earlier version had fewer settings
        changed = sorted(key for key in {*described, *found} if described.get(key) != found.get(key))
        if changed:
            msg = (
                f"{folder} holds a training with other {', '.join(changed)}. Resume it with the same options, "
                "or choose another folder."
            )
            raise ConfigError(msg)
    write_json(path, described)


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for values in model.state_dict().values():
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
