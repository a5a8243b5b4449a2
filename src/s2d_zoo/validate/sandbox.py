"""Running the networks of a package where they can do no harm: in a process of their own, with limits.

One worker (`s2d_zoo.validate.worker`) serves all sandboxes of this process: it is started when it is first needed
(seconds), asked again and again (milliseconds), and ended with the process.
"""

import atexit
import dataclasses
import json
import os
import re
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from bioimageio.spec import dump_description

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.network import own_architectures
from s2d_zoo.data.package_contents import is_remote
from s2d_zoo.data.torchscript_file import reason_not_to_run
from s2d_zoo.data.written_description import local_file, source_of
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.onnx_checks import reason_not_to_run_onnx
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.worker_process import TIMED_OUT, WorkerProcess, end_of_log

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

#: the formats that run here without executing Python code from the package, in bioimageio.core's order
RUNNABLE: Final = ("pytorch_state_dict", "torchscript", "onnx")
#: what looks for operations on other files
_REASONS_AGAINST_GRAPHS: Final[Mapping[str, Callable[[Path], str | None]]] = {
    "torchscript": reason_not_to_run,
    "onnx": reason_not_to_run_onnx,
}

#: what a run needs; all else (authors, links, …) could only make bioimageio.core look things up on the network
_KEYS: Final = ("type", "format_version", "name", "inputs", "outputs")
#: how Python, torch, onnxruntime and C++ say that there is not enough of it
_NO_MEMORY: Final = re.compile(
    r"MemoryError|bad_alloc|Unable to allocate|(can't|cannot|failed to) allocate memory|not enough memory",
    re.IGNORECASE,
)
#: characters of other people's messages; the end of those of TorchScript says most
_LONGEST: Final = (200, 600)
#: bytes of a log that are looked at
_LOG_END: Final = 20_000

_WORKER: Final = WorkerProcess()
atexit.register(_WORKER.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request (a test, or a sequence of runs) may take.

    Memory is limited on Linux only, where it counts as address space beyond what the libraries take.
    """

    seconds: float = 120.0
    memory_gib: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """What came out of one run."""

    outputs: dict[str, FloatArray]  #: by tensor id; whole outputs, axes as described
    types: dict[str, str]  #: of the outputs as they left the network (``"int64"``), by tensor id
    seconds: float  #: of the run alone: preprocessing, network, postprocessing


class Sandbox:
    """Runs the weights formats of one package, each request in a process of its own with limited time and memory."""

    def __init__(self, model: OpenedModel, limits: Limits) -> None:
        self._model = model
        self._limits = limits

    def reason_not_to_run(self, weights_format: str) -> str | None:
        """Why a weights format must not be run, or None.

        A package is a file from anywhere: of its Python code only an architecture that equals one of ours is run,
        nothing is fetched, and no graph is run that would read or write other files.
        """
        if weights_format not in RUNNABLE:
            return f"s2d-zoo runs {', '.join(RUNNABLE)} only"
        part = self._runnable_part(weights_format)
        if any(step.get("id") == "custom" for tensor in part["outputs"] for step in tensor.get("postprocessing", ())):
            return "its postprocessing is Python code from the package, which is not run"
        references = dataclasses.replace(self._model.contents, rdf=part).references()
        remote = next((reference.name for reference in references if is_remote(reference.name)), None)
        if remote is not None:
            return f"{remote} is on the network, from where nothing is fetched; put the file into the package"
        if weights_format == "pytorch_state_dict":
            return self._reason_against_code(part["weights"][weights_format]["architecture"])
        path = local_file(self._model.contents, source_of(part["weights"][weights_format]))
        # without its file it fails when it is run, and says so
        return None if path is None else _REASONS_AGAINST_GRAPHS[weights_format](path)

    def _reason_against_code(self, architecture: Mapping[str, Any]) -> str | None:
        if "source" not in architecture:
            return "its architecture is code of another Python package, which is not run"
        path = self._model.contents.folder / architecture["source"]
        if not path.is_file() or sha256_of(path) not in own_architectures():
            return f"its architecture {architecture['source']} is not one of s2d-zoo, so this Python code is not run"
        return None

    def test(self, weights_format: str) -> str | None:
        """bioimageio.core's test of one weights format: None if it passed, else what went wrong.

        Raises:
            PackageError: if it crashed, or needed more than the limits.
        """
        with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
            problem = self._ask(Path(name), weights_format, kind="test")["problem"]
        return None if problem is None else _shortened(problem)

    def run(
        self, weights_format: str, inputs: Sequence[Mapping[str, FloatArray]], *, threads: int | None = None
    ) -> list[dict[str, FloatArray]]:
        """The outputs of `timed_runs`, without the seconds."""
        return [run.outputs for run in self.timed_runs(weights_format, inputs, threads=threads)]

    def timed_runs(
        self, weights_format: str, inputs: Sequence[Mapping[str, FloatArray]], *, threads: int | None = None
    ) -> list[TimedRun]:
        """Load a network once and run it on each of some inputs, as bioimageio.core does, on the CPU.

        Pre- and postprocessing are applied as described; nothing is padded or cropped.

        Args:
            weights_format: one for which there is no `reason_not_to_run`.
            inputs: for each run: tensor id → array with the axes of the description.
            threads: of torch and onnxruntime; what they choose themselves if None.

        Returns:
            For each run the outputs, float32.

        Raises:
            PackageError: if the network cannot be loaded or run, crashes, or needs more than the limits.
        """
        with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
            folder = Path(name)
            for number, run in enumerate(inputs):
                for index, values in enumerate(run.values()):
                    np.save(folder / f"input-{number}-{index}.npy", values, allow_pickle=False)
            names = [list(run) for run in inputs]
            result = self._ask(folder, weights_format, kind="run", inputs=names, threads=threads)
            return [_read_run(folder, number, run) for number, run in enumerate(result["runs"])]

    def _ask(self, folder: Path, weights_format: str, **work: object) -> dict[str, Any]:
        """Have something done in a folder.

        Raises:
            PackageError: if it did not end well.
        """
        request = {
            "weights_format": weights_format,
            "description": self._runnable_part(weights_format),
            "root": str(self._model.contents.folder.resolve()),
            "file_name": self._model.contents.rdf_name,
            "seconds": self._limits.seconds,
            "bytes": int(self._limits.memory_gib * 1024**3),
            **work,
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        exit_code = _WORKER.ask(folder, self._limits.seconds)
        result, log = _read_result(folder / "result.json"), _read_end(folder / "log.txt")
        if exit_code != 0 or result is None:
            reason = _reason_of_death(exit_code, log, self._limits)
        elif _lacks_memory(f"{result.get('error')} {result.get('problem')}"):
            reason = _memory_reason(self._limits)
        elif "error" in result:
            reason = f"cannot be run: {_shortened(result['error'])}"
        else:
            return result
        msg = f"{weights_format} {reason}"
        raise PackageError(msg)

    def _runnable_part(self, weights_format: str) -> dict[str, Any]:
        """The part of the description that is needed to run one weights format, in the latest format."""
        description: dict[str, Any] = dict(dump_description(self._model.description))
        entry = description["weights"][weights_format]
        part: dict[str, Any] = {key: description[key] for key in _KEYS}
        part["weights"] = {
            # without the others it has no parent here
            weights_format: {key: value for key, value in entry.items() if key not in {"authors", "parent"}}
        }
        stated = description.get("config", {}).get("bioimageio", {})
        tolerances = {key: stated[key] for key in ("reproducibility_tolerance", "test_kwargs") if stated.get(key)}
        if tolerances:
            part["config"] = {"bioimageio": tolerances}
        return part


def _read_result(path: Path) -> dict[str, Any] | None:
    """What a child wrote; None if it did not come so far."""
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it was ended while it wrote
        return None
    return result if isinstance(result, dict) else None


def _read_run(folder: Path, number: int, run: Mapping[str, Any]) -> TimedRun:
    outputs = {
        name: np.load(folder / f"output-{number}-{index}.npy", allow_pickle=False)
        for index, name in enumerate(run["outputs"])
    }
    return TimedRun(outputs=outputs, types=run["types"], seconds=run["seconds"])


def _read_end(path: Path) -> str:
    """The end of a log, which may be huge, or missing."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(-min(_LOG_END, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read().decode(errors="replace")


def _reason_of_death(exit_code: int, log: str, limits: Limits) -> str:
    """Why a child ended without a result, in words."""
    if exit_code == TIMED_OUT:
        return f"did not end within {limits.seconds:g} s"
    if _lacks_memory(log):
        return _memory_reason(limits)
    ending = f"; its last words: {end_of_log(log)}" if log.strip() else ""
    if exit_code == -getattr(signal, "SIGKILL", 9):
        return f"was killed by the system, as it does when the machine has no memory left{ending}"
    if exit_code < 0:
        return f"crashed: its process died of signal {-exit_code} ({_signal_name(-exit_code)}){ending}"
    return f"crashed: its process ended with exit code {exit_code}{ending}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _lacks_memory(text: str) -> bool:
    return _NO_MEMORY.search(text) is not None


def _memory_reason(limits: Limits) -> str:
    return f"needs more than {limits.memory_gib:.1f} GiB of memory"


def _shortened(text: str) -> str:
    """A message of another library in one line, of bearable length."""
    words, (begin, end) = " ".join(text.split()), _LONGEST
    return words if len(words) <= begin + end else f"{words[:begin]} … {words[-end:]}"
