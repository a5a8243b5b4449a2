"""The values in a file of weights, apart from how the file was written."""

import re
import zipfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Final

#: where torch keeps the values of a tensor, or of several that share them
_VALUES: Final = re.compile(r"[^/]+/data/[^/]+")


def digest_values(path: Path) -> str | None:
    """SHA-256 over the sorted SHA-256s of a network's tensors; nothing is loaded, and no code is run.

    Two files with equal tensors have equal digests: a state dict and TorchScript of the same weights, or a network
    that was loaded and saved again.

    Args:
        path: a file of torch: TorchScript or a state dict.

    Returns:
        Hexadecimal digits; None for a file that is no zip of torch, is damaged, or holds no tensors.

    Raises:
        OSError: if the file cannot be opened.
    """
    digests = sorted(bytes.fromhex(one) for one in stored_values(path).elements())
    return sha256(b"".join(digests)).hexdigest() if digests else None


def stored_values(path: Path) -> Counter[str]:
    """SHA-256 of the values of every tensor in a file of torch; none where it is no zip of torch, or damaged.

    Raises:
        OSError: if the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if _VALUES.fullmatch(name)]
                return Counter(sha256(archive.read(name)).hexdigest() for name in names)
        except Exception:  # noqa: BLE001 - on other content `zipfile` and the decompressors raise what they like
            return Counter()
