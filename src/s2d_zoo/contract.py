"""The RF contract: which Random Forest output an enhancer takes, and whether a given forest delivers it.

An enhancer corrects the output of forests like those that it was trained on. What "like those" means is
written here, machine-readable, and travels in the package under ``config.s2d_zoo.rf_contract``. A forest
describes what it delivers with the same model; `s2d_zoo.contract_fit` compares the two.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias

import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

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
#: by which factor a length in a unit becomes one in micrometer
TO_MICROMETER: Final = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}
#: names in which people call what is not to be segmented
_BACKGROUND: Final = re.compile(r"(?i)(^|[^a-z])(background|back|bkgd?|bg|hintergrund|outside)([^a-z]|$)")


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

    def at_zoom(self, zoom: float) -> "PixelSize":
        """That of the same image resized in plane, so that objects are ``zoom`` times as large in px."""
        return self.model_copy(update={"x": self.x / zoom, "y": self.y / zoom})


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

    trained_zoom: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(1.0, 1.0),
        description="forests were also grown on images whose objects are this many times as large, in px, as at "
        "`pixel_size` and `object_diameter`: from the first to the second number",
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


def find_background(names: Sequence[str]) -> int | None:
    """The label, counted from 1, whose name says that it is the background, if there is just one."""
    found = [label for label, name in enumerate(names, start=1) if _BACKGROUND.search(name)]
    return found[0] if len(found) == 1 else None


class ProbabilityPredictor(Protocol):
    """Whatever turns an image into class probabilities: a fitted forest, a project file, a stack of maps."""

    @property
    def contract(self) -> RFContract:
        """What it delivers."""
        ...

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Probabilities (channel (z) y x, float32 in [0, 1], summing to 1) of an image (channel (z) y x)."""
        ...
