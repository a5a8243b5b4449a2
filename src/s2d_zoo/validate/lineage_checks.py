"""L02 and L03: what the model was made from, and whether it is another model by now.

Like other words of a package, these change no verdict: no program asks for them.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import PackageContents, open_package
from s2d_zoo.data.torch_archive import is_archive, reason_against_values
from s2d_zoo.data.weights_values import digest_values, stored_values
from s2d_zoo.data.written_description import local_file, own_config, source_of, value_at
from s2d_zoo.errors import S2DZooError
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

#: the package of a model with this id and version (any, if None) where it is at hand; None where it is not
FindBase: TypeAlias = Callable[[str, str | None], Path | None]

#: digits of a hash that people compare
_SHORT: Final = 12


def check_lineage(model: OpenedModel) -> Iterator[CheckResult]:
    """L02: the parent model, the training data, and what s2d-zoo writes about the making."""
    rdf = model.contents.rdf
    findings = _parent_faults(rdf)
    origins = [words for key, words in _origins(rdf) if key]
    if not origins and not findings:
        advice = "name training_data or a parent"
        if own_config(rdf) is not None:
            advice = "packages of s2d-zoo have config.s2d_zoo.provenance"
        findings.append(limits(f"nothing is recorded about what the model was made from; {advice}"))
    yield from to_results(Check.L02, findings, good=" and ".join(origins))


def _origins(rdf: Mapping[str, Any]) -> tuple[tuple[bool, str], ...]:
    provenance = value_at(own_config(rdf), "provenance")
    return (
        (bool(provenance), "config.s2d_zoo.provenance"),
        (bool(rdf.get("parent")), f"parent {value_at(rdf.get('parent'), 'id')}"),
        (bool(rdf.get("training_data")), f"training data {value_at(rdf.get('training_data'), 'id') or ''}".rstrip()),
    )


def _parent_faults(rdf: Mapping[str, Any]) -> list[Finding]:
    parent = rdf.get("parent")
    if parent is None:
        return []
    if not isinstance(parent, dict) or not isinstance(parent.get("id"), str) or parent.get("version") is None:
        return [limits(f"expected a parent as id and version, found {parent}")]
    return []


def check_base(model: OpenedModel, find_base: FindBase | None = None) -> Iterator[CheckResult]:
    """L03: the weights against those of the model that the training began from.

    Args:
        model: the package.
        find_base: looks for that model, so that more than hashes can be compared.
    """
    rdf = model.contents.rdf
    base = value_at(own_config(rdf), "provenance", "base_model")
    if base is None:
        yield CheckResult(check=Check.L03, status="skipped", message="not made from another model")
        return
    name = value_at(base, "id")
    if not isinstance(name, str) or not isinstance(value_at(base, "weights"), Mapping):
        message = "expected id and weights in config.s2d_zoo.provenance.base_model, found something else"
        yield from to_results(Check.L03, [fails(message)], good="")
        return
    findings = [*_other_parent(rdf.get("parent"), base), *_same_weights(model.contents, base)]
    found, compared = _compare_with_base(model.contents, base, find_base)
    yield from to_results(Check.L03, [*findings, *found], good=f"other weights than {_title(base)}; {compared}")


def _title(base: Mapping[str, Any]) -> str:
    version = base.get("version")
    return str(base["id"]) if version is None else f"{base['id']} {version}"


def _other_parent(parent: object, base: Mapping[str, Any]) -> Iterator[Finding]:
    if parent is None:
        return
    stated = [(value_at(one, "id"), str(value_at(one, "version"))) for one in (parent, base)]
    if stated[0] != stated[1]:
        words = " and ".join(f"{name} {version}" for name, version in stated)
        yield fails(f"parent and config.s2d_zoo.provenance.base_model name different models: {words}")


def _same_weights(contents: PackageContents, base: Mapping[str, Any]) -> Iterator[Finding]:
    """Formats whose file is the one of the base, or holds the same values, in whatever format."""
    before = {name: entry for name, entry in base["weights"].items() if isinstance(entry, Mapping)}
    values = {str(entry["values_sha256"]).lower() for entry in before.values() if entry.get("values_sha256")}
    paths = _weights_of(contents)
    for name, path in paths.items():
        if name in before and sha256_of(path) == str(before[name].get("sha256")).lower():
            yield fails(f"{path.name} is the very file of {_title(base)}, with none of what was trained; export again")
        elif _is_readable(path) and digest_values(path) in values:
            yield fails(f"{path.name} holds the values of {_title(base)}, with none of what was trained; export again")
    if not values and not set(paths) & set(before):
        message = f"nothing is recorded of {_title(base)} that the weights here ({', '.join(paths)}) compare with"
        yield limits(message)


def _compare_with_base(
    contents: PackageContents, base: Mapping[str, Any], find_base: FindBase | None
) -> tuple[list[Finding], str]:
    """What is wrong with the base where it is at hand, and in words how much was compared."""
    version = base.get("version")
    try:
        path = find_base(base["id"], None if version is None else str(version)) if find_base else None
        if path is None:
            return [], "it is not at hand, so that only hashes were compared (s2d-zoo download may fetch it)"
        with open_package(path) as opened:
            return _compare_files(contents, base, opened)
    except (S2DZooError, OSError) as error:
        return [], f"only hashes were compared, because its package at hand cannot be opened: {error}"


def _compare_files(
    contents: PackageContents, base: Mapping[str, Any], opened: PackageContents
) -> tuple[list[Finding], str]:
    findings, counted = [], ""
    ours = [stored_values(path) for path in _weights_of(contents).values() if _is_readable(path)]
    for name, path in _weights_of(opened).items():
        stated = value_at(base, "weights", name, "sha256")
        found = sha256_of(path)
        if isinstance(stated, str) and found != stated.lower():
            message = (
                f"the {name} weights of {_title(base)} at hand have SHA-256 {found[:_SHORT]}…, the ones named have "
                f"{stated[:_SHORT]}…"
            )
            # without a version, another release may be meant
            findings.append(limits(message) if base.get("version") is None else fails(message))
        elif value_at(base, "weights", name, "values_sha256") and ours and _is_readable(path):
            before = stored_values(path)
            kept = max(((before & own).total() for own in ours), default=0)
            counted = f"{before.total() - kept} of its {before.total()} stored tensors differ ({name})"
            if before and kept == before.total():
                findings.append(fails(f"all {kept} stored tensors of {_title(base)} are here unchanged; export again"))
    return findings, counted or "its package at hand has no weights to compare value by value"


def _weights_of(contents: PackageContents) -> dict[str, Path]:
    """The files of the weights that lie in a package, by format."""
    weights = contents.rdf.get("weights")
    entries = weights.items() if isinstance(weights, Mapping) else ()
    found = {str(name): local_file(contents, source_of(entry)) for name, entry in entries}
    return {name: path for name, path in found.items() if path is not None}


def _is_readable(path: Path) -> bool:
    """Whether it is a file of torch, and unpacks to no more than it seems."""
    return is_archive(path) and reason_against_values(path) is None
