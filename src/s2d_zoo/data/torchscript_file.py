"""A TorchScript file, looked at before it is loaded.

The file is a zip with code as text, and a list of its tensors. These are read, and nothing is loaded or run.
"""

import re
import zipfile
from pathlib import Path
from typing import Final

from s2d_zoo.data.torch_archive import reason_against_values

#: operations of torch, torchvision and torch's own tools that take the name of a file. Any prefix will do, since what
#: they hang on can be renamed; `save` and `load` alone are common names of variables
_FILE_OPERATION: Final = re.compile(
    r"\b(?:from_file|read_file|write_file|load_tensor)\b|\.(?:[\s\\]|#[^\n]*\n)*(?:save|load)\b"
)
#: how torch writes submodules whose names are no words; strings in parts or with escapes could spell anything
_PLAIN_GETATTR: Final = re.compile(r"""\bgetattr\([\w.]+, ["']([^"'\\\n]*)["']\)""")
#: where torch looks for code, whatever the case of the letters
_CODE_OR_DATA: Final = re.compile(r"[^/]*/(code/.+\.py|data\.pkl|constants\.pkl)", re.IGNORECASE | re.DOTALL)
#: unpacked; the code of a large network has a hundredth of it
_MAX_BYTES: Final = 64 * 1024**2


def reason_not_to_run(path: Path) -> str | None:
    """Why a TorchScript file must not be loaded here, which may already run its code; None if it may."""
    try:
        code, _ = read_code(path)
    except Exception as error:  # noqa: BLE001 - zipfile and zlib raise many kinds on a damaged file
        return f"expected a TorchScript file whose code can be looked at, but {path.name} cannot be read: {error}"
    found = {match.group().rpartition(".")[2].split()[-1] for match in _FILE_OPERATION.finditer(code)}
    found |= {match.group(1) for match in _PLAIN_GETATTR.finditer(code) if match.group(1) in {"save", "load"}}
    if found:
        return f"the code of {path.name} reads or writes files of the user ({', '.join(sorted(found))})"
    if len(_PLAIN_GETATTR.findall(code)) < len(re.findall(r"\bgetattr\b", code)):
        return f"the code of {path.name} hides the names of operations (getattr), as torch never writes it"
    reason = reason_against_values(path)
    return None if reason is None else f"{path.name} {reason}"


def read_code(path: Path) -> tuple[str, bytes]:
    """The code, and the list of what is stored.

    Raises:
        Exception: of many kinds: of a damaged file, zipfile and zlib raise what they like.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            msg = "it is no zip"  # `zipfile` would take one behind something else, where torch looks first
            raise ValueError(msg)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.filename.lower().endswith("/model.json") for member in members):
            msg = "it is of a version of torch before 1.4, which keeps code anywhere; save it again"
            raise ValueError(msg)
        wanted = [member for member in members if _CODE_OR_DATA.fullmatch(member.filename)]
        if sum(member.file_size for member in wanted) > _MAX_BYTES:
            msg = f"its code takes more than {_MAX_BYTES // 1024**2} MiB"
            raise ValueError(msg)
        texts = [archive.read(member) for member in wanted if member.filename.lower().endswith(".py")]
        stored = [archive.read(member) for member in wanted if member.filename.lower().endswith(".pkl")]
    if not texts or not stored:
        msg = "there is no code in it; it may be a state dict"
        raise ValueError(msg)
    return b"\n".join(texts).decode("utf-8"), b"".join(stored)
