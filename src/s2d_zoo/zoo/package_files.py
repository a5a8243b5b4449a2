"""The files of a package: which ones its description names, and how they come into one folder."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bioimageio.spec.utils import write_yaml

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import PackageContents, is_outside, is_remote
from s2d_zoo.data.written_description import value_at
from s2d_zoo.errors import PackageError, UnsafePackageError
from s2d_zoo.zoo.downloads import DESCRIPTION

_DESCRIPTIONS: Final = frozenset({DESCRIPTION, "bioimageio.yaml", "model.yaml"})
#: of format 0.4: lists of names
_OLD_LISTS: Final = ("test_inputs", "test_outputs", "sample_inputs", "sample_outputs")
#: what a description names besides its own files: the data that the model was trained on
_OTHERS: Final = "training_data"
#: the largest models of the zoo have some tens
_MAX_FILES: Final = 1_000

#: brings the file at a place (an address or a path) to a path: (place, path, sha256 or None)
Bring = Callable[[str | Path, Path, str | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file that a description names."""

    source: str  #: a name or an address
    texts: tuple[str, ...]  #: where it stands within more, that: conda:environment.yaml, unet.py:UNet2d
    name: str  #: in the folder of the package
    sha256: str | None  #: as stated


def named_files(contents: PackageContents) -> tuple[NamedFile, ...]:
    """Every file of a package, once, in the order of its description (formats 0.4 and 0.5).

    Raises:
        PackageError: if a file is said to have two SHA-256.
        UnsafePackageError: if a name leads out of the package, two names are one file on some system, a file would
            take the place of the description, or there are too many.
    """
    texts: dict[str, list[str]] = {}
    stated: dict[str, str] = {}
    for text, named, sha256 in _find(contents):
        source = named if is_remote(named) else str(PurePosixPath(named))  # ./unet.py and unet.py are one file
        texts.setdefault(source, []).append(text)
        if sha256 and stated.setdefault(source, sha256).lower() != sha256.lower():
            msg = f"The description of {contents.source} states two SHA-256 of {source}: {stated[source]} and {sha256}."
            raise PackageError(msg)
    if len(texts) > _MAX_FILES:
        msg = f"{contents.source} is not safe to fetch: it names {len(texts)} files, expected at most {_MAX_FILES}."
        raise UnsafePackageError(msg)
    names: dict[str, str] = {}
    for source in texts:
        names[source] = _local_name(source, set(names.values()), contents)
    _check_names(tuple(names.values()), contents)
    return tuple(
        NamedFile(source=source, texts=tuple(texts[source]), name=names[source], sha256=stated.get(source))
        for source in texts
    )


def collect(contents: PackageContents, base: str | Path, folder: Path, bring: Bring) -> tuple[str, ...]:
    """Bring every file of a package into a folder, and write its description beside them.

    The description is copied as it is; only where it names addresses, these become names of files.

    Args:
        contents: the package; only its description has to be there.
        base: the folder, or the address of the description, that names are relative to.
        folder: where all goes.
        bring: fetches or copies one file.

    Returns:
        The names of all files in the folder that belong to the package, the description first.

    Raises:
        PackageError: as `named_files`; or if a file is not there, or not the one stated.
    """
    files = named_files(contents)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        bring(file.source if is_remote(file.source) else _beside(base, file.source), path, file.sha256)
    renamed = {
        text: text.replace(file.source, file.name) for file in files if is_remote(file.source) for text in file.texts
    }
    if renamed:
        write_yaml(_renamed(dict(contents.rdf), renamed), folder / DESCRIPTION)
    else:
        shutil.copyfile(contents.folder / contents.rdf_name, folder / DESCRIPTION)
    return (DESCRIPTION, *(file.name for file in files))


def copy_checked(place: Path, path: Path, sha256: str | None) -> None:
    """Copy a file of a local package.

    Raises:
        PackageError: if it is not there, or has another SHA-256 than stated.
    """
    if not place.is_file():
        msg = f"{place} is named by the description, but is not there. Get a complete package."
        raise PackageError(msg)
    shutil.copyfile(place, path)
    found = sha256_of(path)
    if sha256 and found != sha256.lower():
        msg = f"{place} is not the file of the description: expected SHA-256 {sha256}, found {found}. It is not used."
        raise PackageError(msg)


def _find(contents: PackageContents) -> Iterator[tuple[str, str, str | None]]:
    """(text, file in it, SHA-256) for every mention of a file."""
    for reference in contents.references():
        if not reference.where.startswith(_OTHERS):
            yield reference.name, reference.name, reference.sha256
    rdf = contents.rdf
    for names in (*(rdf.get(key) for key in _OLD_LISTS), value_at(rdf, "attachments", "files")):
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str):
                yield name, name, None
    weights = rdf.get("weights")
    for entry in weights.values() if isinstance(weights, dict) else ():
        architecture, sha256 = value_at(entry, "architecture"), value_at(entry, "architecture_sha256")
        if isinstance(architecture, str) and ":" in architecture:  # without, it is the name of something installed
            yield architecture, architecture.rpartition(":")[0], sha256 if isinstance(sha256, str) else None
        dependencies = value_at(entry, "dependencies")
        if isinstance(dependencies, str) and ":" in dependencies:
            yield dependencies, dependencies.partition(":")[2], None


def _local_name(source: str, taken: set[str], contents: PackageContents) -> str:
    name = unquote(urlsplit(source).path.rpartition("/")[2]) if is_remote(source) else source
    is_odd = is_remote(source) and (not source.lower().startswith(("http://", "https://")) or re.search(r"[/\\]", name))
    if not PurePosixPath(name).parts or is_outside(name) or is_odd:
        msg = (
            f"{contents.source} is not safe to fetch: its description names {source!r}, which is no file of a package. "
            "Do not use it."
        )
        raise UnsafePackageError(msg)
    path, number = PurePosixPath(name), 2
    while is_remote(source) and name in taken:
        name = f"{path.stem}_{number}{path.suffix}"
        number += 1
    return name


def _check_names(names: Sequence[str], contents: PackageContents) -> None:
    folded = {name.casefold() for name in names}
    if len(folded) < len(names) or folded & _DESCRIPTIONS:
        msg = (
            f"{contents.source} is not safe to fetch: two of its files would have one name, or one of them that of the "
            f"description: {', '.join(sorted(names))}. Do not use it."
        )
        raise UnsafePackageError(msg)


def _beside(base: str | Path, name: str) -> str | Path:
    """The place of a file that lies beside the description."""
    if isinstance(base, Path):
        path = base / name
        if not path.resolve().is_relative_to(base.resolve()):
            msg = f"{base} is not safe to open: {name!r} leads out of it. Do not use it."
            raise UnsafePackageError(msg)
        return path
    parts = urlsplit(base)  # the query tells the version: it holds for every file
    path_of_folder = parts.path.rpartition("/")[0]
    return urlunsplit((parts.scheme, parts.netloc, f"{path_of_folder}/{quote(name)}", parts.query, ""))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - whatever YAML can hold
    """A copy of (a part of) a description with other names of files; ``config`` and training data stay."""
    if isinstance(value, dict):
        return {key: entry if key in {"config", _OTHERS} else _renamed(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry, names) for entry in value]
    return names.get(value, value) if isinstance(value, str) else value
