"""Writes ilastik projects for tests, in ilastik's layout, and draws random ones."""

import json
import uuid
from dataclasses import dataclass, field

import h5py
import hypothesis.strategies as st
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.rf_adapter.features import FILTERS, SCALES

#: as ilastik calls the filters in the names of features
IN_WORDS = (
    "Gaussian Smoothing",
    "Laplacian of Gaussian",
    "Gaussian Gradient Magnitude",
    "Difference of Gaussians",
    "Structure Tensor Eigenvalues",
    "Hessian of Gaussian Eigenvalues",
)
LEAF = 0x40000000


@dataclass
class Block:
    """Painted labels at a place; both in the order of `axes`."""

    axes: str
    start: tuple[int, ...]
    values: np.ndarray
    tagged: bool = True  #: whether the file says the axes

    @property
    def slices(self):
        stops = (start + size for start, size in zip(self.start, self.values.shape, strict=True))
        return "[" + ",".join(f"{start}:{stop}" for start, stop in zip(self.start, stops, strict=True)) + "]"


@dataclass
class Lane:
    """One image."""

    image: np.ndarray
    axes: str
    path: str | None = None  #: in the project itself when None
    nickname: str = "image"
    says_shape: bool = True
    old_embedding: bool = False  #: before ilastik 1.3.3, `filePath` of embedded images was where they came from


@dataclass
class Stage:
    """One pixel classification."""

    matrix: np.ndarray
    forests: list[RandomForestClassifier]
    labels: list[list[Block]]  #: of each lane
    names: tuple[str, ...] = ("background", "cells")
    colours: tuple[tuple[int, int, int], ...] = ((255, 225, 25), (0, 130, 200))
    in_2d: np.ndarray | None = field(default_factory=lambda: np.ones(len(SCALES), dtype=bool))
    ndim: int = 2
    channels: int = 1
    order: np.ndarray | None = None  #: of the forest's features, shuffled
    group: str = "PixelClassification"
    selected_channels: tuple[int, ...] | None = None

    @property
    def feature_names(self):
        names = name_features(self.matrix, in_2d=self.in_2d, ndim=self.ndim, channels=self.channels)
        return names if self.order is None else [names[index] for index in self.order]


@dataclass
class Project:
    """What a file holds."""

    lanes: list[Lane]
    stages: list[Stage]
    workflow: str = "Pixel Classification"
    version: str = "1.4.0"

    def write(self, path):
        """Write it, with the images that it refers to if their paths are relative."""
        with h5py.File(path, "w") as file:
            file["ilastikVersion"] = self.version.encode()
            file["workflowName"] = self.workflow.encode()
            file["time"] = b"Mon Jan  1 00:00:00 2024"
            file.create_group("Input Data/local_data")
            file.create_group("Input Data/infos")
            for index, lane in enumerate(self.lanes):
                _write_lane(file["Input Data"], index, lane)
            for index, stage in enumerate(self.stages):
                suffix = f"{index:02}" if index else ""
                _write_features(file.create_group(f"FeatureSelections{suffix}"), stage)
                _write_stage(file.create_group(f"{stage.group}{suffix}"), stage)
        return path


def axistags(letters):
    """As vigra writes them."""
    flags = {"c": 1, "t": 8}
    axes = [
        {"key": letter, "typeFlags": flags.get(letter, 2), "resolution": 0, "description": ""} for letter in letters
    ]
    return json.dumps({"axes": axes}, indent=2).encode()


def name_features(matrix, *, in_2d, ndim, channels, scales=SCALES):
    """Names of the features, as ilastik writes them beside a forest."""
    names = []
    for row, words in enumerate(IN_WORDS):
        for column in np.flatnonzero(matrix[row]):
            base = f"{words} (σ={scales[column]})" + (" in 2D" if in_2d is not None and in_2d[column] else "")
            parts = channels * (ndim if "Eigenvalues" in words else 1)
            names += [base] if parts == 1 else [f"{base} [{part}]" for part in range(parts)]
    return names


def to_vigra(tree, n_columns):
    """A fitted tree of sklearn as vigra's topology and parameters; vigra goes left below, sklearn up to a threshold."""
    topology, parameters = [n_columns, tree.value.shape[2]], []

    def put(node):
        place, address = len(topology), len(parameters)
        weight = float(tree.weighted_n_node_samples[node])
        if tree.children_left[node] < 0:
            topology.extend([LEAF, address])
            parameters.extend([weight, *tree.value[node, 0] / tree.value[node, 0].sum()])
            return place
        topology.extend([0, address, 0, 0, tree.feature[node]])
        parameters.extend([weight, np.nextafter(tree.threshold[node], np.inf)])
        topology[place + 2] = put(tree.children_left[node])
        topology[place + 3] = put(tree.children_right[node])
        return place

    put(0)
    return np.array(topology, dtype=np.int32), np.array(parameters)


def write_forest(group, forest):
    """A fitted forest of sklearn, as vigra exports its own."""
    group.attrs["vigra_random_forest_version"] = [0.1]
    group["_options/predict_weighted_"] = [0.0]
    group["_options/tree_count_"] = [float(len(forest.estimators_))]
    group["_ext_param/column_count_"] = [float(forest.n_features_in_)]
    group["_ext_param/class_count_"] = [float(len(forest.classes_))]
    group["_ext_param/labels"] = np.asarray(forest.classes_, dtype=np.uint32)
    digits = len(str(len(forest.estimators_) - 1))
    for index, estimator in enumerate(forest.estimators_):
        topology, parameters = to_vigra(estimator.tree_, forest.n_features_in_)
        group[f"Tree_{index:0{digits}}/topology"] = topology
        group[f"Tree_{index:0{digits}}/parameters"] = parameters


def grow(n_features, labels=(1, 2), *, n_trees=3, seed=0, rows=40):
    """A forest on random rows; the same arguments give the same forest."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, n_features)).astype(np.float32)
    painted = np.asarray(labels)[rng.integers(len(labels), size=rows)]
    painted[: len(labels)] = labels
    return RandomForestClassifier(n_estimators=n_trees, random_state=seed).fit(values, painted)


def simple_project(**changes):
    """A small project of one embedded image with strokes of two classes and a forest; changes are of its stage."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((len(FILTERS), len(SCALES)), dtype=bool)
    matrix[0, 1:3] = matrix[5, 2] = True
    image = rng.integers(0, 255, size=(20, 30, 1), dtype=np.uint8)
    blocks = [
        Block("yxc", (2, 3, 0), np.array([[1, 1, 0], [0, 1, 1]], dtype=np.uint8)[..., np.newaxis]),
        Block("yxc", (10, 20, 0), np.array([[2], [2]], dtype=np.uint8)[..., np.newaxis]),
    ]
    stage = Stage(**{"matrix": matrix, "forests": [grow(4)], "labels": [blocks], **changes})
    return Project([Lane(image, "yxc")], [stage])


# ---- random projects


@st.composite
def projects(draw):
    """A random project: lanes, axes, labels, classes, features, forests, and how all of that is written."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = draw(st.sampled_from(["yx", "yxc", "cyx", "tyx", "tyxc", "zyx", "zyxc", "tzyxc", "txyzc"]))
    # versions that do not say the axes of labels moved neither them nor, if it is there, the channel
    tagged = draw(st.booleans())
    n_classes = draw(st.integers(2, 5))
    lanes = [_draw_lane(draw, rng, axes, index) for index in range(draw(st.integers(1, 3)))]
    channels = lanes[0].image.shape[axes.index("c")] if "c" in axes else 1
    for lane in lanes[1:]:
        lane.image = rng.integers(0, 255, size=lanes[0].image.shape, dtype=np.uint8)
    volume = "z" in axes and lanes[0].image.shape[axes.index("z")] > 1
    in_2d = draw(st.sampled_from([np.ones(7, dtype=bool), np.zeros(7, dtype=bool), None]))
    ndim = 3 if volume and (in_2d is None or not in_2d.any()) else 2
    stages = []
    for _ in range(draw(st.integers(1, 2))):
        matrix = rng.random((len(FILTERS), len(SCALES))) < draw(st.sampled_from([0.1, 0.5, 1]))
        matrix[1:, 0] = False  # ilastik offers 0.3 px for smoothing only
        matrix[rng.integers(6), rng.integers(1, 7)] = True
        n_features = len(name_features(matrix, in_2d=in_2d, ndim=ndim, channels=channels))
        seen = np.sort(rng.permutation(n_classes)[: draw(st.integers(2, n_classes))]) + 1
        stages.append(
            Stage(
                matrix=matrix,
                forests=[
                    grow(n_features, seen, n_trees=int(rng.integers(1, 4)), seed=index)
                    for index in range(draw(st.integers(0, 3)))
                ],
                labels=[_draw_blocks(rng, lane, n_classes, tagged=tagged) for lane in lanes],
                names=tuple(f"Klasse {label} µ" for label in range(1, n_classes + 1)),
                colours=tuple(tuple(map(int, rng.integers(0, 256, size=3))) for _ in range(n_classes)),
                in_2d=in_2d,
                ndim=ndim,
                channels=channels,
                order=rng.permutation(n_features) if draw(st.booleans()) else None,
            )
        )
    return Project(lanes, stages, version=draw(st.sampled_from(["1.2.0rc10", "1.3.2", "1.3.3post3", "1.4.0b7"])))


def _draw_lane(draw, rng, axes, index):
    sizes = {"t": draw(st.integers(1, 3)), "c": draw(st.integers(1, 3)), "z": draw(st.integers(1, 4)), "y": 9, "x": 12}
    image = rng.integers(0, 255, size=[sizes[letter] for letter in axes], dtype=np.uint8)
    path = draw(st.sampled_from([None, f"image{index}.h5/volume/data", f"sub folder/image{index}.h5/data"]))
    return Lane(
        image,
        axes,
        path,
        nickname=f"Bild {index}",
        says_shape=draw(st.booleans()),
        old_embedding=draw(st.booleans()),
    )


def _draw_blocks(rng, lane, n_classes, *, tagged):
    axes = lane.axes if "c" in lane.axes else f"{lane.axes}c"
    sizes = dict(zip(lane.axes, lane.image.shape, strict=True)) | {"c": 1}
    blocks = []
    taken = np.zeros([sizes[letter] for letter in axes], dtype=bool)
    for _ in range(rng.integers(0, 4)):
        start = tuple(int(rng.integers(0, sizes[letter])) for letter in axes)
        stop = tuple(int(rng.integers(first + 1, sizes[letter] + 1)) for first, letter in zip(start, axes, strict=True))
        place = tuple(map(slice, start, stop))
        if taken[place].any():  # ilastik's blocks do not overlap
            continue
        taken[place] = True
        values = rng.integers(0, n_classes + 1, size=taken[place].shape, dtype=np.uint8)
        blocks.append(Block(axes, start, values, tagged=tagged))
    return blocks


# ---- parts of a file


def _write_lane(group, index, lane):
    info = group.create_group(f"infos/lane{index:04}/Raw Data")
    group.create_group(f"infos/lane{index:04}/Prediction Mask")
    identity = str(uuid.UUID(int=index + 1))
    inside = f"/Input Data/local_data/{identity}"
    info["nickname"] = lane.nickname.encode()
    info["datasetId"] = identity.encode()
    info["allowLabels"] = True
    info["axistags"] = axistags(lane.axes)
    if lane.says_shape:
        info["shape"] = lane.image.shape
    if lane.path is None:
        info["location"] = b"ProjectInternal"
        info["filePath"] = b"somewhere/??.png" if lane.old_embedding else inside.encode()
        group[f"local_data/{identity}"] = lane.image
        group[f"local_data/{identity}"].attrs["axistags"] = axistags(lane.axes)
    else:
        info["location"] = b"FileSystem"
        info["filePath"] = lane.path.encode()


def _write_features(group, stage):
    group["FeatureIds"] = np.array([name.encode() for name in FILTERS])
    group["Scales"] = np.array(SCALES)
    group["SelectionMatrix"] = stage.matrix
    if stage.in_2d is not None:
        group["ComputeIn2d"] = stage.in_2d


def _write_stage(group, stage):
    _write_list(group, "LabelNames", np.array([name.encode() for name in stage.names]))
    _write_list(group, "LabelColors", np.array(stage.colours))
    if stage.selected_channels is not None:
        _write_list(group, "SelectedChannels", np.array(stage.selected_channels))
    for index, blocks in enumerate(stage.labels):
        lane = group.create_group(f"LabelSets/labels{index:03}")
        for number, block in enumerate(blocks):
            dataset = lane.create_dataset(f"block{number:04}", data=block.values)
            dataset.attrs["blockSlice"] = block.slices
            if block.tagged:
                dataset.attrs["axistags"] = axistags(block.axes).decode()
    if stage.forests:
        forests = group.create_group("ClassifierForests")
        for index, forest in enumerate(stage.forests):
            write_forest(forests.create_group(f"Forest{index:04}"), forest)
        forests["feature_names"] = np.array([name.encode() for name in stage.feature_names])
        forests["known_labels"] = np.asarray(stage.forests[0].classes_, dtype=np.uint32)
        forests["pickled_type"] = b"clazyflow.classifiers\nParallelVigraRfLazyflowClassifier\np0\n."


def _write_list(group, name, values):
    group[name] = values if len(values) else np.empty(1)
    group[name].attrs["isEmpty"] = not len(values)
