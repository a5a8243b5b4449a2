"""The weights of finetuned packages give what the trained model gives, in every format, with the new description."""

import hashlib
import io
import warnings
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from bioimageio.core import test_model as run_test
from bioimageio.core.common import MemberId
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.core.sample import Sample
from bioimageio.core.tensor import Tensor
from tests.export.bases import InAList, Network, Normalised, image_of, load, make_base, members_of, rdf_of
from torch import nn

from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.weights_values import digest_values
from s2d_zoo.errors import PackageError
from s2d_zoo.export.finetuned import write_finetuned

MEAN = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x", "y"]}}
FIXED = {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 2.4, "std": 0.8}}
LINEAR = {"id": "scale_linear", "kwargs": {"gain": 1.5, "offset": -1.0}}
CLIP = {"id": "clip", "kwargs": {"min": 1, "max": 3}}


def tensor_of(path, which):
    return np.load(io.BytesIO(members_of(path)[f"test_{which}.npy"]))


def processed(description, sample, which):
    for step in getattr(setup_pre_and_postprocessing(description, [sample]), which):
        step(sample)


def run_described(description, network, values):
    """Preprocessing, network and postprocessing by bioimageio.core, written out."""
    axes = [[str(axis.id) for axis in tensor.axes] for tensor in (description.inputs[0], description.outputs[0])]
    ids = [MemberId(tensor.id) for tensor in (description.inputs[0], description.outputs[0])]
    sample = Sample(members={ids[0]: Tensor.from_numpy(values, dims=axes[0])}, stat={}, id=None)
    processed(description, sample, "pre")
    output = network(sample.members[ids[0]].data.transpose(*axes[0]).values.astype(np.float32))
    sample.members[ids[1]] = Tensor.from_numpy(output, dims=axes[1])
    processed(description, sample, "post")
    return sample.members[ids[1]].data.transpose(*axes[1]).values


def run_torch(network):
    @torch.no_grad()
    def run(values):
        output = network(torch.from_numpy(values))
        return (output[0] if isinstance(output, list) else output).numpy()

    return run


def check_values(base, trained, path, tmp_path):
    """Both formats and the new description give, on another image, what the trained model gave with the old one."""
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    with open_package(folder) as contents:
        new = read_model_description(contents)
    shape = (1, base.network.channels[0], *base.network.smallest_tile)
    values = np.random.default_rng(8).uniform(0.5, 4, shape).astype(np.float32)
    expected = run_described(base.description, run_torch(trained.network.network), values)
    assert np.ptp(expected) > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.load(folder / "weights.pt")
    np.testing.assert_allclose(run_described(new, run_torch(script), values), expected, atol=1e-6)
    before = run_described(base.description, run_torch(base.network.network), values)
    assert np.abs(before - expected).max() > 1e-4
    if (folder / "weights.onnx").is_file():
        session = onnxruntime.InferenceSession(folder / "weights.onnx")
        name = session.get_inputs()[0].name
        found = run_described(new, lambda fed: session.run(None, {name: fed})[0], values)
        np.testing.assert_allclose(found, expected, atol=1e-6)


# ---- values


@pytest.mark.parametrize(
    ("before", "after", "left", "folded"),
    [
        ((), ({"id": "sigmoid"},), [], ["sigmoid"]),
        ((FIXED,), ({"id": "sigmoid"},), [], ["fixed_zero_mean_unit_variance", "sigmoid"]),
        ((MEAN,), ({"id": "sigmoid"},), ["zero_mean_unit_variance"], ["sigmoid"]),
        ((CLIP, MEAN, LINEAR), ({"id": "sigmoid"},), ["clip", "zero_mean_unit_variance"], ["scale_linear", "sigmoid"]),
        (
            (CLIP, LINEAR),
            ({"id": "sigmoid"}, {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}),
            [],
            ["clip", "scale_linear", "sigmoid", "clip"],
        ),
    ],
    ids=["none", "fixed", "statistics", "mixed", "both ends"],
)
def test_what_is_folded_and_what_is_left_give_the_same_values(finetune, tmp_path, before, after, left, folded):
    base, trained, path = finetune(preprocessing=before, postprocessing=after)
    check_values(base, trained, path, tmp_path)
    rdf = rdf_of(path)
    assert [step["id"] for step in rdf["inputs"][0].get("preprocessing", [])] == left
    assert "postprocessing" not in rdf["outputs"][0]
    assert rdf["config"]["s2d_zoo"]["finetuned"]["folded"] == folded
    assert list(rdf["weights"]) == ["torchscript", "onnx"]


def test_values_for_each_channel_are_folded(finetune, tmp_path):
    steps = [
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": [2, 3], "std": [0.5, 0.9], "axis": "channel"}},
        {"id": "scale_linear", "kwargs": {"gain": [1.5, 0.5], "offset": [0.1, -0.1], "axis": "channel"}},
    ]
    base, trained, path = finetune(preprocessing=steps, channels=2, image=image_of(channels=2))
    check_values(base, trained, path, tmp_path)
    assert rdf_of(path)["inputs"][0]["axes"][1]["channel_names"] == ["raw_0", "raw_1"]


@pytest.mark.parametrize("script", [True, False], ids=["scripted", "traced"])
def test_a_network_that_gives_probabilities_is_carried_on_as_it_is(finetune, tmp_path, script):
    base, trained, path = finetune(
        network=nn.Sequential(Network(), nn.Sigmoid()), postprocessing=(), preprocessing=(MEAN,), script=script
    )
    check_values(base, trained, path, tmp_path)
    code = b"".join(
        text for name, text in members_of(io.BytesIO(members_of(path)["weights.pt"])).items() if name.endswith(".py")
    )
    assert b"FoldedNetwork" not in code


def test_a_list_of_one_becomes_that_one(finetune, tmp_path):
    base, trained, path = finetune(network=InAList(), onnx=False)
    check_values(base, trained, path, tmp_path)


def test_volumes_keep_their_third_axis(finetune, tmp_path):
    base, trained, path = finetune(
        network=Network(layer=nn.Conv3d, pool=nn.MaxPool3d),
        depth=8,
        preprocessing=(FIXED,),
        image=image_of(depth=5),
    )
    check_values(base, trained, path, tmp_path)
    rdf = rdf_of(path)
    assert [axis["id"] for axis in rdf["inputs"][0]["axes"][2:]] == ["z", "y", "x"]
    assert tensor_of(path, "input").shape == (1, 1, 8, 32, 32)
    assert "3D only" in members_of(path)["README.md"].decode()


def test_the_test_tensors_are_real_raw_values_and_what_the_trained_model_makes_of_them(finetune):
    image = image_of(size=40)
    base, trained, path = finetune(preprocessing=(MEAN,), image=image)
    found = tensor_of(path, "input")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], image.values[:, 4:36, 4:36])
    expected = run_described(base.description, run_torch(trained.network.network), found)
    np.testing.assert_allclose(tensor_of(path, "output"), expected, atol=1e-6)


def test_bioimageio_core_reproduces_the_test_output_in_both_formats(finetune):
    _, _, path = finetune(preprocessing=(CLIP, MEAN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = run_test(path)
    assert summary.status == "passed", summary.format()


# ---- ONNX


def test_the_onnx_file_is_the_bases_with_other_weights_in_versions_that_fiji_reads(finetune):
    _, _, path = finetune(preprocessing=(LINEAR,), opset=18)
    model = onnx.load_from_string(members_of(path)["weights.onnx"])
    assert ([(entry.domain, entry.version) for entry in model.opset_import], model.ir_version) == ([("", 17)], 8)
    assert ([one.name for one in model.graph.input], [one.name for one in model.graph.output]) == (["image"], ["map"])
    assert rdf_of(path)["weights"]["onnx"]["opset_version"] == 17


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"onnx": False}, "the base has none, and from TorchScript none can be made"),
        ({"network": Normalised()}, "the weights were joined with others in the base's file"),
    ],
    ids=["none", "joined"],
)
def test_without_a_way_to_onnx_the_card_says_why(finetune, options, reason):
    _, _, path = finetune(**options)
    assert list(rdf_of(path)["weights"]) == ["torchscript"]
    assert f"No ONNX weights: {reason}" in members_of(path)["README.md"].decode()


def spoil(folder, change):
    model = onnx.load(folder / "net.onnx")
    change(model)
    onnx.save(model, folder / "net.onnx")


def with_other_operator(model):
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Abs"


def with_unknown_operator(model):
    next(node for node in model.graph.node if node.op_type == "Relu").domain = "somebody.else"
    model.opset_import.add(domain="somebody.else", version=1)


def with_second_output(model):
    model.graph.output.append(model.graph.input[0])


def of_old_opset(model):
    model.opset_import[0].version = 7


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_other_operator, "gives other values"),
        (with_unknown_operator, "does not run"),
        (with_second_output, "expected one input and one output, found 1 and 2"),
        (of_old_opset, "expected opset 8 or newer, found 7"),
    ],
)
def test_an_onnx_file_that_is_not_the_network_is_left_out(finetune, tmp_path, change, reason):
    folder = make_base(tmp_path / "base")
    spoil(folder, change)
    _, _, path = finetune(folder)
    assert "weights.onnx" not in members_of(path)
    assert reason in members_of(path)["README.md"].decode()


CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(2)

    def forward(self, image):
        {body}
"""


@pytest.fixture
def of_python_code(tmp_path):
    """A package whose network is Python code."""

    def make(body):
        folder = make_base(tmp_path / "base", onnx=False)
        (folder / "net.py").write_text(CODE.format(body=body))
        space = {}
        exec(compile((folder / "net.py").read_text(), "net.py", "exec"), space)  # noqa: S102 - the code above
        torch.manual_seed(0)
        torch.save(space["Net"]().state_dict(), folder / "state.pt")
        rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
        sha256 = hashlib.sha256((folder / "net.py").read_bytes()).hexdigest()
        rdf["weights"] = {
            "pytorch_state_dict": {
                "source": "state.pt",
                "pytorch_version": "2.0.0",
                "architecture": {"source": "net.py", "callable": "Net", "sha256": sha256, "kwargs": {}},
            }
        }
        (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
        return folder

    return make


def test_a_network_of_python_code_becomes_torchscript_and_onnx_without_code(of_python_code, finetuned, facts, tmp_path):
    folder = of_python_code("return self.norm(self.first(image))")
    with open_package(folder) as contents:
        base, trained = load(contents, trust_code=True)
        path = write_finetuned(trained, base, contents, finetuned, image_of(), tmp_path / "new.zip", facts=facts)
    check_values(base, trained, path, tmp_path)
    assert {"weights.pt", "weights.onnx"} < set(members_of(path))
    assert not [name for name in members_of(path) if name.endswith((".py", "state.pt"))]
    base_model = rdf_of(path)["config"]["s2d_zoo"]["provenance"]["base_model"]
    assert base_model["weights"]["pytorch_state_dict"]["values_sha256"] == digest_values(folder / "state.pt")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "image = self.first(image)\n        return image * (1 if image.shape[-1] <= 32 else 9)",
            "gives other values as TorchScript than by its code, .* a trace cannot follow it",
        ),
        (
            "if image.shape[-1] > 32:\n            raise ValueError('too large')\n        return self.first(image)",
            "allows an input of 36 x 36 px, but the network does not take it",
        ),
    ],
    ids=["branch", "size"],
)
def test_code_that_a_trace_cannot_follow_is_refused(of_python_code, finetuned, facts, tmp_path, body, message):
    with open_package(of_python_code(body)) as contents:
        base, trained = load(contents, trust_code=True)
        with pytest.raises(PackageError, match=message):
            write_finetuned(trained, base, contents, finetuned, image_of(), tmp_path / "new.zip", facts=facts)


def test_code_that_cannot_be_exported_to_onnx_has_torchscript_only(of_python_code, finetuned, facts, tmp_path):
    folder = of_python_code("return torch.special.erfcx(self.first(image))")
    with open_package(folder) as contents:
        base, trained = load(contents, trust_code=True)
        path = write_finetuned(trained, base, contents, finetuned, image_of(), tmp_path / "new.zip", facts=facts)
    assert "the network cannot be exported" in members_of(path)["README.md"].decode()
