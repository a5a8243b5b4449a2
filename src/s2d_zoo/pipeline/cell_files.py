"""Cells of a long measurement: each is a file of its own, and is not run again as long as what it was made from stays.

A cell's *facts* are everything that decides its result, as plain JSON: settings, versions, hashes.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from filelock import FileLock, Timeout

from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.errors import ConfigError, SavedFileError

_FACTS: Final = "facts.json"


def hash_array(array: xr.DataArray) -> str:
    """SHA-256 over number type, shape and values, however the file packs them."""
    values = np.ascontiguousarray(array.values)
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    digest.update(values.data)
    return digest.hexdigest()


def hash_arrays(arrays: Iterable[xr.DataArray]) -> str:
    """SHA-256 over the hashes of several arrays, in this order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(hash_array(array).encode())
    return digest.hexdigest()


def read_finished(
    path: Path, facts: dict[str, Any], *, form: str, version: int, what: str, overwrite: bool = False
) -> dict[str, Any] | None:
    """The contents of a finished cell; None where it is to be run.

    Args:
        path: of the cell.
        facts: of now; those of the cell stand in its file as ``facts``.
        form: the ``format`` that the file must state.
        version: its ``format_version``: another one means that cells are computed otherwise.
        what: it is a cell of, in words.
        overwrite: run it again if it was made from something else.

    Raises:
        ConfigError: if it was made from something else, and is not to be overwritten; says from what.
        SavedFileError: if the file is damaged, or no such cell.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != form:
        msg = f"{path} is no cell of {what}. Remove it, or give another --output."
        raise SavedFileError(msg)
    different = differing(facts, found.get("facts"))
    if found.get("format_version") != version:
        different = ["version of the format", *different]
    if different and overwrite:
        return None
    if different:
        msg = (
            f"{path} was made with other {', '.join(different)}. Give the same files and options to go on, another "
            "--output to begin elsewhere, or --overwrite to run such cells again."
        )
        raise ConfigError(msg)
    return found


@contextmanager
def told_if_damaged(path: Path) -> Iterator[None]:
    """While a cell that was read is taken apart: what is missing in it, or is something else, is told with its file.

    Raises:
        SavedFileError: in place of what went wrong.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} is damaged ({type(error).__name__}: {error}). Remove it to run this cell again."
        raise SavedFileError(msg) from error


def differing(now: object, before: object) -> list[str]:
    """Names of the facts that differ, sorted, as ``settings.training.steps``."""
    ours, theirs = dict(_flat(now)), dict(_flat(before))
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))


def checkpoint_folder(folder: Path, facts: dict[str, Any]) -> Path:
    """The folder for the checkpoints of a cell, emptied if they are of other files, settings or versions.

    Raises:
        ConfigError: if it was not made by this function.
    """
    noted = folder / _FACTS
    found = list(folder.iterdir()) if folder.exists() else []
    if noted not in found and not all(path.name.startswith(".") for path in found):  # hidden: an interrupted write
        msg = f"{folder} is in the way: it was not made by this command. Give another --output."
        raise ConfigError(msg)
    if noted in found and read_json(noted) != facts:
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            elif path != noted:  # which goes last: until then the folder is known to be this function's
                path.unlink()
    write_json(noted, facts)
    return folder


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While one process works in a folder, which is made if need be, others are refused.

    Raises:
        ConfigError: if another one is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        msg = f"Another process is at work in {folder}. Wait for it, or give another --output."
        raise ConfigError(msg) from None
    try:
        yield
    finally:
        lock.release()


def _flat(facts: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Single values with their names."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            yield from _flat(value, f"{name}.{key}".lstrip("."))
    else:
        yield name, facts
