"""The online collection: which models the BioImage Model Zoo has, kept in the cache for a day.

Two lists are read and joined. The zoo's *server* tells what its models are called and which tags and licence they have;
the *index* of the collection tells where each version's description lies, and its SHA-256. Either may be missing: then
less is known. The models that come with s2d-zoo are listed in one file of the same shape, which tells both.
"""

import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.errors import DownloadError, SavedFileError
from s2d_zoo.zoo.fetching import fetch_bytes

#: environment variable → address, unless it is set. The second and third are those of bioimageio.core and .spec too.
ADDRESSES: Final[Mapping[str, str]] = {
    "S2D_ZOO_COLLECTION_LIST": "https://hypha.aicell.io/bioimage-io/artifacts/bioimage.io/children?limit=10000",
    "BIOIMAGEIO_COLLECTION_INDEX_URL": "https://bioimage-io.github.io/collection/index.json",
    "BIOIMAGEIO_COLLECTION_HTTP_PATTERN": (
        "https://hypha.aicell.io/bioimage-io/artifacts/{bioimageio_id}/files/rdf.yaml"
    ),
    "S2D_ZOO_ZENODO_RECORD": "https://zenodo.org/api/records/{record}",
    "S2D_ZOO_ZENODO_FILE": "https://zenodo.org/records/{record}/files/{name}",
}
#: both together have some megabytes
_MAX_LIST_BYTES: Final = 64 * 1024**2
_MAX_AGE: Final = timedelta(days=1)
_FORMAT: Final = "s2d-zoo collection list"
_FORMAT_VERSION: Final = 1
#: in the index and on the server, ids stand behind the workspace
_WORKSPACE: Final = "bioimage-io/"

_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a model of the zoo."""

    version: str  #: as the zoo counts, e.g. v0
    source: str  #: address of the description; of a bundled model, the file name of its package
    sha256: str | None  #: of what lies there


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model of the zoo."""

    id: str  #: its nickname, e.g. affable-shark
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    own_version: str = ""  #: as its description counts, of the newest version
    dois: tuple[str, ...] = ()
    versions: tuple[ModelVersion, ...] = ()  #: oldest first; none where the index does not have it

    @property
    def newest(self) -> str:
        """The newest version as the zoo counts; empty where the index does not have the model."""
        return self.versions[-1].version if self.versions else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The models of the zoo as they were at some time."""

    fetched_at: datetime
    entries: tuple[CatalogEntry, ...] = field(default=())  #: by id

    def find(self, name: str) -> CatalogEntry | None:
        """The model with an id or a DOI."""
        name = name.lower()
        by_doi = (entry for entry in self.entries if name in entry.dois)
        return next((entry for entry in self.entries if entry.id == name), None) or next(by_doi, None)

    def similar(self, name: str) -> tuple[str, ...]:
        """Ids that look like a name."""
        return tuple(get_close_matches(name.lower(), [entry.id for entry in self.entries]))

    def age(self) -> str:
        """How old the list is, in words."""
        minutes = max(0, int((datetime.now(UTC) - self.fetched_at).total_seconds() // 60))
        if minutes < 120:
            return f"{minutes} min"
        return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def address(variable: str) -> str:
    """An address of `ADDRESSES`, or what the environment says."""
    return os.environ.get(variable) or ADDRESSES[variable]


def read_catalog(*, offline: bool = False, refresh: bool = False, progress: bool = False) -> Catalog:
    """The list of the zoo's models: from the cache if it is younger than a day, else from the network.

    Args:
        offline: take the one in the cache, whatever its age.
        refresh: fetch a new one, whatever the age of the one in the cache.
        progress: whether bars are drawn on stderr.

    Returns:
        The list; an old one, with a warning, where a new one cannot be fetched.

    Raises:
        DownloadError: if there is none in the cache and none can be fetched.
    """
    kept = _read_kept()
    if offline:
        if kept is None:
            msg = f"There is no list of the zoo's models in {cache_dir()}. Call s2d-zoo list --source zoo online once."
            raise DownloadError(msg)
        return kept
    if kept is not None and not refresh and datetime.now(UTC) - kept.fetched_at < _MAX_AGE:
        return kept
    try:
        catalog = _fetch(progress=progress)
    except DownloadError as error:
        if kept is None:
            raise
        _log.warning("The zoo's list is %s old and could not be fetched anew: %s", kept.age(), error)
        return kept
    listed = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "fetched_at": catalog.fetched_at.isoformat()}
    write_json(_kept_path(), {**listed, "entries": [asdict(entry) for entry in catalog.entries]})
    return catalog


def _kept_path() -> Path:
    return cache_dir() / "zoo" / "collection.json"


def _read_kept() -> Catalog | None:
    """The list in the cache, unless there is none, or one of another s2d-zoo."""
    path = _kept_path()
    if not path.is_file():
        return None
    try:
        listed = read_json(path)
        if (listed["format"], listed["format_version"]) != (_FORMAT, _FORMAT_VERSION):
            return None
        entries = tuple(
            CatalogEntry(
                **{
                    **entry,
                    **{key: tuple(entry[key]) for key in ("tags", "dois")},
                    "versions": tuple(ModelVersion(**version) for version in entry["versions"]),
                }
            )
            for entry in listed["entries"]
        )
        return Catalog(fetched_at=datetime.fromisoformat(listed["fetched_at"]), entries=entries)
    except (SavedFileError, KeyError, TypeError, ValueError) as error:  # it is only a copy
        _log.warning("%s is damaged and not used: %s", path, error)
        return None


def _fetch(*, progress: bool) -> Catalog:
    found, errors = [], []
    for variable in ("S2D_ZOO_COLLECTION_LIST", "BIOIMAGEIO_COLLECTION_INDEX_URL"):
        try:
            found.append(_fetch_items(address(variable), progress=progress))
        except DownloadError as error:
            _log.warning("Less is known of the zoo's models: %s", error)
            errors.append(error)
            found.append(())
    if len(errors) == len(found):
        raise errors[0]
    return Catalog(fetched_at=datetime.now(UTC), entries=join_lists(*found))


def join_lists(server: Sequence[Any], index: Sequence[Any]) -> tuple[CatalogEntry, ...]:
    """The models of two lists, by id.

    Args:
        server: items with ``id``, ``type`` and ``manifest``, the description or a part of it.
        index: items with ``id``, ``type`` and ``versions``, each with ``version``, ``source`` and ``sha256``.

    Returns:
        All that are models and have an id; what is of another type than it should be counts as not told.
    """
    described, indexed = ({_id_of(item): item for item in _models(items)} for items in (server, index))
    return tuple(
        _entry(name, described.get(name, {}), indexed.get(name, {}))
        for name in sorted({*described, *indexed})
        if is_id(name)
    )


def _fetch_items(url: str, *, progress: bool) -> Sequence[Any]:
    """The list at an address, which may stand under ``items``."""
    content = fetch_bytes(url, max_bytes=_MAX_LIST_BYTES, progress=progress)
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"Expected a list of models as JSON at {url}, but it cannot be read: {error}. Try again later."
        raise DownloadError(msg) from error
    items = listed.get("items") if isinstance(listed, dict) else listed
    if not isinstance(items, list):
        msg = f"Expected a list of models at {url}, found {type(items).__name__}. Try again later."
        raise DownloadError(msg)
    return items


def _models(items: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    return (item for item in items if isinstance(item, dict) and item.get("type") == "model")


def _id_of(item: Mapping[str, Any]) -> str:
    return _text(item.get("id")).removeprefix(_WORKSPACE)


def is_id(name: str) -> bool:
    """Whether this may be the id of a model: words of lower-case letters, digits, dashes, dots and underscores."""
    return _ID.fullmatch(name) is not None


def _entry(name: str, described: Mapping[str, Any], indexed: Mapping[str, Any]) -> CatalogEntry:
    manifest = described.get("manifest")
    manifest = manifest if isinstance(manifest, dict) else {}
    return CatalogEntry(
        id=name,
        name=_text(manifest.get("name")),
        description=_text(manifest.get("description")),
        tags=tuple(tag for tag in map(_text, _list(manifest.get("tags"))) if tag),
        license=_text(manifest.get("license")),
        own_version=_text(manifest.get("version")),
        dois=tuple(sorted({*_find_dois(manifest)})),
        versions=tuple(
            ModelVersion(
                version=_text(version["version"]),
                source=version["source"],
                sha256=version["sha256"] if isinstance(version.get("sha256"), str) else None,
            )
            for version in _list(indexed.get("versions"))
            if isinstance(version, dict) and version.get("version") and isinstance(version.get("source"), str)
        ),
    )


def _find_dois(manifest: Mapping[str, Any]) -> Iterator[str]:
    """DOIs of the model itself, as older descriptions have them: of one version, and of all (the concept)."""
    config = manifest.get("config")
    config = config if isinstance(config, dict) else {}
    stated = (manifest.get("id"), manifest.get("doi"), config.get("_conceptdoi"), config.get("_doi"))
    for doi in {doi.lower() for doi in stated if isinstance(doi, str) and doi.startswith("10.")}:
        yield doi
        concept, _, record = doi.rpartition("/")
        if "/" in concept:  # the zoo's own way to name a version: 10.5281/zenodo.CONCEPT/RECORD
            yield from (concept, f"{concept.rpartition('.')[0]}.{record}")


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    """A line that a terminal shows as it is: the lists come from the network."""
    if not isinstance(value, str | int | float):
        return ""
    line = " ".join(str(value).split())
    return "".join(char for char in line if not unicodedata.category(char).startswith("C"))
