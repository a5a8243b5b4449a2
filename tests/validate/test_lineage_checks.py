"""L02 and L03: where the model comes from, and whether it is another one by now."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.conftest import Folder

from s2d_zoo.cli import cli
from s2d_zoo.data.weights_values import digest_values
from s2d_zoo.errors import UserInputError
from s2d_zoo.validate.lineage_checks import check_base, check_lineage
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo.collection import bundled_models

# ---- L02


def test_a_recorded_origin_passes(folder, judged):
    folder.rdf["config"]["s2d_zoo"]["provenance"] = {"seed": 0}
    assert judged(check_lineage)["all"] == ("passed", "config.s2d_zoo.provenance")
    folder.rdf["parent"] = {"id": "hiding-blowfish", "version": 1}
    assert judged(check_lineage)["all"][1] == "config.s2d_zoo.provenance and parent hiding-blowfish"


def test_the_training_data_are_an_origin(folder, judged):
    del folder.rdf["config"]["s2d_zoo"]
    folder.rdf["training_data"] = {"id": "ilastik/mitoem_segmentation_challenge"}
    assert judged(check_lineage)["all"] == ("passed", "training data ilastik/mitoem_segmentation_challenge")


@pytest.mark.parametrize(("own", "words"), [(True, "config.s2d_zoo.provenance"), (False, "name training_data")])
def test_no_origin_at_all_is_advice(folder, judged, own, words):
    if own:
        folder.rdf["config"]["s2d_zoo"].pop("provenance", None)
    else:
        del folder.rdf["config"]["s2d_zoo"]
    status, message = judged(check_lineage)["advice"]
    assert status == "limited"
    assert words in message


def test_a_parent_without_a_version_is_advice(folder, judged):
    folder.rdf["parent"] = {"id": "hiding-blowfish"}
    assert "expected a parent as id and version" in judged(check_lineage)["advice"][1]


# ---- L03

ID, VERSION = "hiding-blowfish", "1.1"
STATE_DICT = "weights_state_dict.pt"


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def base(tmp_path, package):
    """The published model, as a folder."""
    made = Folder(tmp_path / "base", package)
    made.keep_weights("pytorch_state_dict", "onnx").save()
    return made.path


@pytest.fixture
def finetuned(folder, base):
    """A model that began from it, and differs in its head; `folder`, with its lineage."""
    folder.keep_weights("pytorch_state_dict", "onnx")
    retrain(folder, "head.weight")
    (folder.path / "weights.onnx").write_bytes(b"other")
    weights = {
        "pytorch_state_dict": {
            "sha256": sha256_of(base / STATE_DICT),
            "values_sha256": digest_values(base / STATE_DICT),
        },
        "onnx": {"sha256": sha256_of(base / "weights.onnx")},
    }
    stated = {"id": ID, "version": VERSION, "source": None, "weights": weights}
    folder.rdf["config"]["s2d_zoo"]["provenance"] = {"base_model": stated}
    folder.rdf["parent"] = {"id": ID, "version": VERSION}
    return folder


@pytest.fixture
def judge(folder, judged):
    """L03 of `folder`, its saved description as it is: whom it concerns, status, message."""

    def run(find_base=None):
        folder.save_as_is()
        ((who, found),) = judged(lambda model: check_base(model, find_base), folder.path).items()
        return who, *found

    return run


def retrain(folder, *names):
    """Change some tensors of the state dict."""
    tensors = torch.load(folder.path / STATE_DICT, weights_only=True)
    torch.save(
        {name: values + 1 if name in names else values for name, values in tensors.items()}, folder.path / STATE_DICT
    )


def stated(folder):
    return folder.rdf["config"]["s2d_zoo"]["provenance"]["base_model"]


def always(path):
    return lambda *_: path


def test_a_model_that_was_made_from_no_other_is_not_asked(judge):
    assert judge() == ("all", "skipped", "not made from another model")


def test_without_the_base_hashes_are_compared(finetuned, judge):
    who, status, message = judge()
    assert (who, status) == ("all", "passed")
    assert message == (
        "other weights than hiding-blowfish 1.1; it is not at hand, so that only hashes were compared (s2d-zoo "
        "download may fetch it)"
    )


def test_the_base_is_asked_for_by_id_and_version(finetuned, judge):
    asked = []
    assert "only hashes" in judge(lambda *wanted: asked.append(wanted))[2]
    stated(finetuned)["version"] = None
    judge(lambda *wanted: asked.append(wanted))
    assert asked == [(ID, VERSION), (ID, None)]


def test_with_the_base_it_is_told_how_many_tensors_differ(finetuned, base, judge):
    message = f"other weights than {ID} {VERSION}; 1 of its {count_of(base)} stored tensors differ (pytorch_state_dict)"
    assert judge(always(base)) == ("all", "passed", message)
    zipped = Path(shutil.make_archive(str(base), "zip", base))
    assert judge(always(zipped))[2] == message


def same_file(folder, base):
    shutil.copy(base / STATE_DICT, folder.path)


def same_values(folder, base):
    """Written again: other bytes, equal tensors."""
    torch.save(torch.load(base / STATE_DICT, weights_only=True), folder.path / "other_name.pt")
    (folder.path / "other_name.pt").rename(folder.path / STATE_DICT)


def same_onnx(folder, base):
    shutil.copy(base / "weights.onnx", folder.path)


def same_values_in_another_format(folder, base):
    torch.save(torch.load(base / STATE_DICT, weights_only=True), folder.path / "weights.pt")
    folder.rdf["weights"]["torchscript"] = {"source": "weights.pt", "pytorch_version": "2.6.0"}


def other_parent(folder, base):
    folder.rdf["parent"]["id"] = "affable-shark"


def other_version(folder, base):
    folder.rdf["parent"]["version"] = "1.2"


def no_id(folder, base):
    del stated(folder)["id"]


def no_weights(folder, base):
    stated(folder)["weights"] = "weights.pt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (same_file, f"{STATE_DICT} is the very file of {ID} {VERSION}"),
        (same_onnx, f"weights.onnx is the very file of {ID} {VERSION}"),
        (same_values, f"{STATE_DICT} holds the values of {ID} {VERSION}"),
        (same_values_in_another_format, f"weights.pt holds the values of {ID} {VERSION}"),
        (other_parent, f"name different models: affable-shark 1.1 and {ID} 1.1"),
        (other_version, f"name different models: {ID} 1.2 and {ID} 1.1"),
        (no_id, "expected id and weights in config.s2d_zoo.provenance.base_model"),
        (no_weights, "expected id and weights in config.s2d_zoo.provenance.base_model"),
    ],
)
@pytest.mark.parametrize("at_hand", [False, True])
def test_what_is_no_other_model_or_of_no_known_one_fails(finetuned, base, judge, change, message, at_hand):
    change(finetuned, base)
    who, status, found = judge(always(base) if at_hand else None)
    assert (who, status) == ("advice", "failed")
    assert message in found


def test_the_very_same_values_are_noticed_even_if_no_hash_of_them_is_stated(finetuned, base, judge):
    same_values(finetuned, base)
    stated(finetuned)["weights"]["pytorch_state_dict"]["values_sha256"] = "0" * 64
    assert judge()[1] == "passed"
    assert judge(always(base))[1:] == (
        "failed",
        f"all {count_of(base)} stored tensors of {ID} {VERSION} are here unchanged; export again",
    )


def count_of(base):
    with zipfile.ZipFile(base / STATE_DICT) as archive:
        return sum("/data/" in name for name in archive.namelist())


@pytest.mark.parametrize(("version", "expected"), [(VERSION, "failed"), (None, "limited")])
def test_another_model_under_the_name_of_the_base_is_noticed(finetuned, base, judge, version, expected):
    stated(finetuned)["version"] = version
    finetuned.rdf.pop("parent")
    (base / STATE_DICT).write_bytes(b"another model")
    _, status, message = judge(always(base))
    assert status == expected
    assert "weights of hiding-blowfish" in message
    assert f"at hand have SHA-256 {sha256_of(base / STATE_DICT)[:12]}…, the ones named have" in message


def test_weights_that_nothing_is_known_of_are_told(finetuned, judge):
    stated(finetuned)["weights"] = {"keras_hdf5": {"sha256": "0" * 64}, "torchscript": None}
    assert judge()[1:] == (
        "limited",
        f"nothing is recorded of {ID} {VERSION} that the weights here (pytorch_state_dict, onnx) compare with",
    )


def test_a_base_without_such_weights_is_told(finetuned, base, judge):
    (base / STATE_DICT).unlink()
    _, status, message = judge(always(base))
    assert status == "passed"
    assert "no weights to compare value by value" in message


def no_zip(base):
    return base / STATE_DICT


def none_there(base):
    return base / "nothing"


def climbing(base):
    with zipfile.ZipFile(base / "bad.zip", "w") as archive:
        archive.writestr("../x", "")
    return base / "bad.zip"


@pytest.mark.parametrize("make", [no_zip, none_there, climbing])
def test_a_base_that_must_not_be_opened_does_not_stop_the_check(finetuned, base, judge, make):
    _, status, message = judge(always(make(base)))
    assert status == "passed"
    assert "only hashes were compared, because its package at hand cannot be opened" in message


def test_a_search_that_fails_does_not_stop_the_check(finetuned, judge):
    def find(*_):
        raise UserInputError("no such id")

    assert "cannot be opened: no such id" in judge(find)[2]


def test_compressed_values_are_not_unpacked_to_be_compared(finetuned, base, judge):
    with zipfile.ZipFile(finetuned.path / STATE_DICT, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/1000", bytes(1000))
    _, status, message = judge(always(base))
    assert status == "passed"
    assert "no weights to compare value by value" in message


def test_a_validation_passes_the_search_on(finetuned, base):
    finetuned.save_as_is()
    (result,) = validate_package(finetuned.path, select=("L03",), find_base=always(base)).results
    assert (result.check.name, result.status) == ("L03", "passed")
    assert "stored tensors differ" in result.message


def test_the_command_looks_for_the_base_among_bundled_and_downloaded_models(finetuned, monkeypatch, tmp_path):
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    stated(finetuned).update(id=bundled_models()[0].id, version=None)
    del finetuned.rdf["parent"]
    result = CliRunner().invoke(
        cli, ["validate", str(finetuned.save_as_is()), "--select", "L03", "--format", "json", "--quiet"]
    )
    ((status, message),) = {(one["status"], one["message"]) for one in json.loads(result.stdout)["results"]}
    assert status == "limited"
    assert f"weights of {bundled_models()[0].id} at hand have SHA-256" in message
