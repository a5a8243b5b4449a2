"""The rules of the consumers, one by one; each is a package that could not be opened, or gave wrong results."""

import dataclasses
import zipfile

import pytest
import yaml

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.rdf import build_rdf


@pytest.fixture(scope="module")
def rdf(package):
    """As a YAML 1.1 reader, like those of Fiji and QuPath, sees it."""
    with zipfile.ZipFile(package) as archive:
        return yaml.safe_load(archive.read("rdf.yaml"))


@pytest.fixture
def folder(tmp_path, package):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def build(model, details, folder):
    return build_rdf(model, details, TileGeometry.from_model(model), folder)


def test_the_format_is_one_that_ilastik_fiji_and_qupath_read(rdf):
    assert rdf["format_version"] == "0.5.9"


def test_files_of_the_documentation_are_plain_strings(rdf):
    assert rdf["documentation"] == "README.md"
    assert rdf["covers"] == ["cover.png"]
    assert all(isinstance(rdf[key], str) for key in ("id", "name", "description", "license"))


def test_defaults_that_java_lacks_are_written_out(rdf):
    for tensor in (*rdf["inputs"], *rdf["outputs"]):
        assert tensor["id"]
        batch, channel, *space = tensor["axes"]
        assert batch == {"type": "batch"}
        assert channel["channel_names"]
        assert [axis["id"] for axis in space] == ["y", "x"]
        assert all("scale" not in axis for axis in space)


def test_sizes_and_halo(rdf):
    for axis in rdf["inputs"][0]["axes"][2:]:
        assert axis["size"] == {"min": 64, "step": 4}
    for axis in rdf["outputs"][0]["axes"][2:]:
        assert axis["size"] == {"tensor_id": "probabilities", "axis_id": axis["id"], "offset": 0}
        assert axis["halo"] == 24


def test_one_input_and_one_output_in_float32_without_processing(rdf):
    for tensors in (rdf["inputs"], rdf["outputs"]):
        (tensor,) = tensors
        assert tensor["data"]["type"] == "float32"
        assert not {"preprocessing", "postprocessing"} & set(tensor)
    assert [rdf["outputs"][0]["id"], rdf["outputs"][0]["axes"][1]["channel_names"]] == [
        "enhanced",
        ["foreground", "boundary"],
    ]
    assert rdf["inputs"][0]["axes"][1]["channel_names"] == ["foreground"]


def test_weights_lie_at_the_top_with_plain_versions(rdf):
    weights = rdf["weights"]
    assert all("/" not in entry["source"] for entry in weights.values())
    assert weights["torchscript"]["source"].count(".pt") == 1
    assert weights["onnx"]["opset_version"] == 17
    assert "+" not in weights["torchscript"]["pytorch_version"]
    assert [name for name, entry in weights.items() if "parent" not in entry] == ["pytorch_state_dict"]


def test_nothing_needs_the_network_or_the_clock(rdf):
    assert rdf["authors"] == [
        {"name": "Ada Lovelace", "affiliation": "Analytical Engine, London", "orcid": "0000-0002-1825-0097"}
    ]
    assert rdf["config"]["s2d_zoo"]["github_users"] == {"Ada Lovelace": "ada"}
    assert "timestamp" not in rdf


def test_the_contract_and_the_facts_are_in_our_own_block(rdf, contract):
    assert set(rdf["config"]) == {"bioimageio", "s2d_zoo"}  # a deepimagej block would switch off tiling
    own = rdf["config"]["s2d_zoo"]
    assert RFContract.model_validate(own["rf_contract"]) == contract
    assert own["training"] == {"epochs": 3}
    assert own["kind"] == "enhancer"
    assert set(own["files"]) == {"README.md", "cover.png"}


def test_only_enhancers_are_tagged_for_ilastiks_domain_adaptation(rdf, model, segmentor, folder):
    assert rdf["tags"].count("shallow2deep") == 1
    other = build(model, segmentor, folder)
    assert "shallow2deep" not in other["tags"]
    assert (other["inputs"][0]["id"], other["outputs"][0]["id"]) == ("raw", "segmentation")
    assert "range" not in other["inputs"][0]["data"]
    assert "rf_contract" not in other["config"]["s2d_zoo"]


def test_channels_of_the_input_have_names_of_their_own(enhancer, segmentor, contract, folder):
    two = contract.model_copy(update={"channels": (0, 1)})
    enhancer = dataclasses.replace(enhancer, contract=two)
    model = UNet(2, features=2, depth=2)
    assert build(model, enhancer, folder)["inputs"][0]["axes"][1]["channel_names"] == ["background", "foreground"]
    assert build(model, segmentor, folder)["inputs"][0]["axes"][1]["channel_names"] == ["raw0", "raw1"]
    twice = dataclasses.replace(enhancer, contract=contract.model_copy(update={"channels": (1, 1)}))
    assert build(model, twice, folder)["inputs"][0]["axes"][1]["channel_names"] == ["foreground0", "foreground1"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"in_channels": 2}, "feeds 1 .* takes 2"), ({"out_channels": 3}, "must give 2 channels .* gives 3")],
)
def test_a_network_that_does_not_fit_is_refused(kwargs, message, enhancer, folder):
    with pytest.raises(ConfigError, match=message):
        build(UNet(features=2, depth=2, **kwargs), enhancer, folder)


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_facts_that_are_not_json_are_refused(value, model, enhancer, folder):
    with pytest.raises(ConfigError, match="plain JSON"):
        build(model, dataclasses.replace(enhancer, config={"value": value}), folder)


def test_without_limits_and_users_their_keys_are_left_out(model, segmentor, folder, attribution):
    author = dataclasses.replace(attribution.authors[0], github_user=None)
    details = dataclasses.replace(segmentor, attribution=dataclasses.replace(attribution, authors=(author,)))
    config = build(model, details, folder)["config"]
    assert "bias_risks_limitations" not in config["bioimageio"]
    assert "github_users" not in config["s2d_zoo"]
