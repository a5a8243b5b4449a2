"""A file of torch (TorchScript or a state dict: a zip), looked at before torch loads it.

Torch believes what such a file declares. In TorchScript, a tensor may claim more values than the file holds: then torch
takes what lies behind them in memory for weights, or crashes. And values may be compressed, so that a short file fills
the memory. Here the list of tensors is read as text, one instruction after another; nothing is loaded or run.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

#: bytes of one value, by the name that torch gives to what holds them
_ITEM_BYTES: Final[Mapping[str, int]] = {
    "torch ComplexDoubleStorage": 16,
    "torch ComplexFloatStorage": 8,
    **dict.fromkeys(("torch DoubleStorage", "torch LongStorage"), 8),
    **dict.fromkeys(("torch FloatStorage", "torch IntStorage", "torch QInt32Storage"), 4),
    **dict.fromkeys(("torch HalfStorage", "torch BFloat16Storage", "torch ShortStorage"), 2),
    **dict.fromkeys(("torch CharStorage", "torch ByteStorage", "torch BoolStorage"), 1),
    **dict.fromkeys(("torch QInt8Storage", "torch QUInt8Storage", "torch.storage UntypedStorage"), 1),
}
#: data.pkl lists what is in data/; case does not matter to torch
_LIST_OR_VALUES: Final = re.compile(r"[^/]+/(data|constants)(\.pkl|/[^/]+)", re.IGNORECASE)
#: of the lists, unpacked; those of a large network have a hundredth of it
_MAX_LIST_BYTES: Final = 64 * 1024**2
#: instructions that push what they say, that note what was pushed last, and that push what was noted
_SAYING: Final = frozenset({"GLOBAL", "BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"})
_NOTING: Final = frozenset({"BINPUT", "LONG_BINPUT"})
_RECALLING: Final = frozenset({"BINGET", "LONG_BINGET"})


@dataclass(frozen=True, slots=True)
class _Instruction:
    """One that does not push what it says."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Values of a tensor, as they are declared."""

    key: str
    count: int
    kind: str


def is_archive(path: Path) -> bool:
    """Whether torch takes the file for a zip: by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def reason_against_values(path: Path) -> str | None:
    """What is wrong with the file, so that torch must not load it: words to follow its name. None if it may.

    Args:
        path: a file for which `is_archive` holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _reason_against(archive)
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and the reader of lists raise many kinds on a damaged file
        return f"is damaged, or was cut short: {error}"


def _reason_against(archive: zipfile.ZipFile) -> str | None:
    found = [member for member in archive.infolist() if _LIST_OR_VALUES.fullmatch(member.filename)]
    by_name = {member.filename.lower(): member for member in found}
    if len(by_name) < len(found):
        return "holds two files under one name"
    lists = [member for member in found if member.filename.lower().endswith(".pkl")]
    if sum(member.file_size for member in lists) > _MAX_LIST_BYTES:
        return f"has a list of tensors of more than {_MAX_LIST_BYTES // 1024**2} MiB"
    reasons = chain(
        (_reason_against_member(member) for member in found if member not in lists),
        (
            _reason_against_storage(storage, listed.filename[: -len(".pkl")], by_name)
            for listed in lists
            for storage in _declared_in(archive.read(listed))
        ),
    )
    return next((reason for reason in reasons if reason is not None), None)


def _reason_against_member(member: zipfile.ZipInfo) -> str | None:
    if member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size:
        return None
    return f"holds compressed values ({member.filename}), as torch never writes them"


def _reason_against_storage(
    storage: _Storage | None, folder: str, members: Mapping[str, zipfile.ZipInfo]
) -> str | None:
    if storage is None:
        return f"lists tensors ({folder}.pkl) in a way in which torch never does"
    member = members.get(f"{folder}/{storage.key}".lower())
    size = _ITEM_BYTES.get(storage.kind)
    if member is None or size is None:
        return f"declares values that are not there ({storage.kind} {folder}/{storage.key})"
    expected = storage.count * size
    if 0 <= expected <= member.file_size:
        return None
    found = f"in {member.filename}, where there are {member.file_size} bytes"
    return f"declares {expected / 1024**3:.3g} GiB of values {found}"


def _declared_in(listed: bytes) -> Iterator[_Storage | None]:
    """Every mention of stored values in a list of tensors; None for one that is not written as torch writes it.

    Torch writes ``("storage", type, key, device, count)`` in plain sight, each a literal or one that was said before.
    """
    said: list[object] = []
    noted: dict[object, object] = {}
    for opcode, value, _ in pickletools.genops(listed):
        if opcode.name in _NOTING:
            noted[value] = said[-1] if said else None
            continue
        if opcode.name in _SAYING:
            said.append(value)
        elif opcode.name in _RECALLING:
            said.append(noted.get(value))
        else:
            said.append(_Instruction(opcode.name))
        if opcode.name in {"BINPERSID", "PERSID"}:
            yield _storage_of(said[-8:])


def _storage_of(said: list[object]) -> _Storage | None:
    match said:
        case [_Instruction("MARK"), "storage", str(kind), str(key), str(), int(count), _Instruction("TUPLE"), _]:
            return _Storage(key=key, count=count, kind=kind)
    return None
