"""A forest and an enhancer as one network, in every format: the trees are those of the forest to the last decision."""

import dataclasses
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import network_kwargs
from s2d_zoo.errors import ConfigError
from s2d_zoo.export import weights
from s2d_zoo.export.fused import build_pixel_forest


@dataclasses.dataclass(frozen=True)
class Written:
    """A fused model and its weights files."""

    parts: object
    folder: object
    graph: onnx.ModelProto

    @property
    def session(self):
        return onnxruntime.InferenceSession(self.folder / weights.ONNX_FILE)

    @property
    def script(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(self.folder / weights.TORCHSCRIPT_FILE)

    @property
    def trees(self):
        """The one operator for trees, alone: from rows of features to a score for each class."""
        (node,) = (node for node in self.graph.graph.node if node.op_type == "TreeEnsembleClassifier")
        tensors = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None])
            for name in (node.input[0], node.output[1])
        ]
        alone = onnx.helper.make_graph([node], "trees", tensors[:1], tensors[1:])
        model = onnx.helper.make_model(alone, opset_imports=self.graph.opset_import, ir_version=self.graph.ir_version)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return lambda rows: session.run(None, {node.input[0]: rows})[0]


CASES = {
    "two classes": {},
    "three raw channels": {"channels": 3},
    "one of three classes": {"n_classes": 3, "fed": (2,)},
    "two fed channels": {"channels": 3, "n_classes": 3, "fed": (2, 0)},
    "one tree": {"n_estimators": 1},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def written(request, fused_maker, tmp_path_factory):
    parts = fused_maker(**request.param)
    folder = tmp_path_factory.mktemp("fused")
    example = torch.from_numpy(parts.image.values[None, :, :32, :32].astype(np.float32))
    weights.write_weights(
        weights.for_export(parts.model), folder, example=example, input_name="raw", output_name="enhanced"
    )
    return Written(parts=parts, folder=folder, graph=onnx.load(folder / weights.ONNX_FILE))


def batch_of(parts):
    """Two images of another size than the example, ``(2, channel, y, x)``."""
    values = parts.image.values.astype(np.float32)
    return np.stack([values[:, :44, :52], values[:, 10:54, 14:]])


def test_the_trees_are_one_operator_of_a_version_that_fiji_knows(written):
    assert [node.op_type for node in written.graph.graph.node if node.domain] == ["TreeEnsembleClassifier"]
    versions = {entry.domain: entry.version for entry in written.graph.opset_import}
    assert versions == {"": 17, "ai.onnx.ml": 3}
    assert written.graph.ir_version == 8
    onnx.checker.check_model(written.graph)


def test_the_operator_gives_what_sklearns_trees_give_also_right_at_the_thresholds(written):
    parts = written.parts
    flat = parts.classifier.forest
    near = flat.threshold[flat.feature >= 0].astype(np.float32)
    assert (near > flat.threshold[flat.feature >= 0]).any(), "rounded up, some decisions would be others"
    pool = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    rows = np.random.default_rng(0).choice(pool, size=(3000, flat.n_features))
    expected = flat.predictor().predict_proba(rows)[:, list(parts.fed)]
    np.testing.assert_allclose(written.trees(rows)[:, 1:], expected, atol=1e-6)
    image = torch.from_numpy(np.ascontiguousarray(rows.T.reshape(1, -1, 50, 60)))
    np.testing.assert_allclose(parts.model.forest(image)[0].flatten(1).T.numpy(), expected, atol=1e-6)


def share_apart(one, other):
    """Share of elements that differ visibly: one pixel right at a threshold of the forest changes all around it."""
    return (np.abs(one - other) > 0.01).mean()


def test_every_format_agrees_at_another_size_and_for_two_images(written):
    images = batch_of(written.parts)
    with torch.inference_mode():
        expected = written.parts.model(torch.from_numpy(images)).numpy()
        script = written.script(torch.from_numpy(images)).numpy()
    found = written.session.run(["enhanced"], {"raw": images})[0]
    assert found.shape == (2, 2, 44, 52)
    assert expected.std() > 0.2
    np.testing.assert_allclose(script, expected, atol=1e-6)
    assert np.median(np.abs(found - expected)) < 1e-6
    assert share_apart(found, expected) < 0.02


def test_it_gives_what_its_parts_give_one_after_another(written):
    image = batch_of(written.parts)[:1]
    with torch.inference_mode():
        found = written.parts.model(torch.from_numpy(image)).numpy()
    expected = written.parts.unfused(image)
    assert np.median(np.abs(found - expected)) < 1e-6
    assert share_apart(found, expected) < 0.02
    assert share_apart(found, written.parts.unfused(image[:, :, ::-1])) > 0.5


def test_the_tables_are_in_the_state_dict_and_in_torchscript(written):
    tables = {"feature", "threshold", "left", "value", "roots"}
    script = {name: values for name, values in written.script.state_dict().items() if name.startswith("forest.")}
    assert {name.removeprefix("forest.") for name in script} == tables
    state = torch.load(written.folder / weights.STATE_DICT_FILE, weights_only=True)
    assert all(torch.equal(state[name], values) for name, values in script.items())
    assert {values.device.type for values in state.values()} == {"cpu"}


def test_it_is_built_again_from_its_arguments_and_state_dict(written):
    again = PixelForest(**network_kwargs(written.parts.model)).eval()
    again.load_state_dict(torch.load(written.folder / weights.STATE_DICT_FILE, weights_only=True))
    image = torch.from_numpy(batch_of(written.parts))
    assert torch.equal(again(image), written.parts.model(image))


def test_a_fitted_network_stays_the_callers(fused_parts):
    enhancer = UNet(1, features=1, depth=1).train()
    contract = fused_parts.classifier.selection.to_contract()
    built = build_pixel_forest(
        fused_parts.classifier.forest.to_arrays(), contract, raw_channels=1, fed=(0,), enhancer=enhancer
    )
    with torch.no_grad():
        built.enhancer.head.bias.add_(1)
    assert enhancer.training
    assert not built.training
    assert not torch.equal(enhancer.head.bias, built.enhancer.head.bias)


def with_a_far_feature(arrays):
    return {**arrays, "feature": np.where(arrays["feature"] == 0, 3, arrays["feature"])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fed": (0, 1)}, r"takes 1 channel\(s\), but 2 class\(es\)"),
        ({"compute_in_2d": False}, "fitted on 3D features"),
        ({"forest": with_a_far_feature}, "tests feature 3, but there are 3"),
    ],
    ids=["channels", "3D", "features"],
)
def test_parts_that_do_not_fit_are_refused(fused_parts, change, message):
    arrays = fused_parts.classifier.forest.to_arrays()
    contract = fused_parts.classifier.selection.to_contract()
    with pytest.raises(ConfigError, match=message):
        build_pixel_forest(
            change.get("forest", dict)(arrays),
            contract.model_copy(update={"compute_in_2d": change.get("compute_in_2d", True)}),
            raw_channels=1,
            fed=change.get("fed", (1,)),
            enhancer=UNet(1, features=1, depth=1),
        )
