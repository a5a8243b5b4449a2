"""The description file of a package, written so that every consumer reads it.

bioimageio.spec is the judge of what is valid, but not the writer: it leaves out defaults that Fiji and QuPath
need, and writes files of the documentation in a form that these and ilastik cannot read. So the description is
put together here, key by key, and read back by the library for validation once it is written.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bioimageio.spec.utils import write_yaml

from s2d_zoo import _version
from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.contract import RFContract
from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.network import Network, channels_of, network_kwargs
from s2d_zoo.errors import ConfigError
from s2d_zoo.export import weights
from s2d_zoo.export.card_fields import Architecture, build_card_fields
from s2d_zoo.export.cover import COVER_FILE
from s2d_zoo.export.description import Author, ModelDetails
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.model_card import CardFacts, known_limits
from s2d_zoo.export.reference_tensors import TEST_INPUT_FILE, TEST_OUTPUT_FILE, UNFUSED_OUTPUT_FILE
from s2d_zoo.export.tolerance import Tolerances
from s2d_zoo.types import ENHANCER_TAG, OUTPUT_CHANNELS

RDF_FILE: Final = "rdf.yaml"
CARD_FILE: Final = "README.md"

#: the newest that ilastik reads; from 0.5.11 on, Fiji and QuPath fail as well
FORMAT_VERSION: Final = "0.5.9"
#: of our own block ``config.s2d_zoo``; raise it when a key changes its meaning, and keep reading the old ones
CONFIG_FORMAT_VERSION: Final = 1

_TENSOR_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "enhancer": ("probabilities", "enhanced"),
    "segmentor": ("raw", "segmentation"),
    "fused": ("raw", "enhanced"),
}
PROGRAM_TAGS: Final = ("ilastik", "fiji", "qupath")
_LINKS: Final = ("ilastik/ilastik", "deepimagej/deepimagej")


def tensor_names(details: ModelDetails) -> tuple[str, str]:
    """Ids of the input and of the output tensor."""
    return _TENSOR_NAMES[details.kind]


def build_rdf(
    model: Network,
    details: ModelDetails,
    geometry: TileGeometry,
    folder: Path,
    *,
    facts: CardFacts,
    tolerances: Tolerances,
) -> dict[str, Any]:
    """The description of a package, as plain dicts, lists, strings and numbers.

    Args:
        model: the network whose weights lie in the folder.
        details: what is said about it.
        geometry: sizes that it takes.
        folder: holds all other files of the package.
        facts: what the model card says.
        tolerances: how far outputs may differ.

    Raises:
        ConfigError: if `details.config` is not plain JSON, or the network does not fit the kind or contract.
    """
    _check_channels(model, details)
    kind_tags = {"enhancer": (ENHANCER_TAG,), "fused": ("random-forest",), "segmentor": ()}
    tags = (*kind_tags[details.kind], "s2d-zoo", "2d", "unet", "pytorch", "semantic-segmentation", *PROGRAM_TAGS)
    return {
        **write_head(details, tags),
        "inputs": [_input(model, details, geometry, folder)],
        "outputs": [_output(details, geometry, folder)],
        "weights": _weights(model, folder),
        **({"attachments": [write_file(folder, UNFUSED_OUTPUT_FILE)]} if details.fusion else {}),
        "config": {
            "bioimageio": build_card_fields(
                details.kind,
                Architecture.of(model),
                facts,
                limits=(*known_limits(details, geometry), *facts.limits),
                tolerance=tolerances.formats,
            ),
            "s2d_zoo": write_own_config(details, geometry, folder, _fusion(details, tolerances)),
        },
    }


def write_head(details: ModelDetails, tags: Iterable[str]) -> dict[str, Any]:
    """What every description begins with: who, what, and on which terms.

    Args:
        details: what is said about the model.
        tags: before those of the details.
    """
    attribution = details.attribution
    base = details.base_model
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "id": details.id,
        "name": details.name,
        "description": details.description,
        "authors": [_author(author) for author in attribution.authors],
        "cite": [_without_none(asdict(citation)) for citation in attribution.cite],
        "license": attribution.license,
        "tags": list(dict.fromkeys((*tags, *(("finetuned",) if base else ()), *details.tags))),
        "links": list(_LINKS),
        "documentation": CARD_FILE,
        "covers": [COVER_FILE],
        **({"parent": {"id": base.id, "version": base.version}} if base and base.published else {}),
    }


def write_rdf(rdf: Mapping[str, Any], folder: Path) -> None:
    """Write a description into the folder of its files."""
    write_yaml(dict(rdf), folder / RDF_FILE)


def _check_channels(model: Network, details: ModelDetails) -> None:
    taken, given = channels_of(model)
    if given != len(OUTPUT_CHANNELS):
        msg = (
            f"The network must give {len(OUTPUT_CHANNELS)} channels ({', '.join(OUTPUT_CHANNELS)}), "
            f"this one gives {given}."
        )
        raise ConfigError(msg)
    if isinstance(model, PixelForest) != (details.kind == "fused"):
        msg = f"A network of filters, forest and enhancer is a fused model, and no other is; found {details.kind!r}."
        raise ConfigError(msg)
    if details.contract is not None and details.contract.ndim != 2:
        msg = f"Our networks are 2D, but the RF contract says {details.contract.ndim}D."
        raise ConfigError(msg)
    if details.contract is not None and len(details.contract.channels) != taken:
        msg = (
            f"The RF contract feeds {len(details.contract.channels)} probability channel(s) to the enhancer, but the "
            f"network takes {taken}. Give the contract that the network was trained with."
        )
        raise ConfigError(msg)


def _author(author: Author) -> dict[str, str]:
    return _without_none({"name": author.name, "affiliation": author.affiliation, "orcid": author.orcid})


def _without_none(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _input(model: Network, details: ModelDetails, geometry: TileGeometry, folder: Path) -> dict[str, Any]:
    names = _input_channels(details.contract, channels_of(model)[0])
    data: dict[str, Any] = {"type": "float32"}
    if details.contract is None:
        text = "Raw image, values as in the file."
    else:
        text = "Probabilities of a Random Forest; see config.s2d_zoo.rf_contract."
        data["range"] = list(details.contract.value_range)
    size = {"min": geometry.min_size, "step": geometry.step}
    return {
        "id": tensor_names(details)[0],
        "description": text,
        "axes": [
            {"type": "batch"},  # its id is left out: older Fiji takes an explicit one for a letter
            {"type": "channel", "id": "channel", "channel_names": names},
            *({"type": "space", "id": axis, "size": dict(size), "concatenable": True} for axis in ("y", "x")),
        ],
        "data": data,
        "test_tensor": write_file(folder, TEST_INPUT_FILE),
    }


def _output(details: ModelDetails, geometry: TileGeometry, folder: Path) -> dict[str, Any]:
    source, name = tensor_names(details)
    return {
        "id": name,
        "description": f"Probabilities of {' and '.join(OUTPUT_CHANNELS)}.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "id": "channel", "channel_names": list(OUTPUT_CHANNELS)},
            *(
                {
                    "type": "space",
                    "id": axis,
                    # QuPath takes a missing offset for 1
                    "size": {"tensor_id": source, "axis_id": axis, "offset": 0},
                    "halo": geometry.halo,
                }
                for axis in ("y", "x")
            ),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": write_file(folder, TEST_OUTPUT_FILE),
    }


def _input_channels(contract: RFContract | None, count: int) -> list[str]:
    """Names that format 0.5.9 takes: identifiers, each once."""
    if contract is None:
        return ["raw"] if count == 1 else [f"raw{index}" for index in range(count)]
    roles: list[str] = list(contract.roles)
    return [role if roles.count(role) == 1 else f"{role}{index}" for index, role in enumerate(roles)]


def _weights(model: Network, folder: Path) -> dict[str, Any]:
    version = weights.torch_version()
    architecture = {
        **write_file(folder, weights.architecture_file(model)),
        "callable": type(model).__name__,
        "kwargs": network_kwargs(model),
    }
    parent = {"parent": "pytorch_state_dict"}
    return {
        "pytorch_state_dict": {
            **write_file(folder, weights.STATE_DICT_FILE),
            "architecture": architecture,
            "pytorch_version": version,
        },
        "torchscript": {**write_file(folder, weights.TORCHSCRIPT_FILE), **parent, "pytorch_version": version},
        "onnx": {**write_file(folder, weights.ONNX_FILE), **parent, "opset_version": weights.ONNX_OPSET},
    }


def write_own_config(
    details: ModelDetails, geometry: TileGeometry, folder: Path, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The block ``config.s2d_zoo``.

    Args:
        details: what is said about the model.
        geometry: sizes that it takes.
        folder: holds model card and cover.
        extra: facts that the exporter has found itself.

    Raises:
        ConfigError: if `details.config` is not plain JSON.
    """
    users = {author.name: author.github_user for author in details.attribution.authors if author.github_user}
    lineage = {"base_model": details.base_model.to_json()} if details.base_model else {}
    stated = {**details.config, **extra}
    if lineage:
        stated["provenance"] = {**stated.get("provenance", {}), **lineage}
    try:
        facts = json.loads(json.dumps(stated, allow_nan=False))
    except (TypeError, ValueError) as error:
        msg = f"The config of a package must be plain JSON (texts, finite numbers, lists, dicts): {error}."
        raise ConfigError(msg) from error
    return {
        "format_version": CONFIG_FORMAT_VERSION,
        "s2d_zoo_version": _version.__version__,
        "kind": details.kind,
        **_without_none({"receptive_radius": geometry.receptive_radius}),
        **({"rf_contract": details.contract.model_dump(mode="json")} if details.contract else {}),
        **({"github_users": users} if users else {}),
        # The format has no hashes for these two as long as they are plain strings.
        "files": {name: write_file(folder, name)["sha256"] for name in (CARD_FILE, COVER_FILE)},
        **facts,
    }


def _fusion(details: ModelDetails, tolerances: Tolerances) -> dict[str, Any]:
    if details.fusion is None or tolerances.unfused is None:
        return {}
    return {
        "fused": {
            "forest": details.fusion.forest.model_dump(mode="json"),
            "enhancer": details.fusion.enhancer,
            "unfused_output": UNFUSED_OUTPUT_FILE,
            "tolerance": asdict(tolerances.unfused),
            **details.fusion.facts,
        }
    }


def write_file(folder: Path, name: str) -> dict[str, str]:
    """A file as the format names it, with its SHA-256."""
    return {"source": name, "sha256": sha256_of(folder / name)}
