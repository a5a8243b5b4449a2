"""Downloaded models: folders in the cache, each with a record of where it came from.

    CACHE/zoo/collection.json             the list of the zoo's models, and when it was fetched
    CACHE/zoo/models/KEY/package/         a model: its description and the files that this names
    CACHE/zoo/models/KEY/record.json      what it is, where it came from, when, and the SHA-256 of its files
    CACHE/zoo/partial/KEY/                a download that was interrupted; the same command goes on from there

CACHE is `s2d_zoo.data.cache.cache_dir`. Every folder may be deleted.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.errors import SavedFileError

RECORD: Final = "record.json"
PACKAGE: Final = "package"
#: the name under which every reader looks for the description first
DESCRIPTION: Final = "rdf.yaml"
_FORMAT: Final = "s2d-zoo downloaded model"
_FORMAT_VERSION: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedModel:
    """A model in the cache."""

    folder: Path  #: the package
    source: str  #: address of its description, or path, that it came from
    id: str | None  #: in the zoo, or its DOI; None where nobody but the package itself says so
    version: str | None  #: as the zoo counts
    names: tuple[str, ...]  #: by which it is found
    fetched_at: datetime
    description_sha256: str  #: of the description as it was fetched
    files: Mapping[str, str]  #: name → SHA-256, of all files as they lie there

    def damaged(self) -> tuple[str, ...]:
        """Files that are missing or are no longer what they were."""
        paths = {name: self.folder / name for name in self.files}
        return tuple(name for name, path in paths.items() if not path.is_file() or sha256_of(path) != self.files[name])


def models_dir() -> Path:
    """Where downloaded models lie."""
    return cache_dir() / "zoo" / "models"


def partial_dir() -> Path:
    """Where downloads lie that are not complete."""
    return cache_dir() / "zoo" / "partial"


def write_record(model: DownloadedModel, folder: Path) -> None:
    """Write what is known of a model into its folder.

    Raises:
        OSError: if it cannot be written.
    """
    facts = {key: value for key, value in asdict(model).items() if key != "folder"}
    stamp = {"format": _FORMAT, "format_version": _FORMAT_VERSION}
    write_json(folder / RECORD, {**facts, **stamp, "fetched_at": model.fetched_at.isoformat()})


def read_record(folder: Path) -> DownloadedModel | None:
    """The model in a folder of the cache; None if there is none, or one of another s2d-zoo."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = read_json(path)
        if (facts.pop("format"), facts.pop("format_version")) != (_FORMAT, _FORMAT_VERSION):
            return None
        facts.update(names=tuple(facts["names"]), fetched_at=datetime.fromisoformat(facts["fetched_at"]))
        return DownloadedModel(folder=folder / PACKAGE, **facts)
    except (SavedFileError, KeyError, TypeError, ValueError, AttributeError) as error:  # it can be fetched again
        _log.warning("%s is damaged and not used: %s", path, error)
        return None


def downloaded_models() -> tuple[DownloadedModel, ...]:
    """The models in the cache, the one that was fetched last first."""
    folders = models_dir().iterdir() if models_dir().is_dir() else ()
    found = (read_record(folder) for folder in folders if not folder.name.startswith("."))
    return tuple(sorted((model for model in found if model), key=lambda model: model.fetched_at, reverse=True))


def find_downloaded(name: str) -> DownloadedModel | None:
    """The model in the cache with an id (with or without a version), DOI or address; the one fetched last."""
    return next((model for model in downloaded_models() if name in model.names), None)
