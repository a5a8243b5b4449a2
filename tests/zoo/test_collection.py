"""Finding packages by id or path, without a network; downloaded ones are found in test_download.py too."""

import json
import shutil

import pytest

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.zoo import collection
from s2d_zoo.zoo.collection import bundled_models, find_at_hand, find_model
from s2d_zoo.zoo.download import download_model


@pytest.fixture
def bundle(tmp_path, package, monkeypatch):
    """A folder with two bundled models, in place of the real one."""
    told = {"name": "Tiny", "description": "Does.", "tags": ["nuclei"], "license": "MIT"}
    version = {"version": "v0", "source": "enhancer.zip", "sha256": "0" * 64}
    item = {"type": "model", "versions": [version]}
    items = [{**item, "id": "b-model", "manifest": told}, {**item, "id": "a-model", "manifest": {**told, "tags": []}}]
    listed = {"items": items}
    (tmp_path / "collection.json").write_text(json.dumps(listed), encoding="utf-8")
    shutil.copy(package, tmp_path / "enhancer.zip")
    monkeypatch.setattr(collection, "_bundled_folder", lambda: tmp_path)
    return tmp_path


def test_bundled_models_are_listed_by_id(bundle):
    first, second = bundled_models()
    assert (first.id, second.id) == ("a-model", "b-model")
    assert second.tags == ("nuclei",)
    assert second.path == bundle / "enhancer.zip"
    assert (second.entry.name, second.entry.description, second.entry.license) == ("Tiny", "Does.", "MIT")


def test_a_model_is_found_by_its_id(bundle):
    assert find_model("a-model") == bundle / "enhancer.zip"


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_model_is_found_by_its_path(package, kind):
    assert find_model(kind(package)) == package


def test_a_model_that_is_nowhere_is_refused_with_a_list_of_what_there_is(bundle):
    with pytest.raises(PackageError, match=r"No model 'c-model'.*Bundled: a-model, b-model. Downloaded: none"):
        find_model("c-model")


def test_a_downloaded_model_is_found_by_its_id_and_version(bundle, zoo):
    model = download_model("tiny-shark")
    assert find_model("tiny-shark") == find_model("tiny-shark/v0") == model.folder
    with pytest.raises(PackageError, match=r"Downloaded: tiny-shark. Fetch one with s2d-zoo download"):
        find_model("tiny-shark/v1")


def test_a_path_goes_before_a_downloaded_model(zoo, tmp_path, monkeypatch):
    download_model("tiny-shark")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-shark").mkdir()
    assert str(find_model("tiny-shark")) == "tiny-shark"


def test_a_model_at_hand_is_found_by_id_and_version_only(bundle, zoo, monkeypatch):
    model = download_model("tiny-shark")
    assert find_at_hand("tiny-shark", None) == find_at_hand("bioimage-io/tiny-shark", "v0") == model.folder
    assert find_at_hand("a-model", None) == bundle / "enhancer.zip"
    assert find_at_hand("a-model", "1") is find_at_hand("tiny-shark", "v1") is None
    monkeypatch.chdir(bundle)
    assert find_at_hand("enhancer.zip", None) is find_at_hand(str(bundle / "enhancer.zip"), None) is None


@pytest.mark.parametrize("model", bundled_models(), ids=lambda model: model.id)
def test_every_model_in_the_real_bundle_is_as_its_list_says(model):
    assert find_model(model.id) == model.path
    assert sha256_of(model.path) == model.entry.versions[-1].sha256
    assert model.path.stat().st_size <= 8_000_000
    with open_package(model.path) as contents:
        stated = {key: contents.rdf[key] for key in ("id", "name", "description", "license", "tags")}
    listed = {key: getattr(model.entry, key) for key in stated}
    assert {**listed, "tags": list(model.tags)} == stated
