"""The model card: README.md of a package, from the facts about the model and a template beside this file."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from s2d_zoo.contract import FeatureContract, RFContract
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.tolerance import Tolerances
from s2d_zoo.export.weights_difference import WeightsDifference
from s2d_zoo.types import OUTPUT_CHANNELS, SPACE

_TEMPLATE: Final = "model_card.md.jinja"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What validation found about one program."""

    program: str  #: its name for people
    verdict: str  #: runs, runs with limits, …
    reasons: tuple[str, ...] = ()  #: one for each limit


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What the model card says about training and quality, beyond what can be read off the model.

    Line breaks become spaces and HTML is shown as it is written, so that no entry can break the page.
    """

    training_data: str  #: which images, in words
    training_data_license: str
    strokes: str  #: how they were labelled, and by whom or what
    seed: int
    evaluation: str = ""  #: on what the figures were measured, and how
    figures: Mapping[str, float | int | str] = field(default_factory=dict)  #: name → value
    limits: tuple[str, ...] = ()  #: one sentence each, beyond those that hold for every package
    lineage: tuple[str, ...] = ()  #: what this model was made from, the earliest first
    costs: tuple[str, ...] = ()  #: time and size, one sentence each
    findings: tuple[Finding, ...] = ()  #: what validation found, program by program
    modality: str = ""  #: of the images, such as "fluorescence microscopy"
    target_structure: tuple[str, ...] = ()  #: such as "nuclei"
    #: fields of bioimage.io's TrainingDetails, plain JSON, such as ``training_epochs``
    training_details: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[Mapping[str, Any], ...] = ()  #: each with the fields of bioimage.io's Evaluation, plain JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What the card of a finetuned model of others says about its base, and about what has become of it."""

    name: str
    authors: tuple[str, ...]
    license: str
    training_data: str  #: what the base was trained on, as its package says
    difference: WeightsDifference  #: of the weights
    left: tuple[str, ...] = ()  #: steps that stay in the description, by name
    folded: tuple[str, ...] = ()  #: steps that are in the network
    onnx_left_out: str = ""  #: why there are no ONNX weights

    @property
    def limits(self) -> tuple[str, ...]:
        """What it costs that steps stay in the description, and that there is no ONNX."""
        names = ", ".join(self.left)
        lines = (
            f"{names}: done outside of the network, as the description says. ilastik and QuPath do that for each tile "
            "by itself, so that values depend on the tiles."
            if names
            else "",
            f"No ONNX weights: {self.onnx_left_out}." if self.onnx_left_out else "",
        )
        return tuple(filter(None, lines))


def known_limits(details: ModelDetails, geometry: TileGeometry, base: BaseFacts | None = None) -> tuple[str, ...]:
    """What is known to go wrong with a package of this kind, one sentence each."""
    general = (*_limits_of_tiles(geometry), *(base.limits if base else ()))
    if details.kind == "fused":
        return (
            *general,
            (
                "Memory: Fiji runs an image as one tile, and the features alone take "
                f"{4 * _count_features(details)} MB for a million pixels, all together several times that."
            ),
            "The forest in it learnt from the strokes of one data set: for other images make another package.",
            "Raw values must be those of the original file: after a change of brightness or contrast the forest errs.",
        )
    if details.kind == "segmentor":
        return general
    several = details.contract is not None and len(details.contract.channels) > 1
    one_channel = "ilastik: Trainable Domain Adaptation feeds exactly one channel of the forest"
    return (
        *general,
        f"{one_channel}, so this enhancer, which takes several, cannot be used there."
        if several
        else f"{one_channel}; choose it with care, a wrong one gives a wrong result without any message.",
        "The input must be probabilities between 0 and 1; an export as 8-bit values between 0 and 255 is wrong.",
    )


def _limits_of_tiles(geometry: TileGeometry) -> tuple[str, ...]:
    limits = [
        "2D only: give a stack slice by slice."
        if geometry.along_z is None
        else "3D only: it takes volumes. QuPath runs no networks for volumes.",
        f"Fiji (deepImageJ): images smaller than {-(-geometry.min_size // 3)} px along y or x fail.",
    ]
    if geometry.step:
        limits.append(
            "Fiji (deepImageJ): images above about 50.3 million values (channels x height x width) hang; "
            "cut them first."
        )
    if geometry.halo and geometry.along_z is None:
        limits.append(
            "QuPath ignores the halo of this format (0.5): seams can appear every 512 px, up to "
            f"{geometry.halo} px wide on either side. A script can set it: "
            f"PatchClassifierParams.builder(params).halo({geometry.halo})."
        )
    if geometry.step:
        limits.append(
            f"Not all tiles of ilastik, Fiji and QuPath begin at multiples of {geometry.step} px, so values can differ "
            "from those on the whole image."
        )
    if geometry.receptive_radius is None:
        limits.append(
            "How far an output pixel looks is not known: whether the halo covers it is for the base's authors to say."
        )
    return tuple(limits)


def render_card(
    details: ModelDetails,
    facts: CardFacts,
    geometry: TileGeometry,
    *,
    channels: int,
    outputs: Sequence[str] = OUTPUT_CHANNELS,
    tolerances: Tolerances | None = None,
    base: BaseFacts | None = None,
) -> str:
    """The model card as Markdown.

    Args:
        details: what is said about the model.
        facts: how it was trained and how good it is.
        geometry: sizes that it takes.
        channels: of the input.
        outputs: names of the output's channels.
        tolerances: measured differences; left out when ``None``.
        base: of a finetuned model of others: what it was made from, and what has changed.
    """
    # Not HTML, so jinja's own escaping would be wrong; `_inline` takes its place for every value.
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - see above
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_inline,
    )
    axes = ["batch", "channel", *SPACE[-len(geometry.smallest) :]]
    text = (resources.files("s2d_zoo.export") / _TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        details=details,
        attribution=details.attribution,
        facts=facts,
        geometry=geometry,
        channels=channels,
        outputs=outputs,
        axes=" ".join(axes),
        dims=json.dumps(axes),
        limits=(*known_limits(details, geometry, base), *facts.limits),
        base=base,
        lineage=_lineage(details, facts),
        tolerances=tolerances,
        contract=_contract_in_words(
            details.fusion.forest if details.fusion else details.contract, taken=details.fusion is None
        ),
    )


def _lineage(details: ModelDetails, facts: CardFacts) -> tuple[str, ...]:
    """What it was made from, the earliest first."""
    base = details.base_model
    if base is None or any(base.id in step for step in facts.lineage):
        return facts.lineage
    version = f", version {base.version}" if base.version else ""
    return (f"Base model: {base.id}{version}{'' if base.published else ', not published'}", *facts.lineage)


def _contract_in_words(contract: RFContract | None, *, taken: bool) -> tuple[str, ...]:
    """Of forests that an enhancer takes, or of one that is there."""
    if contract is None:
        return ()
    fed = [f"{contract.classes[index].name} ({contract.classes[index].role})" for index in contract.channels]
    forest = contract.forest
    size = contract.pixel_size
    lines = (
        f"Classes of the forest, in order: {', '.join(f'{entry.name} ({entry.role})' for entry in contract.classes)}.",
        (
            f"Fed to the enhancer: the probability of {', '.join(fed)}, "
            f"between {contract.value_range[0]:g} and {contract.value_range[1]:g}."
        ),
        f"Features: {_features_in_words(contract.features)}.",
        (
            f"Forest: {forest.implementation}, {_or_unknown(forest.n_estimators, 'an unknown number of')} trees of "
            f"{_or_unknown(forest.max_depth, 'unlimited')} depth, fitted on {forest.labels}."
        ),
        (
            "Raw image: values as in the file, "
            f"{_or_unknown(contract.raw_channels, 'any number of')} channel(s), not normalised before the filters."
        ),
        f"Pixel size: {'unknown or mixed' if size is None else f'{size.y:g} x {size.x:g} {size.unit} (y x)'}.",
    )
    if not taken:
        return lines
    return (
        *lines,
        f"Different forests seen in training: {_or_unknown(forest.n_source_forests)}.",
        f"Diameter of the objects: {_or_unknown(contract.object_diameter, 'unknown number of')} px.",
    )


def _count_features(details: ModelDetails) -> int:
    forest = details.fusion.forest if details.fusion else None
    filters = forest.features.filters if forest and forest.features else ()
    planes = sum(len(entry.scales) * (2 if entry.name.endswith("Eigenvalues") else 1) for entry in filters)
    return planes * (forest.raw_channels or 1 if forest else 1)


def _features_in_words(features: FeatureContract | None) -> str:
    if features is None:
        return "unknown"
    names = (f"{entry.name} at {', '.join(f'{scale:g}' for scale in entry.scales)} px" for entry in features.filters)
    return f"{'; '.join(names)}, computed as {features.recipe} does in {'2D' if features.compute_in_2d else '3D'}"


def _or_unknown(value: float | None, otherwise: str = "unknown") -> str:
    return otherwise if value is None else f"{value:g}"


def _inline(value: object) -> str:
    """One line of Markdown text: no line breaks, no HTML, no end of a table cell."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
