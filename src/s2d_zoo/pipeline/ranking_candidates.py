"""Which enhancers are ranked, at which scales: the bundled, the downloaded and the given ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from s2d_zoo.contract import RFContract
from s2d_zoo.contract_fit import find_misfits
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.enhancer.prediction import Enhancer, check_rescale
from s2d_zoo.enhancer.pretrained import is_enhancer, load_enhancer, tags_of
from s2d_zoo.errors import ConfigError, PackageError, S2DZooError
from s2d_zoo.types import ENHANCER_TAG
from s2d_zoo.zoo.collection import bundled_models, find_model
from s2d_zoo.zoo.downloads import DownloadedModel, downloaded_models

#: pixel sizes that differ by less than this factor are taken for the same
_SAME_SIZE: Final = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An enhancer that can be used here, at one scale."""

    name: str  #: as ``--enhancer`` takes it
    enhancer: Enhancer
    rescale: float  #: by which probabilities are resized before the enhancer
    automatic: bool = False  #: this factor follows from the pixel sizes
    notes: tuple[str, ...] = ()  #: in what the forests differ from those that it knows; none of it is fatal

    @property
    def label(self) -> str:
        """Name and scale, for people."""
        return _label(self.name, self.rescale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """An enhancer that cannot be used here."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: str
    path: Path
    tags: frozenset[str] | None = None  #: in lower case; None where nobody can tell, or where nobody asks
    problem: str = ""  #: why it cannot even be opened


def find_candidates(
    given: Sequence[str],
    delivered: RFContract,
    *,
    tag: str | None = None,
    factors: Sequence[float] = (),
    trust_code: bool = False,
) -> tuple[list[Candidate], list[Unusable]]:
    """Open every enhancer at hand and compare its contract with what the forests deliver.

    Args:
        given: ids or paths of enhancers beside those of the catalogue.
        delivered: the contract of the forests, with the pixel size of the images where it is known.
        tag: what those of the catalogue have to be tagged with, e.g. ``nuclei``; None takes them all.
        factors: scales to try beside 1 and the one that follows from the pixel sizes.
        trust_code: run Python code of packages, if their networks need that.

    Returns:
        Those that can be used, each once for every scale, and those that cannot, with the reason.

    Raises:
        PackageError: if there is nothing by a given name.
        ConfigError: if a given factor is absurd, or nothing in the catalogue has the tag.
    """
    for factor in factors:
        check_rescale(factor)
    usable: list[Candidate] = []
    unusable: list[Unusable] = []
    for entry in _entries(given, tag):
        try:
            if entry.problem:
                raise PackageError(entry.problem)
            enhancer = load_enhancer(entry.path, trust_code=trust_code)
            enhancer.check(delivered)
        except (S2DZooError, OSError) as error:
            unusable.append(Unusable(name=entry.name, reason=str(error)))
            continue
        automatic = _automatic_factor(enhancer, delivered)
        for factor in dict.fromkeys((1.0, *(() if automatic is None else (automatic,)), *factors)):
            try:
                check_rescale(factor)
            except ConfigError as error:
                unusable.append(Unusable(name=_label(entry.name, factor), reason=str(error)))
                continue
            usable.append(
                Candidate(
                    name=entry.name,
                    enhancer=enhancer,
                    rescale=factor,
                    automatic=factor == automatic,
                    notes=_notes(enhancer, delivered, factor),
                )
            )
    return usable, unusable


def _label(name: str, factor: float) -> str:
    return name if factor == 1 else f"{name}, rescaled by {factor:.3g}"


def _automatic_factor(enhancer: Enhancer, delivered: RFContract) -> float | None:
    """What ``--rescale auto`` would take; None where that is unknown, or all but 1."""
    if enhancer.contract.pixel_size is None or delivered.pixel_size is None:
        return None
    factor = enhancer.rescale_factor(delivered)
    return factor if abs(math.log(factor)) > math.log(_SAME_SIZE) else None


def _notes(enhancer: Enhancer, delivered: RFContract, factor: float) -> tuple[str, ...]:
    """What is only advisable; at another scale the enhancer sees pixels of another size."""
    size = delivered.pixel_size
    if size is not None:
        seen = size.model_copy(update={"y": size.y / factor, "x": size.x / factor})
        delivered = delivered.model_copy(update={"pixel_size": seen})
    notes = tuple(str(misfit) for misfit in find_misfits(enhancer.contract, delivered))
    if enhancer.contract.forest.implementation == "unknown":
        notes += ("the package states no RF contract: on which forests and objects it was trained is unknown.",)
    return notes


def _entries(given: Sequence[str], tag: str | None) -> list[_Entry]:
    """Every package once, under the name by which it is found."""
    entries = _catalogue() if tag is None else _tagged(_catalogue(), tag.lower())
    entries += [_Entry(name=name, path=find_model(name)) for name in given]
    return list({entry.path.resolve(): entry for entry in reversed(entries)}.values())[::-1]


def _catalogue() -> list[_Entry]:
    """The enhancers that are bundled or were downloaded."""
    models = [one for one in bundled_models() if ENHANCER_TAG in one.tags]
    bundled = [_Entry(name=one.id, path=one.path, tags=frozenset(map(str.lower, one.tags))) for one in models]
    paths = {str(one.path) for one in models}
    others = [one for one in downloaded_models() if paths.isdisjoint(one.names)]  # a bundled one may have been copied
    return bundled + [entry for model in others if (entry := _downloaded(model)) is not None]


def _tagged(entries: Sequence[_Entry], tag: str) -> list[_Entry]:
    """Those with a tag, and those that cannot be opened, so that nothing is missed unsaid."""
    known = {one for entry in entries for one in entry.tags or ()}
    if tag not in known:
        there = f"Their tags are: {', '.join(sorted(known))}" if known else "There are no enhancers with tags"
        msg = f"No bundled or downloaded enhancer has the tag {tag!r}. {there}."
        raise ConfigError(msg)
    return [entry for entry in entries if entry.tags is None or tag in entry.tags]


def _downloaded(model: DownloadedModel) -> _Entry | None:
    """A downloaded model if it is an enhancer, or if nobody can tell what it is."""
    name = _name_of(model)
    try:
        with open_package(model.folder) as contents:
            tags = frozenset(tags_of(contents.rdf))
            return _Entry(name=name, path=model.folder, tags=tags) if is_enhancer(contents.rdf) else None
    except (S2DZooError, OSError) as error:
        return _Entry(name=name, path=model.folder, problem=str(error))


def _name_of(model: DownloadedModel) -> str:
    """The shortest name that means this very package: an id alone means the version that was fetched last."""
    for name in (model.id, f"{model.id}/{model.version}", *model.names):
        try:
            if name is not None and find_model(name) == model.folder:
                return name
        except PackageError:
            continue
    return str(model.folder)
