import dataclasses

import pytest

from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, Author, Citation, FinetunedDetails, Fusion, ModelDetails
from s2d_zoo.export.lineage import BaseModel, Parent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Lovelace", Author(name="Ada Lovelace")),
        ("Ada Lovelace; London, UK", Author(name="Ada Lovelace", affiliation="London, UK")),
        ("Ada ; ; 0000-0002-1825-0097", Author(name="Ada", orcid="0000-0002-1825-0097")),
        ("Ada; @ada; 0000-0002-1694-233X", Author(name="Ada", orcid="0000-0002-1694-233X", github_user="ada")),
    ],
)
def test_an_author_is_read_from_one_line(text, expected):
    assert Author.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("; London", "needs a name"),
        ("Ada/Bob", "without slashes"),
        ("Ada; London; Paris", "two entries that look like affiliation: 'London' and 'Paris'"),
        ("Ada; 0000-0002-1825-0098", "not an ORCID iD"),
    ],
)
def test_a_line_that_is_no_author_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Author.parse(text)


def test_an_orcid_of_another_form_is_refused():
    with pytest.raises(ConfigError, match="not an ORCID iD"):
        Author(name="Ada", orcid="12")


def test_everything_that_lacks_is_named_at_once():
    with pytest.raises(ConfigError, match=r"authors \(--authors .*licence \(--license .*citation"):
        Attribution(cite=())


@pytest.mark.parametrize(("written", "hint"), [("CC-BY-4", "Did you mean CC-BY-4.0"), ("my own", "Examples: CC-BY")])
def test_a_licence_must_have_an_spdx_identifier(written, hint):
    with pytest.raises(ConfigError, match=hint):
        Attribution(authors=(Author(name="Ada"),), license=written)


def test_shallow2deep_and_unet_are_cited_unless_told_otherwise(attribution):
    assert [entry.doi for entry in attribution.cite] == ["10.3389/fcomp.2022.805166", "10.1007/978-3-319-24574-4_28"]
    other = Attribution(authors=attribution.authors, license="MIT", cite=(Citation(text="This", doi="10.1000/1"),))
    assert len(other.cite) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b c d"}, "model name"),
        ({"id": "Big Name"}, "model id"),
        ({"description": ""}, "1 to 1024 characters, got 0"),
        ({"kind": "magic"}, "kind must be one of enhancer, segmentor, fused, got 'magic'"),
        ({"kind": "fused"}, "says which forest and enhancer are in it: give `fusion`"),
        ({"contract": None}, "needs an RF contract"),
        ({"kind": "segmentor"}, "has no RF contract"),
        ({"kind": "segmentor", "contract": None}, "for enhancers only"),
        ({"config": {"kind": 1}}, "config keys kind are written by the exporter"),
    ],
)
def test_details_that_contradict_each_other_are_refused(enhancer, change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(enhancer, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion": None}, "give `fusion`"),
        ({"kind": "segmentor"}, "A fused model, and no other"),
        ({"tags": ("shallow2deep",)}, "ilastik would offer this fused in its Trainable Domain Adaptation"),
        ({"config": {"fused": {}}}, "config keys fused are written by the exporter"),
    ],
)
def test_a_fused_model_says_what_is_in_it_and_is_no_enhancer(fused, change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(fused, **change)


def test_a_fused_model_takes_the_raw_image_so_it_has_no_contract(fused, contract):
    with pytest.raises(ConfigError, match="A fused model takes the raw image, so it has no RF contract"):
        dataclasses.replace(fused, contract=contract)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "fused"}, "says which forest"),
        ({"kind": "fused", "fusion": Fusion(forest=None, enhancer="e")}, "an enhancer or a segmentor"),
        ({"parent": Parent(id="tiny", version="1")}, "'tiny' is that of its parent"),
        ({"base_model": BaseModel(id="tiny", version=None, published=False)}, "'tiny' is that of its base"),
    ],
)
def test_details_of_a_finetuned_model_that_contradict_each_other_are_refused(change, message, attribution):
    details = {"id": "tiny", "name": "Tiny model", "description": "Tiny.", "kind": "segmentor"}
    with pytest.raises(ConfigError, match=message):
        FinetunedDetails(**{**details, "attribution": attribution, **change})


def test_a_parent_has_id_and_version():
    with pytest.raises(ConfigError, match="id and version, got 'affable-shark' and ''"):
        Parent(id="affable-shark", version="")


def test_details_have_at_most_ten_fields():
    assert len(dataclasses.fields(ModelDetails)) <= 10


def test_a_citation_is_read_from_text_and_doi():
    assert Citation.parse("Ada; Analytical Engines 1843; 10.1234/ab-c") == Citation(
        text="Ada; Analytical Engines 1843", doi="10.1234/ab-c"
    )


@pytest.mark.parametrize("text", ["", "Ada 1843", "; 10.1234/abc", "Ada; https://doi.org/10.1234/abc"])
def test_a_citation_without_text_or_bare_doi_is_refused(text):
    with pytest.raises(ConfigError, match=r"text and a DOI"):
        Citation.parse(text)
