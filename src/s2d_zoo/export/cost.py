"""What a fused model costs: seconds and megabytes, for its card."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch

from s2d_zoo.export import weights
from s2d_zoo.export.tolerance import FloatArray

#: px; what QuPath and ilastik take for a tile
_SIZE: Final = 512
#: seconds, in steps so coarse that the same machine mostly says the same
_STEPS: Final = (0.5, 1, 2, 5, 10, 20, 50, 100)
#: the first calls of TorchScript compile
_WARM_UP: Final = 2


def describe_costs(folder: Path, test_input: FloatArray) -> tuple[str, ...]:
    """Run the weights files on 512 x 512 px, and add up the sizes of all files.

    Args:
        folder: of the package's files.
        test_input: ``(1, channel, y, x)`` float32; it is continued by its mirror image.

    Returns:
        Sentences for the card. Seconds are rounded up coarsely, so that two exports say the same, mostly.
    """
    missing = [max(0, _SIZE - size) for size in test_input.shape[2:]]
    image = np.pad(test_input, [(0, 0), (0, 0), (0, missing[0]), (0, missing[1])], mode="symmetric")
    image = np.ascontiguousarray(image[:, :, :_SIZE, :_SIZE])
    session = onnxruntime.InferenceSession(str(folder / weights.ONNX_FILE), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with weights.deprecated_on_purpose(), torch.inference_mode():
        script = torch.jit.load(str(folder / weights.TORCHSCRIPT_FILE))  # type: ignore[no-untyped-call]
        tensor = torch.from_numpy(image)
        seconds = {
            "ONNX": _seconds(lambda: session.run(None, {name: image})),
            "TorchScript": _seconds(lambda: script(tensor)),
        }
    times = " and ".join(f"{_at_most(value)} with {runtime}" for runtime, value in seconds.items())
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return (
        f"{_SIZE} x {_SIZE} px take {times}, on {os.cpu_count()} cores when this was written (once warmed up).",
        f"The package has {megabytes:.1f} MB, with all weights formats.",
    )


def _seconds(call: Callable[[], object]) -> float:
    for _ in range(_WARM_UP):
        call()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _at_most(seconds: float) -> str:
    step = next((step for step in _STEPS if seconds <= step), None)
    return f"more than {_STEPS[-1]} s" if step is None else f"at most {step:g} s"
