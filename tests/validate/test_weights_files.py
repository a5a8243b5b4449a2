"""W03 and S02: which formats there are, and which are code."""

import pytest
import torch

from s2d_zoo.validate.weights_files import check_formats, check_python_code

CORE, FIJI, QUPATH, ILASTIK = "core", "deepimagej", "qupath", "ilastik"


@pytest.mark.parametrize("check", [check_formats, check_python_code])
def test_a_good_package_passes(judged, check):
    assert judged(check)["all"][0] == "passed"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("torchscript",), {"all": "passed"}),
        (("onnx",), {ILASTIK: "failed", QUPATH: "failed"}),
        (("pytorch_state_dict",), {FIJI: "limited", QUPATH: "failed"}),
        (("pytorch_state_dict", "onnx"), {QUPATH: "failed"}),
    ],
)
def test_programs_without_a_format_are_told(folder, judged, names, expected):
    found = judged(check_formats, folder.keep_weights(*names).save())
    assert {program: status for program, (status, _) in found.items()} == expected


def test_keras_weights_run_in_core_only(folder, judged):
    folder.rdf["weights"] = {"keras_hdf5": {"source": "weights.onnx", "tensorflow_version": "2.10.0"}}
    found = judged(check_formats, folder.save_as_is())
    assert {program: status for program, (status, _) in found.items()} == dict.fromkeys(
        (FIJI, QUPATH, ILASTIK), "failed"
    )


def change_architecture(folder):
    with (folder.path / "unet.py").open("a") as file:
        file.write("\nraise SystemExit\n")


def test_code_of_others_is_advice_where_another_format_does_without(folder, judged):
    change_architecture(folder)
    status, message = judged(check_python_code)["advice"]
    assert status == "limited"
    assert "(unet.py); onnx and torchscript can be run without" in message


def test_code_of_others_is_a_limit_for_all_where_there_is_nothing_else(folder, judged):
    change_architecture(folder)
    status, message = judged(check_python_code, folder.keep_weights("pytorch_state_dict").save())["all"]
    assert status == "limited"
    assert "who runs the model runs that code" in message


def test_an_architecture_from_a_python_package_is_told(folder, judged):
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"] = {"import_from": "monai.nets", "callable": "UNet"}
    assert "the Python package monai.nets" in judged(check_python_code)["advice"][1]


def test_custom_postprocessing_is_a_limit_where_it_is_run(folder, judged):
    step = {"id": "custom", "callable": "f", "source": "unet.py", "sha256": "", "kwargs": {}}
    folder.rdf["outputs"][0]["postprocessing"] = [step]
    found = judged(check_python_code)
    assert {program: status for program, (status, _) in found.items()} == {CORE: "limited", ILASTIK: "limited"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("torchscript", "pytorch_state_dict"), {CORE}), (("pytorch_state_dict",), {CORE, ILASTIK, FIJI})],
)
def test_a_state_dict_that_is_more_than_tensors_is_not_read(folder, judged, names, expected):
    torch.save({"weight": print}, folder.path / "weights_state_dict.pt")
    found = judged(check_python_code, folder.keep_weights(*names).save())
    assert {program for program, (status, _) in found.items() if status == "failed"} == expected
    assert "weights_state_dict.pt cannot be read as tensors by name: the file wants to call" in found[CORE][1]
