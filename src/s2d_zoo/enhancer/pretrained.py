"""Enhancers out of packages."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from s2d_zoo.contract import ClassContract, ForestContract, RFContract
from s2d_zoo.data.network import network_kwargs, read_packaged_network
from s2d_zoo.data.package_contents import PackageContents, open_package
from s2d_zoo.data.packaged_model import PackagedModel, load_packaged_model
from s2d_zoo.data.written_description import listed, own_config, value_at
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import ContractMismatchError, PackageError
from s2d_zoo.types import ENHANCER_TAG, OUTPUT_CHANNELS

logger = logging.getLogger(__name__)

_ROLES: Final = (
    ClassContract(name="background", role="background"),
    ClassContract(name="foreground", role="foreground"),
)


def load_enhancer(path: Path, *, trust_code: bool = False) -> Enhancer:
    """Read an enhancer from a package: one of ours, or one with the tag ``shallow2deep`` as the zoo has them.

    Of the latter the RF contract is derived: nothing is known of the forests that it was trained on.

    Args:
        path: ``.zip``, or the folder of an unpacked package.
        trust_code: run Python code of the package, where its network cannot be built without.

    Raises:
        UserInputError: if there is nothing at the path.
        PackageError: if it is no package, or no enhancer.
        UnsafePackageError: if it must not be opened, or code would have to be run that nobody has trusted.
        ContractMismatchError: if network and contract contradict each other.
    """
    with open_package(path) as contents:
        if _stated_contract(contents.rdf) is None and ENHANCER_TAG in tags_of(contents.rdf):
            return _load_published(contents, trust_code=trust_code)
        contract = _read_contract(contents.rdf, path)
        identifier = str(contents.rdf.get("id", path.stem))
        if "pytorch_state_dict" not in (contents.rdf.get("weights") or {}):  # somebody else's, trained further
            packaged = load_packaged_model(contents)
            _check_channels(contract, packaged.ndim, packaged.network.channels, (1, 2), contents)
            return Enhancer(id=identifier, model=packaged, contract=contract)
        model = read_packaged_network(contents.rdf, contents.folder)
        _check_channels(contract, 2, (network_kwargs(model)["in_channels"], model.head.out_channels), (2,), contents)
    return Enhancer(id=identifier, model=model, contract=contract)


def _check_channels(
    contract: RFContract, ndim: int, channels: tuple[int, int], allowed: tuple[int, ...], contents: PackageContents
) -> None:
    """Refuse a network that is not the one that its contract speaks of."""
    taken, given = channels
    if taken != len(contract.channels) or ndim != contract.ndim or given not in allowed:
        msg = (
            f"{contents.source}: the RF contract names {len(contract.channels)} channel(s) in {contract.ndim}D, but "
            f"the network takes {taken} in {ndim}D and gives {given}; expected foreground and boundary from it."
        )
        raise ContractMismatchError(msg)


def _load_published(contents: PackageContents, *, trust_code: bool) -> Enhancer:
    """An enhancer without a contract, as they were published before there was one."""
    model = load_packaged_model(contents, trust_code=trust_code)
    taken, given = model.network.channels
    if taken > len(_ROLES) or given > len(OUTPUT_CHANNELS):
        msg = (
            f"{contents.source} is tagged {ENHANCER_TAG}, but takes {taken} channels and gives {given}; expected 1 "
            "or 2 (foreground; background and foreground) and 1 or 2 (foreground; foreground and boundary)."
        )
        raise PackageError(msg)
    contract = RFContract(
        ndim=model.ndim,
        classes=_ROLES,
        channels=(1,) if taken == 1 else (0, 1),
        forest=ForestContract(implementation="unknown", labels="not stated by the package"),
        raw_channels=None,
    )
    logger.warning(
        "%s states no RF contract. It is taken to want the %s of a %dD forest, from 0 to 1 (%s); which features, pixel "
        "size and size of objects it was trained on is unknown.",
        model.id,
        " and the ".join(contract.roles),
        model.ndim,
        _preprocessing_in_words(model),
    )
    return Enhancer(id=model.id, model=model, contract=contract)


def _preprocessing_in_words(model: PackagedModel) -> str:
    """What is done to the probabilities before the network sees them."""
    steps = [str(step.id) for step in model.description.inputs[0].preprocessing if step.id != "ensure_dtype"]
    return f"preprocessed as its description says: {', '.join(steps)}" if steps else "not preprocessed"


def is_enhancer(rdf: Mapping[str, Any]) -> bool:
    """Whether a description is that of an enhancer: it states an RF contract, or is tagged ``shallow2deep``."""
    return _stated_contract(rdf) is not None or ENHANCER_TAG in tags_of(rdf)


def tags_of(rdf: Mapping[str, Any]) -> list[str]:
    """The tags of a description, in lower case; none where it has no list of them."""
    return [str(tag).lower() for tag in listed(rdf.get("tags"))]


def _stated_contract(rdf: Mapping[str, Any]) -> object:
    return value_at(own_config(rdf), "rf_contract")


def _read_contract(rdf: Mapping[str, Any], path: Path) -> RFContract:
    stated = _stated_contract(rdf)
    if stated is None:
        msg = (
            f"{path} is no enhancer: its description has neither config.s2d_zoo.rf_contract, which tells the "
            f"forests that it takes, nor the tag {ENHANCER_TAG}. See s2d-zoo list --tag {ENHANCER_TAG}."
        )
        raise PackageError(msg)
    try:
        return RFContract.model_validate(stated)
    except ValidationError as error:
        msg = f"The RF contract in {path} is not valid: {error}"
        raise PackageError(msg) from error
