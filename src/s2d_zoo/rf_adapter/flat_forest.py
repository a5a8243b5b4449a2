"""A Random Forest as flat arrays: what a file can hold, and what every kind of forest can be turned into."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from s2d_zoo.errors import ConfigError, SavedFileError, UserInputError

#: rows handed to one thread at a time: with fewer the 100 calls cost more, with more they leave the cache
#: (measured on 28 and 49 features; see benchmarks/bench_rf.py for other ways to run a forest)
_CHUNK_ROWS: Final = 32768
_LEAF: Final = -1
#: shares that were normalised may exceed 1 by this much
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatForest:
    """Trees laid end to end; node numbers count from the start of each tree.

    At an inner node a row goes left where ``row[feature] <= threshold`` (sklearn's rule, float64 thresholds
    against float32 features).

    Attributes:
        roots: (trees + 1) int64, first node of each tree, and the number of nodes at the end.
        feature: (nodes) int32, column that is tested, -1 at a leaf.
        threshold: (nodes) float64.
        left, right: (nodes) int32, children within the tree, -1 at a leaf.
        probabilities: (nodes, classes) float64, share of each class in the node.
        n_features: columns of the rows that it takes.

    Raises:
        SavedFileError: if the arrays do not describe trees (wrong lengths, children that do not exist).
    """

    roots: np.ndarray[Any, Any]
    feature: np.ndarray[Any, Any]
    threshold: np.ndarray[Any, Any]
    left: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any]
    n_features: int

    def __post_init__(self) -> None:
        nodes = self.probabilities.shape[0] if self.probabilities.ndim == 2 else -1
        per_node = (self.feature, self.threshold, self.left, self.right)
        problem = None
        whole = (self.roots, self.feature, self.left, self.right)
        if any(not np.issubdtype(array.dtype, np.integer) for array in whole):
            problem = f"node numbers of types {[str(array.dtype) for array in whole]} instead of integers"
        elif any(array.shape != (nodes,) for array in per_node):
            problem = f"node arrays of shapes {[array.shape for array in per_node]} for {nodes} nodes"
        elif (
            self.roots.ndim != 1
            or len(self.roots) < 2
            or self.roots[0] != 0
            or self.roots[-1] != nodes
            or np.any(np.diff(self.roots) < 1)
        ):
            problem = "roots that do not divide the nodes into trees"
        elif np.any(self.feature >= self.n_features) or np.any(self.feature < _LEAF):
            problem = f"a test on a column outside of 0…{self.n_features - 1}"
        elif not self._children_follow():
            problem = "a child that does not come after its parent in the same tree"
        elif not self._are_shares() or np.any(np.isnan(self.threshold)):
            problem = "probabilities outside of [0, 1], or thresholds that are NaN"
        if problem:
            msg = f"Not a forest: found {problem}. The file is damaged; fit the classifier again."
            raise SavedFileError(msg)

    def _are_shares(self) -> bool:
        """Whether all probabilities are numbers from 0 to 1; without a copy of them, which may be large."""
        low, high = self.probabilities.min(initial=0.0), self.probabilities.max(initial=1.0)
        return bool(low >= -_ROUNDING) and bool(high <= 1 + _ROUNDING)

    def _children_follow(self) -> bool:
        """Children come after their parent, and leaves have none, so that every walk ends."""
        sizes = np.diff(self.roots)
        position = np.arange(len(self.feature)) - np.repeat(self.roots[:-1], sizes)
        size = np.repeat(sizes, sizes)
        inner = self.feature != _LEAF
        return all(
            bool(np.all((child[inner] > position[inner]) & (child[inner] < size[inner])))
            and bool(np.all(child[~inner] == _LEAF))  # sklearn tells a leaf by its children
            for child in (self.left, self.right)
        )

    @classmethod
    def from_sklearn(cls, forest: RandomForestClassifier, *, n_classes: int) -> "FlatForest":
        """Flatten a fitted sklearn forest.

        Args:
            forest: fitted on labels 1…n.
            n_classes: width of the output; classes that the forest never saw get probability 0.
        """
        trees = [estimator.tree_ for estimator in forest.estimators_]
        counts = [tree.node_count for tree in trees]
        seen = np.asarray(forest.classes_, dtype=np.int64) - 1
        probabilities = np.zeros((sum(counts), n_classes))
        probabilities[:, seen] = np.concatenate([tree.value[:, 0, :] for tree in trees])
        left = np.concatenate([tree.children_left for tree in trees]).astype(np.int32)
        feature = np.concatenate([tree.feature for tree in trees]).astype(np.int32)
        return cls(
            roots=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            feature=np.where(left < 0, _LEAF, feature).astype(np.int32),
            threshold=np.where(left < 0, 0.0, np.concatenate([tree.threshold for tree in trees])),
            left=left,
            right=np.concatenate([tree.children_right for tree in trees]).astype(np.int32),
            probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
            n_features=forest.n_features_in_,
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[Any, Any]], *, n_features: int) -> "FlatForest":
        """Build from the arrays that `to_arrays` gives.

        Raises:
            SavedFileError: if an array is missing or the arrays do not describe trees.
        """
        wanted = [field.name for field in fields(cls) if field.name != "n_features"]
        missing = [name for name in wanted if name not in arrays]
        if missing:
            msg = f"Not a forest: the arrays {missing} are missing (found {sorted(arrays)})."
            raise SavedFileError(msg)
        return cls(**{name: arrays[name] for name in wanted}, n_features=n_features)

    def limited(self, *, n_trees: int | None = None, max_depth: int | None = None) -> "FlatForest":
        """A smaller forest: the first trees, cut off below a depth.

        A node at which a tree is cut becomes a leaf, and says what the samples that reached it said.

        Args:
            n_trees: how many trees to keep; all when ``None``.
            max_depth: steps from the root to the deepest leaf; as they are when ``None``.

        Raises:
            ConfigError: if a number is below 1.
        """
        if min(1 if number is None else number for number in (n_trees, max_depth)) < 1:
            msg = f"A forest keeps at least 1 tree of depth 1, got {n_trees} trees of depth {max_depth}."
            raise ConfigError(msg)
        roots = self.roots[: (self.n_trees if n_trees is None else n_trees) + 1]
        depth = self.depths()[: roots[-1]]
        deepest = int(depth.max()) if max_depth is None else max_depth
        kept = depth <= deepest
        leaf = (depth >= deepest) | (self.feature[: roots[-1]] == _LEAF)
        # where each node is after those above it in the list have gone
        before = np.concatenate([[0], np.cumsum(kept)])
        start = np.repeat(roots[:-1], np.diff(roots))

        def moved(child: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            there = before[np.where(leaf, 0, child[: roots[-1]] + start)] - before[start]
            return np.where(leaf, _LEAF, there)[kept].astype(np.int32)

        return FlatForest(
            roots=before[roots].astype(np.int64),
            feature=np.where(leaf, _LEAF, self.feature[: roots[-1]])[kept].astype(np.int32),
            threshold=np.where(leaf, 0.0, self.threshold[: roots[-1]])[kept],
            left=moved(self.left),
            right=moved(self.right),
            probabilities=self.probabilities[: roots[-1]][kept],
            n_features=self.n_features,
        )

    def depths(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Steps from the root to each node, (nodes) int64."""
        depth = np.zeros(len(self.feature), dtype=np.int64)
        start = np.repeat(self.roots[:-1], np.diff(self.roots))
        level = np.asarray(self.roots[:-1], dtype=np.int64)
        steps = 0
        while len(level):
            depth[level] = steps
            inner = level[self.feature[level] != _LEAF]
            level = np.concatenate([self.left[inner] + start[inner], self.right[inner] + start[inner]])
            steps += 1
        return depth

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays by name, ready for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "n_features"}

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.roots) - 1

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    def predictor(self) -> "ForestPredictor":
        """Make it ready to predict (builds sklearn's compiled trees once)."""
        return ForestPredictor(self)


class ForestPredictor:
    """Predicts with sklearn's compiled trees, on all cores, always adding up in the same order.

    sklearn's own ``predict_proba`` adds trees up in whichever order its threads end, so its last bits vary
    from run to run; here each thread takes a chunk of rows through all trees.
    """

    def __init__(self, forest: FlatForest) -> None:
        self._n_classes = forest.n_classes
        self._n_features = forest.n_features
        self._trees = [
            _compile(forest, start, stop) for start, stop in zip(forest.roots, forest.roots[1:], strict=False)
        ]

    def predict_proba(
        self, rows: np.ndarray[Any, Any], *, n_threads: int | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Class probabilities.

        Args:
            rows: (n, features), float32.
            n_threads: threads to use; all cores when ``None``.

        Returns:
            (n, classes) float32 in [0, 1], rows summing to 1.

        Raises:
            UserInputError: if the rows have other columns than the forest takes.
        """
        if rows.shape[1:] != (self._n_features,):  # sklearn's compiled trees do not look: they would read elsewhere
            msg = f"This forest takes rows of {self._n_features} features, found an array of shape {rows.shape}."
            raise UserInputError(msg)
        result = np.empty((len(rows), self._n_classes), dtype=np.float32)

        def predict_chunk(start: int) -> None:
            chunk = np.ascontiguousarray(rows[start : start + _CHUNK_ROWS], dtype=np.float32)
            total = np.zeros((len(chunk), self._n_classes))
            for tree in self._trees:
                total += tree.predict(chunk).reshape(len(chunk), self._n_classes)
            result[start : start + _CHUNK_ROWS] = total / len(self._trees)

        with ThreadPoolExecutor(n_threads or os.cpu_count()) as executor:
            list(executor.map(predict_chunk, range(0, len(rows), _CHUNK_ROWS)))
        return result


@cache
def _compiled_tree() -> tuple[type, np.dtype[Any]]:
    """Sklearn's compiled tree and the layout of its nodes, learnt from a tree of the installed version."""
    tree = DecisionTreeClassifier(max_depth=1).fit([[0.0], [1.0]], [0, 1]).tree_
    return type(tree), tree.__getstate__()["nodes"].dtype


def _compile(forest: FlatForest, start: int, stop: int) -> Any:  # noqa: ANN401 - sklearn's Tree has no public name
    tree_type, node_dtype = _compiled_tree()
    part = slice(start, stop)
    nodes = np.zeros(stop - start, dtype=node_dtype)
    nodes["left_child"] = forest.left[part]
    nodes["right_child"] = forest.right[part]
    nodes["feature"] = np.where(forest.feature[part] == _LEAF, -2, forest.feature[part])
    nodes["threshold"] = forest.threshold[part]
    nodes["n_node_samples"] = 1
    nodes["weighted_n_node_samples"] = 1.0
    tree = tree_type(forest.n_features, np.array([forest.n_classes], dtype=np.intp), 1)
    values = np.ascontiguousarray(forest.probabilities[part][:, np.newaxis, :], dtype=np.float64)
    tree.__setstate__({"max_depth": 1, "node_count": stop - start, "nodes": nodes, "values": values})
    return tree
