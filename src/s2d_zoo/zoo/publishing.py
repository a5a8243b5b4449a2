"""What of a package goes to the zoo, and how far that has come.

A description that is sent for the first time has no id: the zoo gives one, such as ``affable-shark``. As the zoo's own
web form does, it is then written into the description, since Fiji reads none without. The id that the package had
before stays in ``config.s2d_zoo.local_id``.

    CACHE/zoo/uploads/KEY.json            an upload that was interrupted; the same package goes on from there

CACHE is `s2d_zoo.data.cache.cache_dir`, and KEY stands for the server and all that is sent.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from bioimageio.spec.utils import write_yaml
from filelock import FileLock, Timeout

from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import PackageContents, is_remote
from s2d_zoo.data.written_description import mappings, own_config, value_at
from s2d_zoo.errors import PackageError, SavedFileError, UploadError
from s2d_zoo.zoo.downloads import DESCRIPTION
from s2d_zoo.zoo.package_files import collect, copy_checked, named_files
from s2d_zoo.zoo.upload_access import is_staged_id, one_line, own_models
from s2d_zoo.zoo.upload_service import NEW_MODEL, StagedModelGoneError, UploadService

#: where the id of a package is kept that is not the zoo's, under config.s2d_zoo
LOCAL_ID: Final = "local_id"
_OWN: Final = "s2d_zoo"
_FORMAT: Final = "s2d-zoo upload"
_FORMAT_VERSION: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """A file as it is sent."""

    name: str
    size: int  #: bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A package, ready to be sent."""

    folder: Path  #: holds every file
    description: Mapping[str, Any]  #: without an id
    files: tuple[SentFile, ...]  #: without the description, in its order
    notes: tuple[str, ...]  #: what whoever publishes should know

    @property
    def manifest(self) -> dict[str, Any]:
        """The description as plain JSON."""
        manifest: dict[str, Any] = _as_json(self.description)
        return manifest

    def write_description(self, path: Path, id_: str | None = None) -> SentFile:
        """Write the description, with the id that the zoo gave, if that is known.

        Raises:
            OSError: if it cannot be written.
        """
        entries = dict(self.description)
        if id_ is not None:
            entries = {"type": entries.pop("type"), "id": id_, **entries}
        write_yaml(entries, path)
        return _measured(path, DESCRIPTION)

    def requests(self, server: str) -> Iterator[str]:
        """What is asked of an upload service, one after another, in words."""
        alias, version = NEW_MODEL["alias"], NEW_MODEL["version"]
        yield f"POST {server}/create: the manifest, alias {alias}, version {version}; gives the id"
        for name in (*(file.name for file in self.files), f"{DESCRIPTION} with the id in it"):
            yield f"POST {server}/put_file: {name}; PUT its bytes to the address that this gives"
        yield f"POST {server}/edit: the manifest with the id and status request-review, version {version}"

    def key(self, server: str) -> str:
        """What stands for a server and all that is sent."""
        content = (server, self.manifest, sorted((file.name, file.sha256) for file in self.files))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def prepare(contents: PackageContents, folder: Path) -> Publication:
    """Copy what is sent of a package, and refuse what the zoo would refuse.

    Whether the package is valid is not asked here: the copy in ``folder`` can be validated.

    Args:
        contents: the package.
        folder: for the copies: all files that the description names, and the description as it is.

    Raises:
        PackageError: if the zoo would not take it, with every reason, or a file is missing or not the one stated.
        UnsafePackageError: if a name leads out of the package.
    """
    reasons = tuple(_reasons_against(contents))
    if reasons:
        msg = f"{contents.source} cannot be published: {'; '.join(reasons)}."
        raise PackageError(msg)
    names = collect(contents, contents.folder, folder, _copy)
    return Publication(
        folder=folder,
        description=_without_id(contents.rdf),
        files=tuple(_measured(folder / name, name) for name in names if name != DESCRIPTION),
        notes=tuple(_notes(contents, names)),
    )


def upload(publication: Publication, service: UploadService, *, progress: bool = False) -> str:
    """Stage a model, send its files and ask for a review; where the same was interrupted before, go on from there.

    Args:
        publication: what is sent.
        service: where to.
        progress: whether bars are drawn on stderr.

    Returns:
        The id of the staged model, e.g. ``bioimage-io/affable-shark``.

    Raises:
        UploadError: if the service refuses something, or cannot be asked. What was sent is kept there.
        OSError: if the cache cannot be written.
    """
    own = own_models(service.server)
    with _kept_state(publication.key(service.server)) as state:
        if state.artifact is None:
            state.artifact = _stage(publication, service, state)
        else:
            _log.warning("Going on with %s, which was staged before.", state.artifact)
        try:
            _send_files(publication, service, state, state.artifact, progress=progress)
        except StagedModelGoneError as error:
            put_aside = state.path.with_suffix(".gone")  # the answer may come from something between here and the zoo
            state.path.replace(put_aside)
            msg = (
                f"{error} {state.artifact} was probably deleted. Call the same again to begin anew; if it is still "
                f"there (see {own}), rename {put_aside} to {state.path.name} first, to go on with it."
            )
            raise UploadError(msg) from error
        except UploadError as error:
            msg = (
                f"{error} ({state.artifact} is staged, but not complete; see {own}. The next call goes "
                f"on with it; delete {state.path} to begin anew.)"
            )
            raise UploadError(msg) from error
        state.path.unlink()
        return state.artifact


def _stage(publication: Publication, service: UploadService, state: "_State") -> str:
    """The id of the new model. While nobody knows it yet a state without one is kept, for the next call to tell."""
    if state.began:
        _log.warning(
            "An earlier call was interrupted while it staged this model, and the upload begins anew. There may be a "
            "model without files at %s: delete it.",
            own_models(service.server),
        )
    state.write()
    try:
        state.artifact = service.create(publication.manifest)
    except UploadError:  # which says what there may be
        state.path.unlink()
        raise
    state.write()
    return state.artifact


def _send_files(
    publication: Publication, service: UploadService, state: "_State", artifact: str, *, progress: bool
) -> None:
    id_ = artifact.rpartition("/")[2]
    # last: a reader of a staged model that finds a description finds all files
    description = publication.write_description(publication.folder / DESCRIPTION, id_)
    for file in (*publication.files, description):
        if state.sent.get(file.name) != file.sha256:
            service.put(artifact, file.name, publication.folder / file.name, progress=progress)
            state.sent[file.name] = file.sha256
            state.write()
    service.request_review(artifact, {**publication.manifest, "id": id_})


@dataclass(slots=True, kw_only=True)
class _State:
    """How far an upload has come."""

    path: Path
    artifact: str | None = None  #: id of the staged model
    began: bool = False  #: it may have been staged, but its id is not known
    sent: dict[str, str] = field(default_factory=dict)  #: name → SHA-256

    def write(self) -> None:
        stamp = {"format": _FORMAT, "format_version": _FORMAT_VERSION}
        write_json(self.path, {**stamp, "artifact": self.artifact, "sent": self.sent})


@contextmanager
def _kept_state(key: str) -> Iterator[_State]:
    """The state of an upload that began before, or a new one; nobody else goes on with it meanwhile."""
    path = cache_dir() / "zoo" / "uploads" / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        msg = "This package is being uploaded by another s2d-zoo right now. Wait for it."
        raise UploadError(msg) from error
    try:
        yield _read_state(path)
    finally:
        lock.release()


def _read_state(path: Path) -> _State:
    if not path.is_file():
        return _State(path=path)
    try:
        kept = read_json(path)
        known = (kept["format"], kept["format_version"]) == (_FORMAT, _FORMAT_VERSION)
        if known and kept["artifact"] is None:
            return _State(path=path, began=True)
        if known and is_staged_id(kept["artifact"]):
            return _State(path=path, artifact=kept["artifact"], sent=dict(kept["sent"]))
        reason = "it is none of this s2d-zoo"
    except (SavedFileError, KeyError, TypeError, ValueError) as error:
        reason = str(error)
    _log.warning("%s is not used, and the upload begins anew: %s. See what you have staged.", path, reason)
    return _State(path=path)


def _reasons_against(contents: PackageContents) -> Iterator[str]:
    """Why the zoo would not take a package, besides what validation finds."""
    rdf = contents.rdf
    if rdf.get("type") != "model":
        yield f"it describes something of type {rdf.get('type')!r}, and only models can be uploaded"
        return
    own = own_config(rdf)
    if rdf.get("id") is not None and (own is None or LOCAL_ID in own):
        yield (
            f"its id {str(rdf['id'])!r} was not given by s2d-zoo, so that it seems to be in the zoo already; a new "
            "version goes through the zoo's web page, and if it is a new model, remove id from its description"
        )
    if not rdf.get("license"):
        yield "it has no licence, without which nobody may use it; write license, e.g. CC-BY-4.0"
    files = named_files(contents)
    remote = [file.source for file in files if is_remote(file.source)]
    if remote:
        yield (
            f"its description names files on the network ({remote[0]!r}); fetch them with s2d-zoo download PACKAGE "
            "--output FOLDER, and publish that folder"
        )
    odd = [file.name for file in files if not file.name.isprintable()]
    if odd:
        yield f"the name of a file has characters that cannot be shown ({odd[0]!r}); rename it"


def _notes(contents: PackageContents, names: Sequence[str]) -> Iterator[str]:
    rdf = contents.rdf
    if rdf.get("id") is not None:
        yield f"The id {rdf['id']} is not sent: the zoo gives one. It is kept in config.{_OWN}.{LOCAL_ID}."
    there = {path.relative_to(contents.folder).as_posix() for path in contents.folder.rglob("*") if path.is_file()}
    left_out = sorted(there - {*names, contents.rdf_name})
    if left_out:
        yield f"Not sent, since the description does not name them: {one_line(', '.join(left_out))}."
    people = [person for key in ("maintainers", "authors") for person in mappings(rdf.get(key))]
    if not any(person.get("github_user") for person in people):
        yield "No maintainer or author has a github_user: reviewers will ask whom they can write to."
    if limits := _stated_limits(rdf):
        yield f"Everybody will read of its limits: {limits}"


def _stated_limits(rdf: Mapping[str, Any]) -> str:
    """As the description states them, on one line; a model that does badly says so there."""
    found = value_at(rdf, "config", "bioimageio", "bias_risks_limitations", "limitations")
    return one_line(found) if isinstance(found, str) else ""


def _without_id(rdf: Mapping[str, Any]) -> dict[str, Any]:
    """A description without its id, which is kept under our own config."""
    description = {key: value for key, value in rdf.items() if key != "id"}
    own, id_ = own_config(rdf), rdf.get("id")
    if own is not None and id_ is not None:
        description["config"] = {**rdf["config"], _OWN: {**own, LOCAL_ID: str(id_)}}
    return description


def _as_json(value: Any) -> Any:  # noqa: ANN401 - whatever YAML can hold
    """What YAML can hold and JSON cannot, as bioimageio.spec writes it."""
    if isinstance(value, dict):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _copy(place: str | Path, path: Path, sha256: str | None) -> None:
    copy_checked(Path(place), path, sha256)


def _measured(path: Path, name: str) -> SentFile:
    return SentFile(name=name, size=path.stat().st_size, sha256=sha256_of(path))
