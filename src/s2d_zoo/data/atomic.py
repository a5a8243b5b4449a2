"""Files that are there whole, or not at all: written beside their target, then moved into place."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2d_zoo.errors import SavedFileError


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a path to write a file or a directory to; move what was written there to ``path`` at the end.

    The path given has the name of the target and lies in a temporary directory beside it, so that the last step
    is a rename. If the body raises, nothing is left behind and the old file stays. A run that is killed leaves the
    old file or none (and a hidden directory ``.NAME.*`` that can be deleted). A missing parent directory is made.

    Args:
        path: the file or directory to create.
        overwrite: whether one that is there is replaced.

    Yields:
        Where to write. Nothing is there yet.

    Raises:
        FileExistsError: if the target exists and ``overwrite`` is false.
        OSError: if it cannot be written (disk full, no permission), or the body wrote nothing.
    """
    path = Path(path)
    _refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        written = workplace / path.name
        yield written
        _refuse_existing(path, overwrite=overwrite)
        if written.is_file():  # some libraries write files that nobody else may read
            written.chmod(0o666 & ~_umask())
        if path.is_dir() and not path.is_symlink() and written.is_dir():
            _swap_directories(written, path, aside=workplace / "old")
        else:
            written.replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def write_json(path: Path, obj: Any) -> None:  # noqa: ANN401 (whatever JSON can hold)
    """Write JSON in one fixed form: sorted keys, two spaces, a newline at the end, UTF-8.

    Raises:
        OSError: if it cannot be written.
        ValueError: for NaN or infinity, which JSON does not have.
    """
    text = json.dumps(obj, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as written:
        written.write_text(text + "\n", encoding="utf-8", newline="\n")


def _umask() -> int:
    """What new files of this process may not be; there is no way to read it but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        msg = f"{path} exists already and would be overwritten. Give another name, or allow it with overwrite=True."
        raise FileExistsError(msg)


def _swap_directories(written: Path, path: Path, *, aside: Path) -> None:
    # a directory that is not empty cannot be replaced by a rename, so the old one steps aside first
    path.replace(aside)
    try:
        written.replace(path)
    except OSError:
        aside.replace(path)
        raise


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever was written
    """Read a JSON file of a run.

    Raises:
        SavedFileError: if it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is damaged: expected JSON, but {error}. Remove it (or its folder) to begin anew."
        raise SavedFileError(msg) from error
