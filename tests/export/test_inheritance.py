"""Authors and citations of a base are kept, each once."""

from types import SimpleNamespace

import pytest

from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, Author, Citation
from s2d_zoo.export.inheritance import inherit_attribution


def author(name, **values):
    return SimpleNamespace(name=name, **{"affiliation": None, "orcid": None, "github_user": None, **values})


def cited(text, **values):
    return SimpleNamespace(text=text, **{"doi": None, "url": None, **values})


def base_of(*authors, cite=(), licence="MIT"):
    return SimpleNamespace(name="Base", authors=authors, cite=cite, license=licence)


OWN = Attribution(authors=(Author(name="Ada Lovelace", orcid="0000-0002-1825-0097"),), license="MIT")


def names_of(*authors):
    return [entry.name for entry in inherit_attribution(base_of(*authors), OWN).authors]


def test_the_bases_authors_come_first():
    found = inherit_attribution(base_of(author("Grace Hopper", affiliation="Navy", github_user="grace")), OWN).authors
    assert found == (Author(name="Grace Hopper", affiliation="Navy", github_user="grace"), *OWN.authors)


def test_one_name_or_one_orcid_is_one_person():
    assert names_of(author("ADA LOVELACE")) == ["ADA LOVELACE"]
    assert names_of(author("A. Lovelace", orcid="0000-0002-1825-0097")) == ["A. Lovelace"]
    assert names_of(author("Grace"), author("Grace")) == ["Grace", "Ada Lovelace"]


def test_what_cannot_be_written_again_is_left_out():
    assert names_of(author("Grace/Hopper \\ Navy")) == ["Grace Hopper Navy", "Ada Lovelace"]
    assert names_of(author(" / ")) == ["Ada Lovelace"]
    found = inherit_attribution(base_of(author("Grace", orcid="0000-0000-0000-0000")), OWN).authors
    assert found[0] == Author(name="Grace")


def test_citations_of_the_base_come_first_each_once():
    cite = (
        cited("Page", url="https://example.com/"),
        cited("U-Net", doi="10.1007/978-3-319-24574-4_28"),
        cited("Nothing"),
    )
    found = inherit_attribution(base_of(cite=cite), OWN).cite
    assert found[:2] == (
        Citation(text="Page", url="https://example.com/"),
        Citation(text="U-Net", doi="10.1007/978-3-319-24574-4_28"),
    )
    assert [entry.doi for entry in found[2:]] == ["10.3389/fcomp.2022.805166"]


def test_the_licence_of_the_base_counts():
    with pytest.raises(ConfigError, match="share alike"):
        inherit_attribution(base_of(licence="CC-BY-SA-4.0"), OWN)
