"""A02 to A05: axes, sizes, halo, data types."""

import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate.axes_checks import check_axes, check_dtypes, check_halo, check_sizes
from s2d_zoo.validate.static_checks import open_model

FIJI, QUPATH, ILASTIK = "deepimagej", "qupath", "ilastik"


@pytest.mark.parametrize("check", [check_axes, check_sizes, check_dtypes])
def test_a_good_package_passes(judged, check):
    assert judged(check)["all"][0] == "passed"


# ---- A02


def second_input(rdf):
    rdf["inputs"].append({**rdf["inputs"][0], "id": "more", "optional": True})


def second_output(rdf):
    rdf["outputs"].append({**rdf["outputs"][0], "id": "more"})


def volume(rdf):
    size = {"tensor_id": "probabilities", "axis_id": "z", "offset": 0}
    for tensor, length in ((rdf["inputs"][0], {"min": 16, "step": 4}), (rdf["outputs"][0], size)):
        tensor["axes"].insert(2, {"type": "space", "id": "z", "size": length})


def channel_last(rdf):
    for tensor in (rdf["inputs"][0], rdf["outputs"][0]):
        tensor["axes"].append(tensor["axes"].pop(1))


def other_order(rdf):
    rdf["outputs"][0]["axes"].append(rdf["outputs"][0]["axes"].pop(1))


def batch_second(rdf):
    for tensor in (rdf["inputs"][0], rdf["outputs"][0]):
        tensor["axes"].insert(1, tensor["axes"].pop(0))


def time_axis(rdf):
    size = {"tensor_id": "probabilities", "axis_id": "time", "offset": 0}
    for tensor, length in ((rdf["inputs"][0], 4), (rdf["outputs"][0], size)):
        tensor["axes"].insert(1, {"type": "time", "id": "time", "size": length})


def index_axis(rdf):
    rdf["inputs"][0]["axes"].insert(1, {"type": "index", "id": "index", "size": 4})


def no_batch(rdf):
    for tensor in (rdf["inputs"][0], rdf["outputs"][0]):
        del tensor["axes"][0]


def no_channel(rdf):
    for tensor in (rdf["inputs"][0], rdf["outputs"][0]):
        del tensor["axes"][1]


@pytest.mark.parametrize(
    ("change", "programs", "words"),
    [
        (second_input, {FIJI, QUPATH, ILASTIK}, "one input, found 2"),
        (second_output, {QUPATH, ILASTIK}, "one output, found 2"),
        (volume, {QUPATH}, "volumes"),
        (other_order, {QUPATH, ILASTIK}, "the same axes in and out"),
        (batch_second, {QUPATH}, "found channel batch y x"),
        (time_axis, {FIJI, QUPATH}, "found batch time channel y x"),
        (index_axis, {FIJI, QUPATH, ILASTIK}, "found batch index channel y x"),
        (no_batch, {QUPATH, ILASTIK}, "found channel y x|no batch axis"),
        (no_channel, {QUPATH, ILASTIK}, "found batch y x|no channel axis"),
    ],
)
def test_axes_that_a_program_cannot_take_are_told(folder, judged, change, programs, words):
    change(folder.rdf)
    found = judged(check_axes)
    assert set(found) == programs, found
    for status, message in found.values():
        assert status == "failed"
        assert any(word in message for word in words.split("|")), message


def test_the_channel_may_be_last(folder, judged):
    channel_last(folder.rdf)
    assert judged(check_axes)["all"][0] == "passed"


def test_an_enhancer_of_two_channels_has_a_limit_in_ilastik(folder, judged):
    folder.rdf["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]
    found = judged(check_axes)
    assert set(found) == {ILASTIK}
    assert found[ILASTIK][0] == "limited"
    folder.rdf["tags"].remove("shallow2deep")
    assert judged(check_axes)["all"][0] == "passed"


# ---- A03


def odd_smallest(rdf):
    for axis in rdf["inputs"][0]["axes"][2:]:
        axis["size"] = {"min": 62, "step": 4}


def large_smallest(rdf):
    for axis in rdf["inputs"][0]["axes"][2:]:
        axis["size"] = {"min": 1024, "step": 4}


def fixed(rdf):
    for axis in rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 64


def scaled(rdf):
    rdf["inputs"][0]["axes"][2]["scale"] = 0.5
    rdf["outputs"][0]["axes"][2]["scale"] = 0.5


def enlarged(rdf):
    rdf["outputs"][0]["axes"][2]["scale"] = 0.5


def enlarged_by_the_input(rdf):
    rdf["inputs"][0]["axes"][2]["scale"] = 2.0


def cropped(rdf):
    rdf["outputs"][0]["axes"][2]["size"]["offset"] = -8


def both_fixed(rdf):
    for axis in rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 512
    for axis in rdf["outputs"][0]["axes"][2:]:
        axis["size"] = 500
        del axis["halo"]


def of_an_output(rdf):
    second_output(rdf)
    rdf["outputs"][1]["axes"] = [dict(axis) for axis in rdf["outputs"][1]["axes"]]
    rdf["outputs"][1]["axes"][2]["size"] = {"tensor_id": "enhanced", "axis_id": "y", "offset": 0}
    for axis in rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 512
    for axis in rdf["outputs"][0]["axes"][2:]:
        axis["size"] = 512
        del axis["halo"]


@pytest.mark.parametrize(
    ("change", "status", "programs", "words"),
    [
        (odd_smallest, "failed", {FIJI, QUPATH}, "not a multiple of the step 4|is fed 496 px"),
        (large_smallest, "limited", {QUPATH}, "above QuPath's tile"),
        (fixed, "failed", {QUPATH}, "feeds 512 px"),
        (scaled, "failed", {FIJI}, "the scale 0.5"),
        (enlarged, "failed", {FIJI, ILASTIK}, "the scale 0.5|not of the size"),
        (enlarged_by_the_input, "failed", {FIJI, ILASTIK}, "2 times as large|not of the size"),
        (cropped, "failed", {FIJI, ILASTIK}, "counted twice|not of the size"),
        (both_fixed, "failed", {ILASTIK}, "is 500 px, expected the size of the input"),
        (of_an_output, "failed", {FIJI}, "the size of another output"),
    ],
)
def test_sizes_that_a_tiler_cannot_meet_are_told(folder, judged, change, status, programs, words):
    change(folder.rdf)
    found = judged(check_sizes)
    assert set(found) == programs, found
    for found_status, message in found.values():
        assert found_status == status
        assert any(word in message for word in words.split("|")), message


def test_a_smallest_size_that_gives_another_tile_is_fine_if_the_model_takes_that(folder, judged):
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"] = {"min": 96, "step": 4}
    assert judged(check_sizes)["all"] == (
        "passed",
        "y 96 + n * 4 px, x 96 + n * 4 px; outputs have the size of the input",
    )


# ---- A04


def test_the_sizes_of_images_that_fiji_takes_are_told(judged):
    status, message = judged(check_halo)[FIJI]
    assert status == "limited"
    assert "below about 22 px (y) or 22 px (x) fail" in message
    assert "50.3 million" in message


def test_qupath_ignores_the_halo_of_format_05_only(judged, old_format):
    assert QUPATH not in judged(check_halo, old_format.save_as_is())


def test_a_package_of_one_size_without_halo_has_no_seams_and_no_upper_limit(folder, judged):
    fixed(folder.rdf)
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        del axis["halo"]
    assert judged(check_halo) == {FIJI: ("limited", "images below about 22 px (y) or 22 px (x) fail")}


def test_a_halo_that_leaves_nothing_of_a_tile_fails(folder):
    with open_package(folder.path) as contents:
        model = open_model(contents)
        for axis in model.description.outputs[0].axes[2:]:
            axis.__dict__["halo"] = 32  # bioimageio.spec refuses it by itself in newer versions
        failed = [result for result in check_halo(model) if result.status == "failed"]
    assert {result.part for result in failed} == {ILASTIK, FIJI}
    assert "nothing is left of the smallest tile, 64 px, without a halo of 32 px" in failed[0].message


# ---- A05


def test_an_integer_input_fails_unless_it_is_converted(folder, judged):
    folder.rdf["inputs"][0]["data"] = {"type": "uint8"}
    found = judged(check_dtypes)
    assert set(found) == {FIJI, QUPATH}
    assert "fed to the network as uint8" in found[FIJI][1]
    folder.rdf["inputs"][0]["preprocessing"] = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]
    assert judged(check_dtypes)["all"][0] == "passed"


@pytest.mark.parametrize(("dtype", "programs"), [("uint8", {FIJI}), ("float64", {FIJI}), ("int64", {"all"})])
def test_an_output_of_another_type_is_a_limit_in_fiji(folder, judged, dtype, programs):
    folder.rdf["outputs"][0]["data"] = {"type": dtype}
    assert set(judged(check_dtypes)) == programs
