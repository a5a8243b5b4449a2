"""Opening an ilastik project: an HDF5 file that may come from anybody, so nothing in it is taken for granted."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from s2d_zoo.errors import ImageFileError, ProjectFileError, S2DZooError
from s2d_zoo.rf_adapter.project_heaps import check_heaps, check_references

#: what h5py and the parsing of values raise for files that are cut off, damaged, or forged
_DAMAGED: Final = (OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError)
#: projects of thousands of images with thousands of trees have fewer
_MOST_OBJECTS: Final = 2_000_000
_MOST_LEVELS: Final = 32
_TYPES: Final = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)
#: descriptions, not images: names, matrices, axis tags
_MOST_BYTES: Final = 2**26
#: all texts of a dataset together: names of the features of images with a thousand channels are shorter
_MOST_TEXT: Final = 2**24
#: larger datasets must be stored in bytes that can hold them; deflate packs no tighter than this
_HARMLESS_BYTES: Final = 2**28
_TIGHTEST: Final = 1032
#: no count, size or colour is larger
_LARGEST: Final = 2.0**53
_MOST_DIGITS: Final = 18


@contextmanager
def open_project(path: Path) -> Iterator[h5py.File]:
    """Open a project for reading, once it is known that nothing in it leads elsewhere.

    Raises:
        ProjectFileError: if it is missing, no HDF5 file, cut off or damaged, also while it is being read, or too
            large for this machine's memory; or if it has links to other files or to itself, or datasets stored
            elsewhere.
    """
    try:
        _check_start(path)
        check_heaps(path)
        with h5py.File(path, "r") as project:
            _check_links(project, path)
            yield project
    except (ImageFileError, ProjectFileError) as error:  # names of things in the file may hold line breaks
        raise ProjectFileError(_in_one_line(error)) from error
    except S2DZooError:  # some of them are a ValueError, too
        raise
    except MemoryError as error:
        msg = (
            f"The ilastik project {path} holds more than fits into the memory of this machine ({_in_one_line(error)}). "
            "Work on a machine with more memory, or on a project with smaller images."
        )
        raise ProjectFileError(msg) from error
    except _DAMAGED as error:
        msg = (
            f"The ilastik project {path} is damaged or cut off ({type(error).__name__}: {_in_one_line(error)}). "
            "Check that it opens in ilastik, and copy it again."
        )
        raise ProjectFileError(msg) from error


def read_array(node: h5py.Group, name: str, *, most_bytes: int = _MOST_BYTES) -> np.ndarray[Any, Any]:
    """A dataset, read after a look at what it declares; ilastik's empty lists come as empty arrays.

    Raises:
        ProjectFileError: if it is missing, no dataset, or larger than such a thing can be.
    """
    found = node.get(name)
    where = f"{node.name}/{name} of {node.file.filename}"
    if not isinstance(found, h5py.Dataset):
        msg = f"Expected the dataset {where}, found {'a group' if found is not None else 'nothing'}. {_TRY}"
        raise ProjectFileError(msg)
    if read_attribute(found, "isEmpty") is True:
        return np.empty((0, *found.shape[1:]))
    if found.shape is None or found.id.get_type().get_class() not in _TYPES:
        holds = "nothing" if found.shape is None else found.dtype
        msg = f"{where} should hold numbers or texts, but holds {holds}. {_TRY}"
        raise ProjectFileError(msg)
    path = Path(node.file.filename)
    declared = math.prod(found.shape) * found.dtype.itemsize
    stored = min(found.id.get_storage_size(), path.stat().st_size)
    if declared > max(_HARMLESS_BYTES, stored * _TIGHTEST):
        msg = (
            f"{where} declares an array of shape {found.shape} and type {found.dtype}, {declared / 2**30:.1f} GiB, but "
            f"only {stored} bytes of it are stored: it is cut off or damaged. {_TRY}"
        )
        raise ProjectFileError(msg)
    if declared > most_bytes or (found.dtype.kind == "O" and check_references(path, found) > most_bytes):
        msg = f"{where} declares {found.shape} values of {found.dtype}, far more than belongs there. {_TRY}"
        raise ProjectFileError(msg)
    return np.asarray(found[()])


def read_attribute(node: h5py.Dataset, name: str) -> str | bool | None:
    """A text or a yes or no that hangs on a dataset; ``None`` where it is missing, or something else."""
    if name not in node.attrs:
        return None
    found = node.attrs.get_id(name)
    if found.shape != () or found.get_type().get_class() not in {h5py.h5t.STRING, h5py.h5t.ENUM}:
        return None
    value = node.attrs[name]
    return bool(value) if isinstance(value, bool | np.bool_) else as_text(value)


def read_group(node: h5py.Group, name: str) -> h5py.Group:
    """A group.

    Raises:
        ProjectFileError: if it is missing, or no group.
    """
    found = node.get(name)
    if not isinstance(found, h5py.Group):
        kind = "nothing" if found is None else "values"
        msg = f"Expected the group {node.name}/{name} of {node.file.filename}, found {kind}. {_TRY}"
        raise ProjectFileError(msg)
    return found


def read_whole_numbers(node: h5py.Group, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole numbers, in whichever type they are stored.

    Raises:
        ProjectFileError: if they are something else.
    """
    values = read_array(node, name)
    numbers = values.dtype.kind in "buif" and np.all(np.isfinite(values)) and np.all(np.abs(values) <= _LARGEST)
    if not numbers or np.any(values != np.floor(values)):
        found = f"one between, {values[values != np.floor(values)][0]:g}" if numbers else values.dtype
        msg = f"{node.name}/{name} of {node.file.filename} should hold whole numbers, found {found}. {_TRY}"
        raise ProjectFileError(msg)
    return values.astype(np.int64)


def sort_numbered(names: Iterable[str]) -> list[str]:
    """Names such as ``labels000`` in the order of their numbers, since ilastik may run out of digits."""
    return sorted(names, key=lambda name: (int("0" + "".join(filter(str.isdecimal, name))[:_MOST_DIGITS]), name))


def read_text(node: h5py.Group, name: str, default: str = "") -> str:
    """A text, or the default where there is none."""
    return as_text(read_array(node, name, most_bytes=_MOST_TEXT)[()]) if name in node else default


def read_texts(node: h5py.Group, name: str, *, most: int) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ProjectFileError: if there are more than ``most``.
    """
    found = node.get(name)
    if isinstance(found, h5py.Dataset) and math.prod(found.shape or ()) > most:
        where = f"{node.name}/{name} of {node.file.filename}"
        msg = f"{where} holds {math.prod(found.shape)} texts, but at most {most} belong there. {_TRY}"
        raise ProjectFileError(msg)
    return tuple(as_text(value) for value in read_array(node, name, most_bytes=_MOST_TEXT).ravel())


def as_text(value: Any) -> str:  # noqa: ANN401 - whatever h5py gives
    """What h5py gives for a text: bytes or str, alone or as an array. What cannot be printed becomes a space."""
    if isinstance(value, np.ndarray):
        value = value.item()
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def parse_axistags(text: str) -> str:
    """Letters of vigra's axis tags, e.g. ``"tyxc"``.

    Raises:
        ValueError, KeyError, TypeError: if it is something else.
    """
    return "".join(str(axis["key"]) for axis in json.loads(text)["axes"])


_TRY: Final = "Open the project in ilastik and save it again."


def _check_start(path: Path) -> None:
    """Look at the file before the HDF5 library does."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        msg = f"Expected an ilastik project at {path}, found {found}. Check the name; it ends with .ilp."
        raise ProjectFileError(msg)
    with path.open("rb") as file:
        start = file.read(8)
    if start != b"\x89HDF\r\n\x1a\n":
        msg = (
            f"{path} is not an ilastik project: expected an HDF5 file, found one that starts with {start!r}. "
            "Check the name; it ends with .ilp."
        )
        raise ProjectFileError(msg)


def _check_links(file: h5py.File, path: Path) -> None:
    """Look at every link once, without following one that leads elsewhere."""
    seen = {_address(file)}
    waiting = [(file["/"], 0)]
    count = 0
    while waiting:
        group, level = waiting.pop()
        for name in group:
            count += 1
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(link, h5py.HardLink):
                kind = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
                _refuse(path, f"the link {where} to {kind}")
            child = group[name]
            if isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
                _refuse(path, f"the dataset {where}, whose values are stored in other files")
            if isinstance(child, h5py.Group):
                if _address(child) in seen:
                    _refuse(path, f"the link {where} to a group that is elsewhere too")
                if level == _MOST_LEVELS:
                    _refuse(path, f"groups nested more than {_MOST_LEVELS} deep, at {where}")
                seen.add(_address(child))
                waiting.append((child, level + 1))
            if count > _MOST_OBJECTS:
                _refuse(path, f"more than {_MOST_OBJECTS} objects")


def _refuse(path: Path, what: str) -> None:
    msg = f"The ilastik project {path} was not opened: ilastik writes plain groups and datasets, but it has {what}."
    raise ProjectFileError(msg)


def _address(node: h5py.Group) -> bytes:
    return bytes(h5py.h5o.get_info(node.id).addr.to_bytes(8, "big"))


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
