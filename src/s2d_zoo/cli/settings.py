"""From options to the settings of the library. Imports heavy things: only commands that run import it."""

from dataclasses import replace
from typing import Any, Final, Literal

from s2d_zoo.cli.options import chosen_foreground, split_names
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import DEFAULT_CITATIONS, Attribution, Author, Citation
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.fusion import FusionSettings
from s2d_zoo.pipeline.job import AdaptSettings, PseudoLabelSettings
from s2d_zoo.rf_adapter.classifier import ForestSettings

#: options that are settings of the training, of one name; not every command has all
_TRAINING: Final = ("mean_teacher", "layers", "learning_rate", "l2_to_start", "freeze_batch_norm")


def attribution(chosen: dict[str, Any]) -> Attribution:
    """Authors, licence and citations.

    Raises:
        ConfigError: naming what is missing.
    """
    return Attribution(
        authors=tuple(Author.parse(text) for text in chosen["authors"]),
        license=chosen["license_"],
        cite=(*(Citation.parse(text) for text in chosen["cite"]), *DEFAULT_CITATIONS),
    )


def segmentor(chosen: dict[str, Any]) -> SegmentorSettings:
    """Network and training of a segmentor."""
    default = SegmentorSettings()
    training = replace(default.training, steps=chosen["steps"], seed=chosen["seed"])
    training = replace(training, steps_per_epoch=min(training.steps_per_epoch, training.steps))
    given = {name: chosen[name] for name in _TRAINING if chosen.get(name) is not None}
    training = replace(training, **given)
    return replace(default, features=chosen["segmentor_features"], weighting=chosen["weighting"], training=training)


def adapt_settings(chosen: dict[str, Any]) -> AdaptSettings:
    """Settings of `adapt`.

    Raises:
        ConfigError: for a value out of range.
    """
    return AdaptSettings(
        attribution=attribution(chosen),
        model_name=chosen["name"],
        class_names=split_names(chosen["class_names"]),
        foreground=chosen_foreground(chosen["foreground"], chosen.get("channel")),
        forest=ForestSettings(n_estimators=chosen["trees"]),
        pseudo_labels=PseudoLabelSettings(n_forests=chosen["forests"], confidence=chosen["confidence"]),
        rescale=rescale(chosen["rescale"]),
        segmentor=segmentor(chosen),
        fusion=FusionSettings(trees=chosen.get("fused_trees"), max_depth=chosen.get("max_depth")),
        seed=chosen["seed"],
    )


def rescale(text: str) -> float | Literal["auto"]:
    """A factor, or ``auto``.

    Raises:
        ConfigError: if it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        msg = f"--rescale takes a factor such as 0.5, or auto; got {text!r}."
        raise ConfigError(msg) from None
