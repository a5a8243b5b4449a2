"""A06: each operation, and who does it otherwise than described."""

import pytest

from s2d_zoo.validate.processing_checks import check_processing

FIJI, QUPATH, ILASTIK = "deepimagej", "qupath", "ilastik"
FAILED, LIMITED = "failed", "limited"
CYX = ["channel", "y", "x"]


def test_without_operations_all_is_well(judged):
    assert judged(check_processing)["all"] == ("passed", "there are none")


def test_the_conversion_of_types_is_harmless(folder, judged):
    folder.rdf["inputs"][0]["preprocessing"] = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]
    assert judged(check_processing)["all"][0] == "passed"


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("clip", {"min": 0.0, "max": 1.0}, {}),
        ("sigmoid", None, {}),
        ("binarize", {"threshold": 0.5}, {}),
        ("binarize", {"threshold": [0.5], "axis": "channel"}, {FIJI: LIMITED}),
        ("scale_linear", {"gain": 2.0, "offset": 0.0}, {}),
        ("clip", {"min": 0.0}, {FIJI: LIMITED}),
        ("zero_mean_unit_variance", {"axes": CYX}, {QUPATH: LIMITED, ILASTIK: LIMITED}),
        ("zero_mean_unit_variance", {"axes": ["y", "x"]}, {FIJI: LIMITED, QUPATH: LIMITED, ILASTIK: LIMITED}),
        ("zero_mean_unit_variance", {"axes": ["channel", "y"]}, {FIJI: FAILED, QUPATH: LIMITED, ILASTIK: LIMITED}),
        ("zero_mean_unit_variance", {}, {QUPATH: FAILED, ILASTIK: LIMITED}),
        ("fixed_zero_mean_unit_variance", {"mean": 1.0, "std": 2.0}, {QUPATH: FAILED}),
        (
            "fixed_zero_mean_unit_variance",
            {"mean": [1.0], "std": [2.0], "axis": "channel"},
            {FIJI: FAILED, QUPATH: FAILED},
        ),
        ("scale_range", {"axes": CYX}, {QUPATH: LIMITED, ILASTIK: LIMITED}),
        ("scale_range", {}, {FIJI: LIMITED, QUPATH: FAILED, ILASTIK: LIMITED}),
        ("softmax", {"axis": "channel"}, {FIJI: FAILED, QUPATH: FAILED}),
    ],
)
def test_operations_are_judged_for_each_program(folder, judged, name, kwargs, expected):
    folder.rdf["inputs"][0]["preprocessing"] = [{"id": name, **({} if kwargs is None else {"kwargs": kwargs})}]
    found = judged(check_processing)
    assert {program: status for program, (status, _) in found.items()} == (expected or {"all": "passed"}), found
    if not expected:
        assert found["all"][1] == f"every program does {name} alike"


def test_values_for_each_channel_are_wrong_in_fiji(folder, judged):
    folder.rdf["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]
    kwargs = {"gain": [1.0, 2.0], "offset": [0.0, 0.0], "axis": "channel"}
    folder.rdf["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": kwargs}]
    found = judged(check_processing)
    assert set(found) == {FIJI}
    assert "takes the first value for every channel" in found[FIJI][1]


def test_postprocessing_is_judged_too(folder, judged):
    kwargs = {"reference_tensor": "probabilities", "axes": CYX}
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "scale_mean_variance", "kwargs": kwargs}]
    found = judged(check_processing)
    assert {program: status for program, (status, _) in found.items()} == {
        FIJI: FAILED,
        QUPATH: FAILED,
        ILASTIK: LIMITED,
    }


def test_operations_of_format_04_are_judged_after_their_conversion(judged, old_format):
    old_format.rdf["inputs"][0]["preprocessing"] = [
        {"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "cyx", "max_percentile": 99.0}}
    ]
    assert set(judged(check_processing, old_format.save_as_is())) == {QUPATH, ILASTIK}
