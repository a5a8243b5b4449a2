"""A package, opened once and safely: zip or folder, its description, and the files that this names."""

import errno
import stat
import tempfile
import unicodedata
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from bioimageio.spec.utils import read_yaml
from ruyaml import YAML
from ruyaml.nodes import MappingNode, Node, SequenceNode

from s2d_zoo.errors import PackageError, UnsafePackageError, UserInputError

#: names under which bioimage.io looks for the description
_RDF_NAMES: Final = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
#: unpacked; the largest models of the zoo are far below
_MAX_BYTES: Final = 4 * 1024**3
#: how often larger than the zip, where that is more than some megabytes; weights hardly shrink, zeros do
_MAX_RATIO: Final = 100
_FREE_BYTES: Final = 64 * 1024**2
#: a model with all its files has some tens
_MAX_MEMBERS: Final = 10_000
#: those of the zoo have some thousands; reading one of this size takes seconds
_MAX_RDF_BYTES: Final = 1024**2
#: of the description, keys and values, aliases followed
_MAX_ENTRIES: Final = 100_000
_MAX_DEPTH: Final = 50
#: bytes of a part of a path, on every common file system
_LONGEST_NAME: Final = 255
#: Windows has no quotas
_NO_SPACE: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


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
        if len(path.parts) <= 2 and not path.is_absolute() and not path.suffix:  # with a version there are two
            msg += f" If this is the id of a model, s2d-zoo download {path} --output FOLDER makes it a folder."
        raise UserInputError(msg)
    if path.is_dir():
        yield _read_folder(path, source=path)
        return
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        _unpack(path, Path(name))
        yield _read_folder(Path(name), source=path)


def _unpack(path: Path, folder: Path) -> None:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, path)
                archive.extractall(folder)
        except UnsafePackageError:
            raise
        except Exception as error:
            # On other content `zipfile`, the decompressors, the decoder of names and the file system raise what they
            # like. Only a full disk is not the fault of the package.
            if isinstance(error, OSError) and error.errno in _NO_SPACE:
                raise
            msg = f"Expected a zip file at {path}, but it cannot be unpacked: {error}. Download or export it again."
            raise PackageError(msg) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        msg = f"{path} is not safe to open: it holds {len(members)} files, expected at most {_MAX_MEMBERS}."
        raise UnsafePackageError(msg)
    files = {_folded(member.filename) for member in members if not member.is_dir()}
    seen: set[str] = set()
    for member in members:
        reason = _reason_against(member, files, seen)
        if reason is not None:
            msg = f"{path} is not safe to open: {member.orig_filename!r} {reason}. Do not use this file."
            raise UnsafePackageError(msg)
        seen.add(_folded(member.filename))
    total = sum(member.file_size for member in members)
    if total > _MAX_BYTES:
        msg = (
            f"{path} is not safe to open: it unpacks to {total / 1024**3:.1f} GiB, expected at most "
            f"{_MAX_BYTES // 1024**3}. Its largest file is {_largest(members)}. Unpack it yourself if you trust it, "
            "and give the folder."
        )
        raise UnsafePackageError(msg)
    if total > max(_FREE_BYTES, _MAX_RATIO * path.stat().st_size):
        msg = (
            f"{path} is not safe to open: it unpacks to {total / path.stat().st_size:.0f} times its size, expected at "
            f"most {_MAX_RATIO} times. Its largest file is {_largest(members)}. Do not use this file."
        )
        raise UnsafePackageError(msg)


def _largest(members: Iterable[zipfile.ZipInfo]) -> str:
    return max(members, key=lambda member: member.file_size).filename


def _reason_against(member: zipfile.ZipInfo, files: Collection[str], seen: Collection[str]) -> str | None:
    """Why one member must not be unpacked beside the files of the archive, after those that were seen."""
    if _is_impossible(member.filename):
        return "has a name that is too long"
    # `zipfile` turns a backslash into a slash on Windows only, so the name is judged as both would read it.
    if is_outside(member.filename) or is_outside(member.orig_filename):
        return "lies outside of the package"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    name = _folded(member.filename)
    if name in seen:
        return "is there twice: readers differ"
    if any(str(parent) in files for parent in PurePosixPath(name).parents):
        return "lies in a folder that is also a file: readers differ"
    return None


def _folded(name: str) -> str:
    """What is the same for names that are one file on some system: macOS and Windows ignore case, macOS composes."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name)).casefold())


def is_outside(name: str) -> bool:
    """Whether a name, read the POSIX or the Windows way, is absolute, leads out of its folder, or cannot be one."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    leads_out = ".." in (*windows.parts, *posix.parts)
    return bool(windows.drive or windows.root) or posix.is_absolute() or leads_out or _is_impossible(name)


def _is_impossible(name: str) -> bool:
    """Whether file systems refuse a name, for which Python raises where it is asked whether the file is there."""
    return "\0" in name or any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in PurePosixPath(name).parts)


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
        rdf = _read_description(path)
    except UnsafePackageError:
        raise
    except Exception as error:  # the parser raises what it likes, such as KeyError for `!!bool foo`
        msg = f"Expected YAML in {name} of {source}, but it cannot be read: {type(error).__name__}: {error}."
        raise PackageError(msg) from error
    if not isinstance(rdf, dict):
        msg = f"Expected a mapping in {name} of {source}, found {type(rdf).__name__}."
        raise PackageError(msg)
    contents = PackageContents(
        source=source, folder=folder, rdf_name=name, rdf={str(key): value for key, value in rdf.items()}
    )
    for reference in contents.references():
        _check_inside(reference, contents)
    return contents


def _read_description(path: Path) -> object:
    """What bioimageio.spec reads, once it is known that this comes to an end.

    Raises:
        UnsafePackageError: if it does not.
        Exception: of many kinds, if it is no YAML.
    """
    text = path.read_text(encoding="utf-8")
    with warnings.catch_warnings():  # an anchor used for two things is a warning
        warnings.simplefilter("ignore")
        _check_extent(YAML(typ="safe").compose(text), path)
        rdf: object = read_yaml(text)
    return rdf


def _check_extent(root: Node | None, path: Path) -> None:
    """Count keys and values as a reader meets them, before they are made: aliases make a short file endless.

    A merge key (``<<``) copies what it names while it is read, so it is too late to look at the result.

    Raises:
        UnsafePackageError: if there are too many, or they lie too deep.
    """
    count = 0
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > _MAX_ENTRIES or depth > _MAX_DEPTH:
            msg = (
                f"{path.name} is not safe to read: expected at most {_MAX_ENTRIES} entries, {_MAX_DEPTH} deep, found "
                "more. Aliases in YAML can do that. Do not use this file."
            )
            raise UnsafePackageError(msg)
        if isinstance(node, MappingNode):
            waiting += [(entry, depth + 1) for pair in node.value for entry in pair]
        elif isinstance(node, SequenceNode):
            waiting += [(entry, depth + 1) for entry in node.value]


def is_remote(name: str) -> bool:
    """Whether a file is named by its address on the network."""
    return "://" in name


def _check_inside(reference: FileReference, contents: PackageContents) -> None:
    scheme, _, address = reference.name.partition("://")
    if is_remote(reference.name) and scheme.lower() in {"http", "https"} and not is_outside(address):
        return
    folder = contents.folder.resolve()
    path = folder / reference.name
    try:
        path.is_file()  # asks the file system whether this can be a name at all
        inside = path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{reference.where} in the description of {contents.source} is no name of a file: {reference.name[:80]!r}"
        raise PackageError(msg) from error
    if is_outside(reference.name) or not inside:
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
