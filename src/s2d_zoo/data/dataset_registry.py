"""What is known about each public dataset: licence, citation, original with checksum, splits.

The facts stand in ``dataset_registry.json``. To add a dataset: an entry there, and where its original has a known
SHA-256, a preparation in `s2d_zoo.data.dataset_originals`.
"""

import json
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from s2d_zoo.contract import PixelSize
from s2d_zoo.errors import UserInputError


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Original(_Model):
    """A file at its original host."""

    url: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    file_name: str
    preparation: Literal["ctc", "dsb", "isbi", "vnc"]
    labels: tuple[str, ...] = Field(description="which of the dataset's labels are prepared from it")


class DatasetDescription(_Model):
    """What is known about a dataset."""

    name: str
    title: str
    modality: str
    license: str
    citation: str
    homepage: str
    pixel_size: PixelSize | None = Field(description="null where unknown or mixed")
    layout: Literal["images", "stack"] = Field(description="a file for each image, or one stack of sections")
    labels: tuple[str, ...] = Field(min_length=1, description="kinds of label, the default first")
    train: tuple[str, ...] = Field(min_length=1, description="names of the images (sections) to train on")
    test: tuple[str, ...] = Field(min_length=1, description="names of the images (sections) to evaluate on")
    original: Original | None = Field(description="null where no original with a known SHA-256 was found")
    notes: tuple[str, ...]
    unlabelled_rim: int = Field(
        default=0, ge=0, description="px from each side, of a frame around the part where all objects are labelled"
    )
    caution: str = Field(default="", description="why scores on the test split flatter or mislead; for reports")

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Names of the images of each split; of a stack, the sections of train come before those of test."""
        return {"train": self.train, "test": self.test}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that belong beside scores on this dataset: what is left out of it, and why they may mislead."""
        rim = (
            f"Without a rim of {self.unlabelled_rim} px, where objects may be unlabelled."
            if self.unlabelled_rim
            else ""
        )
        return tuple(sentence for sentence in (rim, self.caution) if sentence)


def dataset_names() -> tuple[str, ...]:
    """Names of all datasets, sorted."""
    return tuple(sorted(_registry()))


def describe_dataset(name: str) -> DatasetDescription:
    """What is known about a dataset.

    Raises:
        UserInputError: for an unknown name, listing the known.
    """
    try:
        return _registry()[name]
    except KeyError:
        msg = f"There is no dataset {name!r}. Known: {', '.join(dataset_names())}."
        raise UserInputError(msg) from None


@cache
def _registry() -> dict[str, DatasetDescription]:
    text = resources.files("s2d_zoo.data").joinpath("dataset_registry.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, object]] = json.loads(text)
    return {name: DatasetDescription.model_validate({"name": name, **entry}) for name, entry in entries.items()}
