"""What a run was: every option, version, seed and input hash, in ``run.json``."""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import read_json, write_json

FORMAT: Final = "s2d-zoo/run"
FORMAT_VERSION: Final = 1
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
        "versions": {
            "s2d-zoo": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


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


class Clock:
    """Wall time of each stage, in seconds.

    Args:
        path: where times are kept, so that a resumed run goes on counting; nowhere when ``None``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path) if path and path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)
            if self._path:
                write_json(self._path, self.seconds)
