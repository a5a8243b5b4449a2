"""A forest and an enhancer made one network, and its trees written as ONNX knows them.

TorchScript and the state dict hold the trees as tables that tensor operations walk through: that is all that
QuPath and ilastik can run. ONNX has an operator for trees, which is several times as fast: one
``ai.onnx.ml.TreeEnsembleClassifier`` of version 3, the newest that the onnxruntime of Fiji knows.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from s2d_zoo.architectures.pixel_forest import Forest, PixelForest
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import FeatureContract
from s2d_zoo.data.network import network_kwargs
from s2d_zoo.errors import ConfigError

#: domain and version of the operator
TREE_DOMAIN: Final = "ai.onnx.ml"
TREE_OPSET: Final = 3
#: features are numbered with int16 in the tables
_MOST_FEATURES: Final = 2**15 - 1


def build_pixel_forest(
    forest: Mapping[str, np.ndarray[Any, Any]],
    features: FeatureContract,
    *,
    raw_channels: int,
    fed: Sequence[int],
    enhancer: UNet,
) -> PixelForest:
    """Filters, forest and enhancer as one network.

    Args:
        forest: trees laid end to end, as `FlatForest.to_arrays` gives them; a row goes left where its feature is at
            most the float64 threshold.
        features: which filters, in the order in which the forest takes them; 2D.
        raw_channels: channels of the raw image.
        fed: classes of the forest that are fed to the enhancer, in its order.
        enhancer: takes as many channels.

    Returns:
        The network, on the CPU, in evaluation mode. Its decisions are those of the forest to the last one:
        thresholds are rounded to float32 downwards, which changes nothing for float32 features.

    Raises:
        ConfigError: if filters, forest and enhancer do not fit, or the filters are 3D.
    """
    kwargs = network_kwargs(enhancer)
    if kwargs["in_channels"] != len(fed):
        msg = f"The enhancer takes {kwargs['in_channels']} channel(s), but {len(fed)} class(es) are to be fed to it."
        raise ConfigError(msg)
    if not features.compute_in_2d:
        msg = "Only 2D filters can be fused with an enhancer, but this forest was fitted on 3D features."
        raise ConfigError(msg)
    tables = _tables(forest, fed)
    model = PixelForest(
        filters={entry.name: list(entry.scales) for entry in features.filters},
        raw_channels=raw_channels,
        nodes=len(tables["left"]),
        trees=len(tables["roots"]),
        enhancer=kwargs,
    )
    n_features = model.filter_bank.n_features
    if not int(tables["feature"].max()) < n_features <= _MOST_FEATURES:
        msg = f"The forest tests feature {int(tables['feature'].max())}, but there are {n_features}."
        raise ConfigError(msg)
    model.forest.load_state_dict(tables)
    model.enhancer.load_state_dict(enhancer.state_dict())
    return model.cpu().eval()


def for_onnx(model: PixelForest) -> nn.Module:
    """A copy whose trees are exported as one ``TreeEnsembleClassifier``; for the exporter only."""
    twin = copy.deepcopy(model)
    twin.forest = _OnnxForest(model.forest)  # type: ignore[assignment]
    return twin


def _tables(forest: Mapping[str, np.ndarray[Any, Any]], fed: Sequence[int]) -> dict[str, torch.Tensor]:
    """Tables of `Forest`: tree by tree, each by levels from the root, so that siblings lie side by side."""
    starts = forest["roots"][:-1].astype(np.int64)
    tree_of = np.repeat(np.arange(len(starts)), np.diff(forest["roots"]))
    children = np.stack([forest["left"], forest["right"]], axis=1) + starts[tree_of][:, np.newaxis]
    leaf = forest["feature"] < 0
    levels = [starts]
    while len(levels[-1]):
        inner = levels[-1][~leaf[levels[-1]]]
        levels.append(children[inner].reshape(-1))
    by_level = np.concatenate(levels)
    order = by_level[np.argsort(tree_of[by_level], kind="stable")]
    position = np.empty(len(tree_of), dtype=np.int64)
    position[order] = np.arange(len(order))
    leaf = leaf[order]
    left = np.where(leaf, np.arange(len(order)), position[np.where(leaf, 0, children[order, 0])])
    return {
        "feature": torch.from_numpy(np.where(leaf, 0, forest["feature"][order]).astype(np.int16)),
        "threshold": torch.from_numpy(np.where(leaf, np.float32(np.inf), _rounded_down(forest["threshold"][order]))),
        "left": torch.from_numpy(left.astype(np.int32)),
        "value": torch.from_numpy(forest["probabilities"][order][:, list(fed)].astype(np.float32)),
        "roots": torch.from_numpy(position[starts].astype(np.int32)),
    }


def _rounded_down(thresholds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Largest float32 that is not above: ``x <= t`` then stays what it is for every float32 ``x``."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


class _OnnxForest(nn.Module):
    """What `Forest` is, for the ONNX exporter."""

    def __init__(self, forest: Forest) -> None:
        super().__init__()
        self.attributes = _tree_attributes(forest)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        batch, height, width = features.shape[0], features.shape[-2], features.shape[-1]
        rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        scores: torch.Tensor = _Trees.apply(rows, self.attributes)  # type: ignore[no-untyped-call]
        return scores[:, 1:].reshape(batch, height, width, -1).permute(0, 3, 1, 2)


class _Trees(torch.autograd.Function):
    """One operator in ONNX; in torch only something of the same shape, for the exporter to follow."""

    @staticmethod
    def forward(_: Any, rows: torch.Tensor, attributes: dict[str, Any]) -> torch.Tensor:  # noqa: ANN401 - torch's
        return rows.new_zeros(rows.shape[0], len(attributes["classlabels_int64s_i"]))

    @staticmethod
    def symbolic(graph: Any, rows: Any, attributes: dict[str, Any]) -> Any:  # noqa: ANN401 - torch's
        labels, scores = graph.op(f"{TREE_DOMAIN}::TreeEnsembleClassifier", rows, outputs=2, **attributes)
        labels.setType(rows.type().with_dtype(torch.int64).with_sizes([None]))
        scores.setType(rows.type().with_sizes([None, len(attributes["classlabels_int64s_i"])]))
        return scores


def _tree_attributes(forest: Forest) -> dict[str, Any]:
    """The operator's attributes; the suffix of a name is the type of its values.

    Class 0 stands for all that is not fed to the enhancer. Weights of zero are written as well: onnxruntime takes
    two classes of which only one has a weight for something else.
    """
    left, roots = forest.left.long(), forest.roots.long()
    nodes = torch.arange(len(left))
    leaf = left == nodes
    tree = torch.bucketize(nodes, roots, right=True) - 1
    number = nodes - roots[tree]
    true_child = torch.where(leaf, 0, left - roots[tree])
    false_child = torch.where(leaf, 0, true_child + 1)
    values = torch.cat([1 - forest.value.double().sum(dim=1, keepdim=True), forest.value.double()], dim=1)
    rows, classes = torch.nonzero(leaf[:, None].expand_as(values), as_tuple=True)
    return {
        "nodes_treeids_i": tree.tolist(),
        "nodes_nodeids_i": number.tolist(),
        "nodes_featureids_i": forest.feature.tolist(),
        "nodes_values_f": torch.where(leaf, 0.0, forest.threshold).tolist(),
        "nodes_modes_s": ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf.tolist()],
        "nodes_truenodeids_i": true_child.tolist(),
        "nodes_falsenodeids_i": false_child.tolist(),
        "class_treeids_i": tree[rows].tolist(),
        "class_nodeids_i": number[rows].tolist(),
        "class_ids_i": classes.tolist(),
        "class_weights_f": (values[rows, classes] / len(roots)).float().tolist(),
        "classlabels_int64s_i": list(range(values.shape[1])),
        "post_transform_s": "NONE",
    }
