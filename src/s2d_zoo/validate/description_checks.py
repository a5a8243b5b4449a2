"""F03: whether the readers of ilastik, Fiji and QuPath take the description as it is written.

bioimageio.spec fills in what is missing, and reads files in two ways of writing; the others do neither. What each
of them does is in the comments: found by running their code, or by reading it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from s2d_zoo.data.written_description import (
    is_old_format,
    listed,
    mappings,
    steps,
    tensors,
    value_at,
)
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_FIJI, _QUPATH, _ILASTIK = Consumer.deepimagej, Consumer.qupath, Consumer.ilastik

#: the last format version in which bioimageio.spec writes documentation and covers as plain strings
_LAST_PLAIN: Final = 10
#: operations that QuPath cannot read without arguments
_WITH_KWARGS: Final = frozenset({"zero_mean_unit_variance", "scale_range", "binarize", "clip", "scale_linear"})


def check_wording(model: OpenedModel) -> Iterator[CheckResult]:
    """F03: what each reader needs to find written, and in which form."""
    rdf = model.contents.rdf
    findings = [*_missing_keys(rdf), *_deepimagej(model), *_steps(rdf)]
    if not is_old_format(rdf):
        findings += [*_version(rdf), *_forms(rdf), *_model_id(rdf)]
        for where, tensor in tensors(rdf):
            findings += [*_tensor(where, tensor), *_axes(where, tensor), *_offsets(where, tensor)]
    good = f"format {rdf.get('format_version')}, which every program reads as it is written here"
    yield from to_results(Check.F03, findings, good=good)


def _missing_keys(rdf: Mapping[str, Any]) -> Iterator[Finding]:
    """QuPath stops at a missing key; deepImageJ makes its model card from the authors."""
    for key in ("authors", "description", "documentation", "license", "name"):
        if rdf.get(key) is None:
            programs = (_FIJI, _QUPATH) if key in {"authors", "name"} else (_QUPATH,)
            yield fails(f"there is no {key}, without which the description cannot be read; add it", *programs)


def _version(rdf: Mapping[str, Any]) -> Iterator[Finding]:
    patch = str(rdf.get("format_version")).split(".")[2]
    if patch == "0":
        # QuPath's reader asks for a version above 0.5.0 before it takes the new names of keys
        yield fails("format 0.5.0 is read as if it were 0.4; write 0.5.9", _QUPATH)
    elif patch.isdigit() and int(patch) > _LAST_PLAIN and not _file_mappings(rdf):
        yield limits(f"format 0.5.{patch} is newer than what its reader was made for; write 0.5.9", _FIJI, _QUPATH)


def _file_mappings(rdf: Mapping[str, Any]) -> list[str]:
    """Which of the keys that name files do so with a mapping."""
    covers = any(isinstance(entry, dict) for entry in listed(rdf.get("covers")))
    names = [key for key in ("documentation", "icon") if isinstance(rdf.get(key), dict)]
    return [*names, *(["covers"] if covers else [])]


def _forms(rdf: Mapping[str, Any]) -> Iterator[Finding]:
    """Files written as ``{source, sha256}``, as bioimageio.spec does from 0.5.11 on, where a string is expected."""
    keys = _file_mappings(rdf)
    # an icon is read by ilastik's bioimageio.spec only
    programs = (_ILASTIK,) if keys == ["icon"] else (_ILASTIK, _FIJI, _QUPATH)
    if keys:
        message = f"{' and '.join(keys)} written as source and sha256, expected only the name of the file"
        yield fails(f"{message}; write format 0.5.9", *programs)
    if isinstance(rdf.get("license"), dict):
        yield fails("the license is written as a mapping, expected an SPDX identifier", _FIJI, _QUPATH)


def _model_id(rdf: Mapping[str, Any]) -> Iterator[Finding]:
    """With a config, deepImageJ takes the id from there unless the model has one, and stops if there is neither."""
    config = rdf.get("config")
    if isinstance(config, dict) and not (rdf.get("id") or value_at(config, "bioimageio", "nickname")):
        yield fails("the model has no id, without which a description with a config cannot be read; add one", _FIJI)


def _deepimagej(model: OpenedModel) -> Iterator[Finding]:
    rdf = model.contents.rdf
    own = value_at(rdf, "config", "deepimagej")
    sizes = [axis.size for tensor in model.description.inputs for axis in tensor.axes if axis.type == "space"]
    if isinstance(own, dict) and own.get("allow_tiling") is not True and not all(isinstance(one, int) for one in sizes):
        # tiling is off unless it is switched on, and then only one size would fit
        yield fails(
            "config.deepimagej switches tiling off, and then no model with variable sizes runs; remove that block or "
            "write allow_tiling: true there",
            _FIJI,
        )
    if "stardist" in str(rdf.get("name")).lower() and value_at(rdf, "config", "stardist") is not None:
        yield limits("with 'stardist' in name and config it is run as a StarDist model, and as nothing else", _FIJI)


def _tensor(where: str, tensor: Mapping[str, Any]) -> Iterator[Finding]:
    if not tensor.get("id"):
        yield fails(f"{where} has no id; write one", _FIJI, _QUPATH)


def _axes(where: str, tensor: Mapping[str, Any]) -> Iterator[Finding]:
    for axis in mappings(tensor.get("axes")):
        kind = axis.get("type")
        if kind == "space" and not axis.get("id"):
            yield fails(f"{where}: a space axis has no id; write it also where it is x, the default", _FIJI, _QUPATH)
        if kind == "batch" and axis.get("id"):
            # up to JDLL 0.5.10 the letter of the axis became "batch"
            yield limits(f"{where}: the batch axis has an id, which older versions cannot read; leave it out", _FIJI)


def _offsets(where: str, tensor: Mapping[str, Any]) -> Iterator[Finding]:
    """QuPath takes a missing offset for 1; only what it shows depends on it."""
    sizes = {axis.get("id", "x"): axis.get("size") for axis in mappings(tensor.get("axes"))}
    lacking = [
        str(name)
        for name, size in sizes.items()
        if isinstance(size, dict) and "tensor_id" in size and size.get("offset") is None
    ]
    if lacking:
        message = f"{where}: the size of {', '.join(lacking)} has no offset, so that shapes are shown wrong"
        yield limits(f"{message}; write offset: 0", _QUPATH)


def _steps(rdf: Mapping[str, Any]) -> Iterator[Finding]:
    """Arguments of operations that QuPath's reader stumbles over."""
    for where, tensor in tensors(rdf):
        for name, kwargs in steps(tensor):
            if name in _WITH_KWARGS and not kwargs:
                yield fails(f"{where}: {name} has no kwargs, without which it cannot be read; write them", _QUPATH)
            elif name == "scale_linear" and not all(
                isinstance(kwargs.get(key, []), list) for key in ("gain", "offset")
            ):
                yield fails(f"{where}: scale_linear has single numbers, only lists can be read; write [2.0]", _QUPATH)
