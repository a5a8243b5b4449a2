"""What a run was: every option, version, seed and input hash, in ``run.json``."""

import math
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.trainer.settings import TrainingSettings

FORMAT: Final = "s2d-zoo/run"
FORMAT_VERSION: Final = 1
_SECONDS_BETWEEN_NOTES: Final = 60.0
#: packages on whose versions results depend
_PACKAGES: Final = (
    "bioimage-cpp",
    "bioimageio.core",
    "bioimageio.spec",
    "lightning",
    "monai",
    "numpy",
    "onnxruntime",
    "scikit-learn",
    "scipy",
    "torch",
    "xarray",
)


def describe_run(command: str, *, options: Mapping[str, Any], hashes: Mapping[str, str], seed: int) -> dict[str, Any]:
    """All that is needed to do a run again, as plain JSON."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "command": command,
        "options": {name: to_plain(value) for name, value in options.items()},
        "inputs": dict(sorted(hashes.items())),
        "seed": seed,
        "versions": _versions(),
        "machine": _machine(),
    }


def describe_environment() -> dict[str, Any]:
    """What figures depend on besides inputs and settings, in their last bits or their seconds, as plain JSON."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"versions": _versions(), "machine": {**_machine(), "threads": torch.get_num_threads(), "gpu": gpu}}


def distinct_environments(found: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each one once, in the order in which they come."""
    told: list[Mapping[str, Any]] = []
    for one in found:
        if one not in told:
            told.append(one)
    return told


def environments_in_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for a report, if figures come from more than one."""
    several = f"Figures come from {len(found)} environments (versions, processors, threads): see `made_with` as JSON."
    return [several, ""] if len(found) > 1 else []


def _versions() -> dict[str, str]:
    return {
        "s2d-zoo": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _machine() -> dict[str, Any]:
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def to_plain(value: Any) -> Any:  # noqa: ANN401 - anything in, JSON out
    """Dataclasses, models, paths and tuples as plain JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def whole_minutes(seconds: float) -> int:
    """Wall time for a package, in minutes: rounded up to 1, 2, 5, 10, 20, 50 and so on.

    As precise as it is of use, and as coarse as it must be for two equal runs to give equal bytes, mostly.
    """
    minutes, step = max(1, math.ceil(seconds / 60)), 1
    while True:
        for figure in (step, 2 * step, 5 * step):
            if minutes <= figure:
                return figure
        step *= 10


def training_details(
    settings: TrainingSettings, *, steps: int | None = None, weighting: str = "each pixel by its weight"
) -> dict[str, Any]:
    """How a network was trained, in the fields of bioimage.io's ``TrainingDetails``.

    Args:
        settings: of the training.
        steps: that were made, if it may have stopped before those of the settings.
        weighting: how much each pixel counts, in words.
    """
    regularisation = [f"running mean of the weights (decay {settings.ema_decay:g})"] if settings.ema_decay else []
    regularisation += [f"pull to the starting weights ({settings.l2_to_start:g})"] if settings.l2_to_start else []
    regularisation += ["mean teacher"] if settings.mean_teacher else []
    return {
        "training_epochs": (settings.steps if steps is None else steps) / settings.steps_per_epoch,
        "training_batch_size": settings.batch_size,
        "initial_learning_rate": settings.learning_rate,
        "learning_rate_schedule": "linear rise over the first tenth of the steps, then along a cosine to 0",
        "loss_function": f"binary cross-entropy and soft Dice, {weighting}",
        "optimizer": "AdamW",
        **({"regularization": "; ".join(regularisation)} if regularisation else {}),
    }


class Clock:
    """Wall time of each stage, in seconds.

    Args:
        path: where times are kept, so that a resumed run goes on counting; nowhere when ``None``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path and path.exists() else {}

    @contextmanager
    def stage(self, name: str, *, resumed: bool = True) -> Iterator[None]:
        """Time a stage. Where times are kept, that of a run which is killed is, too, but for its last minute.

        Args:
            name: of the stage.
            resumed: it goes on where the last run stopped, so that times add up; else it is done anew each time.
        """
        before = self.seconds.get(name, 0.0) if resumed else 0.0
        start, ended = time.perf_counter(), threading.Event()

        def note() -> None:
            self.seconds[name] = round(before + time.perf_counter() - start, 2)
            if self._path:
                write_json(self._path, self.seconds)

        def note_now_and_then() -> None:
            while not ended.wait(_SECONDS_BETWEEN_NOTES):
                note()

        noting = threading.Thread(target=note_now_and_then, daemon=True)
        if self._path:
            noting.start()
        try:
            yield
        finally:
            ended.set()
            if self._path:
                noting.join()
            note()
