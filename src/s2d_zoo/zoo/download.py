"""A model, fetched into the cache as a folder package: by id of the zoo, DOI or address, or from a zip or folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import PackageContents, is_remote, open_package
from s2d_zoo.errors import ConfigError, DownloadError, PackageError, UserInputError
from s2d_zoo.zoo.catalog import Catalog, read_catalog
from s2d_zoo.zoo.collection import bundled_models
from s2d_zoo.zoo.downloads import (
    DESCRIPTION,
    PACKAGE,
    DownloadedModel,
    find_downloaded,
    models_dir,
    partial_dir,
    read_record,
    write_record,
)
from s2d_zoo.zoo.fetching import fetch_file
from s2d_zoo.zoo.lookup import Wanted, at_address, at_path, check_name, look_up, plain_name
from s2d_zoo.zoo.package_files import collect, copy_checked

#: as `open_package` takes it
_MAX_DESCRIPTION_BYTES: Final = 1024**2
#: of all files of a model together; the largest of the zoo have some gigabytes
_MAX_BYTES: Final = 16 * 1024**3


def download_model(model: str | Path, *, offline: bool = False, progress: bool = False) -> DownloadedModel:
    """Fetch a model into the cache; one that is there and has not changed is not fetched again.

    Args:
        model: an id of the zoo (``affable-shark``, ``affable-shark/v0``), a DOI, the address of a description (YAML) or
            of a zip, a local zip or folder, or the id of a bundled model.
        offline: take what is in the cache; no network is used.
        progress: whether bars are drawn on stderr.

    Returns:
        The model, in a folder that `open_package` opens. Every SHA-256 that the description states has been checked.

    Raises:
        UserInputError: if this can be no model, or the zoo does not have this version.
        DownloadError: if something cannot be fetched, is not the file that was published, or is not in the cache.
        PackageError: if the description cannot be read, or a local file is not the one it states.
        UnsafePackageError: if the description leads out of the package.
        OSError: if the cache cannot be written.
    """
    name = plain_name(str(model))
    bundled = next((entry.path for entry in bundled_models() if entry.id == name), None)
    path = bundled or Path(model)
    if bundled or (not is_remote(str(model)) and path.exists()):
        return _take_local(path, offline=offline, progress=progress)
    if offline:
        return _kept(name)
    if is_remote(name):
        return _download(at_address(name), progress=progress)
    check_name(name)
    return _download_published(name, progress=progress)


def copy_package(model: DownloadedModel, folder: Path, *, overwrite: bool = False) -> Path:
    """Copy a downloaded package to where somebody wants it.

    Raises:
        ConfigError: if something is there, unless ``overwrite``.
        OSError: if it cannot be written.
    """
    check_free(folder, overwrite=overwrite)
    with atomic_write(folder, overwrite=overwrite) as written:
        shutil.copytree(model.folder, written)
    return folder


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse to replace what is there, unless that is wanted.

    Raises:
        ConfigError: if something is there, unless ``overwrite``.
    """
    if folder.exists() and not overwrite:
        msg = f"{folder} exists already. Give another --output, or allow it with --overwrite."
        raise ConfigError(msg)


def _kept(name: str) -> DownloadedModel:
    """The model in the cache that has a name, whole."""
    model = find_downloaded(name)
    if model is None:
        msg = f"{name!r} is not in the cache ({cache_dir()}). Call s2d-zoo download without --offline once."
        raise DownloadError(msg)
    damaged = model.damaged()
    if damaged:
        msg = f"Files of {name!r} in {model.folder} are damaged: {', '.join(damaged)}. Download it again, online."
        raise DownloadError(msg)
    return model


def _download_published(name: str, *, progress: bool) -> DownloadedModel:
    """Fetch by id or DOI. The list in the cache may be out of date: after a failure, a new one is asked."""
    started = datetime.now(UTC)
    catalog, wanted = _catalog(progress=progress), None
    try:
        wanted = look_up(name, catalog)
        return _download(wanted, progress=progress)
    except (DownloadError, UserInputError) as error:
        if catalog.fetched_at < started:
            catalog = _catalog(refresh=True, progress=progress)
        anew = look_up(name, catalog)  # raises what it raised before, unless that has changed
        if anew == wanted:
            similar = catalog.similar(name) if anew.sha256 is None else ()
            hint = f" Did you mean {', '.join(similar)}?" if similar else ""
            msg = f"{error}{hint}"
            raise DownloadError(msg) from error
    return _download(anew, progress=progress)


def _catalog(*, refresh: bool = False, progress: bool) -> Catalog:
    """The list of the zoo's models; without one, a model with a known id may still be there."""
    try:
        return read_catalog(refresh=refresh, progress=progress)
    except DownloadError:  # the log tells why
        return Catalog(fetched_at=datetime.now(UTC))


def _download(wanted: Wanted, *, progress: bool) -> DownloadedModel:
    kept = read_record(models_dir() / wanted.key)
    if kept is not None and kept.description_sha256 == wanted.sha256 and not kept.damaged():
        return kept
    is_description = urlsplit(wanted.source).path.lower().endswith((".yaml", ".yml"))
    limit = _MAX_DESCRIPTION_BYTES if is_description else _MAX_BYTES
    with _staging(wanted) as staging:
        fetched = staging / (DESCRIPTION if is_description else "package.zip")
        fetch_file(
            wanted.source,
            fetched,
            parts=staging / "parts",
            max_bytes=limit,
            sha256=wanted.sha256,
            progress=progress,
        )
        if not is_description:
            with open_package(fetched) as contents:
                return _assemble(contents, contents.folder, staging, wanted, progress=progress)
        if kept is not None and kept.description_sha256 == sha256_of(fetched) and not kept.damaged():
            return kept
        with open_package(staging) as contents:
            return _assemble(contents, wanted.source, staging, wanted, progress=progress)


def _take_local(path: Path, *, offline: bool, progress: bool) -> DownloadedModel:
    wanted = at_path(path)
    with open_package(path) as contents, _staging(wanted) as staging:
        return _assemble(contents, contents.folder, staging, wanted, offline=offline, progress=progress)


@contextmanager
def _staging(wanted: Wanted) -> Iterator[Path]:
    """A folder for what is fetched; what came stays there after an interruption, for the next call."""
    folder = partial_dir() / wanted.key
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{wanted.key}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"{wanted.source} is being fetched by another s2d-zoo right now. Wait for it, then call this again."
        raise DownloadError(msg) from error
    try:
        yield folder
    except PackageError:  # nothing to go on with
        shutil.rmtree(folder)
        raise
    else:
        shutil.rmtree(folder)
    finally:
        lock.release()


def _assemble(
    contents: PackageContents,
    base: str | Path,
    staging: Path,
    wanted: Wanted,
    *,
    offline: bool = False,
    progress: bool,
) -> DownloadedModel:
    """Bring all files together, then put them into their place in one step."""
    kind = contents.rdf.get("type")
    if kind != "model":
        msg = f"Expected the description of a model at {wanted.source}, found one of type {kind!r}."
        raise PackageError(msg)
    left = _MAX_BYTES

    def bring(place: str | Path, path: Path, sha256: str | None) -> None:
        nonlocal left
        if isinstance(place, Path):
            copy_checked(place, path, sha256)
        elif offline:
            msg = f"{wanted.source} names {place}, which would have to be fetched. Call this without --offline."
            raise DownloadError(msg)
        else:
            fetch_file(place, path, parts=staging / "parts", max_bytes=left, sha256=sha256, progress=progress)
        left -= path.stat().st_size

    files = collect(contents, base, staging / PACKAGE, bring)
    model = DownloadedModel(
        folder=models_dir() / wanted.key / PACKAGE,
        source=wanted.source,
        id=wanted.id,
        version=wanted.version,
        names=wanted.names,
        fetched_at=datetime.now(UTC),
        description_sha256=sha256_of(contents.folder / contents.rdf_name),
        files={name: sha256_of(staging / PACKAGE / name) for name in files},
    )
    with atomic_write(models_dir() / wanted.key) as written:
        for name in files:
            path = written / PACKAGE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (staging / PACKAGE / name).replace(path)
        with open_package(written / PACKAGE):  # what is handed out can be opened
            write_record(model, written)
    return model
