"""From options to the settings of the library. Imports heavy things: only commands that run import it."""

from dataclasses import replace
from typing import Any, Final, Literal

from s2d_zoo.cli.options import chosen_foreground, split_names
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import DEFAULT_CITATIONS, Attribution, Author, Citation
from s2d_zoo.finetune.finetuning import FINETUNING_RATE, SegmentorSettings
from s2d_zoo.pipeline.enhancer_finetuning import EnhancerFinetuneSettings
from s2d_zoo.pipeline.fusion import FusionSettings
from s2d_zoo.pipeline.job import AdaptSettings, PseudoLabelSettings
from s2d_zoo.pipeline.words import ModelWords
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.trainer import TrainingSettings

_NAME: Final = "Model finetuned with s2d-zoo"
#: options that are settings of the training, of one name; not every command has all
_TRAINING: Final = (
    "mean_teacher",
    "layers",
    "learning_rate",
    "ema_decay",
    "l2_to_start",
    "freeze_batch_norm",
    "precision",
)


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
    training = _training(default.training, chosen)
    if chosen.get("base_model") is not None and chosen.get("learning_rate") is None:
        training = replace(training, learning_rate=FINETUNING_RATE)
    return replace(default, features=chosen["segmentor_features"], weighting=chosen["weighting"], training=training)


def enhancer_finetuning(chosen: dict[str, Any]) -> EnhancerFinetuneSettings:
    """Forests and training of an enhancer that is trained further."""
    default = EnhancerFinetuneSettings()
    return replace(
        default,
        n_forests=chosen["forests"],
        forest=ForestSettings(n_estimators=chosen["trees"]),
        training=_training(default.training, chosen),
        seed=chosen["seed"],
    )


def _training(default: TrainingSettings, chosen: dict[str, Any]) -> TrainingSettings:
    training = replace(default, steps=chosen["steps"], seed=chosen["seed"])
    training = replace(training, steps_per_epoch=min(training.steps_per_epoch, training.steps))
    return replace(training, **{name: chosen[name] for name in _TRAINING if chosen.get(name) is not None})


def words_if_given(chosen: dict[str, Any], description: str) -> ModelWords | None:
    """What a package says of itself; None where nothing of it was given, so that no package is wanted.

    Raises:
        ConfigError: naming what is missing.
    """
    given = chosen["authors"] or chosen["license_"] or chosen["name"]
    return model_words(chosen, description) if given else None


def model_words(chosen: dict[str, Any], description: str) -> ModelWords:
    """What a package says of itself.

    Raises:
        ConfigError: naming what is missing.
    """
    return ModelWords(
        name=chosen["name"] or _NAME,
        description=description,
        attribution=attribution(chosen),
        training_data=chosen["training_data"],
        training_data_license=chosen["training_data_license"],
    )


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
        allow_worse=chosen.get("allow_worse", False),
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
