"""A package, opened once and safely: zip or folder, its description, and the files that this names."""

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from bioimageio.spec.utils import read_yaml
from ruyaml.error import YAMLError

from s2d_zoo.errors import PackageError, UnsafePackageError, UserInputError

#: names under which bioimage.io looks for the description
_RDF_NAMES: Final = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
#: unpacked; the largest models of the zoo are far below
_MAX_BYTES: Final = 4 * 1024**3
_MAX_RDF_BYTES: Final = 4 * 1024**2
#: of the description, aliases followed
_MAX_ENTRIES: Final = 100_000
_MAX_DEPTH: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReference:
    """A file that the description names."""

    name: str
    sha256: str | None  #: as stated; None where the format has no place for it
    where: str  #: the key that names it


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageContents:
    """An opened package."""

    source: Path  #: what was opened: a zip or a folder
    folder: Path  #: where its files lie while it is open
    rdf_name: str
    rdf: Mapping[str, Any]  #: the description as it is written

    def references(self) -> tuple[FileReference, ...]:
        """Every file that the description names, in its order."""
        return tuple(_find_references(self.rdf))


@contextmanager
def open_package(path: Path) -> Iterator[PackageContents]:
    """Open a package; a zip is unpacked into a folder that goes away at the end.

    Raises:
        UserInputError: if there is nothing at the path.
        PackageError: if it is not a zip, is damaged, or has no readable description.
        UnsafePackageError: if it would write or read outside of its own folder, or is far too large.
    """
    if not path.exists():
        msg = f"There is no package at {path}. Give the path of a .zip file or of an unpacked package."
        raise UserInputError(msg)
    if path.is_dir():
        yield _read_folder(path, source=path)
        return
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        _unpack(path, Path(name))
        yield _read_folder(Path(name), source=path)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        msg = f"Expected a zip file at {path}, but it cannot be unpacked: {error}. Download or export it again."
        raise PackageError(msg) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    seen: set[str] = set()
    for member in members:
        # `zipfile` turns a backslash into a slash on Windows only, so the name is judged as both would read it.
        outside = is_outside(member.filename) or is_outside(member.orig_filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        if outside or link or member.filename in seen:
            reason = (
                "lies outside of the package" if outside else "is a link" if link else "is there twice: readers differ"
            )
            msg = f"{path} is not safe to open: {member.orig_filename!r} {reason}. Do not use this file."
            raise UnsafePackageError(msg)
        seen.add(member.filename)
    total = sum(member.file_size for member in members)
    if total > _MAX_BYTES:
        msg = (
            f"{path} is not safe to open: it unpacks to {total / 1024**3:.1f} GiB, expected at most "
            f"{_MAX_BYTES // 1024**3}. Unpack it yourself if you trust it, and give the folder."
        )
        raise UnsafePackageError(msg)


def is_outside(name: str) -> bool:
    """Whether a name, read the POSIX or the Windows way, is absolute or leads out of its folder."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    return bool(windows.drive or windows.root) or posix.is_absolute() or ".." in (*windows.parts, *posix.parts)


def _read_folder(folder: Path, *, source: Path) -> PackageContents:
    name = next((name for name in _RDF_NAMES if (folder / name).is_file()), None)
    if name is None:
        # A zip that was cut short can look whole: the end of a zip inside it (weights) is taken for its own.
        msg = (
            f"Expected {_RDF_NAMES[0]} at the top of {source}, found no description there. Is it a model package, and "
            "complete? Download or export it again."
        )
        raise PackageError(msg)
    path = folder / name
    if path.stat().st_size > _MAX_RDF_BYTES:
        msg = f"{name} of {source} has {path.stat().st_size} bytes; expected a description of at most {_MAX_RDF_BYTES}."
        raise UnsafePackageError(msg)
    try:
        rdf = read_yaml(path)
    except (YAMLError, ValueError, RecursionError) as error:  # a date that is none, brackets without end
        msg = f"Expected YAML in {name} of {source}, but it cannot be read: {error}."
        raise PackageError(msg) from error
    if not isinstance(rdf, dict):
        msg = f"Expected a mapping in {name} of {source}, found {type(rdf).__name__}."
        raise PackageError(msg)
    _check_extent(rdf, path)
    contents = PackageContents(
        source=source, folder=folder, rdf_name=name, rdf={str(key): value for key, value in rdf.items()}
    )
    for reference in contents.references():
        _check_inside(reference, contents)
    return contents


def _check_extent(rdf: object, path: Path) -> None:
    """Count the entries as a reader meets them: aliases make a short file endless.

    Raises:
        UnsafePackageError: if there are too many, or they lie too deep.
    """
    count = 0
    waiting: list[tuple[object, int]] = [(rdf, 0)]
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > _MAX_ENTRIES or depth > _MAX_DEPTH:
            msg = (
                f"{path.name} is not safe to read: expected at most {_MAX_ENTRIES} entries, {_MAX_DEPTH} deep, found more. "
                "Aliases in YAML can do that. Do not use this file."
            )
            raise UnsafePackageError(msg)
        if isinstance(value, dict):
            waiting += [(entry, depth + 1) for entry in value.values()]
        elif isinstance(value, list):
            waiting += [(entry, depth + 1) for entry in value]


def is_remote(name: str) -> bool:
    """Whether a file is named by its address on the network."""
    return "://" in name


def _check_inside(reference: FileReference, contents: PackageContents) -> None:
    if is_remote(reference.name) and not is_outside(reference.name.split("://", maxsplit=1)[1]):
        return
    folder = contents.folder.resolve()
    if is_outside(reference.name) or not (folder / reference.name).resolve().is_relative_to(folder):
        msg = (
            f"{contents.source} is not safe to open: {reference.where} of its description names {reference.name!r}, "
            "outside of the package. Do not use this file."
        )
        raise UnsafePackageError(msg)


def _find_references(rdf: Mapping[str, Any]) -> Iterator[FileReference]:
    yield from _find_sources({key: value for key, value in rdf.items() if key != "config"}, where="")
    hashes = _own_hashes(rdf)
    for key in ("documentation", "icon"):
        if isinstance(rdf.get(key), str) and len(rdf[key]) > 2:  # an icon may be a character
            yield FileReference(name=rdf[key], sha256=hashes.get(rdf[key]), where=key)
    covers = rdf.get("covers")
    for name in covers if isinstance(covers, list) else ():
        if isinstance(name, str):
            yield FileReference(name=name, sha256=hashes.get(name), where="covers")


def _find_sources(value: object, *, where: str) -> Iterator[FileReference]:
    """Every ``{source, sha256}``, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get("source"), str):
            sha256 = value.get("sha256")
            yield FileReference(
                name=value["source"], sha256=sha256 if isinstance(sha256, str) else None, where=where or "source"
            )
        for key, entry in value.items():
            yield from _find_sources(entry, where=f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _find_sources(entry, where=f"{where}.{index}")


def _own_hashes(rdf: Mapping[str, Any]) -> Mapping[str, str]:
    """Hashes of the files for which the format has none: ``config.s2d_zoo.files``, as our exporter writes it."""
    value: object = rdf
    for key in ("config", "s2d_zoo", "files"):
        value = value.get(key) if isinstance(value, dict) else None
    return {str(name): str(sha256) for name, sha256 in value.items()} if isinstance(value, dict) else {}
