"""The list of the zoo's models: two lists joined, kept for a day, read with suspicion."""

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.zoo.local_zoo import FILES

from s2d_zoo.errors import DownloadError
from s2d_zoo.zoo import catalog, collection
from s2d_zoo.zoo.catalog import ADDRESSES, Catalog, CatalogEntry, ModelVersion, address, is_id, read_catalog


def test_what_the_two_lists_say_is_joined(server, zoo, rdf):
    described = rdf | {
        "id": "10.5281/zenodo.1/22",
        "description": "Finds sharks.",
        "tags": ["fish", "2d"],
        "license": "MIT",
        "version": 1.2,
        "config": {"_conceptdoi": "10.5281/Zenodo.1"},
    }
    zoo.publish("nice-fish", described, FILES)
    nice, tiny = read_catalog().entries
    version = zoo.items["nice-fish"][0]
    assert nice == CatalogEntry(
        id="nice-fish",
        name="Tiny",
        description="Finds sharks.",
        tags=("fish", "2d"),
        license="MIT",
        own_version="1.2",
        dois=("10.5281/zenodo.1", "10.5281/zenodo.1/22", "10.5281/zenodo.22"),
        versions=(ModelVersion(version="v0", source=version["source"], sha256=version["sha256"]),),
    )
    assert (tiny.id, tiny.newest, tiny.dois) == ("tiny-shark", "v0", ())


def test_a_model_is_found_by_id_and_by_doi(server, zoo, rdf):
    zoo.publish("nice-fish", rdf | {"id": "10.5281/zenodo.1/22"}, FILES)
    listed = read_catalog()
    assert listed.find("Nice-Fish").id == "nice-fish"
    assert listed.find("10.5281/zenodo.22").id == "nice-fish"
    assert listed.find("other") is None
    assert listed.similar("nice-fisch") == ("nice-fish",)


@pytest.mark.parametrize("missing", ["/list.json", "/index.json"])
def test_one_of_the_lists_is_enough(server, zoo, missing, caplog):
    del server.resources[missing]
    (entry,) = read_catalog().entries
    assert entry.id == "tiny-shark"
    assert bool(entry.name) == (missing == "/index.json")
    assert entry.newest == ("" if missing == "/index.json" else "v0")
    assert "Less is known of the zoo's models" in caplog.text


def test_without_both_lists_and_without_a_cache_it_fails(server):
    with pytest.raises(DownloadError, match="404"):
        read_catalog()


def test_the_list_is_kept_for_a_day(server, zoo, monkeypatch):
    first = read_catalog()
    server.resources.clear()
    assert read_catalog() == first
    assert server.count("/index.json") == 1
    assert read_catalog(offline=True) == first
    monkeypatch.setattr(catalog, "_MAX_AGE", timedelta(0))
    zoo.manifests["new-fish"] = {"name": "New"}
    zoo.list()
    assert [entry.id for entry in read_catalog().entries] == ["new-fish", "tiny-shark"]


def test_a_new_list_is_fetched_if_wanted(server, zoo):
    read_catalog()
    read_catalog(refresh=True)
    assert server.count("/index.json") == 2


def test_an_old_list_is_better_than_none(server, zoo, caplog):
    first = read_catalog()
    server.resources.clear()
    assert read_catalog(refresh=True) == first
    assert "The zoo's list is 0 min old and could not be fetched anew" in caplog.text


def test_offline_there_is_the_one_in_the_cache_or_none():
    with pytest.raises(DownloadError, match=r"no list of the zoo's models.*s2d-zoo list --source zoo"):
        read_catalog(offline=True)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"format": "s2d-zoo collection list", "format_version": 1, "fetched_at": "x", "entries": []}',
        '{"format": "s2d-zoo collection list", "format_version": 1, "fetched_at": "x", "entries": [{"a": 1}]}',
    ],
)
def test_a_damaged_copy_is_fetched_again(server, zoo, cache, content, caplog):
    read_catalog()
    (cache / "zoo" / "collection.json").write_text(content)
    assert len(read_catalog().entries) == 1
    assert "is damaged and not used" in caplog.text


def test_a_copy_of_another_s2d_zoo_is_fetched_again(server, zoo, cache, caplog):
    read_catalog()
    path = cache / "zoo" / "collection.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with caplog.at_level(logging.WARNING):
        read_catalog()
    assert server.count("/index.json") == 2
    assert caplog.text == ""


@pytest.mark.parametrize("content", [b"{", b"[" * 10**6, b"3", b'{"items": 3}', b"\xff"])
def test_a_list_that_is_none_is_told(server, content, caplog):
    server.put("/list.json", content)
    server.put("/index.json", content)
    with pytest.raises(DownloadError, match=r"Expected a list of models"):
        read_catalog()


def test_the_list_of_bundled_models_is_one_that_the_zoo_could_give(server):
    content = (Path(collection.__file__).parent / "bundled" / "collection.json").read_bytes()
    server.put("/list.json", content)
    server.put("/index.json", content)
    assert read_catalog().entries == tuple(one.entry for one in collection.bundled_models())


def test_a_list_that_is_too_long_is_refused(server, zoo, monkeypatch):
    monkeypatch.setattr(catalog, "_MAX_LIST_BYTES", 10)
    with pytest.raises(DownloadError, match="expected at most 10 bytes"):
        read_catalog()


def test_entries_of_other_shapes_are_left_out_or_read_as_far_as_they_go(server):
    items = [
        3,
        {"type": "model"},
        {"type": "model", "id": "../evil"},
        {"type": "model", "id": ["x"]},
        {"type": "model", "id": "a", "manifest": 3},
        {"type": "model", "id": "b", "manifest": {"name": ["x"], "tags": "x", "config": 3, "id": 3}},
        {"type": "model", "id": "c", "manifest": {"name": "evil\x1b[2J\n  name\u202e", "tags": [1, None]}},
    ]
    versions = [3, {"version": "v0"}, {"version": "v1", "source": "x", "sha256": 3}, {"source": "x"}]
    server.put("/list.json", json.dumps(items).encode())
    server.put("/index.json", json.dumps([{"type": "model", "id": "a", "versions": versions}]).encode())
    a, b, c = read_catalog().entries
    assert a == CatalogEntry(id="a", versions=(ModelVersion(version="v1", source="x", sha256=None),))
    assert b == CatalogEntry(id="b")
    assert c == CatalogEntry(id="c", name="evil[2J name", tags=("1",))


@pytest.mark.parametrize(
    ("minutes", "text"), [(-5, "0 min"), (0, "0 min"), (119, "119 min"), (121, "2 h"), (3000, "2 days")]
)
def test_the_age_is_told_in_words(minutes, text):
    assert Catalog(fetched_at=datetime.now(UTC) - timedelta(minutes=minutes)).age() == text


@pytest.mark.parametrize(("name", "right"), [("affable-shark", True), ("a_b.2", True), ("", False), ("-a", False)])
def test_ids_are_words_of_plain_letters(name, right):
    assert is_id(name) == right
    assert not is_id(f"{name}/..")
    assert not is_id(f"é{name}")


def test_addresses_are_those_of_the_zoo_unless_the_environment_says_otherwise(monkeypatch):
    for variable in ADDRESSES:
        monkeypatch.setenv(variable, "http://here")
        assert address(variable) == "http://here"
        monkeypatch.setenv(variable, "")
        assert address(variable).startswith("https://")
