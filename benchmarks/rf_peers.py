"""The peers of `bench_rf.py`, in an environment of their own: torch_em, scikit-image, and numba's walks through trees.

Reads one JSON command per line from stdin and answers each with a JSON line on stdout, so that `bench_rf.py` can let
the ways take turns. Everything that is not an answer goes to stderr.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

# The registry's torchvision is built for CUDA: beside a torch for the CPU its operators are missing, and it cannot be
# imported before these two are declared. torch_em needs it for the pictures of its training log only.
_DECLARED = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _DECLARED.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torch_em.shallow2deep.prepare_shallow2deep import _apply_filters  # noqa: E402 - to time it alone
from torch_em.shallow2deep.shallow2deep_model import Shallow2DeepModel  # noqa: E402

Array = np.ndarray[Any, Any]
Timed = tuple[dict[str, float], Array]
#: of scikit-image: 7 scales of 4 features are as many as torch_em's
SKIMAGE = {"sigma_min": 0.7, "sigma_max": 5.0, "num_sigma": 7}


class Peers:
    """All peers for one image and one forest.

    Args:
        folder: has ``image.npy`` (y x), ``labels.npy`` (y x, 0 = unlabelled), ``rows.npy`` (pixels, features, ours),
            ``forest.pkl`` (sklearn's) and ``flat.npz`` (the same as flat arrays).
        enhancer: a bioimage.io package.
    """

    def __init__(self, folder: Path, enhancer: str) -> None:
        self.image = np.load(folder / "image.npy")
        self.model = Shallow2DeepModel(enhancer, (str(folder / "forest.pkl"), 2, None), "cpu")
        self.rows = np.load(folder / "rows.npy")
        self.planes = np.ascontiguousarray(self.rows.T)  # as our features come
        labels = np.load(folder / "labels.npy")
        features = multiscale_basic_features(self.image, **SKIMAGE)
        self.skimage_forest = RandomForestClassifier(random_state=0, n_jobs=-1)
        self.skimage_forest.fit(features[labels > 0], labels[labels > 0])
        flat = dict(np.load(folder / "flat.npz"))
        self.ways: dict[str, Callable[[], Timed]] = {
            "torch_em": lambda: self.torch_em(None),
            "torch_em, forest on all cores": lambda: self.torch_em(-1),
            "scikit-image and sklearn": self.skimage,
            "sklearn, one core": lambda: self.sklearn(None),
            "sklearn, all cores": lambda: self.sklearn(-1),
            "numba, walks": lambda: self.numba(walk, self.rows, flat["roots"], flat["shares"], *walked),
        }
        walked = walk_arrays(flat)
        masks = mask_arrays(flat)
        if masks is not None:
            self.ways["numba, masks of 64 leaves"] = lambda: self.numba(sieve, self.planes, *masks)

    def torch_em(self, n_jobs: int | None) -> Timed:
        """`Shallow2DeepModel`'s three steps; its forest on one core, as torch_em trains it, or on all."""
        forest = self.model.rf_predicter
        forest.rf.n_jobs = n_jobs
        begin = time.perf_counter()
        features = _apply_filters(self.image, forest.filters_and_sigmas)
        filtered = time.perf_counter()
        shares = forest.rf.predict_proba(features)[:, 1].reshape(self.image.shape).astype("float32")
        classified = time.perf_counter()
        with torch.inference_mode():
            self.model.model(torch.from_numpy(shares[None, None]))
        end = time.perf_counter()
        return {"features": filtered - begin, "forest": classified - filtered, "enhancer": end - classified}, shares

    def skimage(self) -> Timed:
        """Scikit-image's features and a forest fitted on them, on all cores."""
        begin = time.perf_counter()
        features = multiscale_basic_features(self.image, **SKIMAGE)
        filtered = time.perf_counter()
        shares = self.skimage_forest.predict_proba(features.reshape(-1, features.shape[-1]))[:, 1]
        end = time.perf_counter()
        return {"features": filtered - begin, "forest": end - filtered}, shares.reshape(self.image.shape)

    def sklearn(self, n_jobs: int | None) -> Timed:
        """The forest alone, on our features."""
        forest = self.model.rf_predicter.rf
        forest.n_jobs = n_jobs
        begin = time.perf_counter()
        shares = forest.predict_proba(self.rows)[:, 1]
        return {"forest": time.perf_counter() - begin}, shares

    def numba(self, kernel: Callable[..., None], *arrays: Array) -> Timed:
        """The forest alone, on our features, by one of numba's kernels, on all cores."""
        begin = time.perf_counter()
        total = np.zeros(len(self.rows))
        kernel(*arrays, total)
        shares = total / len(self.model.rf_predicter.rf.estimators_)
        return {"forest": time.perf_counter() - begin}, shares

    def check(self) -> float:
        """Largest difference between `Shallow2DeepModel` called as a whole and our three timed steps."""
        with torch.inference_mode():
            whole = self.model(torch.from_numpy(self.image[None, None]))
            steps = self.model.model(torch.from_numpy(self.torch_em(-1)[1][None, None]))
        return float((whole - steps).abs().max())


def not_above(threshold: Array) -> Array:
    """The largest float32 that is not above each float64 threshold: the same decisions for float32 features."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def walk_arrays(flat: dict[str, Array]) -> tuple[Array, ...]:
    """Column, threshold and children of each node, children counted from the first node of all."""
    start = np.repeat(flat["roots"][:-1], np.diff(flat["roots"])).astype(np.int32)
    return flat["feature"], not_above(flat["threshold"]), flat["left"] + start, flat["right"] + start


@numba.njit(nogil=True, parallel=True)
def walk(  # type: ignore[misc] # pragma: no cover
    rows: Array, roots: Array, shares: Array, column: Array, threshold: Array, left: Array, right: Array, total: Array
) -> None:
    """Each row from the root of each tree to a leaf."""
    block = 2048
    for part in numba.prange((len(rows) + block - 1) // block):
        for tree in range(len(roots) - 1):
            for row in range(part * block, min(len(rows), (part + 1) * block)):
                node = roots[tree]
                while column[node] >= 0:
                    node = left[node] if rows[row, column[node]] <= threshold[node] else right[node]
                total[row] += shares[node]


def mask_arrays(flat: dict[str, Array]) -> tuple[Array, ...] | None:
    """Inner nodes of each tree with the leaves that are lost where a row goes right; ``None`` beyond 64 leaves.

    After QuickScorer (Lucchese et al. 2015, doi:10.1145/2766462.2767733): the first leaf that no node has
    struck out is where the row ends.
    """
    column, threshold, kept, shares = [], [], [], []
    first_node, first_leaf = [0], [0]
    for start, stop in zip(flat["roots"], flat["roots"][1:], strict=False):
        leaves = flat["feature"][start:stop] < 0
        if leaves.sum() > 64:
            return None
        # sklearn numbers nodes depth first, left before right: in the order of nodes, leaves come from left to right
        before = np.concatenate([[0], np.cumsum(leaves)])
        for node in np.flatnonzero(~leaves):
            low, high = before[flat["left"][start + node]], before[flat["right"][start + node]]
            column.append(flat["feature"][start + node])
            threshold.append(flat["threshold"][start + node])
            kept.append(~(((1 << int(high)) - 1) ^ ((1 << int(low)) - 1)) & (2**64 - 1))
        shares.append(flat["shares"][start:stop][leaves])
        first_node.append(len(column))
        first_leaf.append(first_leaf[-1] + int(leaves.sum()))
    return (
        np.array(first_node),
        np.array(column),
        not_above(np.array(threshold)),
        np.array(kept, dtype=np.uint64),
        np.array(first_leaf),
        np.concatenate(shares),
    )


@numba.njit(nogil=True, parallel=True)
def sieve(  # type: ignore[misc] # pragma: no cover
    planes: Array,
    first_node: Array,
    column: Array,
    threshold: Array,
    kept: Array,
    first_leaf: Array,
    shares: Array,
    total: Array,
) -> None:
    """Every node of each tree for a block of pixels at once, by vector instructions, without walking."""
    block, every = 512, np.uint64(2**64 - 1)
    for part in numba.prange((planes.shape[1] + block - 1) // block):
        begin = part * block
        count = min(block, planes.shape[1] - begin)
        left = np.empty(block, np.uint64)
        for tree in range(len(first_node) - 1):
            left[:] = every
            for node in range(first_node[tree], first_node[tree + 1]):
                values, limit, mask = planes[column[node], begin : begin + count], threshold[node], kept[node]
                for pixel in range(count):
                    left[pixel] &= every if values[pixel] <= limit else mask
            for pixel in range(count):
                # number of zeros below the lowest one, by counting bits
                bits = (left[pixel] & (~left[pixel] + np.uint64(1))) - np.uint64(1)
                bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
                pairs = np.uint64(0x3333333333333333)
                bits = (bits & pairs) + ((bits >> np.uint64(2)) & pairs)
                bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                leaf = np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))
                total[begin + pixel] += shares[first_leaf[tree] + leaf]


def main() -> None:
    """Answer commands until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # torch_em prints
    peers: Peers | None = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "load":
            peers = Peers(Path(command["folder"]), command["enhancer"])
            names = ("torch_em", "scikit-image", "scikit-learn", "bioimage-cpp", "numba", "torch")
            answer = {
                "ways": list(peers.ways),
                "difference_of_steps": peers.check(),
                "versions": {name: version(name) for name in names},
            }
        elif peers is not None:
            answer, shares = peers.ways[command["way"]]()
            if "keep" in command:
                np.save(command["keep"], shares)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
