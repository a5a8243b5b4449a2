"""The process that runs networks of packages: ``python -P -m s2d_zoo.validate.worker``.

A network from anywhere may crash, run for ever, or take all memory. So this process imports the libraries once and
runs nothing itself: for every request it forks a child, which limits itself, does the work and ends. What passes
between the processes are lines of JSON, and files in a folder that the request names:

    request.json                the work (`s2d_zoo.validate.sandbox` writes it)
    input-RUN-TENSOR.npy        arrays to feed the network, numbered as in the request
    result.json                 {"problem": …} of a test, {"runs": […]} of runs, or {"error": …}
    output-RUN-TENSOR.npy       whole outputs, numbered as in the result
    log.txt                     whatever the child wrote to its stdout and stderr

A line ``{"folder": …}`` on stdin asks for work; a line ``{"exit_code": …}`` on stdout answers, negative for the
signal that ended the child. The end of stdin ends this process. With ``--once`` it does the work itself and ends with
it: where there is no fork (Windows), or none that the system's libraries bear (macOS).

The time limit is an alarm that a child sets for itself, so that it also holds when all other processes are gone.
The memory limit is one of address space, above what the libraries take; it holds on Linux only. Elsewhere a network
may take what the machine has, and Windows leaves the time limit to the process that asked.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TypeAlias

import numpy as np
import onnxruntime
import torch
from bioimageio.core import PredictionPipeline, Sample, Tensor, create_prediction_pipeline, test_model
from bioimageio.core.axis import AxisId
from bioimageio.core.backends import onnx_backend, pytorch_backend, torchscript_backend
from bioimageio.spec import ValidationContext, build_description
from bioimageio.spec.common import InvalidDescr
from bioimageio.spec.model.v0_5 import ModelDescr, TensorId

from s2d_zoo.errors import PackageError

#: what came out of a request, as it is written
Result: TypeAlias = dict[str, Any]

#: imported for their time only: core imports them when it first needs them, which would be in every child
BACKENDS: Final = (onnx_backend, pytorch_backend, torchscript_backend)

#: a network can print without end
_LARGEST_FILE: Final = 2 * 1024**3


def main(arguments: Sequence[str]) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that nothing that a library prints is taken for an answer
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        folder = Path(json.loads(line)["folder"])
        child = 0 if "--once" in arguments else os.fork()
        if child == 0:
            _work(folder)
        _, status = os.waitpid(child, 0)
        _answer(answers, {"exit_code": os.waitstatus_to_exitcode(status)})


def _answer(answers: IO[str], message: Mapping[str, object]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _work(folder: Path) -> NoReturn:
    """Do what the folder asks for, and end this process."""
    exit_code = 1
    try:
        _redirect(folder / "log.txt")
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        limit_seconds(request["seconds"])
        limit_memory(request["bytes"])
        (folder / "result.json").write_text(json.dumps(execute(folder, request)), encoding="utf-8")
        exit_code = 0
    except BaseException:  # noqa: BLE001 - the log is all that is read of a child that fails
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(exit_code)  # not `sys.exit`: nothing of the process that was forked may be tidied up here


def _redirect(log: Path) -> None:
    with log.open("wb") as file, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def limit_seconds(seconds: float) -> None:
    """Let an alarm end this process after some time, whatever it does; not on Windows."""
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def limit_memory(count: int) -> None:
    """Let this process take so many bytes more than it has (Linux), write no huge file, and leave no core."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    sizes = Path("/proc/self/statm")
    if sys.platform == "linux" and sizes.exists():
        taken = int(sizes.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + count, taken + count))


def execute(folder: Path, request: Mapping[str, Any]) -> Result:
    """Do the work of a request in this process; what goes wrong is part of the result."""
    try:
        _use_threads(request.get("threads"))
        description = _build(request)
        if request["kind"] == "test":
            return {"problem": _core_test(description, request["weights_format"])}
        with _open_pipeline(description, request["weights_format"]) as pipeline:
            runs = [
                _run(folder, number, tensor_ids, pipeline, description)
                for number, tensor_ids in enumerate(request["inputs"])
            ]
    except PackageError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - torch, onnxruntime and core raise anything on bad weights
        return {"error": "; ".join(_leaves(error))}
    return {"runs": runs}


def _leaves(error: Exception) -> Iterator[str]:
    """What happened; of a group of errors the errors, since the group says nothing."""
    if isinstance(error, ExceptionGroup):
        for entry in error.exceptions:
            yield from _leaves(entry)
    else:
        yield f"{type(error).__name__}: {error}"


def _use_threads(count: int | None) -> None:
    """Set torch's threads, and those of sessions of onnxruntime, which bioimageio.core opens without options."""
    if count is None:
        return
    torch.set_num_threads(count)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count
    onnxruntime.InferenceSession = partial(onnxruntime.InferenceSession, sess_options=options)


def _build(request: Mapping[str, Any]) -> ModelDescr:
    """The description, together with its files, whose hashes are compared."""
    context = ValidationContext(root=Path(request["root"]), file_name=request["file_name"], perform_io_checks=True)
    description = build_description(request["description"], context=context)
    if isinstance(description, ModelDescr):
        return description
    reason = description.get_reason() if isinstance(description, InvalidDescr) else f"it is a {description.type}"
    msg = f"The description does not fit its files: {reason}"
    raise PackageError(msg)


def _core_test(description: ModelDescr, weights_format: str) -> str | None:
    summary = test_model(description, weight_format=weights_format, devices=_cpu(weights_format))  # type: ignore[arg-type]
    if summary.status == "passed":
        return None
    failed = (detail for detail in summary.details if detail.status == "failed")
    return "; ".join(f"{detail.name}: {' '.join(entry.msg for entry in detail.errors)}" for detail in failed)


def _open_pipeline(description: ModelDescr, weights_format: str) -> AbstractContextManager[PredictionPipeline]:
    return create_prediction_pipeline(
        description,
        weights_format=weights_format,  # type: ignore[arg-type]
        devices=_cpu(weights_format),
    )


def _cpu(weights_format: str) -> list[str]:
    """The name of the CPU; onnxruntime would take any provider that is there if it did not know the name."""
    return ["CPUExecutionProvider" if weights_format == "onnx" else "cpu"]


def _run(
    folder: Path, number: int, tensor_ids: Sequence[str], pipeline: PredictionPipeline, description: ModelDescr
) -> Result:
    """Run once, and write the outputs, float32; the whole image at once, nothing padded or cropped.

    Their types are told as they leave the network: core converts them afterwards to what is described.
    """
    axes = {str(tensor.id): tuple(AxisId(axis.id) for axis in tensor.axes) for tensor in description.inputs}
    members: dict[TensorId, Tensor] = {}
    for index, name in enumerate(tensor_ids):
        values = np.load(folder / f"input-{number}-{index}.npy", allow_pickle=False)
        members[TensorId(name)] = Tensor(values, dims=axes[name])
    sample = Sample(members=members, stat={}, id="sample")
    begin = time.perf_counter()
    outcome = pipeline.predict_sample_without_blocking(
        sample, skip_postprocessing=True, skip_input_padding=True, skip_output_cropping=True
    )
    types = {str(name): str(tensor.dtype) for name, tensor in outcome.members.items()}
    pipeline.apply_postprocessing(outcome)
    seconds = time.perf_counter() - begin
    for index, tensor in enumerate(outcome.members.values()):
        values = np.asarray(tensor.data.to_numpy(), dtype=np.float32)
        np.save(folder / f"output-{number}-{index}.npy", values, allow_pickle=False)
    return {"outputs": [str(name) for name in outcome.members], "types": types, "seconds": seconds}


if __name__ == "__main__":
    main(sys.argv[1:])
