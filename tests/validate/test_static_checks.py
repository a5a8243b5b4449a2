import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate.parity import undisturbed
from s2d_zoo.validate.static_checks import check_contract, check_files, check_format


def run(check, path):
    with open_package(path) as contents, undisturbed():
        result = check(contents)
    return result.status, result.message


def test_a_good_package_passes(package):
    assert run(check_format, package) == ("passed", "model description, format 0.5.9")
    assert run(check_files, package) == ("passed", "8 files")
    assert run(check_contract, package) == ("passed", "takes the roles foreground")


def test_an_older_format_fails_with_advice(folder):
    folder.rdf["format_version"] = "0.4.10"
    status, message = run(check_format, folder.save())
    assert status == "failed"
    assert "found 0.4.10" in message
    assert "update-format" in message


def test_an_invalid_description_fails_with_the_place(folder):
    folder.rdf["license"] = "mine"
    folder.rdf["inputs"][0]["axes"][2]["size"]["step"] = 0
    status, message = run(check_format, folder.save())
    assert status == "failed"
    assert "license" in message
    assert "step" in message


def test_a_description_of_something_else_fails(folder):
    folder.rdf = {"type": "dataset", "format_version": "0.5.0", "name": "a dataset", "description": "d"}
    status, message = run(check_format, folder.save_as_is())
    assert status == "failed"
    assert "dataset" in message or "Field required" in message


def test_a_description_with_keys_that_are_no_words_fails(folder):
    folder.rdf[1] = 2
    assert run(check_format, folder.save_as_is())[0] == "failed"


def test_a_missing_file_fails(folder):
    (folder.path / "weights.onnx").unlink()
    assert run(check_files, folder.path) == (
        "failed",
        "weights.onnx names weights.onnx, which is not in the package",
    )


@pytest.mark.parametrize("name", ["weights.pt", "README.md", "unet.py"])
def test_a_changed_file_fails(folder, name):
    with (folder.path / name).open("ab") as file:
        file.write(b" ")
    status, message = run(check_files, folder.path)
    assert status == "failed"
    assert f"of {name}, found" in message


def test_a_file_on_the_network_fails(folder):
    folder.rdf["weights"]["onnx"]["source"] = "https://example.com/weights.onnx"
    status, message = run(check_files, folder.save_as_is())
    assert status == "failed"
    assert "on the network" in message


def test_other_models_need_no_contract(folder):
    folder.rdf["tags"].remove("shallow2deep")
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    assert run(check_contract, folder.save()) == ("skipped", "not an enhancer")


def change_tag(rdf):
    rdf["tags"].remove("shallow2deep")


def change_missing(rdf):
    del rdf["config"]["s2d_zoo"]


def change_invalid(rdf):
    rdf["config"]["s2d_zoo"]["rf_contract"]["classes"] = []


def change_channels(rdf):
    rdf["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]


def change_inputs(rdf):
    rdf["inputs"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_tag, "no tag 'shallow2deep'"),
        (change_missing, "no RF contract under config.s2d_zoo.rf_contract"),
        (change_invalid, "invalid RF contract: classes:"),
        (change_channels, "speaks of 1 channel(s) in 2D, the input has 2 in 2D"),
        (change_inputs, "the input has 0 in 0D"),
    ],
)
def test_a_contract_that_does_not_fit_fails(folder, change, message):
    change(folder.rdf)
    status, found = run(check_contract, folder.save())
    assert status == "failed"
    assert message in found
