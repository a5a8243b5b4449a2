"""Which weights format a program takes from a package that brings several.

| program         | takes                                                              |
|-----------------|--------------------------------------------------------------------|
| bioimageio.core | every one: its test runs them all                                  |
| ilastik         | TorchScript, else the state dict                                   |
| deepImageJ      | TorchScript, ONNX, TensorFlow; the state dict if nothing else is there |
| QuPath          | TorchScript, else TensorFlow, else ONNX                            |

ilastik repackages a model to one of its two and never uses ONNX. deepImageJ's order is that of a hash map, so each of
its formats must be right. QuPath takes the first of its list; only builds of one's own can run ONNX.
"""

from collections.abc import Collection
from typing import Final

from s2d_zoo.validate.checks import Consumer

#: the first that is there is taken
_ILASTIK: Final = ("torchscript", "pytorch_state_dict")
_QUPATH: Final = ("torchscript", "tensorflow_saved_model_bundle", "onnx")
#: any of these is taken
_DEEPIMAGEJ: Final = frozenset({"torchscript", "onnx", "tensorflow_saved_model_bundle"})


def users_of(weights_format: str, formats: Collection[str]) -> frozenset[Consumer]:
    """The programs that take this format (``"onnx"``) from a package that has these formats, itself among them."""
    users = {Consumer.core}
    if weights_format == _first(_ILASTIK, formats):
        users.add(Consumer.ilastik)
    if weights_format == _first(_QUPATH, formats):
        users.add(Consumer.qupath)
    if weights_format in _DEEPIMAGEJ or set(formats) == {"pytorch_state_dict"}:
        users.add(Consumer.deepimagej)
    return frozenset(users)


def _first(order: tuple[str, ...], formats: Collection[str]) -> str | None:
    return next((name for name in order if name in formats), None)
