"""A model of anybody's package to train further: opened, and with what is to be said of it in what it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import xarray as xr

from s2d_zoo.contract import find_background
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import PackagedModel, load_packaged_model
from s2d_zoo.errors import AxesError
from s2d_zoo.export.description import Attribution, FinetunedDetails, ModelDetails
from s2d_zoo.export.inheritance import inherit_attribution
from s2d_zoo.export.lineage import BaseModel, Parent, describe_base
from s2d_zoo.types import CHANNEL
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.downloads import read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBase:
    """A packaged model, and where it came from."""

    package: Path
    model: PackagedModel
    parent: Parent | None  #: who it is, if it is published
    lineage: BaseModel

    @property
    def id(self) -> str:
        """As the zoo knows it, if it was downloaded from there, else as the package says."""
        return self.lineage.id


def finetuned_details(base: OpenedBase, details: ModelDetails) -> FinetunedDetails:
    """What a package says about the model that a base becomes: the details, and who the base is."""
    words = {field.name: getattr(details, field.name) for field in fields(details) if field.name != "base_model"}
    return FinetunedDetails(**words, parent=base.parent, source=base.lineage.source)


def find_base(name: str | Path) -> tuple[Path, Parent | None, str | None]:
    """The package of a model to train further; who it is, if it is published; and where it was downloaded from.

    Raises:
        PackageError: if there is none.
    """
    package = find_model(name)
    record = read_record(package.parent) if package.is_dir() else None
    if record is None:
        return package, None, None
    parent = None if record.id is None or record.version is None else Parent(id=record.id, version=record.version)
    return package, parent, record.source if "://" in record.source else None  # a path is nobody's business


def open_base_model(name: str | Path, *, trust_code: bool = False) -> OpenedBase:
    """Open a model to train further.

    Args:
        name: id of a downloaded model, or path of a package.
        trust_code: run Python code of the package, if its network needs that.

    Raises:
        PackageError: if there is none, or it cannot be trained; says what to do instead.
        UnsafePackageError: if code would have to be run that nobody has trusted.
    """
    package, parent, source = find_base(name)
    with open_package(package) as contents:
        model = load_packaged_model(contents, trust_code=trust_code)
        parent = parent or stated_parent(contents.rdf)
        lineage = describe_base(contents, began_from=model.weights_format, parent=parent, source=source)
    return OpenedBase(package=package, model=model, parent=parent, lineage=lineage)


def stated_parent(rdf: Mapping[str, Any]) -> Parent | None:
    """Who a package says it is; without a version it is not published."""
    name, version = rdf.get("id"), rdf.get("version")
    return None if name is None or version is None else Parent(id=str(name), version=str(version))


def check_base_model(base: OpenedBase, images: Sequence[xr.DataArray], attribution: Attribution | None) -> None:
    """Refuse, before anything is computed, what a training would only end with.

    Args:
        base: the model.
        images: channel (z) y x, raw; of volumes it sees the planes.
        attribution: of what it becomes; not looked at when ``None``.

    Raises:
        AxesError: if it does not take these images.
        ConfigError: if its own licence does not allow the chosen one.
    """
    network = base.model.network
    for image in images:
        if network.ndim != 2 or image.sizes[CHANNEL] != network.channels[0]:
            msg = (
                f"The base model {base.id} takes {network.ndim}D images with {network.channels[0]} channel(s), found "
                f"{dict(image.sizes)}. Choose another --base-model (2D), or give the channels that it was trained on."
            )
            raise AxesError(msg)
    names = [str(name) for name in getattr(base.model.description.outputs[0].axes[1], "channel_names", ())]
    if find_background(names) is not None:
        msg = (
            f"The base model {base.id} gives the channels {', '.join(names)}, and what is trained here is foreground "
            "and boundary, in this order. Choose another --base-model."
        )
        raise AxesError(msg)
    if attribution is not None:
        inherit_attribution(base.model.description, attribution)
