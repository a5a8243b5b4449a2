"""The rules of the consumers, one by one; each is a package that could not be opened, or gave wrong results."""

import dataclasses
import hashlib
import zipfile

import pytest
import yaml
from bioimageio.spec.model.v0_5 import BioimageioConfig

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.lineage import BaseModel
from s2d_zoo.export.rdf import build_rdf
from s2d_zoo.export.tolerance import Tolerance


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


@pytest.fixture
def build(folder, tolerances, facts):
    def make(model, details, facts=facts):
        geometry = TileGeometry.from_model(model)
        return build_rdf(model, details, geometry, folder, facts=facts, tolerances=tolerances)

    return make


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


def test_only_enhancers_are_tagged_for_ilastiks_domain_adaptation(rdf, model, segmentor, build):
    assert rdf["tags"].count("shallow2deep") == 1
    other = build(model, segmentor)
    assert "shallow2deep" not in other["tags"]
    assert (other["inputs"][0]["id"], other["outputs"][0]["id"]) == ("raw", "segmentation")
    assert "range" not in other["inputs"][0]["data"]
    assert "rf_contract" not in other["config"]["s2d_zoo"]


def test_channels_of_the_input_have_names_of_their_own(enhancer, segmentor, contract, build):
    two = contract.model_copy(update={"channels": (0, 1)})
    enhancer = dataclasses.replace(enhancer, contract=two)
    model = UNet(2, features=2, depth=2)
    assert build(model, enhancer)["inputs"][0]["axes"][1]["channel_names"] == ["background", "foreground"]
    assert build(model, segmentor)["inputs"][0]["axes"][1]["channel_names"] == ["raw0", "raw1"]
    twice = dataclasses.replace(enhancer, contract=contract.model_copy(update={"channels": (1, 1)}))
    assert build(model, twice)["inputs"][0]["axes"][1]["channel_names"] == ["foreground0", "foreground1"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"in_channels": 2}, "feeds 1 .* takes 2"), ({"out_channels": 3}, "must give 2 channels .* gives 3")],
)
def test_a_network_that_does_not_fit_is_refused(kwargs, message, enhancer, build):
    with pytest.raises(ConfigError, match=message):
        build(UNet(features=2, depth=2, **kwargs), enhancer)


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_facts_that_are_not_json_are_refused(value, model, enhancer, build):
    with pytest.raises(ConfigError, match="plain JSON"):
        build(model, dataclasses.replace(enhancer, config={"value": value}))


def test_what_is_not_known_is_left_out(model, segmentor, build, attribution):
    author = dataclasses.replace(attribution.authors[0], github_user=None)
    details = dataclasses.replace(segmentor, attribution=dataclasses.replace(attribution, authors=(author,)))
    config = build(model, details)["config"]
    assert not {"modality", "target_structure", "training", "evaluations"} & set(config["bioimageio"])
    assert "github_users" not in config["s2d_zoo"]
    assert "parent" not in build(model, details)


def test_a_3d_contract_is_refused(enhancer, contract, model, build):
    details = dataclasses.replace(enhancer, contract=contract.model_copy(update={"ndim": 3}))
    with pytest.raises(ConfigError, match="says 3D"):
        build(model, details)


def test_facts_go_into_the_fields_that_bioimageio_has_for_them(model, segmentor, build, facts):
    evaluation = {
        "dataset_id": "ilastik/nuclei",
        "dataset_source": "https://example.com/",
        "dataset_role": "test",
        "sample_count": 3,
        "evaluation_factors": ["overall"],
        "evaluation_factors_long": ["all images"],
        "metrics": ["IoU"],
        "metrics_long": ["intersection over union"],
        "results": [[0.8]],
    }
    facts = dataclasses.replace(
        facts,
        modality="fluorescence microscopy",
        target_structure=("nuclei",),
        training_details={"training_epochs": 6},
        evaluations=(evaluation,),
    )
    fields = build(model, segmentor, facts)["config"]["bioimageio"]
    assert fields["modality"] == "fluorescence microscopy"
    assert fields["target_structure"] == ["nuclei"]
    assert fields["training"] == {"training_epochs": 6}
    assert fields["evaluations"] == [evaluation]
    assert fields["bias_risks_limitations"]["limitations"].endswith("Touching nuclei are not split.")
    assert BioimageioConfig.model_validate(fields).evaluations[0].results == [[0.8]]


@pytest.mark.parametrize("change", [{"training_details": {"epochs": 6}}, {"evaluations": ({"epochs": 6},)}])
def test_facts_that_bioimageio_has_no_field_for_are_refused(change, model, segmentor, build, facts):
    with pytest.raises(ConfigError, match=r"unknown keys under .*: epochs\. Expected: "):
        build(model, segmentor, dataclasses.replace(facts, **change))


# ---- finetuned

BASE = BaseModel(id="tiny-base", version="1.2.0", published=True, weights={"onnx": {"sha256": "ab"}})


def test_a_published_base_is_the_parent_and_stands_in_the_provenance(model, enhancer, build):
    details = dataclasses.replace(enhancer, base_model=BASE, config={"provenance": {"seed": 1}})
    rdf = build(model, details)
    assert rdf["parent"] == {"id": "tiny-base", "version": "1.2.0"}
    assert "finetuned" in rdf["tags"]
    base = {"id": "tiny-base", "version": "1.2.0", "source": None, "weights": {"onnx": {"sha256": "ab"}}}
    assert rdf["config"]["s2d_zoo"]["provenance"] == {"seed": 1, "base_model": base}


def test_a_base_that_is_not_published_is_no_parent(model, enhancer, build):
    rdf = build(model, dataclasses.replace(enhancer, base_model=dataclasses.replace(BASE, published=False)))
    assert "parent" not in rdf
    assert rdf["config"]["s2d_zoo"]["provenance"]["base_model"]["id"] == "tiny-base"


def test_the_tolerance_that_was_measured_is_stated(rdf, model, segmentor, build):
    (stated,) = build(model, segmentor)["config"]["bioimageio"]["reproducibility_tolerance"]
    assert stated == {
        "relative_tolerance": 0.0,
        "absolute_tolerance": 2e-4,
        "mismatched_elements_per_million": 100,
    }
    (written,) = rdf["config"]["bioimageio"]["reproducibility_tolerance"]
    assert written["absolute_tolerance"] == 1e-4


# ---- fused models

UNFUSED = Tolerance(absolute=5e-4, mismatched_per_million=200, largest_measured=0.2)


@pytest.fixture
def fused_rdf(fused_parts, fused, folder, tolerances, facts):
    (folder / "pixel_forest.py").touch()
    (folder / "unfused_output.npy").write_bytes(b"what the parts give")
    tolerances = dataclasses.replace(tolerances, unfused=UNFUSED)
    geometry = TileGeometry.from_model(fused_parts.model)
    return build_rdf(fused_parts.model, fused, geometry, folder, facts=facts, tolerances=tolerances)


def test_a_fused_model_is_no_enhancer_for_ilastik(fused_rdf):
    assert "shallow2deep" not in fused_rdf["tags"]
    assert fused_rdf["tags"][0] == "random-forest"
    assert "rf_contract" not in fused_rdf["config"]["s2d_zoo"]
    assert fused_rdf["config"]["s2d_zoo"]["kind"] == "fused"


def test_a_fused_model_takes_raw_values_and_gives_enhanced_ones(fused_rdf):
    (tensor,) = fused_rdf["inputs"]
    assert (tensor["id"], fused_rdf["outputs"][0]["id"]) == ("raw", "enhanced")
    assert tensor["axes"][1]["channel_names"] == ["raw"]
    assert tensor["data"] == {"type": "float32"}
    assert "preprocessing" not in tensor


def test_a_fused_model_says_what_is_in_it(fused_rdf, fused_parts):
    own = fused_rdf["config"]["s2d_zoo"]["fused"]
    assert RFContract.model_validate(own["forest"]) == fused_parts.classifier.contract
    assert own["enhancer"] == "tiny-enhancer"
    assert own["trees"] == 5
    assert own["tolerance"] == {"absolute": 5e-4, "mismatched_per_million": 200, "largest_measured": 0.2}


def test_what_the_parts_gave_is_attached_with_its_hash(fused_rdf):
    (attachment,) = fused_rdf["attachments"]
    assert attachment["source"] == fused_rdf["config"]["s2d_zoo"]["fused"]["unfused_output"] == "unfused_output.npy"
    assert attachment["sha256"] == hashlib.sha256(b"what the parts give").hexdigest()


def test_other_models_have_no_attachments(rdf):
    assert "attachments" not in rdf
    assert "fused" not in rdf["config"]["s2d_zoo"]


def test_the_architecture_of_a_fused_model_is_told(fused_rdf, fused_parts):
    architecture = fused_rdf["weights"]["pytorch_state_dict"]["architecture"]
    assert (architecture["source"], architecture["callable"]) == ("pixel_forest.py", "PixelForest")
    assert architecture["kwargs"]["trees"] == 5
    assert architecture["kwargs"]["enhancer"]["in_channels"] == 1
    words = fused_rdf["config"]["bioimageio"]
    assert words["architecture_type"] == "Random Forest + 2D U-Net"
    assert words["architecture_description"].startswith("Feature filters and a Random Forest, then a U-Net with 1 ")
    parameters = sum(parameter.numel() for parameter in fused_parts.model.enhancer.parameters())
    assert words["model_parameter_count"] == parameters


def test_network_and_kind_must_fit(fused_parts, model, fused, segmentor, build):
    for network, details in ((fused_parts.model, segmentor), (model, fused)):
        with pytest.raises(ConfigError, match=f"is a fused model, and no other is; found '{details.kind}'"):
            build(network, details)
