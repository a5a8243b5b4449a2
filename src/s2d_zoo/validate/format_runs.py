"""What the runs of one weights format gave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from s2d_zoo.validate.sandbox import FloatArray

#: tensor id → array
Tensors: TypeAlias = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRuns:
    """Inputs and outputs of one format, by the size of the input (``"512x512"``); the test input comes first."""

    weights_format: str
    inputs: Mapping[str, Tensors]
    outputs: Mapping[str, Tensors]
    again: Tensors  #: for the test input, a second time
    seconds: Mapping[str, float]

    @property
    def test_size(self) -> str:
        """The size of the test input."""
        return next(iter(self.inputs))

    @property
    def first(self) -> Tensors:
        """The outputs for the test input."""
        return self.outputs[self.test_size]


def flaw_of(outputs: Tensors) -> str | None:
    """What is wrong with outputs whatever the input was, or None."""
    for name, values in outputs.items():
        strange = int(np.count_nonzero(~np.isfinite(values)))
        if values.size == 0:
            return f"the output {name} is empty, of shape {values.shape}"
        if strange:
            return (
                f"the output {name} holds {strange} values that are not finite (NaN or infinite), of {values.size}; "
                "bioimageio.core's test lets NaN pass"
            )
    return None
