"""F03: what stands in rdf.yaml, and who cannot read it."""

import pytest

from s2d_zoo.validate.description_checks import check_wording

FIJI, QUPATH, ILASTIK = "deepimagej", "qupath", "ilastik"


def test_a_good_description_is_read_by_all(judged):
    status, message = judged(check_wording)["all"]
    assert status == "passed"
    assert "format 0.5.9" in message


def test_format_04_has_no_ids_and_needs_none(judged, old_format):
    assert judged(check_wording, old_format.save_as_is())["all"][0] == "passed"


def test_a_config_that_switches_tiling_off_is_found_in_format_04_too(judged, old_format):
    old_format.rdf["config"] = {"deepimagej": {"allow_tiling": False}}
    assert set(judged(check_wording, old_format.save_as_is())) == {FIJI}


def no_license(rdf):
    del rdf["license"]


def no_authors(rdf):
    del rdf["authors"]


def format_0(rdf):
    rdf["format_version"] = "0.5.0"


def file_mappings(rdf):
    rdf["format_version"] = "0.5.12"
    rdf["documentation"] = {"source": "README.md"}
    rdf["covers"] = [{"source": "cover.png"}]


def icon_mapping(rdf):
    rdf["format_version"] = "0.5.12"
    del rdf["documentation"], rdf["covers"]
    rdf["icon"] = {"source": "cover.png"}


def newer_without_files(rdf):
    rdf["format_version"] = "0.5.12"
    del rdf["covers"], rdf["documentation"]


def license_mapping(rdf):
    rdf["license"] = {"source": "README.md"}


def no_model_id(rdf):
    del rdf["id"]


def no_tiling(rdf):
    rdf["config"]["deepimagej"] = {}


def stardist(rdf):
    rdf["name"] = "My StarDist"
    rdf["config"]["stardist"] = {}


def no_tensor_id(rdf):
    del rdf["outputs"][0]["id"]


def no_axis_id(rdf):
    del rdf["inputs"][0]["axes"][3]["id"]


def batch_id(rdf):
    rdf["inputs"][0]["axes"][0]["id"] = "batch"


def no_offset(rdf):
    del rdf["outputs"][0]["axes"][2]["size"]["offset"]


def scalar_scale_linear(rdf):
    rdf["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 0.0}}]


def no_kwargs(rdf):
    rdf["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance"}]


@pytest.mark.parametrize(
    ("change", "status", "programs", "words"),
    [
        (no_license, "failed", {QUPATH}, "no license"),
        (no_authors, "failed", {FIJI, QUPATH}, "no authors"),
        (format_0, "failed", {QUPATH}, "0.5.0"),
        (file_mappings, "failed", {FIJI, QUPATH, ILASTIK}, "documentation and covers written as source and sha256"),
        (icon_mapping, "failed", {ILASTIK, QUPATH}, "icon written as|no documentation"),
        (license_mapping, "failed", {FIJI, QUPATH}, "SPDX identifier"),
        (no_model_id, "failed", {FIJI}, "the model has no id"),
        (no_tiling, "failed", {FIJI}, "allow_tiling"),
        (stardist, "limited", {FIJI}, "StarDist"),
        (no_tensor_id, "failed", {FIJI, QUPATH}, "output 1 has no id"),
        (no_axis_id, "failed", {FIJI, QUPATH}, "input 1: a space axis has no id"),
        (batch_id, "limited", {FIJI}, "batch axis has an id"),
        (no_offset, "limited", {QUPATH}, "the size of y has no offset"),
        (scalar_scale_linear, "failed", {QUPATH}, "single numbers"),
        (no_kwargs, "failed", {QUPATH}, "no kwargs"),
    ],
)
def test_what_one_reader_stumbles_over_is_told_for_it_alone(folder, judged, change, status, programs, words):
    change(folder.rdf)
    found = judged(check_wording)
    assert set(found) == programs, found
    for found_status, message in found.values():
        assert found_status == status
        assert any(word in message for word in words.split("|"))


def test_a_newer_format_without_file_mappings_is_a_limit(folder, judged):
    newer_without_files(folder.rdf)
    found = judged(check_wording)
    assert found[FIJI] == ("limited", "format 0.5.12 is newer than what its reader was made for; write 0.5.9")
    assert ILASTIK not in found


def test_tiling_that_is_allowed_is_fine(folder, judged):
    folder.rdf["config"]["deepimagej"] = {"allow_tiling": True}
    assert judged(check_wording)["all"][0] == "passed"


def test_a_nickname_is_as_good_as_an_id(folder, judged):
    del folder.rdf["id"]
    folder.rdf["config"]["bioimageio"]["nickname"] = "tiny-fish"
    assert judged(check_wording)["all"][0] == "passed"
