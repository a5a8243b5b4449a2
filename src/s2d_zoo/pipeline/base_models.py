"""A model of anybody's package to train further: opened, and with what is to be said of it in what it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import xarray as xr

from s2d_zoo.contract import find_background
from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import PackagedModel, load_packaged_model
from s2d_zoo.enhancer.pretrained import is_enhancer
from s2d_zoo.errors import AxesError, PackageError
from s2d_zoo.export.description import Attribution, FinetunedDetails, ModelDetails
from s2d_zoo.export.inheritance import inherit_attribution
from s2d_zoo.export.lineage import BaseModel, Parent, describe_base
from s2d_zoo.types import CHANNEL
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.downloads import read_record

#: characters of a description
_LONGEST: Final = 1024


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


def describe_finetuned(base: OpenedBase) -> str:
    """What a finetuned model is, in the words of the model that it was made from."""
    before = base.model.description
    text = f"{before.name}, trained further on pseudo-labels from a few brush strokes. Before: {before.description}"
    return " ".join(text.split())[:_LONGEST]


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
        if is_enhancer(contents.rdf):
            msg = (
                f"{name} is an enhancer: it takes probabilities of a forest, not raw images. Give it as --enhancer, or "
                "train it further with s2d-zoo finetune-enhancer."
            )
            raise PackageError(msg)
        parent = parent or stated_parent(contents.rdf)
        lineage = describe_base(contents, began_from=model.weights_format, parent=parent, source=source)
    return OpenedBase(package=package, model=model, parent=parent, lineage=lineage)


def stated_parent(rdf: Mapping[str, Any]) -> Parent | None:
    """Who a package says it is; without a version it is not published."""
    name, version = rdf.get("id"), rdf.get("version")
    return None if name is None or version is None else Parent(id=str(name), version=str(version))


def inherited_attribution(package: Path, attribution: Attribution) -> Attribution:
    """Authors, citations and licence of what holds the weights of a package's model.

    Raises:
        ConfigError: if its licence does not allow the chosen one.
        PackageError: if the package cannot be read.
    """
    with open_package(package) as contents:
        return inherit_attribution(read_model_description(contents), attribution)


def check_base_model(
    base: OpenedBase, images: Sequence[xr.DataArray], attribution: Attribution | None, *, names: Sequence[str] = ()
) -> None:
    """Refuse, before anything is computed, what a training would only end with.

    Args:
        base: the model.
        images: channel (z) y x, raw; of volumes it sees the planes.
        attribution: of what it becomes; not looked at when ``None``.
        names: of the images, for messages.

    Raises:
        AxesError: if it does not take these images.
        ConfigError: if its own licence does not allow the chosen one.
    """
    network = base.model.network
    for name, image in zip(names or ["the image"] * len(images), images, strict=True):
        if network.ndim != 2 or image.sizes[CHANNEL] != network.channels[0]:
            msg = (
                f"The base model {base.id} takes {network.ndim}D images with {network.channels[0]} channel(s), but "
                f"{name} has {image.sizes[CHANNEL]} ({dict(image.sizes)}). Save the channel that it was trained on as "
                "an image of its own, or choose another --base-model (2D)."
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
