"""From ids and DOIs to addresses."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from s2d_zoo.errors import DownloadError, UserInputError
from s2d_zoo.zoo.catalog import Catalog, CatalogEntry, ModelVersion
from s2d_zoo.zoo.lookup import at_address, at_path, check_name, look_up, plain_name

V0 = ModelVersion(version="v0", source="https://zoo/a?version=v0", sha256="0" * 64)
V1 = ModelVersion(version="v1", source="https://zoo/a?version=v1", sha256="1" * 64)
SHARK = CatalogEntry(id="nice-shark", own_version="1.2", dois=("10.5281/zenodo.1",), versions=(V0, V1))
CATALOG = Catalog(fetched_at=datetime.now(UTC), entries=(SHARK, CatalogEntry(id="young-shark")))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Affable-Shark", "affable-shark"),
        ("bioimage-io/affable-shark", "affable-shark"),
        ("doi:10.5281/Zenodo.1", "10.5281/zenodo.1"),
        ("https://doi.org/10.5281/zenodo.1", "10.5281/zenodo.1"),
        ("10.5281/zenodo.1/22", "10.5281/zenodo.1/22"),
        ("https://x.org/A/rdf.yaml", "https://x.org/A/rdf.yaml"),
    ],
)
def test_what_stands_around_a_name_is_left_out(name, plain):
    assert plain_name(name) == plain


@pytest.mark.parametrize("name", ["affable-shark", "affable-shark/1.2", "10.5281/zenodo.1"])
def test_ids_and_dois_are_names(name):
    check_name(name)


@pytest.mark.parametrize("name", ["", "../x", "/etc/passwd", "my model.zip", "c:\\x"])
def test_other_things_are_refused_with_what_is_possible(name):
    with pytest.raises(UserInputError, match=r"it is no path that is there, address .*DOI .*or id"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("nice-shark", V1),
        ("nice-shark/v1", V1),
        ("nice-shark/v0", V0),
        ("nice-shark/0", V0),
        ("nice-shark/1", V1),
        ("nice-shark/1.2", V1),
        ("10.5281/zenodo.1", V1),
    ],
)
def test_a_version_is_named_as_the_zoo_or_the_description_counts(name, version):
    wanted = look_up(name, CATALOG)
    assert (wanted.source, wanted.sha256, wanted.version) == (version.source, version.sha256, version.version)
    assert (wanted.id, wanted.key) == ("nice-shark", f"nice-shark@{version.version}")
    assert {name, "nice-shark", f"nice-shark/{version.version}"} <= set(wanted.names)
    assert ("nice-shark/1.2" in wanted.names) == (version is V1)


def test_a_version_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UserInputError, match=r"nice-shark has no version '3'. There are: v0, v1"):
        look_up("nice-shark/3", CATALOG)


@pytest.mark.parametrize("name", ["young-shark", "unknown-shark"])
def test_without_a_known_version_the_zoo_is_asked(name):
    wanted = look_up(name, CATALOG)
    assert wanted.source == f"http://127.0.0.1:1/newest/{name}/rdf.yaml"
    assert (wanted.key, wanted.sha256, wanted.version, wanted.id) == (f"{name}@newest", None, None, name)
    versioned = look_up(f"{name}/a b/../c", CATALOG)
    assert versioned.source == f"http://127.0.0.1:1/newest/{name}/rdf.yaml?version=a%20b/../c"
    assert versioned.key == f"{name}@a_b_.._c"


def test_an_address_and_a_path_have_keys_of_their_own(tmp_path, monkeypatch):
    assert at_address("https://x/a.zip").key != at_address("https://x/b.zip").key
    monkeypatch.chdir(tmp_path)
    assert at_path(Path("a")) == at_path(tmp_path / "a")
    with pytest.raises(DownloadError, match="begins with https"):
        at_address("ftp://x/a.zip")


def answer(server, record, **content):
    server.put(f"/zenodo/{record}", json.dumps(content).encode())


@pytest.mark.parametrize(
    ("files", "name"),
    [(["a.zip", "rdf.yaml"], "rdf.yaml"), (["b", "bioimageio.yaml"], "bioimageio.yaml"), (["b c.zip"], "b%20c.zip")],
)
def test_a_doi_that_the_list_does_not_have_is_looked_for_on_zenodo(server, files, name):
    answer(server, 6, id=7, files=[{"key": key} for key in files])
    wanted = look_up("10.5281/zenodo.6", CATALOG)
    assert wanted.source == server.url(f"/zenodo/7/{name}")
    assert wanted.names == ("10.5281/zenodo.6", "10.5281/zenodo.7")
    assert (wanted.id, wanted.key) == ("10.5281/zenodo.7", "zenodo-7")


def test_a_doi_with_a_record_means_that_record(server):
    answer(server, 8, id=8, files=[{"key": "rdf.yaml"}])
    assert look_up("10.5281/zenodo.6/8", CATALOG).key == "zenodo-8"


def test_a_doi_of_something_else_is_told(server):
    answer(server, 6, id=7, files=[{"key": "cells.tif"}])
    with pytest.raises(DownloadError, match=r"Expected rdf.yaml or a zip.*found cells.tif"):
        look_up("10.5281/zenodo.6", CATALOG)
    with pytest.raises(DownloadError, match=r"none of Zenodo"):
        look_up("10.1038/nature.6", CATALOG)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"id": "x"}', b'{"id": 1, "files": [3]}', b"[" * 10**6])
def test_an_answer_that_is_no_record_is_told(server, content):
    server.put("/zenodo/6", content)
    with pytest.raises(DownloadError, match="Expected a record of Zenodo"):
        look_up("10.5281/zenodo.6", CATALOG)
