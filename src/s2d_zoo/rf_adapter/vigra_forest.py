"""vigra's random forests, as ilastik stores them in a project, turned into flat trees.

Source: the layout of ``vigra/random_forest`` (``rf_nodeproxy.hxx``) and of its HDF5 export. A tree is a list of whole
numbers, ``[columns, classes, nodes…]``: an inner node is ``[0, parameters, left, right, column]`` and goes left where
``row[column] < threshold``, a leaf is ``[0x40000000, parameters]``. Parameters of an inner node are its weight and the
threshold, of a leaf its weight and the share of each class.
"""

import re
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from s2d_zoo.errors import ProjectFileError, SavedFileError
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.rf_adapter.project_file import read_array, read_group, read_text, read_whole_numbers, sort_numbered

_ROOT: Final = 2
_THRESHOLD_NODE: Final = 0
_LEAF: Final = 0x40000000
#: numbers that a node takes up in the list
_INNER_SIZE, _LEAF_SIZE = 5, 2
#: all trees of forests grown on every pixel of a large image have fewer numbers
_MOST_BYTES: Final = 2**30
#: shares in all nodes together
_MOST_SHARES: Final = 2**26
#: trees of thousands of nodes are some dozen levels deep
_MOST_LEVELS: Final = 10_000
#: features of images with a thousand channels are fewer
MOST_COLUMNS: Final = 2**17
_ROUNDING: Final = 1e-6
#: samples in all leaves of a tree
_LARGEST_WEIGHT: Final = 2.0**53
_TRY: Final = "Train the project in ilastik again."
#: what ilastik calls the classifier that is read here, and that of scikit-learn
ILASTIKS_OWN: Final = "ParallelVigraRf"
_SKLEARN: Final = "Sklearn"
#: the last part of a class's name, in a pickle that is looked at, but not loaded
_CLASSIFIER: Final = re.compile(r"(\w+)LazyflowClassifier")

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
NodeArray = np.ndarray[Any, np.dtype[np.int32]]
#: left, right, column, threshold, shares; node numbers count from the root
_Tree = tuple[NodeArray, NodeArray, NodeArray, FloatArray, FloatArray]


def read_forests(group: h5py.Group, *, n_classes: int) -> FlatForest:
    """Read all forests of a classifier as one.

    ilastik weighs its forests by their number of trees, and a forest is the mean of its trees, so that all of them
    together are the mean of all trees.

    Args:
        group: ``ClassifierForests`` of a project, with the groups ``Forest0000`` and so on.
        n_classes: how many labels the project has; those that were never painted get probability 0.

    Raises:
        ProjectFileError: if there is none, or one is not a forest of decision trees for these labels.
    """
    names = sort_numbered(name for name in group if name.startswith("Forest"))
    if not names:
        msg = f"{group.name} holds no forest. Train the classifier in ilastik (Live Update) and save the project."
        raise ProjectFileError(msg)
    trees: list[_Tree] = []
    columns = set()
    budget = _Budget()
    for name in names:
        forest = read_group(group, name)
        column_count = _number(forest, "_ext_param/column_count_")
        columns.add(column_count)
        labels = read_whole_numbers(forest, "_ext_param/labels")
        _check_forest(forest, labels, n_classes)
        trees += [
            _read_tree(read_group(forest, tree), column_count, labels - 1, n_classes, budget)
            for tree in sort_numbered(name for name in forest if name.startswith("Tree_"))
        ]
    if len(columns) != 1 or not trees:
        msg = f"{group.name} holds {len(trees)} trees on {sorted(columns)} features; expected trees on equal features."
        raise ProjectFileError(msg)
    roots = np.concatenate([[0], np.cumsum([len(tree[0]) for tree in trees])]).astype(np.int64)
    left, right, column, threshold, shares = map(_join, map(list, zip(*trees, strict=True)))
    try:
        return FlatForest(
            roots=roots,
            feature=column,
            # the largest number for which vigra's "below" holds, since a flat tree goes left up to its threshold
            threshold=np.where(column < 0, 0.0, np.nextafter(threshold, -np.inf)),
            left=left,
            right=right,
            probabilities=shares,
            n_features=columns.pop(),
        )
    except SavedFileError as error:
        msg = f"{group.name} of {group.file.filename}: {error}"
        raise ProjectFileError(msg) from error


def read_kind(group: h5py.Group) -> str:
    """Which of ilastik's classifiers a pixel classification has, e.g. ``ParallelVigraRf``; "" where it does not say.

    That of the trained one, else that of the one to be trained.
    """
    for name in ("ClassifierForests/pickled_type", "ClassifierFactory"):
        found = group.get(name)
        if isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) and found.shape == ():
            kinds = _CLASSIFIER.findall(read_text(group, name))
            if kinds:
                return str(kinds[-1])
    return ""


def explain_missing(path: Path, name: str, kind: str) -> str:
    """Why a project has no forest to predict with, and what to do.

    Args:
        path: of the project.
        name: of its pixel classification.
        kind: as `read_kind` gives it.
    """
    retrain = "let s2d-zoo fit one on its labels: adapt or classify with --retrain."
    if kind in {"", ILASTIKS_OWN}:
        train = "Train it in ilastik (Live Update) and save the project"
        return f"{path} holds no trained forest in {name}. {train}, or {retrain}"
    found = f"of ilastik's kind {kind!r}, which s2d-zoo does not read"
    if kind == _SKLEARN:
        found = "one of scikit-learn. ilastik stores it as a pickle, which s2d-zoo does not read: it could run any code"
    train = "Train it with ilastik's default classifier, Parallel Random Forest (VIGRA), and save the project"
    return f"The classifier in {name} of {path} is {found}. {train}, or {retrain}"


def _join(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """All parts one after another; each is let go once it is copied, so that they are not held twice."""
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    stop = len(joined)
    while parts:
        part = parts.pop()
        joined[stop - len(part) : stop] = part
        stop -= len(part)
    return joined


def _check_forest(forest: h5py.Group, labels: IntArray, n_classes: int) -> None:
    if "_options/predict_weighted_" in forest and _number(forest, "_options/predict_weighted_"):
        msg = f"{forest.name} weighs its leaves by size, which ilastik's forests do not. Train it in ilastik again."
        raise ProjectFileError(msg)
    if labels.ndim != 1 or not len(labels) or labels.min() < 1 or labels.max() > n_classes or _has_twins(labels):
        msg = f"{forest.name} knows the labels {labels.tolist()}, but the project has the labels 1…{n_classes}."
        raise ProjectFileError(msg)


def _number(forest: h5py.Group, name: str) -> int:
    value = float(read_array(forest, name).ravel()[0])
    if not value.is_integer() or not 0 <= value <= MOST_COLUMNS:
        msg = f"{forest.name}/{name} should be a whole number up to {MOST_COLUMNS}, found {value}. {_TRY}"
        raise ProjectFileError(msg)
    return int(value)


class _Budget:
    """What may still be read: a small file can declare, or link to, any number of large trees."""

    def __init__(self) -> None:
        self.bytes, self.shares = _MOST_BYTES, _MOST_SHARES

    def read(self, tree: h5py.Group, name: str) -> np.ndarray[Any, Any]:
        values = read_array(tree, name, most_bytes=self.bytes)
        self.bytes -= values.nbytes
        return values.ravel()

    def take_shares(self, tree: h5py.Group, count: int) -> None:
        self.shares -= count
        if self.shares < 0:
            _refuse(tree, "more nodes and classes than fit into memory")


def _read_tree(tree: h5py.Group, n_columns: int, classes: IntArray, n_classes: int, budget: _Budget) -> _Tree:
    topology, parameters = budget.read(tree, "topology"), budget.read(tree, "parameters")
    if topology.dtype.kind not in "iu" or parameters.dtype.kind != "f" or not np.all(np.isfinite(parameters)):
        _refuse(tree, f"nodes of {topology.dtype} and parameters of {parameters.dtype}, or some that are not finite")
    if topology[:_ROOT].tolist() != [n_columns, len(classes)]:
        _refuse(tree, f"a tree for (features, classes) {topology[:_ROOT].tolist()} in a forest for others")
    levels = _walk(tree, topology, n_classes, budget)
    nodes = np.concatenate(levels)
    inner = topology[nodes] == _THRESHOLD_NODE
    left, right, column = (np.full(len(nodes), -1, dtype=np.int32) for _ in range(3))
    threshold = np.zeros(len(nodes))
    # level by level, children are in the order of their parents
    left[inner] = np.arange(1, len(nodes), 2)
    right[inner] = np.arange(2, len(nodes) + 1, 2)
    tested = topology[nodes[inner] + 4]
    places = topology[nodes + 1].astype(np.int64)
    wanted = np.where(inner, 2, 1 + len(classes))
    if np.any(places < 0) or np.any(places + wanted > len(parameters)):
        _refuse(tree, "nodes whose parameters are missing")
    if np.any(tested < 0) or np.any(tested >= n_columns):
        _refuse(tree, "tests on features that do not exist")
    column[inner] = tested
    threshold[inner] = parameters[places[inner] + 1]
    leaf_shares = parameters[places[~inner, np.newaxis] + 1 + np.arange(len(classes))]
    if not np.allclose(leaf_shares.sum(axis=1), 1, rtol=0, atol=_ROUNDING):
        _refuse(tree, "leaves whose class probabilities do not add up to 1")
    shares = np.zeros((len(nodes), n_classes))
    shares[np.ix_(~inner, classes)] = leaf_shares
    weights = np.where(inner, 0.0, parameters[places])
    if np.any(weights < 0) or weights.sum() > _LARGEST_WEIGHT:
        _refuse(tree, "leaves for fewer than no samples, or for more than there can be")
    _fill_inner(shares, weights, (left, right), inner, np.cumsum([0, *map(len, levels)]))
    return left, right, column, threshold, shares


def _walk(tree: h5py.Group, topology: IntArray, n_classes: int, budget: _Budget) -> list[IntArray]:
    """Places of the nodes, level by level; parents come before their children, two for each."""
    level = np.array([_ROOT])
    levels: list[IntArray] = []
    count = 0
    while len(level):
        if level.min() < _ROOT or level.max() > len(topology) - _LEAF_SIZE:
            _refuse(tree, "children that do not exist")
        kinds = topology[level]
        if not np.all(np.isin(kinds, (_THRESHOLD_NODE, _LEAF))):
            _refuse(tree, f"nodes of kinds that ilastik does not make, {sorted(set(kinds.tolist()))}")
        inner = level[kinds == _THRESHOLD_NODE]
        if len(inner) and inner.max() > len(topology) - _INNER_SIZE:
            _refuse(tree, "a list of nodes that is cut off")
        if len(levels) == _MOST_LEVELS:
            _refuse(tree, f"more than {_MOST_LEVELS} levels")
        budget.take_shares(tree, len(level) * n_classes)
        levels.append(level)
        count += len(level)
        if count > len(topology) // _LEAF_SIZE:
            _refuse(tree, "nodes that are their own descendants")
        level = np.stack([topology[inner + 2], topology[inner + 3]], axis=1).ravel().astype(np.int64)
    nodes = np.concatenate(levels)
    if _has_twins(nodes):
        _refuse(tree, "nodes with two parents")
    return levels


def _fill_inner(
    shares: FloatArray, weights: FloatArray, children: tuple[NodeArray, NodeArray], inner: BoolArray, starts: IntArray
) -> None:
    """Give inner nodes the mean of the leaves below them, by their weight, so that trees can be cut off there.

    vigra keeps the number of samples of its leaves only.
    """
    left, right = children
    for start, stop in zip(starts[-2::-1], starts[:0:-1], strict=True):
        level = np.arange(start, stop)[inner[start:stop]]
        below = weights[left[level]], weights[right[level]]
        weights[level] = below[0] + below[1]
        part = np.divide(below[0], weights[level], out=np.full(len(level), 0.5), where=weights[level] > 0)[:, None]
        shares[level] = part * shares[left[level]] + (1 - part) * shares[right[level]]


def _has_twins(values: IntArray) -> bool:
    return len(np.unique(values)) != len(values)


def _refuse(tree: h5py.Group, what: str) -> None:
    msg = f"{tree.name} of {tree.file.filename} is no tree of ilastik: found {what}. {_TRY}"
    raise ProjectFileError(msg)
