"""Which enhancers are ranked, at which scales, and what keeps one out."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from s2d_zoo.contract import PixelSize
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.pipeline import ranking_candidates
from s2d_zoo.pipeline.ranking_candidates import find_candidates
from s2d_zoo.zoo import downloads
from s2d_zoo.zoo.collection import bundled_models
from s2d_zoo.zoo.download import download_model

TAKEN = PixelSize(y=4.6, x=4.6, unit="nanometer")


@pytest.fixture(autouse=True)
def empty_catalogue(tmp_path, monkeypatch):
    """Nothing is bundled, nothing was downloaded."""
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ranking_candidates, "bundled_models", lambda: ())


@pytest.fixture
def delivered(classifier):
    return classifier.contract


@pytest.fixture
def sized(folder):
    """An enhancer that states a pixel size."""
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["pixel_size"] = TAKEN.model_dump(mode="json")
    return str(folder.save())


def with_size(contract, size):
    return contract.model_copy(update={"pixel_size": PixelSize(y=size, x=size)})


def test_the_bundled_enhancers_are_ranked_unasked(delivered, monkeypatch):
    monkeypatch.setattr(ranking_candidates, "bundled_models", bundled_models)
    usable, unusable = find_candidates((), delivered)
    assert "nuclei-fluo-2d" in [one.name for one in usable]
    assert unusable == []


def test_a_bundled_enhancer_that_was_downloaded_too_is_ranked_once(delivered, monkeypatch):
    monkeypatch.setattr(ranking_candidates, "bundled_models", bundled_models)
    before, _ = find_candidates((), delivered)
    download_model("nuclei-fluo-2d")
    after, _ = find_candidates((), delivered)
    assert [(one.name, one.rescale) for one in after] == [(one.name, one.rescale) for one in before]


def test_a_package_that_is_named_twice_is_ranked_once(delivered, package):
    usable, _ = find_candidates((str(package), str(package.parent / "." / package.name)), delivered)
    assert [(one.name, one.rescale) for one in usable] == [(str(package), 1.0)]
    assert usable[0].enhancer.id == "tiny-enhancer"


def test_downloaded_enhancers_are_ranked_and_other_models_are_not(delivered, folder, tmp_path):
    enhancer = download_model(str(folder.save()))
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    folder.rdf["tags"] = ["nuclei"]
    shutil.copytree(folder.save(), tmp_path / "other")
    download_model(str(tmp_path / "other"))
    usable, unusable = find_candidates((), delivered)
    assert [one.name for one in usable] == [str(enhancer.folder)]
    assert usable[0].enhancer.id == "tiny-enhancer"
    assert unusable == []


def test_a_damaged_download_is_listed_with_the_reason(delivered, folder, package):
    model = download_model(str(folder.save()))
    (model.folder / "rdf.yaml").write_text("[", encoding="utf-8")
    usable, unusable = find_candidates((str(package),), delivered)
    assert [one.name for one in usable] == [str(package)]
    assert [one.name for one in unusable] == [str(model.folder)]
    assert "rdf.yaml" in unusable[0].reason


def test_a_download_is_called_by_the_shortest_name_that_means_it(delivered, folder):
    newest = download_model(str(folder.save()))
    older = newest.folder.parents[1] / "older"
    shutil.copytree(newest.folder.parent, older)
    for place, version, age in ((newest.folder.parent, "v1", 0), (older, "v0", 1)):
        named = {"id": "tiny-shark", "version": version, "names": ("tiny-shark", f"tiny-shark/{version}")}
        fetched_at = newest.fetched_at - timedelta(hours=age)
        downloads.write_record(replace(newest, fetched_at=fetched_at, **named), place)
    usable, _ = find_candidates((), delivered)
    assert [one.name for one in usable] == ["tiny-shark", "tiny-shark/v0"]


def test_what_does_not_fit_is_listed_with_the_reason(delivered, package, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    volume = delivered.model_copy(update={"ndim": 3})
    usable, unusable = find_candidates((str(package), str(tmp_path / "broken.zip")), volume)
    assert usable == []
    assert [one.name for one in unusable] == [str(package), str(tmp_path / "broken.zip")]
    assert "takes 2D probabilities; the forest delivers 3D" in unusable[0].reason
    assert "broken.zip" in unusable[1].reason


@pytest.fixture
def download(folder, tmp_path):
    """Download the tiny enhancer under a name, with tags."""

    def fetch(name, *tags):
        folder.rdf["tags"] = list(tags)
        shutil.copytree(folder.save(), tmp_path / name)
        return str(download_model(str(tmp_path / name)).folder)

    return fetch


def test_a_tag_leaves_those_that_have_it_and_those_that_are_named(delivered, package, download, monkeypatch):
    nuclei, other = download("nuclei", "Shallow2Deep", "Nuclei"), download("other", "shallow2deep", "membranes")
    usable, unusable = find_candidates((str(package),), delivered, tag="nuclei")
    assert [one.name for one in usable] == [nuclei, str(package)]
    assert unusable == []
    assert [one.name for one in find_candidates((), delivered, tag="MEMBRANES")[0]] == [other]
    monkeypatch.setattr(ranking_candidates, "bundled_models", bundled_models)
    assert {one.name for one in find_candidates((), delivered, tag="nuclei")[0]} == {
        nuclei,
        "nuclei-fluo-2d",
        "nuclei-2d",
    }


def test_what_cannot_be_opened_is_told_whatever_the_tag(delivered, download):
    nuclei, other = download("nuclei", "shallow2deep", "nuclei"), download("other", "shallow2deep")
    (Path(other) / "rdf.yaml").write_text("[", encoding="utf-8")
    usable, unusable = find_candidates((), delivered, tag="nuclei")
    assert ([one.name for one in usable], [one.name for one in unusable]) == ([nuclei], [other])


def test_a_tag_that_no_enhancer_has_is_refused(delivered, package, download):
    with pytest.raises(ConfigError, match=r"'nuclie'\. There are no enhancers with tags"):
        find_candidates((str(package),), delivered, tag="nuclie")
    download("nuclei", "shallow2deep", "nuclei")
    with pytest.raises(ConfigError, match=r"'nuclie'\. Their tags are: nuclei, shallow2deep"):
        find_candidates((str(package),), delivered, tag="nuclie")


def test_a_name_that_means_nothing_is_refused(delivered):
    with pytest.raises(PackageError, match="No model 'nuclei-flou'"):
        find_candidates(("nuclei-flou",), delivered)


def test_pixel_sizes_that_differ_make_a_second_candidate(delivered, sized):
    usable, unusable = find_candidates((sized,), with_size(delivered, 0.0092))
    assert unusable == []
    as_is, rescaled = usable
    assert (as_is.rescale, as_is.automatic) == (1.0, False)
    assert rescaled.rescale == pytest.approx(2)
    assert rescaled.automatic
    assert [note.partition(":")[0] for note in as_is.notes] == ["pixel_size"]
    assert rescaled.notes == ()


@pytest.mark.parametrize("size", [None, 0.0046, 0.0048, 0.0044], ids=str)
def test_pixel_sizes_that_are_unknown_or_all_but_equal_make_none(delivered, sized, size):
    contract = delivered if size is None else with_size(delivered, size)
    assert [one.rescale for one in find_candidates((sized,), contract)[0]] == [1.0]


def test_pixels_of_another_world_are_not_rescaled(delivered, sized):
    usable, (unusable,) = find_candidates((sized,), with_size(delivered, 0.5))
    assert [one.rescale for one in usable] == [1.0]
    assert unusable.name == f"{sized}, rescaled by 109"
    assert "must lie in 1/16…16" in unusable.reason


def test_given_scales_are_tried_too(delivered, package):
    usable, _ = find_candidates((str(package),), delivered, factors=(0.5, 1.0))
    assert [(one.rescale, one.automatic) for one in usable] == [(1.0, False), (0.5, False)]
    with pytest.raises(ConfigError, match="got 100"):
        find_candidates((str(package),), delivered, factors=(100.0,))


def test_an_enhancer_without_a_contract_has_a_note(delivered, folder):
    folder.keep_weights("torchscript")
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    folder.rdf["tags"] = ["shallow2deep"]
    ((usable,), _) = find_candidates((str(folder.save()),), delivered)
    assert "states no RF contract" in usable.notes[-1]
