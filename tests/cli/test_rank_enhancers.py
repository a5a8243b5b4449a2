"""`s2d-zoo rank-enhancers`: what it says, and how it ends."""

import json

import pytest

from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.pipeline import ranking_candidates
from s2d_zoo.zoo import collection


@pytest.fixture(autouse=True)
def empty_catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ranking_candidates, "bundled_models", lambda: ())


@pytest.fixture
def rank(call, files, package):
    """Call the command with an image, its strokes and the tiny enhancer, and what is added."""

    def invoke(*options, enhancer=package, strokes=files.strokes):
        given = ("--image", files.image, "--scribbles", strokes, "--trees", 3)
        return call("rank-enhancers", *given, *(() if enhancer is None else ("--enhancer", enhancer)), *options)

    return invoke


@pytest.fixture
def useful(monkeypatch):
    """The tiny enhancer is untrained; as if it gave back what it takes."""
    monkeypatch.setattr(Enhancer, "enhance", lambda _self, maps, _delivered, **_: maps.isel(channel=[1, 0]))


def test_a_ranking_ends_with_0_and_the_next_command(rank, useful, files, package):
    outcome = rank("--quiet")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr == ""
    assert "why: agrees with held-out strokes about as well as RF alone; " in outcome.stdout
    last = outcome.stdout.splitlines()[-1].strip()
    assert last.startswith(f"s2d-zoo adapt --image {files.image} --scribbles {files.strokes} --enhancer {package} ")


def test_progress_goes_to_stderr(rank, useful):
    outcome = rank()
    assert "forests" in outcome.stderr
    assert "enhancers: 100%" in outcome.stderr


def test_json_is_written_and_not_overwritten_unasked(rank, useful, tmp_path, package):
    target = tmp_path / "ranking.json"
    outcome = rank("--quiet", "--json", target, "--rescale", 0.5)
    assert outcome.exit_code == 0, outcome.stderr
    content = json.loads(target.read_text())
    assert {(row["enhancer"], row["rescale"]) for row in content["ranking"]} == {(str(package), 1), (str(package), 0.5)}
    again = rank("--quiet", "--json", target)
    assert again.exit_code == 2
    assert "ranking.json" in again.message
    assert rank("--quiet", "--json", target, "--overwrite").exit_code == 0
    assert len(json.loads(target.read_text())["ranking"]) == 1


def test_json_does_not_replace_an_input(rank, files):
    before = files.strokes.read_bytes()
    assert rank("--quiet", "--json", files.strokes, "--overwrite").exit_code == 2
    assert files.strokes.read_bytes() == before


def test_with_a_tag_only_those_that_have_it_are_ranked(rank, useful, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_candidates, "bundled_models", collection.bundled_models)
    outcome = rank("--quiet", "--tag", "mitochondria", "--json", tmp_path / "ranking.json", enhancer=None)
    assert outcome.exit_code == 0, outcome.stderr
    content = json.loads((tmp_path / "ranking.json").read_text())
    assert content["tag"] == "mitochondria"
    assert {row["enhancer"] for row in content["ranking"]} == {"mito-em-2d", "mito-em-2d-vnc-epfl"}
    outcome = rank("--quiet", "--tag", "mitochondrion")
    assert outcome.exit_code == 2
    assert "No bundled or downloaded enhancer has the tag 'mitochondrion'. Their tags are: 2d, " in outcome.message


def test_where_there_is_nothing_to_use_it_ends_with_1(rank, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    outcome = rank("--quiet", enhancer=tmp_path / "broken.zip")
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("No enhancer can be used here.")
    assert "broken.zip: " in outcome.stdout
    assert rank("--quiet", enhancer=None).exit_code == 1


def test_misuse_ends_with_2(call, rank, files):
    outcome = call("rank-enhancers", "--image", files.image)
    assert outcome.exit_code == 2
    assert "compared on strokes" in outcome.message
    assert rank("--rescale", 99).exit_code == 2
    assert rank("--foreground", 7).exit_code == 2
