"""What a user says of a model that is to become a package."""

import re
from dataclasses import dataclass

from s2d_zoo.export.description import Attribution, check_words


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWords:
    """Name, description and makers of a model.

    Raises:
        ConfigError: for a name or a description that bioimage.io does not take.
    """

    name: str
    description: str
    attribution: Attribution
    training_data: str | None = None  #: what it was trained on, in words; how many images where None
    training_data_license: str = "not stated; that of the images"

    def __post_init__(self) -> None:
        check_words(identifier=self.id, name=self.name, description=self.description)

    @property
    def id(self) -> str:
        """Id of the package, from its name."""
        return id_from_name(self.name)


def id_from_name(name: str) -> str:
    """Lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
