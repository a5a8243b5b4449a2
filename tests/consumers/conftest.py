"""The packages that consumers are tried on, and the consumers: side environments, npm packages, a browser.

`make consumers` makes what is not part of the development environment; what is not there is skipped, with the reason.
"""

import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bioimageio.spec.utils import read_yaml
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.data.network import read_packaged_network
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.export.description import Attribution, Author, Fusion, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.pipeline.fusion import FusionSettings, fuse
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.zoo.collection import find_model

SIDE = Path(__file__).resolve().parents[2] / "build" / "consumers"


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A package made by s2d-zoo, and what its network gives."""

    path: Path  #: the zip
    folder: Path  #: the same, unpacked
    rdf: dict[str, Any]
    network: Callable[[torch.Tensor], torch.Tensor]  #: the module itself, not from a file for consumers

    def weights(self, weights_format):
        return self.folder / self.rdf["weights"][weights_format]["source"]

    @property
    def halo(self):
        return self.rdf["outputs"][0]["axes"][-1]["halo"]

    @property
    def inputs(self):
        """The test input, and one of an allowed size that is not square. Both batch channel y x, float32."""
        test_input = np.load(self.folder / self.rdf["inputs"][0]["test_tensor"]["source"])
        step = self.rdf["inputs"][0]["axes"][-1]["size"]["step"]
        padded = np.pad(test_input, [(0, 0), (0, 0), (step, 0), (0, 3 * step)], mode="symmetric")
        return [test_input, np.ascontiguousarray(padded)]

    def assert_close(self, output, expected):
        """Of networks: equal but for the order of summation. A forest's output jumps, so of fused packages the
        tolerance holds that they state."""
        if self.rdf["config"]["s2d_zoo"]["kind"] != "fused":
            np.testing.assert_allclose(output, expected, atol=1e-5)
            return
        [stated] = self.rdf["config"]["bioimageio"]["reproducibility_tolerance"]
        assert output.shape == expected.shape
        mismatched = np.abs(output - expected) > stated["absolute_tolerance"]
        assert mismatched.mean() * 1e6 <= stated["mismatched_elements_per_million"]

    def expected(self, values):
        with torch.inference_mode():
            return self.network(torch.from_numpy(values)).numpy()


@pytest.fixture(scope="session", params=["enhancer", "fused"])
def model_package(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    if request.param == "enhancer":
        path, network = find_model("nuclei-fluo-2d"), None
    else:
        path, network = _fused_package(tmp_path_factory.mktemp("fused"))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    rdf = read_yaml(folder / "rdf.yaml")
    return ModelPackage(path=path, folder=folder, rdf=rdf, network=network or read_packaged_network(rdf, folder))


def _fused_package(folder):
    """All of ilastik's filters, a forest of 20 trees fitted on simulated nuclei, and the bundled enhancer."""
    image, instances = simulate_nuclei(NucleiSimulation(size=256, n_nuclei=20, diameter=22, photons=40), seed=1)
    strokes = simulate_scribbles(binary_classes(instances), n_strokes=5, seed=2)
    classifier = PixelClassifier(settings=ForestSettings(n_estimators=20), random_state=3).fit(image, strokes)
    fused = fuse(classifier, load_enhancer(find_model("nuclei-fluo-2d")), FusionSettings())
    details = ModelDetails(
        id="fused",
        name="Fused for tests",
        description="Filters, forest and enhancer.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        kind="fused",
        fusion=Fusion(forest=fused.contract, enhancer=fused.enhancer.id),
    )
    facts = CardFacts(training_data="none", training_data_license="none", strokes="none", seed=0)
    path = write_package(fused.model, details, image, folder / "fused.zip", facts=facts, unfused=fused.unfused)
    return path, fused.model


@dataclass(frozen=True)
class TreeModel:
    """A small forest: its ONNX file, an input (n, feature) float32, and what sklearn gives for it."""

    path: Path
    inputs: np.ndarray
    expected: np.ndarray


@pytest.fixture(scope="session", params=[2, 3], ids=["2 classes", "3 classes"])
def tree_model(request, tmp_path_factory):
    """One TreeEnsembleClassifier of ai.onnx.ml version 3, as fused packages have it; half of the input lies on ties."""
    rng = np.random.default_rng(0)
    table = rng.random((200, 4), dtype="float32")
    classes = (table[:, :2].sum(axis=1) * request.param / 2).astype(int)
    forest = RandomForestClassifier(n_estimators=5, max_depth=4, random_state=0).fit(table, classes)
    inputs = rng.random((300, 4), dtype="float32")
    thresholds = np.concatenate([tree.tree_.threshold for tree in forest.estimators_]).astype("float32")
    inputs[::2] = rng.choice(thresholds, inputs[::2].shape)
    path = tmp_path_factory.mktemp("trees") / "trees.onnx"
    onnx.save(_onnx_forest(forest), path)
    return TreeModel(path, inputs, forest.predict_proba(inputs).astype("float32"))


def _onnx_forest(forest):
    attributes = {name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values")}
    attributes |= {"truenodeids": [], "falsenodeids": []}
    leaves = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for index, tree in enumerate(estimator.tree_ for estimator in forest.estimators_):
        nodes = range(tree.node_count)
        inner = tree.children_left >= 0
        attributes["treeids"] += [index] * tree.node_count
        attributes["nodeids"] += nodes
        attributes["featureids"] += np.where(inner, tree.feature, 0).tolist()
        attributes["modes"] += np.where(inner, "BRANCH_LEQ", "LEAF").tolist()
        attributes["values"] += _rounded_down(tree.threshold).tolist()
        attributes["truenodeids"] += np.where(inner, tree.children_left, 0).tolist()
        attributes["falsenodeids"] += np.where(inner, tree.children_right, 0).tolist()
        for node in np.flatnonzero(~inner):
            counts = tree.value[node, 0]
            leaves["treeids"] += [index] * len(counts)
            leaves["nodeids"] += [int(node)] * len(counts)
            leaves["ids"] += range(len(counts))
            leaves["weights"] += (counts / counts.sum() / len(forest.estimators_)).tolist()
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        ["labels", "probabilities"],
        domain="ai.onnx.ml",
        classlabels_int64s=forest.classes_.tolist(),
        post_transform="NONE",
        **{f"nodes_{name}": values for name, values in attributes.items()},
        **{f"class_{name}": values for name, values in leaves.items()},
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", forest.n_features_in_])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(forest.classes_)])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _rounded_down(thresholds):
    """To float32, so that every float32 value lies on the same side as before."""
    rounded = thresholds.astype("float32")
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


@dataclass(frozen=True)
class SideEnvironment:
    """A Python with another version of one runtime."""

    python: Path
    script: Path

    def run(self, weights, inputs, folder):
        """The outputs of a weights file for some inputs, and the version of the runtime."""
        np.savez(folder / "inputs.npz", **{str(index): values for index, values in enumerate(inputs)})
        arguments = [self.python, self.script, weights, folder / "inputs.npz", folder / "outputs.npz"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        with np.load(folder / "outputs.npz") as outputs:
            return [outputs[str(index)] for index in range(len(inputs))], str(outputs["version"])


def _side_environment(name, script):
    python = SIDE / name / "bin" / "python"
    if not (SIDE / name / "installed").is_file():
        pytest.skip(f"no side environment {name}: run make consumers")
    return SideEnvironment(python, Path(__file__).parent / script)


@pytest.fixture(scope="session")
def oldest_onnxruntime():
    return _side_environment("onnxruntime-oldest", "run_onnx.py")


@pytest.fixture(scope="session")
def oldest_torch():
    return _side_environment("torch-oldest", "run_torchscript.py")


@pytest.fixture(scope="session")
def onnxruntime_web():
    """The folder with the files that a page needs."""
    if not (SIDE / "browser" / "installed").is_file():
        pytest.skip("no onnxruntime-web: install node and npm, and run make consumers")
    return SIDE / "browser" / "node_modules" / "onnxruntime-web" / "dist"


@pytest.fixture(scope="session")
def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return pytest.skip("no chromium on this machine: install it with the system's package manager")
