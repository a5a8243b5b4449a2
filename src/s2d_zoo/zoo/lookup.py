"""Which description or zip is meant by an id of the zoo or by a DOI."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from s2d_zoo.errors import DownloadError, UserInputError
from s2d_zoo.zoo.catalog import Catalog, CatalogEntry, ModelVersion, address, is_id
from s2d_zoo.zoo.downloads import DESCRIPTION
from s2d_zoo.zoo.fetching import check_address, fetch_bytes

_MAX_ANSWER_BYTES: Final = 16 * 1024**2
_WORKSPACE: Final = "bioimage-io/"
_DOI: Final = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,9}/[^\s?#]+)", flags=re.IGNORECASE)
#: the second number stands for one version, the way the zoo writes it
_ZENODO: Final = re.compile(r"10\.5281/zenodo\.(\d+)(?:/(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be fetched."""

    key: str  #: of its folder in the cache
    source: str  #: address of a description or a zip, or a path
    names: tuple[str, ...]  #: by which it is found in the cache
    sha256: str | None = None  #: of the description, where the zoo states it
    id: str | None = None  #: in the zoo, or its DOI
    version: str | None = None  #: as the zoo counts


def plain_name(name: str) -> str:
    """A DOI without what may stand before it, an id in lower case; an address as it is."""
    doi = _DOI.fullmatch(name)
    if doi:
        return doi[1].lower()
    return name if "://" in name else name.removeprefix(_WORKSPACE).lower()


def check_name(name: str) -> None:
    """Refuse what is neither an id nor a DOI.

    Raises:
        UserInputError: if it is none.
    """
    if not _DOI.fullmatch(name) and not is_id(name.partition("/")[0]):
        msg = (
            f"No model {name!r}: it is no path that is there, address (https://…), DOI (10.…/…) or id (affable-shark, "
            "affable-shark/v0). See s2d-zoo list --source zoo."
        )
        raise UserInputError(msg)


def at_address(url: str) -> Wanted:
    """What lies at an address.

    Raises:
        DownloadError: if this is none of http or https.
    """
    check_address(url)
    return Wanted(key=f"address-{_short(url)}", source=url, names=(url,))


def at_path(path: Path) -> Wanted:
    """What lies at a path."""
    place = str(path.resolve())
    return Wanted(key=f"file-{_short(place)}", source=place, names=(place,))


def look_up(name: str, catalog: Catalog) -> Wanted:
    """What an id or a DOI stands for (`plain_name`, `check_name`).

    An id that the catalog does not have is looked for on the zoo's server; such a DOI on Zenodo.

    Raises:
        UserInputError: if the model does not have the version.
        DownloadError: if there is no such DOI.
    """
    entry, version = catalog.find(name), ""
    if entry is None and _DOI.fullmatch(name):
        return _on_zenodo(name)
    if entry is None:
        id_, _, version = name.partition("/")
        entry = catalog.find(id_) or CatalogEntry(id=id_)
    chosen = _choose(entry, version)
    names = {name, entry.id, f"{entry.id}/{chosen.version or 'newest'}", *entry.dois}
    if entry.own_version and chosen in entry.versions[-1:]:
        names.add(f"{entry.id}/{entry.own_version}")
    return Wanted(
        key=re.sub(r"[^\w.@-]", "_", f"{entry.id}@{chosen.version or 'newest'}", flags=re.ASCII),
        source=chosen.source,
        names=tuple(sorted(names)),
        sha256=chosen.sha256,
        id=entry.id,
        version=chosen.version or None,
    )


def _choose(entry: CatalogEntry, version: str) -> ModelVersion:
    """A version of a model, as the zoo counts (v0; the v may be left out) or as its newest description does."""
    if not entry.versions:  # newer than the index
        source = address("BIOIMAGEIO_COLLECTION_HTTP_PATTERN").replace("{bioimageio_id}", entry.id)
        query = f"?version={quote(version)}" if version else ""
        return ModelVersion(version=version, source=source + query, sha256=None)
    listed = {known.version: known for known in entry.versions}
    newest = entry.versions[-1]
    found = listed.get(version) or (newest if version in {"", entry.own_version} else listed.get(f"v{version}"))
    if found is None:
        msg = f"{entry.id} has no version {version!r}. There are: {', '.join(listed)}."
        raise UserInputError(msg)
    return found


def _on_zenodo(doi: str) -> Wanted:
    """A model that the list does not have by its DOI: those of older models are Zenodo's, where their files lie."""
    found = _ZENODO.fullmatch(doi)
    if found is None:
        msg = f"The zoo's list has no model with the DOI {doi}, and it is none of Zenodo. Give its id or its address."
        raise DownloadError(msg)
    url = address("S2D_ZOO_ZENODO_RECORD").replace("{record}", found[2] or found[1])
    answer = fetch_bytes(url, max_bytes=_MAX_ANSWER_BYTES)
    try:
        record = json.loads(answer)
        number = int(record["id"])  # that of the newest version, where the DOI is that of all versions
        files = sorted(str(file["key"]) for file in record["files"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        msg = f"Expected a record of Zenodo at {url}, found something else ({type(error).__name__}: {error})."
        raise DownloadError(msg) from error
    candidates = (DESCRIPTION, "bioimageio.yaml", *(name for name in files if name.endswith(".zip")))
    name = next((name for name in candidates if name in files), None)
    if name is None:
        msg = f"Expected {DESCRIPTION} or a zip in the record {url}, found {', '.join(files)}. Is it a model?"
        raise DownloadError(msg)
    source = address("S2D_ZOO_ZENODO_FILE").replace("{record}", str(number)).replace("{name}", quote(name))
    own = f"10.5281/zenodo.{number}"
    return Wanted(key=f"zenodo-{number}", source=source, names=tuple(sorted({doi, own})), id=own)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
