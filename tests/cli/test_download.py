"""`list` and `download` as they are called; everything behind them is tested in tests/zoo."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.zoo import fetching

ENTRY = {"license": "MIT", "own_version": "1", "dois": [], "description": "Finds.", "versions": []}
VERSION = {"version": "v3", "source": "https://zoo/rdf.yaml", "sha256": None}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache with a list of three hours ago; there is no zoo behind it."""
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    for variable in ("S2D_ZOO_COLLECTION_LIST", "BIOIMAGEIO_COLLECTION_INDEX_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1/")
    monkeypatch.setenv("BIOIMAGEIO_COLLECTION_HTTP_PATTERN", "http://127.0.0.1:1/{bioimageio_id}/rdf.yaml")
    monkeypatch.setattr(fetching, "_WAIT", 0)
    entries = [
        {**ENTRY, "id": "nice-fish", "name": "Nuclei net", "tags": ["nuclei", "2d"], "versions": [VERSION]},
        {**ENTRY, "id": "old-fish", "name": "Mito net", "tags": ["shallow2deep"]},
    ]
    listed = {"format": "s2d-zoo collection list", "format_version": 1, "entries": entries}
    listed["fetched_at"] = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    (tmp_path / "cache" / "zoo").mkdir(parents=True)
    (tmp_path / "cache" / "zoo" / "collection.json").write_text(json.dumps(listed))
    return tmp_path / "cache"


@pytest.mark.parametrize("flags", [(), ("--offline",)])
def test_the_zoos_list_is_shown_with_its_age(call, flags):
    outcome = call("list", "--source", "zoo", *flags)
    assert outcome.exit_code == 0
    assert outcome.stdout.splitlines() == [
        "nice-fish\tNuclei net\tMIT\tv3\tnuclei, 2d",
        "old-fish\tMito net\tMIT\t\tshallow2deep",
    ]
    assert outcome.stderr == "The zoo's list, 3 h old: 2 models.\n"


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (("--tag", "shallow2deep"), ["old-fish"]),
        (("--search", "NUCLEI fish"), ["nice-fish"]),
        (("--search", "finds"), ["nice-fish", "old-fish"]),
        (("--search", "mito nuclei"), []),
        (("--tag", "nuclei", "--search", "mito"), []),
    ],
)
def test_models_are_chosen_by_tag_and_words(call, chosen, ids):
    outcome = call("list", "--source", "zoo", *chosen)
    assert [line.partition("\t")[0] for line in outcome.stdout.splitlines()] == ids


def test_bundled_models_are_listed_without_a_network_and_without_a_word(call):
    outcome = call("list", "--search", "nuclei")
    assert outcome == call("list", "--source", "bundled", "--search", "nuclei")
    assert "nuclei-fluo-2d" in [line.partition("\t")[0] for line in outcome.stdout.splitlines()]
    assert outcome.stderr == ""


def test_a_model_is_copied_to_the_output(call, package, tmp_path):
    outcome = call("download", package, "--output", tmp_path / "out", "--quiet")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, f"{tmp_path / 'out'}\n", "")
    with open_package(tmp_path / "out") as contents:
        assert contents.rdf["name"] == "Tiny enhancer"
    again = call("download", package, "--output", tmp_path / "out")
    assert again.exit_code == 2
    assert "--overwrite" in again.message
    assert call("download", package, "--output", tmp_path / "out", "--overwrite").exit_code == 0


def test_without_an_output_it_stays_in_the_cache(call, package, cache):
    outcome = call("download", package, "--offline")
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(str(cache / "zoo" / "models"))
    assert outcome.stdout.endswith("package\n")


def test_what_cannot_be_fetched_ends_with_1_and_what_can_be_no_model_with_2(call):
    outcome = call("download", "some-fish", "--quiet")
    assert outcome.exit_code == 1
    assert "Could not fetch http://127.0.0.1:1/some-fish/rdf.yaml" in outcome.message
    outcome = call("download", "some-fish", "--offline")
    assert outcome.exit_code == 1
    assert "is not in the cache" in outcome.message
    outcome = call("download", "no such file")
    assert outcome.exit_code == 2
    assert "it is no path that is there" in outcome.message
