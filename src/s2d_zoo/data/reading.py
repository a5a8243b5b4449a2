"""What is said where an image file cannot be read."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL.Image import DecompressionBombError

from s2d_zoo.errors import AxesError, ImageFileError, UserInputError

#: what the libraries for images raise for files that are no image, cut off or damaged (each tried in the tests)
_DAMAGED: Final = (
    OSError,
    EOFError,
    ValueError,  # with tifffile's TiffFileError, zarr's errors and broken JSON
    LookupError,
    TypeError,
    RuntimeError,  # with imagecodecs' errors
    struct.error,
    zlib.error,
    DecompressionBombError,
)


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Say in plain words what a library complains about while a file is read.

    Raises:
        ImageFileError: if the file is damaged, cut off or of another kind, or does not fit into memory.
        AxesError: what was raised, with the file's name.
    """
    try:
        yield
    except AxesError as error:
        if location in str(error):
            raise
        msg = f"{location}: {error}"
        raise AxesError(msg) from error
    except UserInputError:
        raise
    except _DAMAGED as error:
        msg = (
            f"Cannot read {location}: expected an image file of the kind that its name says, found one that is "
            f"damaged, cut off or of another kind ({type(error).__name__}: {error}). Copy or export it again, and "
            "check that it opens in Fiji."
        )
        raise ImageFileError(msg) from error
    except MemoryError as error:
        msg = f"{location} does not fit into memory ({error}). Crop it, or work on it block by block as Zarr."
        raise ImageFileError(msg) from error


def check_there(path: Path, location: str) -> None:
    """Check that there is a file, or a store where ``location`` (as the user wrote it) names one.

    Raises:
        ImageFileError: if it is missing or empty, or a directory where a file is expected, or the other way round.
    """
    if not path.exists():
        msg = f"There is no file {path} (asked for as {location!r} in {Path.cwd()}). Check the name."
        raise ImageFileError(msg)
    is_store = path.suffix.lower() == ".zarr"
    if path.is_dir() != is_store:
        expected, found = ("a directory", "a file") if is_store else ("a file", "a directory")
        msg = f"{path} should be {expected}, but is {found}. Name one image."
        raise ImageFileError(msg)
    if not is_store and path.stat().st_size == 0:
        msg = f"{path} is empty (0 bytes), expected an image. Copy or export it again."
        raise ImageFileError(msg)
