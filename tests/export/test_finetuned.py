"""What the packages of finetuned models say of themselves and of their base, and what is refused."""

import dataclasses
import hashlib
import warnings
import zipfile

import pytest
import xarray as xr
import yaml
from bioimageio.core import test_model as run_test
from bioimageio.spec import load_description
from bioimageio.spec.model.v0_5 import ModelDescr
from tests.export.bases import image_of, load, make_base, members_of, rdf_of
from tests.validate.foreign import enhancer_of_the_zoo

from s2d_zoo.data.images import read_image
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.data.weights_values import digest_values
from s2d_zoo.errors import AxesError, ConfigError, PackageError
from s2d_zoo.export.finetuned import write_finetuned
from s2d_zoo.export.lineage import Parent
from s2d_zoo.export.model_card import Finding
from s2d_zoo.validate.validation import validate_package

MEAN = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x", "y"]}}


def test_the_description_is_in_the_form_that_every_consumer_reads(finetune):
    _, _, path = finetune(preprocessing=(MEAN,))
    rdf = rdf_of(path)
    assert (rdf["format_version"], rdf["documentation"], rdf["covers"]) == ("0.5.9", "README.md", ["cover.png"])
    (taken,), (given,) = rdf["inputs"], rdf["outputs"]
    for tensor, name in ((taken, "image"), (given, "map")):
        assert tensor["id"] == name
        assert tensor["data"]["type"] == "float32"
        assert "sample_tensor" not in tensor
        batch, channel, *space = tensor["axes"]
        assert batch == {"type": "batch"}
        assert channel["id"] == "channel"
        assert [axis["id"] for axis in space] == ["y", "x"]
        assert not any({"unit", "scale"} & set(axis) for axis in space)
    assert taken["axes"][2]["size"] == {"min": 32, "step": 4}
    assert given["axes"][2] == {
        "type": "space",
        "id": "y",
        "size": {"tensor_id": "image", "axis_id": "y", "offset": 0},
        "halo": 2,
    }
    assert taken["preprocessing"] == [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}}]
    assert set(members_of(path)) == {
        "README.md",
        "cover.png",
        "rdf.yaml",
        "test_input.npy",
        "test_output.npy",
        "weights.onnx",
        "weights.pt",
    }


def test_it_names_its_base_and_claims_nothing_that_was_the_bases(finetune):
    _, _, path = finetune()
    rdf = rdf_of(path)
    assert (rdf["id"], rdf["name"], rdf["license"]) == ("my-model", "My model", "CC-BY-4.0")
    assert rdf["parent"] == {"id": "tiny-base", "version": "1.0.0"}
    assert not {"maintainers", "git_repo", "training_data", "version"} & set(rdf)
    assert [author["name"] for author in rdf["authors"]] == ["Grace Hopper"], "one ORCID iD, one person"
    assert not any("github_user" in author for author in rdf["authors"])
    assert [entry.get("doi", entry.get("url")) for entry in rdf["cite"]][:2] == ["10.1234/base", "https://example.com/"]
    assert {"nuclei", "s2d-zoo", "finetuned"} < set(rdf["tags"])
    assert "shallow2deep" not in rdf["tags"], "a segmentor takes no probabilities"


def test_the_lineage_holds_the_hashes_of_the_base(finetune, tmp_path):
    base, _, path = finetune()
    provenance = rdf_of(path)["config"]["s2d_zoo"]["provenance"]
    assert provenance["seed"] == 7
    assert provenance["base_model"] == {
        "id": "tiny-base",
        "version": "1.0.0",
        "source": "https://example.com/tiny-base",
        "weights": {
            "torchscript": {
                "sha256": base.weights_sha256,
                "values_sha256": digest_values(tmp_path / "base" / "net.pt"),
            },
            "onnx": {"sha256": hashlib.sha256((tmp_path / "base" / "net.onnx").read_bytes()).hexdigest()},
        },
    }
    assert digest_values(tmp_path / "base" / "net.pt") != digest_values_of(members_of(path)["weights.pt"], tmp_path)


def digest_values_of(content, tmp_path):
    (tmp_path / "some.pt").write_bytes(content)
    return digest_values(tmp_path / "some.pt")


def test_without_a_published_parent_there_is_a_lineage_all_the_same(finetune, finetuned):
    _, _, path = finetune(details=dataclasses.replace(finetuned, parent=None, training_data_id="somebody/mine"))
    rdf = rdf_of(path)
    assert "parent" not in rdf
    assert rdf["training_data"] == {"id": "somebody/mine"}
    assert rdf["config"]["s2d_zoo"]["provenance"]["base_model"]["id"] == "tiny-base"


def test_an_enhancer_keeps_its_tag_and_has_its_contract(finetune, finetuned, contract):
    details = dataclasses.replace(finetuned, kind="enhancer", contract=contract)
    probabilities = xr.DataArray(image_of().values / 4, dims=("channel", "y", "x"))
    _, _, path = finetune(details=details, image=probabilities)
    rdf = rdf_of(path)
    assert "shallow2deep" in rdf["tags"]
    assert rdf["config"]["s2d_zoo"]["rf_contract"] == contract.model_dump(mode="json")
    assert "Trainable Domain Adaptation" in members_of(path)["README.md"].decode()
    results = validate_package(path, select=("F", "C", "L", "S")).results
    assert not [result for result in results if result.status == "failed"]


def test_a_fixed_size_and_a_stated_range_are_kept(finetune):
    def change(rdf):
        rdf["inputs"][0]["data"] = {"type": "uint8", "range": [0, 255]}
        rdf["inputs"][0]["axes"][0]["size"] = 1

    _, _, path = finetune(change=change, size=32, image=image_of().round())
    rdf = rdf_of(path)
    assert rdf["inputs"][0]["data"] == {"type": "float32", "range": [0.0, 255.0]}
    assert rdf["inputs"][0]["axes"][0] == {"type": "batch", "size": 1}
    assert rdf["inputs"][0]["axes"][2] == {"type": "space", "id": "y", "size": 32}
    assert rdf["outputs"][0]["axes"][2]["size"]["tensor_id"] == "image"
    assert "always 32 px" in members_of(path)["README.md"].decode()


def test_names_and_ranges_that_the_old_format_does_not_take_are_changed(finetune):
    def change(rdf):
        rdf["outputs"][0]["axes"][1]["channel_names"] = ["a b", "a_b"]
        rdf["inputs"][0]["axes"][1]["channel_names"] = ["4"]
        rdf["inputs"][0]["data"] = {"type": "float32", "range": [0, None]}

    _, _, path = finetune(onnx=False, change=change)
    (taken,), (given,) = rdf_of(path)["inputs"], rdf_of(path)["outputs"]
    assert taken["data"] == {"type": "float32"}
    assert taken["axes"][1]["channel_names"] == ["channel_4"]
    assert given["axes"][1]["channel_names"] == ["a_b", "a_b_"]
    assert "| 2: a_b, a_b_ |" in members_of(path)["README.md"].decode()


def test_a_conversion_to_another_type_stays_where_it_was(finetune):
    steps = (
        {"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}},
        {"id": "scale_linear", "kwargs": {"gain": 1.5}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    )
    _, _, path = finetune(onnx=False, preprocessing=steps)  # values that the type cannot hold are cut as in training
    written = rdf_of(path)["inputs"][0]["preprocessing"]
    assert [step["kwargs"]["dtype"] for step in written] == ["uint8", "float32"]


def test_what_the_base_says_of_its_architecture_and_authors_is_kept(finetune):
    def change(rdf):
        rdf["config"] = {"bioimageio": {"architecture_type": "U-Net", "architecture_description": "Small."}}
        rdf["authors"] = [{"name": "Grace Hopper"}]
        rdf["training_data"] = {"id": "somebody/nuclei"}

    _, _, path = finetune(change=change)
    rdf = rdf_of(path)
    fields = rdf["config"]["bioimageio"]
    assert (fields["architecture_type"], fields["architecture_description"]) == ("U-Net", "Small.")
    assert fields["model_parameter_count"] == 38
    assert [author["name"] for author in rdf["authors"]] == ["Grace Hopper", "Ada Lovelace"]
    card = members_of(path)["README.md"].decode()
    for text in (
        "training began from the weights of Tiny base",
        "- Tiny base, version 1.0.0 (tiny-base)",
        "- Where it came from: https://example.com/tiny-base",
        "- Its authors: Grace Hopper",
        "- Its licence: CC-BY-4.0",
        "- What it was trained on: somebody/nuclei, as its package says",
        "4 of 4 tensors have changed; largest change of a value",
        "| first.bias | 3 |",
        "In the network now, and before in the description: sigmoid.",
        "How far an output pixel looks is not known.",
        "1. Base model: tiny-base, version 1.0.0\n1. 12 forests",
    ):
        assert text in card, text
    assert "\n\n\n" not in card


def test_two_exports_are_equal_and_silent(finetune, tmp_path, capfd):
    folder = make_base(tmp_path / "base", preprocessing=(MEAN,))
    capfd.readouterr()
    first, second = (finetune(folder, output=name)[2].read_bytes() for name in ("first.zip", "second.zip"))
    assert first == second
    assert capfd.readouterr() == ("", "")


def test_what_the_judge_found_is_in_the_card(finetune):
    finding = Finding(program="QuPath", verdict="runs with limits", reasons=("A06: by tile",))
    _, _, path = finetune(judge=lambda _: (finding,))
    members = members_of(path)
    assert "- **QuPath**: runs with limits\n  - A06: by tile\n" in members["README.md"].decode()
    stated = yaml.safe_load(members["rdf.yaml"])["config"]["s2d_zoo"]["files"]["README.md"]
    assert stated == hashlib.sha256(members["README.md"]).hexdigest()
    with zipfile.ZipFile(path) as archive:
        assert isinstance(load_description(archive, perform_io_checks=True), ModelDescr)


# ---- refused


def test_weights_that_are_the_bases_are_refused(tmp_path, finetuned, facts):
    with open_package(make_base(tmp_path / "base", onnx=False)) as contents:
        base = load_packaged_model(contents)
        again = load_packaged_model(contents)
        with pytest.raises(PackageError, match="those of tiny-base, to the last bit"):
            write_finetuned(again, base, contents, finetuned, image_of(), tmp_path / "new.zip", facts=facts)
    assert not (tmp_path / "new.zip").exists()


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("CC-BY-NC-4.0", "excludes commercial use"),
        (None, "under no licence"),
        ({"source": "LICENSE.txt"}, "a licence of its own, the file LICENSE.txt"),
    ],
)
def test_a_licence_that_the_base_forbids_is_refused(finetune, tmp_path, stated, message):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "LICENSE.txt").write_text("Mine.")
    with pytest.raises(ConfigError, match=message):
        finetune(onnx=False, change=lambda rdf: rdf.update(license=stated))


def test_an_id_that_is_the_bases_is_refused(finetune, finetuned):
    with pytest.raises(ConfigError, match="id of its own; 'tiny-base'"):
        finetune(onnx=False, details=dataclasses.replace(finetuned, id="tiny-base", parent=None))


def test_a_contract_that_does_not_fit_the_network_is_refused(finetune, finetuned, contract):
    contract = contract.model_copy(update={"channels": (0, 1)})
    with pytest.raises(ConfigError, match=r"feeds 2 probability channel\(s\) in 2D, but tiny-base takes 1 in 2D"):
        finetune(onnx=False, details=dataclasses.replace(finetuned, kind="enhancer", contract=contract))


def test_an_example_with_other_channels_is_refused(finetune):
    with pytest.raises(AxesError, match=r"with 1 channel\(s\)"):
        finetune(onnx=False, image=image_of(channels=2))


@pytest.mark.parametrize("name", ["new.pt", "there.zip"])
def test_a_path_that_cannot_be_written_is_refused_first(tmp_path, finetuned, facts, name):
    (tmp_path / "there.zip").touch()
    with open_package(make_base(tmp_path / "base", onnx=False)) as contents:
        base, trained = load(contents)
        with pytest.raises(ConfigError, match=r"ending in \.zip|exists already"):
            write_finetuned(trained, base, contents, finetuned, image_of(), tmp_path / name, facts=facts)


# ---- as they are published


def test_an_enhancer_as_published_in_2022_is_carried_on(folder, finetune, finetuned, contract):
    image = image_of(256) / 4
    details = dataclasses.replace(finetuned, kind="enhancer", contract=contract, parent=None)
    base, _, path = finetune(enhancer_of_the_zoo(folder), details=details, image=image)
    rdf = rdf_of(path)
    assert rdf["inputs"][0]["preprocessing"][0]["kwargs"]["axes"] == ["channel", "y", "x"]
    assert rdf["inputs"][0]["axes"][2]["size"] == {"min": 256, "step": 16}
    assert rdf["outputs"][0]["axes"][2]["halo"] == 32
    assert rdf["config"]["s2d_zoo"]["provenance"]["base_model"]["id"] == base.id == "10.5281/zenodo.1/2"
    # its tiles differ from the whole as they always did: instance normalisation, and a range of its own for each tile
    report = validate_package(path, select=("F", "A", "C", "L", "S", "W"))
    assert [f"{result.check}: {result.message}" for result in report.results if result.status == "failed"] == []


@pytest.mark.realdata
def test_a_real_model_of_the_zoo_is_carried_on(realdata_dir, finetuned, facts, tmp_path):
    image = read_image(min((realdata_dir / "nuclei_gowt1" / "train" / "raw").iterdir()))
    details = dataclasses.replace(finetuned, parent=Parent(id="some-animal", version="1"))
    with open_package(realdata_dir / "zoo" / "unet2d_nuclei_broad") as contents:
        base, trained = load(contents, by=1.02)
        path = write_finetuned(trained, base, contents, details, image, tmp_path / "new.zip", facts=facts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run_test(path).status == "passed"
    report = validate_package(path)
    assert [f"{result.check}: {result.message}" for result in report.results if result.status == "failed"] == []
    assert {verdict.word for verdict in report.verdicts} == {"runs", "runs with limits"}
    assert set(rdf_of(path)["weights"]) == {"torchscript", "onnx"}
