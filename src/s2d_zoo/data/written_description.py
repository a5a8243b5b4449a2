"""Looking into a description as it is written: what Fiji and QuPath read, whose readers know no defaults.

Every function takes what it finds: a description from anywhere may have anything anywhere.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s2d_zoo.data.package_contents import PackageContents, is_outside, is_remote


def value_at(value: object, *keys: str) -> Any:  # noqa: ANN401 - whatever is written there
    """What lies below some keys, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def listed(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: object) -> list[dict[str, Any]]:
    """Those entries of a list that are mappings."""
    return [entry for entry in listed(value) if isinstance(entry, dict)]


def is_old_format(rdf: Mapping[str, Any]) -> bool:
    """Whether the description is of format 0.4, where most keys have other names."""
    return str(rdf.get("format_version")).startswith("0.4.")


def tensors(rdf: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every input and output, with the words for where it stands."""
    for key in ("inputs", "outputs"):
        for number, tensor in enumerate(mappings(rdf.get(key)), start=1):
            yield f"{key.removesuffix('s')} {number}", tensor


def steps(tensor: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The operations before or after a network: name, arguments."""
    for key in ("preprocessing", "postprocessing"):
        for step in mappings(tensor.get(key)):
            kwargs = step.get("kwargs")
            yield str(step.get("id", step.get("name"))), kwargs if isinstance(kwargs, dict) else {}


def source_of(entry: object) -> str | None:
    """The file that an entry names, in either way to write it."""
    source = value_at(entry, "source") if isinstance(entry, dict) else entry
    return source if isinstance(source, str) else None


def tensor_files(rdf: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """For every input and output the words for where it stands, and the name of its test tensor."""
    for key in ("inputs", "outputs"):
        files = listed(rdf.get(f"test_{key}"))  # format 0.4
        for index, tensor in enumerate(mappings(rdf.get(key))):
            entry = files[index] if index < len(files) else tensor.get("test_tensor")
            yield f"{key.removesuffix('s')} {index + 1}", source_of(entry)


def local_file(contents: PackageContents, name: str | None) -> Path | None:
    """A file of the package; None if it is not there, or not in the package."""
    if name is None or is_remote(name) or is_outside(name):
        return None
    path = (contents.folder / name).resolve()
    return path if path.is_relative_to(contents.folder.resolve()) and path.is_file() else None


def own_config(rdf: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``config.s2d_zoo``, which marks the packages of this project."""
    own = value_at(rdf, "config", "s2d_zoo")
    return own if isinstance(own, dict) else None
