"""How fast are features, forest and enhancer here, in torch_em, and with scikit-image and sklearn?

One process of its own runs the peers (`rf_peers.py`, in an environment that is made below build/ on the first run);
the ways take turns within one run, and times are medians. The image is the first training image of nuclei_gowt1;
forests are fitted on ten strokes per class and on randomly chosen labelled pixels.

    python benchmarks/bench_rf.py --data-dir ../shared/data

Writes benchmarks/results/bench_rf.md and .json.
"""

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import xarray as xr
from bench_rf_table import DATASET, ENHANCER, OURS, to_markdown
from onnx import TensorProto, helper
from outcome import write_outcome
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.contract import FilterName
from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.zoo.collection import find_model

HERE = Path(__file__).parent
STAGES = ("features", "forest", "enhancer")
LABELLED_PIXELS = (4_000, 100_000)
#: the filters and scales that torch_em computes where nothing else is asked for
TORCH_EM_FILTERS: tuple[FilterName, ...] = (
    "GaussianSmoothing",
    "LaplacianOfGaussian",
    "GaussianGradientMagnitude",
    "HessianOfGaussianEigenvalues",
    "StructureTensorEigenvalues",
)
SELECTION = FeatureSelection(dict.fromkeys(TORCH_EM_FILTERS, (0.7, 1.6, 3.5, 5.0)))
Array = np.ndarray[Any, Any]
Way = Callable[[], tuple[dict[str, float], Array]]
Ask = Callable[[dict[str, str]], dict[str, Any]]


def label_images(classes: xr.DataArray) -> dict[str, Array]:
    """Strokes, and randomly chosen pixels: y x, uint8, 0 = unlabelled."""
    found = {"strokes": simulate_scribbles(classes, n_strokes=10, seed=0).values}
    for count in LABELLED_PIXELS:
        labels = np.zeros(classes.shape, dtype=np.uint8)
        chosen = np.random.default_rng(0).choice(classes.size, count, replace=False)
        labels.flat[chosen] = classes.values.flat[chosen]
        found[f"{count:,} labelled px".replace(",", " ")] = labels
    return found


def environment(python: str, folder: Path) -> str:
    """Python of the peers' environment, which is made where it is missing or out of date."""
    interpreter = str(folder / "bin" / "python")
    wanted = [HERE / "rf_peers.txt", HERE.parent / "constraints.txt"]
    done = folder / "installed"
    if not done.exists() or done.stat().st_mtime < max(file.stat().st_mtime for file in wanted):
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted[0]), "-c", str(wanted[1])], check=True)
        done.touch()
    return interpreter


@contextmanager
def peers(interpreter: str) -> Iterator[Ask]:
    """A process of the peers, and how to ask it."""
    command = [interpreter, "-W", "ignore", str(HERE / "rf_peers.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(question: dict[str, str]) -> dict[str, Any]:
            if process.stdin is None or process.stdout is None:
                msg = "the peers have no pipes"
                raise RuntimeError(msg)
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline() or "null")
            if answer is None:
                msg = f"the peers ended at {question}; see their message above"
                raise RuntimeError(msg)
            return answer

        yield ask
        if process.stdin is not None:
            process.stdin.close()


def onnx_session(forest: FlatForest) -> onnxruntime.InferenceSession:
    """The forest as ONNX Runtime's tree ensemble, for one thread: chunks of rows are handed to several."""
    sizes = np.diff(forest.roots)
    leaf = forest.feature < 0
    tree = np.repeat(np.arange(forest.n_trees), sizes)
    node = np.arange(len(leaf)) - np.repeat(forest.roots[:-1], sizes)
    nearest = forest.threshold.astype(np.float32)
    threshold = np.where(nearest > forest.threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["total"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=tree.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=np.where(leaf, 0, forest.feature).tolist(),
        nodes_values=threshold.tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, forest.left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, forest.right).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=node[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=forest.probabilities[leaf, 1].tolist(),
    )
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, forest.n_features])
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(
        helper.make_graph([ensemble], "forest", [rows], [total]), opset_imports=opsets, ir_version=8
    )
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def own_ways(classifier: PixelClassifier, image: xr.DataArray, rows: Array) -> dict[str, Way]:
    """This project's stages, and what else could run its forest without a further dependency."""
    enhancer = load_enhancer(find_model(ENHANCER))
    predictor = classifier.forest.predictor()
    session = onnx_session(classifier.forest)

    def ours() -> tuple[dict[str, float], Array]:
        begin = time.perf_counter()
        features = classifier.selection.compute(image)
        filtered = time.perf_counter()
        shares = classifier.predict_features(features)
        classified = time.perf_counter()
        enhancer.enhance(shares, classifier.contract)
        end = time.perf_counter()
        return {"features": filtered - begin, "forest": classified - filtered, "enhancer": end - classified}, shares[1]

    def compiled() -> tuple[dict[str, float], Array]:
        begin = time.perf_counter()
        shares = predictor.predict_proba(rows)[:, 1]
        return {"forest": time.perf_counter() - begin}, shares

    def by_onnx() -> tuple[dict[str, float], Array]:
        begin = time.perf_counter()
        total = np.empty(len(rows), dtype=np.float32)

        def chunk(start: int) -> None:
            total[start : start + 32768] = session.run(None, {"rows": rows[start : start + 32768]})[0][:, 0]

        with ThreadPoolExecutor(os.cpu_count()) as executor:
            list(executor.map(chunk, range(0, len(rows), 32768)))
        shares = total / classifier.forest.n_trees
        return {"forest": time.perf_counter() - begin}, shares

    return {OURS: ours, "sklearn's trees, chunks of rows": compiled, "ONNX Runtime": by_onnx}


def measure(image: xr.DataArray, labels: Array, ask: Ask, runs: int) -> dict[str, Any]:
    """Times of all ways for one forest, and how far their probabilities are apart."""
    strokes = xr.DataArray(labels, dims=("y", "x"))
    classifier = PixelClassifier(selection=SELECTION, random_state=0).fit(image, strokes)
    rows = np.ascontiguousarray(SELECTION.compute(image).values.reshape(classifier.forest.n_features, -1).T)
    painted = labels.ravel() > 0
    original = RandomForestClassifier(random_state=0, n_jobs=-1).fit(rows[painted], labels.ravel()[painted])
    flat = classifier.forest.to_arrays()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, array in {"image": image.values[0].astype(np.float32), "labels": labels, "rows": rows}.items():
            np.save(folder / f"{key}.npy", array)
        np.savez(folder / "flat.npz", shares=np.ascontiguousarray(flat["probabilities"][:, 1]), **flat)
        (folder / "forest.pkl").write_bytes(pickle.dumps(original))  # torch_em reads nothing else
        loaded = ask({"do": "load", "folder": name, "enhancer": str(find_model(ENHANCER))})
        ways = own_ways(classifier, image, rows)
        outputs: dict[str, Array] = {}
        seconds: dict[str, list[dict[str, float]]] = {way: [] for way in [*ways, *loaded["ways"]]}
        first: dict[str, float] = {}  # the first call of each way is not counted among the others: numba compiles then
        for way, call in ways.items():
            times, shares = call()
            first[way], outputs[way] = times["forest"], np.asarray(shares).ravel()
        for way in loaded["ways"]:
            first[way] = ask({"do": "run", "way": way, "keep": str(folder / "kept.npy")})["forest"]
            outputs[way] = np.load(folder / "kept.npy").ravel()
        for _ in range(runs):
            for way, runs_of_way in seconds.items():
                runs_of_way.append(ways[way]()[0] if way in ways else ask({"do": "run", "way": way}))
    expected = outputs["sklearn, all cores"]
    return {
        "labelled": int(painted.sum()),
        "nodes": len(classifier.forest.feature),
        "depth": int(classifier.forest.depths().max()),
        "steps": round(mean_steps(original, rows[::997]), 1),
        "seconds": {way: medians(times) for way, times in seconds.items()},
        "forest_at_first_call": {way: round(value, 4) for way, value in first.items()},
        "largest_difference_from_sklearn": {way: float(np.abs(one - expected).max()) for way, one in outputs.items()},
        "mean_difference_from_sklearn": {way: float(np.abs(one - expected).mean()) for way, one in outputs.items()},
        "difference_of_torch_em_and_its_steps": loaded["difference_of_steps"],
        "versions": loaded["versions"],
    }


def mean_steps(forest: RandomForestClassifier, rows: Array) -> float:
    """Nodes that a row visits in a tree, on average."""
    return float(forest.decision_path(rows)[0].sum()) / len(rows) / len(forest.estimators_)


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    """Median of each stage, and of features and forest together."""
    found = {stage: statistics.median(one[stage] for one in times) for stage in STAGES if stage in times[0]}
    if "features" in found:
        found["features + forest"] = statistics.median(one["features"] + one["forest"] for one in times)
    return {stage: round(value, 4) for stage, value in found.items()}


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder with local copies of the datasets")
    parser.add_argument("--runs", type=int, default=5, help="runs of each way that are counted")
    parser.add_argument("--environment", type=Path, default=Path("build/bench/torch-em"), help="of the peers")
    options = parser.parse_args()
    entry = load_dataset(DATASET, "train", data_dir=options.data_dir)[0]
    forests = {}
    interpreter = environment(sys.executable, options.environment)
    for name, labels in label_images(binary_classes(entry.labels)).items():
        with peers(interpreter) as ask:
            forests[name] = measure(entry.image, labels, ask, options.runs)
    shape = list(entry.image.shape[1:])
    figures = {"runs": options.runs, "cores": os.cpu_count(), "shape": shape, "forests": forests}
    write_outcome("bench_rf", to_markdown(figures), figures)


if __name__ == "__main__":
    main()
