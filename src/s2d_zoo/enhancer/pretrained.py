"""Enhancers out of packages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s2d_zoo.contract import RFContract
from s2d_zoo.data.network import network_kwargs, read_packaged_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import ContractMismatchError, PackageError


def load_enhancer(path: Path) -> Enhancer:
    """Read an enhancer from a package; nothing in the package is run.

    Args:
        path: ``.zip``, or the folder of an unpacked package.

    Raises:
        UserInputError: if there is nothing at the path.
        PackageError: if it is no package, or not an enhancer of s2d-zoo.
        UnsafePackageError: if it must not be opened.
        ContractMismatchError: if network and contract contradict each other.
    """
    with open_package(path) as contents:
        contract = _read_contract(contents.rdf, path)
        model = read_packaged_network(contents.rdf, contents.folder)
        identifier = str(contents.rdf.get("id", path.stem))
    if model.head.out_channels != 2 or network_kwargs(model)["in_channels"] != len(contract.channels):
        msg = f"{path}: the network does not take the {len(contract.channels)} channels that its RF contract names."
        raise ContractMismatchError(msg)
    return Enhancer(id=identifier, model=model, contract=contract)


def _read_contract(rdf: Mapping[str, Any], path: Path) -> RFContract:
    config: Any = rdf.get("config")
    own: Any = config.get("s2d_zoo") if isinstance(config, dict) else None
    stated = own.get("rf_contract") if isinstance(own, dict) else None
    if stated is None:
        msg = (
            f"{path} is no enhancer made by s2d-zoo: its description has no config.s2d_zoo.rf_contract, so nobody "
            "can tell which forests it takes. See s2d-zoo list for enhancers that have one."
        )
        raise PackageError(msg)
    try:
        return RFContract.model_validate(stated)
    except ValidationError as error:
        msg = f"The RF contract in {path} is not valid: {error}"
        raise PackageError(msg) from error
