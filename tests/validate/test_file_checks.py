"""F04, F05 and S03: names of files, test tensors, the network."""

import shutil

import numpy as np
import pytest
from bioimageio.spec._internal import constants

from s2d_zoo.validate.file_checks import KNOWN_GITHUB_USERS, check_names, check_network_use, check_test_tensors

CORE, FIJI, QUPATH, ILASTIK = "core", "deepimagej", "qupath", "ilastik"


@pytest.mark.parametrize("check", [check_names, check_test_tensors, check_network_use])
def test_a_good_package_passes(judged, check):
    assert judged(check)["all"][0] == "passed"


# ---- F04


def other_name(folder):
    path = folder.save()
    (path / "rdf.yaml").rename(path / "bioimageio.yaml")


def model_name(folder):
    path = folder.save()
    (path / "rdf.yaml").rename(path / "model.yaml")


def renamed(folder, entry, name):
    (folder.path / name).parent.mkdir(exist_ok=True)
    shutil.move(folder.path / entry["source"], folder.path / name)
    entry["source"] = name
    folder.save()


def in_a_folder(folder):
    renamed(folder, folder.rdf["weights"]["onnx"], "weights/weights.onnx")


def pth(folder):
    renamed(folder, folder.rdf["weights"]["torchscript"], "weights.pth")


def no_suffix(folder):
    renamed(folder, folder.rdf["weights"]["torchscript"], "weights.bin")


def space(folder):
    renamed(folder, folder.rdf["inputs"][0]["test_tensor"], "test input.npy")


@pytest.mark.parametrize(
    ("change", "programs", "words"),
    [
        (other_name, {FIJI, QUPATH}, "called bioimageio.yaml"),
        (model_name, {FIJI}, "called model.yaml"),
        (in_a_folder, {FIJI}, "lie in a folder (weights/weights.onnx)"),
        (pth, {FIJI}, "called weights.pth"),
        (no_suffix, {FIJI}, "called weights.bin"),
        (space, {QUPATH}, "space in the name 'test input.npy'"),
    ],
)
def test_names_that_a_program_does_not_find_are_told(folder, judged, change, programs, words):
    change(folder)
    found = judged(check_names, folder.path)
    assert set(found) == programs
    for status, message in found.values():
        assert status == "failed"
        assert words in message


def test_a_name_with_a_hyphen_is_found(folder, judged):
    renamed(folder, folder.rdf["weights"]["torchscript"], "weights-torchscript.pt")
    assert judged(check_names)["all"][0] == "passed"


# ---- F05


def change_input(folder, change):
    path = folder.path / "test_input.npy"
    np.save(path, change(np.load(path)))


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        (np.asfortranarray, {QUPATH: "limited"}, "Fortran order"),
        (lambda values: (values * 255).astype("uint64"), {FIJI: "limited", QUPATH: "limited"}, "uint64 are not read"),
        (lambda values: (values * 255).astype("uint32"), {QUPATH: "limited"}, "uint32 are not read"),
        (lambda values: values[0], {CORE: "failed", ILASTIK: "failed", FIJI: "limited"}, "of 4 axes"),
        (lambda values: values[..., :-1], {CORE: "failed", ILASTIK: "failed"}, "do not fit"),
        (lambda values: values.repeat(2, axis=1), {CORE: "failed", ILASTIK: "failed"}, "do not fit"),
    ],
)
def test_test_tensors_that_a_program_cannot_use_are_told(folder, judged, change, expected, words):
    change_input(folder, change)
    found = judged(check_test_tensors)
    assert {program: status for program, (status, _) in found.items()} == expected, found
    assert all(words in message for _, message in found.values())


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}"])
def test_a_damaged_test_tensor_fails_for_all(folder, judged, content):
    (folder.path / "test_input.npy").write_bytes(content)
    status, message = judged(check_test_tensors)["all"]
    assert status == "failed"
    assert "expected an array of numbers (.npy) in test_input.npy" in message


def test_a_pickle_is_not_opened(folder, judged):
    np.save(folder.path / "test_input.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert judged(check_test_tensors)["all"][0] == "failed"


@pytest.mark.parametrize("dtype", ["complex64", "U3", [("a", "<f4")], "datetime64[s]"])
def test_what_is_no_real_number_fails_for_all(folder, judged, dtype):
    np.save(folder.path / "test_input.npy", np.zeros((1, 1, 64, 64), dtype=dtype))
    status, message = judged(check_test_tensors)["all"]
    assert status == "failed"
    assert "input 1: expected an array of numbers (.npy) in test_input.npy, found the type" in message


def test_a_file_that_claims_to_be_huge_is_not_read(folder, judged):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 4000000, 4000000), }".ljust(117) + "\n"
    (folder.path / "test_input.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode())
    assert judged(check_test_tensors)["all"][0] == "failed"


def test_an_output_without_its_input_is_refused(folder, judged):
    del folder.rdf["inputs"][0]["test_tensor"]
    found = judged(check_test_tensors)
    assert {program for program, (status, _) in found.items() if status == "failed"} == {CORE, ILASTIK}


def test_without_test_tensors_nobody_can_try_the_model(folder, judged):
    del folder.rdf["inputs"][0]["test_tensor"]
    del folder.rdf["outputs"][0]["test_tensor"]
    found = judged(check_test_tensors)
    assert {program: status for program, (status, _) in found.items()} == dict.fromkeys((CORE, FIJI, QUPATH), "limited")


def test_test_tensors_that_are_not_there_are_left_to_f02(folder, judged):
    path = folder.save()
    for name in ("test_input.npy", "test_output.npy"):
        (path / name).unlink()
    assert judged(check_test_tensors, path)["all"][0] == "skipped"


# ---- S03


def test_the_users_that_need_no_network_are_those_of_the_library():
    assert KNOWN_GITHUB_USERS <= constants.KNOWN_GITHUB_USERS


def test_users_that_are_looked_up_are_a_limit_offline(folder, judged):
    folder.rdf["maintainers"] = [{"name": "Ada", "github_user": "nobody-of-that-name"}, {"github_user": "FynnBe"}]
    found = judged(check_network_use)
    assert {program: status for program, (status, _) in found.items()} == {CORE: "limited", ILASTIK: "limited"}
    assert "nobody-of-that-name" in found[CORE][1]
    assert "FynnBe" not in found[CORE][1]


def test_users_in_a_config_are_not_looked_up(folder, judged):
    folder.rdf["config"]["s2d_zoo"]["github_user"] = "nobody-of-that-name"
    assert judged(check_network_use)["all"][0] == "passed"


def test_documentation_on_the_network_is_a_limit_offline(folder, judged):
    folder.rdf["documentation"] = "https://example.com/README.md"
    found = judged(check_network_use, folder.save_as_is())
    assert set(found) == {CORE, ILASTIK}
    assert "documentation names https://example.com/README.md" in found[ILASTIK][1]


def test_weights_on_the_network_are_not_fetched_by_java_programs(folder, judged):
    folder.rdf["weights"]["onnx"]["source"] = "https://example.com/weights.onnx"
    found = judged(check_network_use, folder.save_as_is())
    assert {program: status for program, (status, _) in found.items()} == {
        CORE: "limited",
        ILASTIK: "limited",
        FIJI: "failed",
        QUPATH: "failed",
    }
