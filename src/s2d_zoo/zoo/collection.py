"""Which models there are: so far those that come with s2d-zoo itself, listed without a network."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from s2d_zoo.errors import PackageError

#: beside the packages, in the shape of the zoo's own collection
_COLLECTION: Final = "collection.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One line of the list of models."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    license: str
    path: Path  #: the package


def bundled_models() -> tuple[ModelEntry, ...]:
    """The models that come with s2d-zoo, by id."""
    folder = _bundled_folder()
    listed: dict[str, Any] = json.loads((folder / _COLLECTION).read_text(encoding="utf-8"))
    entries = (
        ModelEntry(
            id=item["id"],
            name=item["name"],
            description=item["description"],
            tags=tuple(item["tags"]),
            license=item["license"],
            path=folder / item["source"],
        )
        for item in listed["collection"]
    )
    return tuple(sorted(entries, key=lambda entry: entry.id))


def find_model(name: str | Path) -> Path:
    """The package that is meant: the id of a bundled model, or a path.

    Raises:
        PackageError: if there is neither, listing what there is.
    """
    bundled = {entry.id: entry.path for entry in bundled_models()}
    if str(name) in bundled:
        return bundled[str(name)]
    path = Path(name)
    if not path.exists():
        msg = f"No model {str(name)!r}: it is no path, and no bundled model. Bundled: {', '.join(bundled) or 'none'}."
        raise PackageError(msg)
    return path


def _bundled_folder() -> Path:
    return Path(str(resources.files("s2d_zoo.zoo") / "bundled"))
