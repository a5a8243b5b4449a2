"""From a few brush strokes to a validated BioImage Model Zoo model.

The names below are public and loaded when they are first used, so that ``import s2d_zoo`` stays light: torch comes
with the first name that needs it. To add a name: here, in ``__init__.pyi`` and in ``docs/reference/python.md``.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from s2d_zoo._version import __version__

__all__ = [
    "AdaptInputs",
    "AdaptResult",
    "AdaptSettings",
    "Attribution",
    "Author",
    "Enhancer",
    "FeatureSelection",
    "ForestSettings",
    "PixelClassifier",
    "RFContract",
    "S2DZooError",
    "__version__",
    "adapt",
    "apply_network",
    "consensus_labels",
    "find_model",
    "load_classifier",
    "load_enhancer",
    "load_network",
    "read_image",
    "read_labels",
    "save_classifier",
    "validate_package",
    "write_image",
    "write_report",
]

#: name → module that has it
_HOMES: Final[Mapping[str, str]] = {
    "AdaptInputs": "s2d_zoo.pipeline.inputs",
    "AdaptResult": "s2d_zoo.pipeline.adapt",
    "AdaptSettings": "s2d_zoo.pipeline.job",
    "Attribution": "s2d_zoo.export.description",
    "Author": "s2d_zoo.export.description",
    "Enhancer": "s2d_zoo.enhancer.prediction",
    "FeatureSelection": "s2d_zoo.rf_adapter.features",
    "ForestSettings": "s2d_zoo.rf_adapter.classifier",
    "PixelClassifier": "s2d_zoo.rf_adapter.classifier",
    "RFContract": "s2d_zoo.contract",
    "S2DZooError": "s2d_zoo.errors",
    "adapt": "s2d_zoo.pipeline.adapt",
    "apply_network": "s2d_zoo.data.network",
    "consensus_labels": "s2d_zoo.finetune.pseudo_labels",
    "find_model": "s2d_zoo.zoo.collection",
    "load_classifier": "s2d_zoo.rf_adapter.persistence",
    "load_enhancer": "s2d_zoo.enhancer.pretrained",
    "load_network": "s2d_zoo.data.network",
    "read_image": "s2d_zoo.data.images",
    "read_labels": "s2d_zoo.data.images",
    "save_classifier": "s2d_zoo.rf_adapter.persistence",
    "validate_package": "s2d_zoo.validate.validation",
    "write_image": "s2d_zoo.data.images",
    "write_report": "s2d_zoo.pipeline.report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # asked for once only
    return value


def __dir__() -> list[str]:
    return __all__
