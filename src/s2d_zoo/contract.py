"""The RF contract: which Random Forest output an enhancer takes, and whether a given forest delivers it.

An enhancer corrects the output of forests like those that it was trained on. What "like those" means is
written here, machine-readable, and travels in the package under ``config.s2d_zoo.rf_contract``. A forest
describes what it delivers with the same model; `find_misfits` compares the two.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias

import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from s2d_zoo.errors import ContractMismatchError

FilterName: TypeAlias = Literal[
    "GaussianSmoothing",
    "LaplacianOfGaussian",
    "GaussianGradientMagnitude",
    "DifferenceOfGaussians",
    "StructureTensorEigenvalues",
    "HessianOfGaussianEigenvalues",
]
Role: TypeAlias = Literal["background", "foreground", "other"]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]

#: a forest at another pixel size than the enhancer's, by more than this factor, should be rescaled
PIXEL_SIZE_TOLERANCE: Final = 2.0
#: by which factor a length in a unit becomes one in micrometer
TO_MICROMETER: Final = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FilterSelection(_Model):
    """One filter, in ilastik's words, with the scales at which it is computed."""

    name: FilterName
    scales: tuple[PositiveFloat, ...] = Field(min_length=1, description="sigma in px")
    outer_scales: tuple[PositiveFloat, ...] | None = Field(
        default=None,
        description="sigma in px of the outer smoothing of the structure tensor, one per scale, after presmoothing",
    )


class FeatureContract(_Model):
    """The feature image: which filters, computed how."""

    filters: tuple[FilterSelection, ...] = Field(min_length=1)
    recipe: Literal["ilastik"] = Field(
        default="ilastik",
        description="scales above 1 px: presmoothed with sqrt(scale^2 - 1) px, then filtered at 1 px, as ilastik does",
    )
    compute_in_2d: bool = Field(description="filters run slice by slice (true) or in 3D (false)")


class ClassContract(_Model):
    """One class of the forest: its name and what it means."""

    name: str = Field(min_length=1)
    role: Role


class PixelSize(_Model):
    """Physical size of a pixel, where it is known."""

    y: PositiveFloat
    x: PositiveFloat
    z: PositiveFloat | None = None
    unit: Literal["nanometer", "micrometer", "millimeter"] = "micrometer"

    @property
    def in_plane_micrometer(self) -> float:
        """Mean of y and x, in micrometer."""
        return (self.y + self.x) / 2 * TO_MICROMETER[self.unit]


class ForestContract(_Model):
    """How the forests were grown."""

    implementation: Literal["sklearn", "vigra", "unknown"]
    n_estimators: PositiveInt | None = None
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    n_source_forests: PositiveInt | None = Field(
        default=None, description="how many different forests the enhancer was trained on"
    )
    labels: str = Field(description="what the forests were fitted on, in words")


class RFContract(_Model):
    """Which Random Forest output an enhancer takes (or a forest delivers)."""

    contract_version: Literal[1] = 1
    ndim: Literal[2, 3]
    classes: tuple[ClassContract, ...] = Field(min_length=2, description="in the order of the forest's output channels")
    channels: tuple[NonNegativeInt, ...] = Field(
        min_length=1,
        description="indices into `classes`: the probabilities that are fed to the enhancer, in this order",
    )
    value_range: tuple[Probability, Probability] = (0.0, 1.0)
    features: FeatureContract | None = Field(default=None, description="null where unknown")
    forest: ForestContract
    raw_normalisation: Literal["none"] = Field(
        default="none", description="what is done to the raw image before the filters; forests see raw values"
    )
    raw_channels: PositiveInt | None = Field(default=1, description="channels of the raw image; null: any number")
    pixel_size: PixelSize | None = Field(default=None, description="null where unknown or mixed")
    object_diameter: PositiveFloat | None = Field(
        default=None, description="median diameter in px of the objects in the training data"
    )

    @model_validator(mode="after")
    def _channels_exist(self) -> "RFContract":
        if max(self.channels) >= len(self.classes):
            msg = f"channels {self.channels} name a class that is not there: there are {len(self.classes)} classes."
            raise ValueError(msg)
        return self

    @property
    def roles(self) -> tuple[Role, ...]:
        """Meaning of each channel that is fed to the enhancer."""
        return tuple(self.classes[index].role for index in self.channels)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema of the contract, as published in the documentation."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}


class ProbabilityPredictor(Protocol):
    """Whatever turns an image into class probabilities: a fitted forest, a project file, a stack of maps."""

    @property
    def contract(self) -> RFContract:
        """What it delivers."""
        ...

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Probabilities (channel (z) y x, float32 in [0, 1], summing to 1) of an image (channel (z) y x)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One point in which a forest does not deliver what an enhancer takes."""

    field: str  #: the contract's field
    expected: str
    found: str
    advice: str
    fatal: bool  #: the pair cannot be used at all

    def __str__(self) -> str:
        return f"{self.field}: the enhancer takes {self.expected}; the forest delivers {self.found}. {self.advice}"


def find_misfits(taken: RFContract, delivered: RFContract) -> tuple[Misfit, ...]:
    """Compare what an enhancer takes with what a forest delivers, the fatal points first."""
    candidates = (
        _compare_ndim(taken, delivered),
        _compare_roles(taken, delivered),
        _compare_range(taken, delivered),
        _compare_pixel_size(taken, delivered),
        _compare_features(taken, delivered),
    )
    return tuple(sorted((misfit for misfit in candidates if misfit), key=lambda misfit: not misfit.fatal))


def check_fit(taken: RFContract, delivered: RFContract) -> tuple[Misfit, ...]:
    """Refuse a pair that cannot work; return what is only advisable.

    Raises:
        ContractMismatchError: listing every fatal misfit.
    """
    misfits = find_misfits(taken, delivered)
    fatal = [str(misfit) for misfit in misfits if misfit.fatal]
    if fatal:
        msg = "The forest does not fit the enhancer's RF contract. " + " ".join(fatal)
        raise ContractMismatchError(msg)
    return misfits


def matching_channels(taken: RFContract, delivered: RFContract) -> tuple[int, ...]:
    """Which of the forest's channels to feed to the enhancer, in the enhancer's order.

    Raises:
        ContractMismatchError: if a role is missing, or stands for several classes.
    """
    misfit = _compare_roles(taken, delivered)
    if misfit:
        raise ContractMismatchError(str(misfit))
    roles = [entry.role for entry in delivered.classes]
    return tuple(roles.index(role) for role in taken.roles)


def _compare_ndim(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.ndim == delivered.ndim:
        return None
    return Misfit(
        field="ndim",
        expected=f"{taken.ndim}D probabilities",
        found=f"{delivered.ndim}D",
        advice=f"Use a {delivered.ndim}D enhancer, or give the images as {taken.ndim}D.",
        fatal=True,
    )


def _compare_roles(taken: RFContract, delivered: RFContract) -> Misfit | None:
    names = {role: [entry.name for entry in delivered.classes if entry.role == role] for role in taken.roles}
    if all(len(found) == 1 for found in names.values()):
        return None
    listed = ", ".join(f"{i + 1}: {entry.name} ({entry.role})" for i, entry in enumerate(delivered.classes))
    return Misfit(
        field="channels",
        expected=f"one channel each of {', '.join(taken.roles)}",
        found=f"the classes {listed}",
        advice="Say which label is the foreground, e.g. --foreground 2.",
        fatal=True,
    )


def _compare_range(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.value_range == delivered.value_range:
        return None
    return Misfit(
        field="value_range",
        expected=f"values in {taken.value_range}",
        found=f"values in {delivered.value_range}",
        advice="Rescale the probabilities to 0…1.",
        fatal=True,
    )


def _compare_pixel_size(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.pixel_size is None or delivered.pixel_size is None:
        return None
    factor = delivered.pixel_size.in_plane_micrometer / taken.pixel_size.in_plane_micrometer
    if 1 / PIXEL_SIZE_TOLERANCE <= factor <= PIXEL_SIZE_TOLERANCE:
        return None
    return Misfit(
        field="pixel_size",
        expected=f"{taken.pixel_size.in_plane_micrometer:.4g} micrometer per px",
        found=f"{delivered.pixel_size.in_plane_micrometer:.4g} micrometer per px",
        advice=f"Rescale the probabilities by {factor:.3g} before the enhancer: --rescale auto does it.",
        fatal=False,
    )


def _compare_features(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.features is None or delivered.features is None or taken.features == delivered.features:
        return None
    return Misfit(
        field="features",
        expected=_show_features(taken.features),
        found=_show_features(delivered.features),
        advice="The enhancer can be used, but it never saw forests with these features.",
        fatal=False,
    )


def _show_features(features: FeatureContract) -> str:
    shown = (f"{entry.name} at {', '.join(f'{scale:g}' for scale in entry.scales)}" for entry in features.filters)
    return "; ".join(shown) + (" (2D)" if features.compute_in_2d else " (3D)")
