"""Fitted classifiers in files: arrays in safetensors, structure in JSON, nothing that runs code.

To change the format: raise `FORMAT_VERSION`, keep reading every older version here, put one file of the old
version into ``tests/assets/`` and a test that reads it. A reader refuses what is newer than itself.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from s2d_zoo._version import __version__
from s2d_zoo.contract import RFContract
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.errors import SavedFileError, UnsupportedFormatVersionError
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.flat_forest import FlatForest

FORMAT: Final = "s2d-zoo/pixel-classifier"
FORMAT_VERSION: Final = 1


def save_classifier(classifier: PixelClassifier, path: Path | str) -> Path:
    """Write a fitted classifier; equal classifiers give equal bytes.

    Raises:
        UserInputError: if it is not fitted.
        SavedFileError, OSError: if it cannot be written; a file that is there stays as it is.
    """
    path = Path(path)
    arrays, metadata = _content(classifier)
    try:
        with atomic_write(path) as temporary:
            save_file(arrays, temporary, metadata=metadata)
    except SafetensorError as error:  # also a full disk: it raises no OSError
        msg = f"Cannot write {path}: {error}. Check the space on the disk and the permissions."
        raise SavedFileError(msg) from error
    return path


def digest_classifier(classifier: PixelClassifier) -> str:
    """SHA-256 of the file that a fitted classifier would be.

    Raises:
        UserInputError: if it is not fitted.
    """
    arrays, metadata = _content(classifier)
    return sha256(save(arrays, metadata=metadata)).hexdigest()


def _content(classifier: PixelClassifier) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays and metadata of its file."""
    header = {
        "contract": json.loads(classifier.contract.model_dump_json()),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "n_features": classifier.forest.n_features,
        "random_state": classifier.random_state,
        "s2d_zoo_version": __version__,
    }
    arrays = {name: np.ascontiguousarray(values) for name, values in classifier.forest.to_arrays().items()}
    return arrays, {"s2d_zoo": json.dumps(header, sort_keys=True)}  # one string: several are written in no fixed order


def load_classifier(path: Path | str) -> PixelClassifier:
    """Read a classifier that `save_classifier` wrote.

    Raises:
        SavedFileError: if the file is missing, damaged, or not a classifier.
        UnsupportedFormatVersionError: if a newer s2d-zoo wrote it.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("s2d_zoo", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, TypeError, SafetensorError, json.JSONDecodeError) as error:
        msg = (
            f"Cannot read a classifier from {path}: {error}. Expected a file written by s2d-zoo classify, or an "
            "ilastik project (*.ilp)."
        )
        raise SavedFileError(msg) from error
    _check_header(header, path)
    try:
        forest = FlatForest.from_arrays(arrays, n_features=int(header["n_features"]))
        contract = RFContract.model_validate(header["contract"])
        return PixelClassifier.from_forest(forest, contract, random_state=int(header["random_state"]))
    except (KeyError, TypeError, ValueError, SavedFileError) as error:
        msg = f"The classifier in {path} is damaged: {error}. Fit it again with s2d-zoo classify."
        raise SavedFileError(msg) from error


def _check_header(header: Any, path: Path) -> None:  # noqa: ANN401 - whatever JSON can hold
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        msg = f"{path} is not a classifier: expected format {FORMAT!r}, found {found!r}."
        raise SavedFileError(msg)
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        msg = (
            f"{path} has format version {version}, written by s2d-zoo {header.get('s2d_zoo_version')}; this is "
            f"s2d-zoo {__version__}, which reads versions up to {FORMAT_VERSION}. Update s2d-zoo."
        )
        raise UnsupportedFormatVersionError(msg)
