"""The record of a downloaded model."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.zoo.local_zoo import sha256

from s2d_zoo.zoo.downloads import (
    DownloadedModel,
    downloaded_models,
    find_downloaded,
    models_dir,
    partial_dir,
    read_record,
    write_record,
)


@pytest.fixture
def keep():
    """Put a model into the cache."""

    def make(key, *names, age=0):
        folder = models_dir() / key / "package"
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(b"a")
        model = DownloadedModel(
            folder=folder,
            source="https://zoo/rdf.yaml",
            id="a",
            version=None,
            names=names,
            fetched_at=datetime.now(UTC) - timedelta(hours=age),
            description_sha256="0" * 64,
            files={"a": sha256(b"a")},
        )
        write_record(model, folder.parent)
        return model

    return make


def test_everything_lies_in_one_place(cache):
    assert models_dir() == cache / "zoo" / "models"
    assert partial_dir() == cache / "zoo" / "partial"


def test_a_record_is_read_as_it_was_written(keep):
    model = keep("a", "a", "a/v0")
    assert read_record(model.folder.parent) == model


def test_the_model_that_was_fetched_last_is_found(keep):
    assert downloaded_models() == ()
    old, new = keep("a@v0", "a", "a/v0", age=2), keep("a@v1", "a", "a/v1", age=1)
    keep(".a@v1.tmp", "a")  # what a killed process leaves behind
    assert downloaded_models() == (new, old)
    assert find_downloaded("a") == new
    assert find_downloaded("a/v0") == old
    assert find_downloaded("b") is None


def test_files_that_changed_or_went_are_told(keep):
    model = keep("a", "a")
    assert model.damaged() == ()
    (model.folder / "a").write_bytes(b"b")
    assert model.damaged() == ("a",)
    (model.folder / "a").unlink()
    assert model.damaged() == ("a",)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "s2d-zoo downloaded model", "format_version": 1}'])
def test_a_damaged_record_is_told_and_not_used(keep, content, caplog):
    folder = keep("a", "a").folder.parent
    (folder / "record.json").write_text(content)
    assert find_downloaded("a") is None
    assert "is damaged and not used" in caplog.text


def test_a_record_of_another_s2d_zoo_is_not_used(keep):
    path = keep("a", "a").folder.parent / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    assert read_record(path.parent) is None


def test_a_folder_without_a_record_is_no_model(tmp_path):
    assert read_record(tmp_path) is None
