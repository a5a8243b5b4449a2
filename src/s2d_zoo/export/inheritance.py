"""What a finetuned model owes to its base: authors, citations, and the terms of its licence."""

from collections.abc import Iterable
from dataclasses import replace

from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, Author, Citation
from s2d_zoo.export.licences import check_licence


def inherit_attribution(base: ModelDescr, own: Attribution) -> Attribution:
    """Authors and citations of a base, and then one's own, under a licence that the base allows.

    Args:
        base: its description.
        own: who finetuned it, under which licence the result is given, and what else to cite.

    Raises:
        ConfigError: if the base's licence does not allow that one, with the reason.
    """
    _check_licence(base, own.license or "")
    return replace(
        own, authors=_distinct_authors((*_authors(base), *own.authors)), cite=_distinct((*_cited(base), *own.cite))
    )


def _check_licence(base: ModelDescr, chosen: str) -> None:
    stated = base.license
    if stated is None or isinstance(stated, str):
        check_licence(stated, chosen)
        return
    msg = (
        f"The base model {base.name!r} has a licence of its own, the file {stated.source}, so that nobody can tell "
        f"here whether what is made from it may be given under {chosen}. Ask its authors."
    )
    raise ConfigError(msg)


def _authors(base: ModelDescr) -> Iterable[Author]:
    """As the base names them; without what cannot be written again."""
    for entry in base.authors:
        name = " ".join(str(entry.name).replace("/", " ").replace("\\", " ").split())
        user = None if entry.github_user is None else str(entry.github_user)
        for orcid in (entry.orcid, None):
            try:
                yield Author(name=name, affiliation=entry.affiliation, orcid=orcid and str(orcid), github_user=user)
            except ConfigError:  # an invalid iD, or no name at all
                continue
            break


def _distinct_authors(authors: Iterable[Author]) -> tuple[Author, ...]:
    """Each once: of those with one name or one ORCID iD the first, unless another says where they work."""
    kept: list[Author] = []
    for author in authors:
        same = [place for place, other in enumerate(kept) if _is_same(author, other)]
        if not same:
            kept.append(author)
        elif author.affiliation and kept[same[0]] == replace(author, affiliation=None):
            kept[same[0]] = author
    return tuple(kept)


def _is_same(one: Author, other: Author) -> bool:
    return one.name.casefold() == other.name.casefold() or (one.orcid is not None and one.orcid == other.orcid)


def _cited(base: ModelDescr) -> Iterable[Citation]:
    for entry in base.cite:
        doi, url = (None if value is None else str(value) for value in (entry.doi, entry.url))
        if doi or url:
            yield Citation(text=entry.text, doi=doi, url=url)


def _distinct(citations: Iterable[Citation]) -> tuple[Citation, ...]:
    kept: dict[str, Citation] = {}
    for citation in citations:
        kept.setdefault((citation.doi or citation.url or citation.text).casefold(), citation)
    return tuple(kept.values())
