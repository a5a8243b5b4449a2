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


def check_references(path: Path, dataset: h5py.Dataset) -> int:
    """Check that the texts of a dataset are as long as the objects that hold them.

    Returns:
        How long they are together, in bytes. Any number of them may point to one object.

    Raises:
        ProjectFileError: if one points elsewhere, or they are stored as ilastik never does, where it cannot be seen.
    """
    stored = dataset.id.get_create_plist()
    if stored.get_layout() != h5py.h5d.CONTIGUOUS or stored.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        msg = (
            f"The ilastik project {path} was not opened: the texts of {dataset.name} are stored in chunks or by a fill "
            "value, as ilastik does not. Open the project in ilastik and save it again."
        )
        raise ProjectFileError(msg)
    start = dataset.id.get_offset()
    if start is None or not dataset.size:  # nothing was ever written: all are empty
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stop = start + dataset.size * _REFERENCE.size
        raw = content[start:stop]
        heaps: dict[int, dict[int, int]] = {}
        references = list(_REFERENCE.iter_unpack(raw))
        if len(raw) < stop - start or not all(_points_to_text(content, heaps, *one) for one in references):
            msg = f"The ilastik project {path} is damaged: {dataset.name} points to texts that are not there."
            raise ProjectFileError(msg)
        return sum(length for length, _, _ in references)


def _is_sound(content: mmap.mmap, place: int) -> bool:
    return bool(_lengths(content, place))


def _points_to_text(content: mmap.mmap, heaps: dict[int, dict[int, int]], length: int, place: int, number: int) -> bool:
    """Whether there is such a text; heaps that were looked at are remembered."""
    if length == 0:
        return True
    if content[place : place + len(_SIGNATURE)] != _SIGNATURE:
        return False
    if place not in heaps:
        heaps[place] = _lengths(content, place)
    return length <= heaps[place].get(number, 0)


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
