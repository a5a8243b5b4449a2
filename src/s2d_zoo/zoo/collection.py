"""Which models there are without a network: those that come with s2d-zoo itself, and those that were downloaded."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from s2d_zoo.errors import PackageError
from s2d_zoo.zoo.catalog import CatalogEntry, join_lists
from s2d_zoo.zoo.downloads import downloaded_models, find_downloaded
from s2d_zoo.zoo.lookup import plain_name

#: beside the packages, in the shape of the zoo's own lists (see `s2d_zoo.zoo.catalog`)
_COLLECTION: Final = "collection.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """A model that comes with s2d-zoo."""

    entry: CatalogEntry  #: of the list
    path: Path  #: the package

    @property
    def id(self) -> str:
        """As it is called."""
        return self.entry.id

    @property
    def tags(self) -> tuple[str, ...]:
        """In the zoo's words."""
        return self.entry.tags


def bundled_models() -> tuple[BundledModel, ...]:
    """The models that come with s2d-zoo, by id."""
    folder = _bundled_folder()
    items: list[Any] = json.loads((folder / _COLLECTION).read_text(encoding="utf-8"))["items"]
    return tuple(
        BundledModel(entry=entry, path=folder / entry.versions[-1].source) for entry in join_lists(items, items)
    )


def find_model(name: str | Path) -> Path:
    """The package that is meant: the id of a bundled model, a path, or the id, DOI or address of a downloaded model.

    An id may have a version (``affable-shark/v0``); without, it is the one that was downloaded last.

    Raises:
        PackageError: if there is none of these, listing what there is.
    """
    bundled = {entry.id: entry.path for entry in bundled_models()}
    if str(name) in bundled:
        return bundled[str(name)]
    path = Path(name)
    if path.exists():
        return path
    downloaded = find_downloaded(plain_name(str(name)))
    if downloaded is None:
        if ("/" in str(name) and str(name).startswith((".", "/"))) or path.suffix == ".zip":
            msg = f"There is no package at {name}. Give the path of a .zip file or of an unpacked package."
            raise PackageError(msg)
        ids = sorted({model.id for model in downloaded_models() if model.id})
        msg = (
            f"No model {str(name)!r}: it is no path, and no bundled or downloaded model. Bundled: "
            f"{', '.join(bundled) or 'none'}. Downloaded: {', '.join(ids) or 'none'}. Fetch one with s2d-zoo download."
        )
        raise PackageError(msg)
    return downloaded.folder


def find_at_hand(id_: str, version: str | None) -> Path | None:
    """The package of a bundled or downloaded model; None if it is neither. Unlike in `find_model`, no path will do.

    Args:
        id_: in the zoo, or a DOI.
        version: as the zoo counts; the one that was downloaded last if None. Bundled models have none.
    """
    bundled = {entry.id: entry.path for entry in bundled_models()}
    if version is None and id_ in bundled:
        return bundled[id_]
    name = plain_name(id_)
    downloaded = find_downloaded(name if version is None else f"{name}/{version}")
    return None if downloaded is None else downloaded.folder


def _bundled_folder() -> Path:
    return Path(str(resources.files("s2d_zoo.zoo") / "bundled"))
