"""The fields of bioimage.io's own model card, ``config.bioimageio``, as far as there are facts for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bioimageio.spec.model.v0_5 import Evaluation, TrainingDetails
from torch import nn

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.data.network import Network, network_kwargs
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Kind
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.tolerance import Tolerance

_OUT_OF_SCOPE: Final[Mapping[Kind, str]] = {
    "enhancer": "Raw images: it takes the probabilities of a forest, between 0 and 1.",
    "segmentor": "Images of other structures or modalities than those it was trained on, unless checked on labels.",
    "fused": "Images of other data sets than the one whose strokes the forest in it learnt from.",
}
_LONGEST_TYPE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network in words."""

    type: str | None  #: at most 32 characters; None if nobody knows
    description: str
    parameters: int  #: how many

    @classmethod
    def of(cls, model: Network) -> "Architecture":
        """That of a network of ours."""
        fused = isinstance(model, PixelForest)
        kwargs = network_kwargs(model.enhancer if isinstance(model, PixelForest) else model)
        before = "Feature filters and a Random Forest, then a " if fused else ""
        return cls(
            type="Random Forest + 2D U-Net" if fused else "2D U-Net",
            description=(
                f"{before}U-Net with {kwargs['depth']} levels of pooling and {kwargs['features']} features at the "
                f"first level, normalisation: {kwargs['norm']}, with fixed statistics at inference"
            ),
            parameters=count_parameters(model),
        )


def count_parameters(model: nn.Module) -> int:
    """How many numbers training can change."""
    return sum(parameter.numel() for parameter in model.parameters())


def build_card_fields(
    kind: Kind, architecture: Architecture, facts: CardFacts, *, limits: tuple[str, ...], tolerance: Tolerance
) -> dict[str, Any]:
    """The block ``config.bioimageio``; what is not known is left out.

    Args:
        kind: of the model.
        architecture: of its network.
        facts: about training and quality.
        limits: in words.
        tolerance: how far the outputs of formats and computers may differ.

    Raises:
        ConfigError: if the facts have keys that bioimage.io does not know.
    """
    _check_keys(facts.training_details, set(TrainingDetails.model_fields), what="training_details")
    for evaluation in facts.evaluations:
        _check_keys(evaluation, set(Evaluation.model_fields), what="an evaluation")
    fields = {
        "reproducibility_tolerance": [
            {
                "relative_tolerance": 0.0,
                "absolute_tolerance": tolerance.absolute,
                "mismatched_elements_per_million": tolerance.mismatched_per_million,
            }
        ],
        "architecture_type": architecture.type and architecture.type[:_LONGEST_TYPE],
        "architecture_description": architecture.description,
        "modality": facts.modality,
        "target_structure": list(facts.target_structure),
        "task": "semantic-segmentation",
        "model_parameter_count": architecture.parameters,
        "out_of_scope_use": _OUT_OF_SCOPE[kind],
        "bias_risks_limitations": {"limitations": " ".join(limits)} if limits else {},
        "training": dict(facts.training_details),
        "evaluations": [dict(evaluation) for evaluation in facts.evaluations],
    }
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def _check_keys(found: Mapping[str, Any], known: set[str], *, what: str) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        msg = f"The facts have unknown keys under {what}: {', '.join(unknown)}. Expected: {', '.join(sorted(known))}."
        raise ConfigError(msg)
