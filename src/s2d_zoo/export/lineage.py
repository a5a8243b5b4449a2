"""What a finetuned model was made from: the model that its training began from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import PackageContents, is_outside, is_remote
from s2d_zoo.data.weights_values import digest_values
from s2d_zoo.errors import ConfigError, PackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A published model."""

    id: str  #: as bioimage.io gives it, such as ``affable-shark``
    version: str

    def __post_init__(self) -> None:
        if not self.id or not self.version:
            msg = f"A parent is a published model with id and version, got {self.id!r} and {self.version!r}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The model that a training began from."""

    id: str
    version: str | None
    published: bool  #: then it is named as the parent
    source: str | None = None  #: where it came from: an address, a DOI
    #: by format: ``sha256`` of the file, and ``values_sha256`` (see `s2d_zoo.data.weights_values`) of the one that
    #: the training began from
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``config.s2d_zoo.provenance.base_model``."""
        return {
            "id": self.id,
            "version": self.version,
            "source": self.source,
            "weights": {name: dict(hashes) for name, hashes in self.weights.items()},
        }


def describe_base(
    contents: PackageContents, *, began_from: str, parent: Parent | None = None, source: str | None = None
) -> BaseModel:
    """What the lineage says about a base.

    Args:
        contents: its package, opened.
        began_from: the weights format whose values the training began from.
        parent: who it is, if it is published.
        source: where it came from.

    Raises:
        PackageError: if those weights are not in the package.
    """
    files = {name: local_weights(contents, name) for name in dict(contents.rdf.get("weights") or {})}
    began = files.get(began_from)
    if began is None:
        msg = f"{contents.source} has no weights as {began_from}, which the training is said to have begun from."
        raise PackageError(msg)
    weights = {name: {"sha256": sha256_of(path)} for name, path in files.items() if path is not None}
    values = digest_values(began)
    if values is not None:
        weights[began_from]["values_sha256"] = values
    version = contents.rdf.get("version")
    return BaseModel(
        id=parent.id if parent else str(contents.rdf.get("id") or contents.rdf.get("name") or contents.source.stem),
        version=parent.version if parent else None if version is None else str(version),
        published=parent is not None,
        source=source,
        weights=weights,
    )


def local_weights(contents: PackageContents, weights_format: str) -> Path | None:
    """The file of a weights format, if it lies in the package."""
    entry = dict(contents.rdf.get("weights") or {}).get(weights_format)
    name = entry.get("source") if isinstance(entry, Mapping) else None
    if not isinstance(name, str) or is_remote(name) or is_outside(name):
        return None
    path = contents.folder / name
    return path if path.is_file() else None
