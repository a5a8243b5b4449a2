"""Whole validations; each broken package has the name of its defect."""

import zipfile

import numpy as np
import pytest
import torch
import torch.jit

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.errors import PackageError, UnsafePackageError, UserInputError
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.validation import validate_package


def failed(report):
    return {result.check for result in report.results if result.status == "failed"}


def test_a_good_package_passes_every_check_in_silence(package, capfd):
    report = validate_package(package)
    assert [(result.check.name, result.part, result.status) for result in report.results] == [
        ("F01", "", "passed"),
        ("F02", "", "passed"),
        ("C01", "", "passed"),
        ("W01", "onnx", "passed"),
        ("W01", "pytorch_state_dict", "passed"),
        ("W01", "torchscript", "passed"),
        ("W02", "", "passed"),
        ("A01", "", "passed"),
        ("T01", "", "passed"),
    ], report
    assert report.exit_code == 0
    assert capfd.readouterr() == ("", "")


def wrong_hash(folder):
    folder.rdf["weights"]["onnx"]["sha256"] = "0" * 64
    return folder.save_as_is()


def missing_file(folder):
    (folder.path / "test_input.npy").unlink()
    return folder.path


def invalid_license(folder):
    folder.rdf["license"] = "mine"
    return folder.save()


def without_contract(folder):
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    return folder.keep_weights("onnx").save()


def small_halo(folder):
    for axis in folder.rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 4
    return folder.keep_weights("onnx").save()


def nan_weights(folder):
    """bioimageio.core's test lets NaN pass: it counts elements whose difference is above the tolerance."""
    state = torch.load(folder.path / "weights_state_dict.pt", weights_only=True)
    state["head.weight"].fill_(torch.nan)
    torch.save(state, folder.path / "weights_state_dict.pt")
    return folder.keep_weights("pytorch_state_dict").save()


def other_test_output(folder):
    np.save(folder.path / "test_output.npy", np.load(folder.path / "test_output.npy")[:, ::-1])
    return folder.keep_weights("onnx").save()


@pytest.mark.parametrize(
    ("make_broken", "check"),
    [
        (wrong_hash, Check.F02),
        (missing_file, Check.F02),
        (invalid_license, Check.F01),
        (without_contract, Check.C01),
        (small_halo, Check.T01),
        (nan_weights, Check.A01),
        (other_test_output, Check.W01),
    ],
)
def test_a_broken_package_fails_its_one_check(folder, make_broken, check):
    report = validate_package(make_broken(folder))
    assert failed(report) == {check}
    assert report.exit_code == 1


def test_what_depends_on_a_failed_check_is_skipped_with_the_reason(folder):
    report = validate_package(wrong_hash(folder))
    skipped = {result.check: result.message for result in report.results if result.status == "skipped"}
    assert skipped == dict.fromkeys((Check.W01, Check.W02, Check.A01, Check.T01), "F02 failed")


def test_an_unreadable_description_skips_the_contract(folder):
    report = validate_package(invalid_license(folder), select=("C",))
    assert [(result.status, result.message) for result in report.results] == [("skipped", "F01 failed")]


def test_only_what_is_selected_is_reported(package):
    report = validate_package(package, select=("F", "C01"), ignore=("F02",))
    assert [result.check for result in report.results] == [Check.F01, Check.C01]


def test_misuse_is_an_error(package, tmp_path):
    with pytest.raises(UserInputError, match="no check 'Q'"):
        validate_package(package, select=("Q",))
    with pytest.raises(UserInputError, match="no package"):
        validate_package(tmp_path / "none.zip")


def test_what_cannot_be_opened_is_an_error(tmp_path, package):
    path = tmp_path / "broken.zip"
    path.write_bytes(package.read_bytes()[:1000])
    with pytest.raises(PackageError, match="zip"):
        validate_package(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.txt", "x")
    with pytest.raises(UnsafePackageError, match="outside"):
        validate_package(path)
    assert not (tmp_path.parent / "evil.txt").exists()


def test_the_tile_check_passes_exactly_when_the_halo_covers_the_receptive_field(folder):
    assert UNet(features=2, depth=2).receptive_radius == 23
    report = validate_package(folder.keep_weights("torchscript").save(), select=("T01",))
    assert report.passed, report
