"""What a package says about its model in words: who made it, under which licence, from what and for what.

These are the facts that cannot be read off the network; `s2d_zoo.export.rdf` joins both to the description
file of a package.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from bioimageio.spec.utils import get_spdx_licenses

from s2d_zoo.contract import RFContract
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.lineage import BaseModel, Parent
from s2d_zoo.types import ENHANCER_TAG

Kind: TypeAlias = Literal["enhancer", "segmentor", "fused"]

#: keys of ``config.s2d_zoo`` that the exporter writes itself
RESERVED_CONFIG_KEYS: Final = frozenset(
    {
        "format_version",
        "s2d_zoo_version",
        "kind",
        "receptive_radius",
        "rf_contract",
        "fused",
        "finetuned",
        "github_users",
        "files",
    }
)

_ORCID: Final = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]")
_DOI: Final = re.compile(r"10\.\d{4,9}/\S+")
_NAME: Final = re.compile(r"[A-Za-z0-9_+\- ()]{5,128}")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_\-/.]*")
_MAX_DESCRIPTION: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Somebody who made the model.

    Raises:
        ConfigError: for an empty name, a name with a slash, or an ORCID iD whose check digit is wrong.
    """

    name: str
    affiliation: str | None = None
    orcid: str | None = None  #: 0000-0000-0000-000X
    #: kept under ``config.s2d_zoo`` only: in the authors field every reader would look it up on the network,
    #: and refuse the package where there is none
    github_user: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or "/" in self.name or "\\" in self.name:
            msg = f"An author needs a name without slashes, got {self.name!r}. Example: 'Ada Lovelace'."
            raise ConfigError(msg)
        if self.orcid is not None and not _is_orcid(self.orcid):
            msg = (
                f"{self.orcid!r} of author {self.name!r} is not an ORCID iD: expected four groups of four digits "
                "with a valid check digit, as in 0000-0002-1825-0097."
            )
            raise ConfigError(msg)

    @classmethod
    def parse(cls, text: str) -> "Author":
        """Read ``"Name; affiliation; 0000-0002-1825-0097; @github-user"``.

        The name comes first; the others may be missing, and are told apart by their form.

        Raises:
            ConfigError: if there is no name, or more than one affiliation, ORCID iD or user.
        """
        name, *rest = (part.strip() for part in text.split(";"))
        found: dict[str, str] = {}
        for part in filter(None, rest):
            key = "orcid" if _ORCID.fullmatch(part) else "github_user" if part.startswith("@") else "affiliation"
            if key in found:
                msg = (
                    f"Author {text!r} has two entries that look like {key}: {found[key]!r} and {part!r}. "
                    "Write 'Name; affiliation; ORCID iD; @github-user'; commas may stand in the affiliation."
                )
                raise ConfigError(msg)
            found[key] = part.removeprefix("@")
        return cls(name=name, **found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A publication to cite."""

    text: str
    doi: str | None = None  #: bare, without the address of the resolver
    url: str | None = None  #: for what has no DOI

    @classmethod
    def parse(cls, text: str) -> "Citation":
        """Read ``"Text; 10.1234/abc"``.

        Raises:
            ConfigError: if there is no DOI behind the last semicolon.
        """
        words, _, doi = (part.strip() for part in text.rpartition(";"))
        if not words or not _DOI.fullmatch(doi):
            msg = f"A citation is a text and a DOI, as in 'Ada et al. 2026; 10.1234/abc', got {text!r}."
            raise ConfigError(msg)
        return cls(text=words, doi=doi)


#: what every model of this workflow builds on
DEFAULT_CITATIONS: Final = (
    Citation(
        text="Matskevych, Wolny, Pape and Kreshuk: From Shallow to Deep: Exploiting Feature-Based Classifiers "
        "for Domain Adaptation in Semantic Segmentation. Frontiers in Computer Science 2022.",
        doi="10.3389/fcomp.2022.805166",
    ),
    Citation(
        text="Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. "
        "MICCAI 2015.",
        doi="10.1007/978-3-319-24574-4_28",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Who made the model, under which licence it is given, and what to cite.

    Raises:
        ConfigError: naming everything that is missing at once, or for a licence without an SPDX identifier.
    """

    authors: tuple[Author, ...] = ()
    license: str | None = None  #: SPDX identifier
    cite: tuple[Citation, ...] = DEFAULT_CITATIONS

    def __post_init__(self) -> None:
        lacking = [
            text
            for missing, text in (
                (not self.authors, "authors (--authors 'Name; affiliation; ORCID iD', once for each)"),
                (not self.license, "a licence (--license CC-BY-4.0, or another SPDX identifier)"),
                (not self.cite, "a citation (leave it out to cite Shallow2Deep and U-Net)"),
            )
            if missing
        ]
        if lacking:
            msg = f"A package must name its makers and terms of use; missing: {'; '.join(lacking)}."
            raise ConfigError(msg)
        known = [entry["licenseId"] for entry in get_spdx_licenses()["licenses"]]
        if self.license not in known:
            alike = {name.lower(): name for name in known}
            words = str(self.license).lower().removesuffix(" license").removesuffix(" licence").replace(" ", "-")
            close = [alike[words]] if words in alike else difflib.get_close_matches(str(self.license), known)
            hint = f"Did you mean {' or '.join(close)}?" if close else "Examples: CC-BY-4.0, CC0-1.0, MIT."
            msg = f"The licence {self.license!r} is not an SPDX identifier (--license). {hint}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What is in a fused package."""

    forest: RFContract  #: what the forest delivers
    enhancer: str  #: id of the enhancer
    facts: Mapping[str, Any] = field(default_factory=dict)  #: measured when it was made, plain JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """What a package says about its model, beyond what can be read off the network.

    Raises:
        ConfigError: for an id, name or description that bioimage.io does not take, an enhancer without an RF
            contract, any other model with one, a fused model that does not say what is in it, a finetuned one with
            the id of its base, or a reserved tag or key.
    """

    id: str  #: lower-case letters, digits and ``_-/.``
    name: str  #: 5 to 128 letters, digits, spaces and ``_+-()``
    description: str  #: one or two sentences
    attribution: Attribution
    kind: Kind  #: what it takes: probabilities of a forest (enhancer), or the raw image (segmentor, fused)
    contract: RFContract | None = None  #: of an enhancer: which forests it takes
    fusion: Fusion | None = None  #: of a fused model
    base_model: BaseModel | None = None  #: of a finetuned model: what it was made from
    tags: tuple[str, ...] = ()  #: beside those that follow from the kind
    #: facts about origin and training, plain JSON, written below ``config.s2d_zoo``
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_words(identifier=self.id, name=self.name, description=self.description)
        _check_kind(self)
        if self.base_model is not None and self.base_model.id == self.id:
            msg = f"A finetuned model needs an id of its own; {self.id!r} is that of its base. Give another one."
            raise ConfigError(msg)
        taken = RESERVED_CONFIG_KEYS & set(self.config)
        if taken:
            msg = f"The config keys {', '.join(sorted(taken))} are written by the exporter itself; rename yours."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunedDetails(ModelDetails):
    """What a package says about a model that somebody else's was finetuned to.

    Authors and citations of the base are added to the attribution, and the base itself to the lineage.

    Raises:
        ConfigError: as `ModelDetails`, and for a fused model.
    """

    parent: Parent | None = None  #: who the base is, if it is published
    source: str | None = None  #: where the base came from: an address, a DOI
    training_data_id: str | None = None  #: id of a published data set that it was finetuned on

    def __post_init__(self) -> None:
        ModelDetails.__post_init__(self)
        if self.kind == "fused":
            msg = "A finetuned model is an enhancer or a segmentor; fuse it with a forest afterwards."
            raise ConfigError(msg)
        if self.parent is not None and self.parent.id == self.id:
            msg = f"A finetuned model needs an id of its own; {self.id!r} is that of its parent. Give another one."
            raise ConfigError(msg)


def check_words(*, identifier: str, name: str, description: str) -> None:
    """Refuse an id, a name or a description that bioimage.io does not take.

    Raises:
        ConfigError: saying what it must look like.
    """
    if not _NAME.fullmatch(name):
        msg = f"The model name must be 5 to 128 letters, digits, spaces or _+-(), got {name!r}."
        raise ConfigError(msg)
    if not _ID.fullmatch(identifier):
        msg = f"The model id must be lower-case letters, digits or _-/., the first no sign, got {identifier!r}."
        raise ConfigError(msg)
    if not 0 < len(description) <= _MAX_DESCRIPTION:
        msg = (
            f"The description must have 1 to {_MAX_DESCRIPTION} characters, got {len(description)}. "
            "Longer texts belong into the model card."
        )
        raise ConfigError(msg)


def _check_kind(details: ModelDetails) -> None:
    if details.kind not in get_args(Kind):
        msg = f"kind must be one of {', '.join(get_args(Kind))}, got {details.kind!r}."
        raise ConfigError(msg)
    if (details.kind == "fused") != (details.fusion is not None):
        msg = "A fused model, and no other, says which forest and enhancer are in it: give `fusion`."
        raise ConfigError(msg)
    if details.kind == "enhancer":
        if details.contract is None:
            msg = "An enhancer needs an RF contract: which forests' probabilities it takes. Give `contract`."
            raise ConfigError(msg)
        return
    if details.contract is not None:
        msg = f"A {details.kind} model takes the raw image, so it has no RF contract; write its origin into `config`."
        raise ConfigError(msg)
    if ENHANCER_TAG in details.tags:
        msg = (
            f"The tag {ENHANCER_TAG!r} is for enhancers only: ilastik would offer this {details.kind} in its "
            "Trainable Domain Adaptation and feed it probabilities. Remove the tag."
        )
        raise ConfigError(msg)


def _is_orcid(text: str) -> bool:
    """ISO 7064 mod 11-2, as ORCID iDs have it."""
    if not _ORCID.fullmatch(text):
        return False
    digits = text.replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    return digits[-1] == "0123456789X"[(12 - total % 11) % 11]
