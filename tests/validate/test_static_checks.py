"""F01 and F02, on which the others depend, and all others on whole packages."""

import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.static_checks import check_basis, check_description, open_model
from s2d_zoo.zoo.collection import find_model

RUN_NOTHING = {"F01", "F02", "F03", "F04", "F05", "A02", "A03", "A04", "A05", "A06", "C01", "C02", "L01", "L02"} | {
    *("L03", "S02", "S03", "S04", "W03", "W04", "W05")
}


def basis(path):
    """Status and message of F01 and of F02."""
    with open_package(path) as contents:
        return tuple((result.status, result.message) for result in check_basis(contents))


def everything(path):
    with open_package(path) as contents:
        found = list(check_basis(contents))
        model = open_model(contents)
        return found if model is None else [*found, *check_description(model)]


def test_a_good_package_passes(package):
    assert basis(package) == (("passed", "model description, format 0.5.9"), ("passed", "8 files"))


def test_every_check_that_runs_nothing_gives_a_result_in_the_order_of_the_catalogue(package):
    found = [result.check for result in everything(package)]
    assert {check.name for check in found} == RUN_NOTHING
    assert sorted(found, key=list(Check).index) == found
    assert all(result.status != "failed" for result in everything(package))


def test_format_04_is_read_too(old_format):
    found = everything(old_format.save_as_is())
    assert (found[0].status, found[0].message) == ("passed", "model description, format 0.4.10")
    assert found[1].message == "5 files"
    assert {result.check for result in found if result.status == "failed"} == set()


@pytest.mark.parametrize("version", ["0.3.6", "0.6.0", "1", None])
def test_another_format_fails_with_advice(folder, version):
    folder.rdf["format_version"] = version
    path = folder.save()
    status, message = basis(path)[0]
    assert status == "failed"
    assert f"found {version}" in message
    assert "update-format" in message
    with open_package(path) as contents:
        assert open_model(contents) is None


def test_an_invalid_description_fails_with_the_place(folder):
    folder.rdf["license"] = "mine"
    folder.rdf["inputs"][0]["axes"][2]["size"]["step"] = 0
    status, message = basis(folder.save())[0]
    assert status == "failed"
    assert "license" in message
    assert "step" in message


def test_a_description_of_something_else_fails(folder):
    folder.rdf = {"type": "dataset", "format_version": "0.5.0", "name": "a dataset", "description": "d"}
    status, message = basis(folder.save_as_is())[0]
    assert status == "failed"
    assert "dataset" in message or "Field required" in message


def test_a_description_with_keys_that_are_no_words_fails(folder):
    folder.rdf[1] = 2
    assert basis(folder.save_as_is())[0][0] == "failed"


def test_a_missing_file_fails(folder):
    (folder.path / "weights.onnx").unlink()
    assert basis(folder.path)[1] == ("failed", "weights.onnx names weights.onnx, which is not in the package")


@pytest.mark.parametrize("name", ["weights.pt", "README.md", "unet.py"])
def test_a_changed_file_fails(folder, name):
    with (folder.path / name).open("ab") as file:
        file.write(b" ")
    status, message = basis(folder.path)[1]
    assert status == "failed"
    assert f"of {name}, found" in message


def test_weights_on_the_network_fail(folder):
    folder.rdf["weights"]["onnx"]["source"] = "https://example.com/weights.onnx"
    status, message = basis(folder.save_as_is())[1]
    assert status == "failed"
    assert "on the network" in message


def test_documentation_on_the_network_is_not_missing(folder):
    folder.rdf["documentation"] = "https://example.com/README.md"
    assert basis(folder.save_as_is())[1][0] == "passed"


@pytest.mark.parametrize("name", ["test_input.npy", "test_output.npy"])
def test_a_test_tensor_of_format_04_is_missed(old_format, name):
    (old_format.path / name).unlink()
    status, message = basis(old_format.save_as_is())[1]
    assert status == "failed"
    assert f"names {name}, which is not in the package" in message


def test_a_file_of_format_04_outside_of_the_package_is_not_read(old_format):
    old_format.rdf["test_inputs"] = ["../test_input.npy"]
    (old_format.path.parent / "test_input.npy").write_bytes((old_format.path / "test_input.npy").read_bytes())
    status, message = basis(old_format.save_as_is())[1]
    assert status == "failed"
    assert "../test_input.npy, which is not in the package" in message


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
@pytest.mark.parametrize("key", ["test_inputs", "sample_inputs", "architecture"])
def test_a_name_that_no_file_can_have_is_missing(old_format, name, key):
    if key == "architecture":
        old_format.rdf["weights"]["pytorch_state_dict"] = {
            "source": "weights_state_dict.pt",
            "architecture": f"{name}:UNet",
            "architecture_sha256": "0" * 64,
        }
    else:
        old_format.rdf[key] = [name]
    found = everything(old_format.save_as_is())
    assert found[1].status == "failed"
    assert "which is not in the package" in found[1].message


def test_an_architecture_of_format_04_has_its_hash_checked(old_format):
    old_format.rdf["weights"]["pytorch_state_dict"] = {
        "source": "weights_state_dict.pt",
        "architecture": "unet.py:UNet",
        "architecture_sha256": "0" * 64,
    }
    status, message = basis(old_format.save_as_is())[1]
    assert status == "failed"
    assert "expected SHA-256 000000000000… of unet.py" in message


def test_the_enhancer_that_comes_along_has_no_fault():
    found = everything(find_model("nuclei-fluo-2d"))
    assert [result for result in found if result.status == "failed"] == []
    assert {result.check for result in found if result.status == "limited"} == {Check.A04}


@pytest.mark.realdata
def test_a_model_of_the_official_examples_gets_a_useful_report(realdata_dir):
    path = realdata_dir / "zoo" / "unet2d_nuclei_broad"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    found = {(result.check.name, result.part): result for result in everything(path)}
    assert found["F01", ""].status == "passed"
    assert {key for key, result in found.items() if result.status == "failed"} == {
        ("F03", "ilastik"),
        ("F03", "deepimagej"),
        ("F03", "qupath"),
        ("W04", "deepimagej"),
    }


@pytest.mark.realdata
def test_every_description_of_the_zoo_is_read(realdata_dir, tmp_path):
    paths = sorted((realdata_dir / "zoo_rdf").glob("*.yaml"))
    if not paths:
        pytest.skip("no descriptions of the zoo")
    for path in paths:
        (tmp_path / "rdf.yaml").write_bytes(path.read_bytes())
        found = everything(tmp_path)
        assert {result.check.name for result in found} == RUN_NOTHING, path.name
        assert found[0].status == "passed", path.name
        assert not any(result.status == "failed" and result.check is Check.F03 for result in found), path.name
