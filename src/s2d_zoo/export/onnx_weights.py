"""The ONNX file of a package after its network was trained further, made from the file that was there before.

Scripted networks cannot be exported to ONNX again, and of another project's network nobody has the code. But an export
keeps the weights as they are, so that each is found by its values, and replaced.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

Weights: TypeAlias = Mapping[str, np.ndarray[Any, Any]]


def replace_weights(source: Path, target: Path, *, before: Weights, after: Weights) -> bool:
    """Write an ONNX file whose weights are those after the training.

    Args:
        source: the file as it was; weights beside it are not read.
        target: the file to write.
        before: the network's weights and buffers by name, as in the source.
        after: the same, as they are now.

    Returns:
        Whether it was written: not if a weight that has changed is not in the file as it was, e.g. because the export
        joined it with a normalisation, or if two of them cannot be told apart.
    """
    model = onnx.load(source, load_external_data=False)
    if any(tensor.external_data for tensor in model.graph.initializer):
        return False
    changed = {name for name, values in before.items() if not np.array_equal(values, after[name])}
    replaced = set()
    for tensor in model.graph.initializer:
        held = numpy_helper.to_array(tensor)
        alike = [name for name, values in before.items() if values.shape == held.shape and np.array_equal(values, held)]
        wanted = [name for name in alike if name in changed]
        if not wanted:
            continue
        if any(not np.array_equal(after[name], after[wanted[0]]) for name in alike):
            return False
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(after[wanted[0]]), tensor.name))
        replaced.update(wanted)
    if replaced != changed:
        return False
    onnx.save(model, target)
    return True
