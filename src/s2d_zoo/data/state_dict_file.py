"""A state dict in a file, read as tensors and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from s2d_zoo.data.torch_archive import is_archive, reason_against_values
from s2d_zoo.errors import PackageError

#: what torch says of a function that a pickle wants to call
_WANTED: Final = re.compile(r"GLOBAL ([\w.]+)")


def read_state_dict(path: Path, *, shapes_only: bool = False) -> Mapping[str, Any]:
    """The tensors of a state dict, by name, on the CPU. No code of the file is run.

    Args:
        path: the file.
        shapes_only: leave the values where they are: the tensors have shapes and types only.

    Raises:
        PackageError: if it is damaged, declares more than it holds, or holds something else than tensors.
    """
    device = "meta" if shapes_only else "cpu"
    try:
        reason = reason_against_values(path) if is_archive(path) else None
        tensors: Any = torch.load(path, weights_only=True, map_location=device) if reason is None else None
    except Exception as error:  # damaged files raise many kinds; torch's own text advises to run their code
        wanted = _WANTED.search(str(error))
        reason = f"wants to call {wanted[1]}" if wanted else f"is damaged, or holds more ({type(error).__name__})"
        raise PackageError(_refusal(path, reason)) from error
    if not isinstance(tensors, Mapping):
        raise PackageError(_refusal(path, reason or f"holds {type(tensors).__name__}"))
    return tensors


def _refusal(path: Path, reason: str) -> str:
    return (
        f"The weights {path.name} cannot be read as tensors by name: the file {reason}. Other content (a pickle that "
        "runs code) is not loaded. Download the package again, or ask its authors for plain weights."
    )
