"""A look at the texts of an HDF5 file before the HDF5 library reads them.

Texts lie in "global heaps": a header, then objects one after another, each with its length. HDF5 2.0 (and those
before it) hangs or crashes where these lengths are damaged, as found by flipping bytes, so that they are checked first.

Source: the HDF5 File Format Specification, III.E (Global Heap).
"""

import mmap
import struct
from pathlib import Path
from typing import Final

import h5py

from s2d_zoo.errors import ProjectFileError

_SIGNATURE: Final = b"GCOL\x01\0\0\0"
_HEADER: Final = struct.Struct("<8sQ")
#: number (0: free space), references, padding, length
_OBJECT: Final = struct.Struct("<HHIQ")
#: a text: length, place of its heap, number of its object
_REFERENCE: Final = struct.Struct("<IQI")
_ALIGNMENT: Final = 8


def check_heaps(path: Path) -> None:
    """Check that the objects of every heap fill it.

    Raises:
        ProjectFileError: if the file is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_SIGNATURE)
        while place >= 0:
            if not _is_sound(content, place):
                msg = f"The ilastik project {path} is damaged: the texts at byte {place} are cut off. Copy it again."
                raise ProjectFileError(msg)
            place = content.find(_SIGNATURE, place + 1)


def check_references(path: Path, dataset: h5py.Dataset) -> None:
    """Check that the texts of a dataset are as long as the objects that hold them.

    Raises:
        ProjectFileError: if one points elsewhere.
    """
    start = dataset.id.get_offset()
    if start is None or not dataset.size:  # kept in the description itself, or nowhere
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stop = start + dataset.size * _REFERENCE.size
        raw = content[start:stop]
        if len(raw) < stop - start or any(not _points_to_text(content, *one) for one in _REFERENCE.iter_unpack(raw)):
            msg = f"The ilastik project {path} is damaged: {dataset.name} points to texts that are not there."
            raise ProjectFileError(msg)


def _is_sound(content: mmap.mmap, place: int) -> bool:
    return bool(_lengths(content, place))


def _points_to_text(content: mmap.mmap, length: int, place: int, number: int) -> bool:
    if length == 0:
        return True
    if content[place : place + len(_SIGNATURE)] != _SIGNATURE:
        return False
    return length <= _lengths(content, place).get(number, 0)


def _lengths(content: mmap.mmap, place: int) -> dict[int, int]:
    """Length of each object of a heap by its number; none where the heap is damaged."""
    if place + _HEADER.size > len(content):
        return {}
    _, size = _HEADER.unpack_from(content, place)
    end = place + size
    if end > len(content):
        return {}
    lengths = {0: 0}
    place += _HEADER.size
    while place + _OBJECT.size <= end:
        number, _, _, length = _OBJECT.unpack_from(content, place)
        if number == 0:  # free space, up to the end
            return lengths if place + length == end else {}
        if number in lengths:
            return {}
        lengths[number] = length
        place += _OBJECT.size + -(-length // _ALIGNMENT) * _ALIGNMENT
    return lengths if place <= end else {}
