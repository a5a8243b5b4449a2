"""vigra's forests: equal to the sklearn forests that they were made from and to vigra, refused if damaged."""

import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from s2d_zoo.errors import ProjectFileError
from s2d_zoo.rf_adapter import vigra_forest
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.rf_adapter.ilastik_project import read_project
from s2d_zoo.rf_adapter.vigra_forest import read_forests

from .ilastik_projects import LEAF, grow, write_forest

#: a tree that tests feature 1 at 0.5 and, below that, feature 0 at -1
TOPOLOGY = [2, 2, 0, 0, 7, 14, 1, 0, 2, 12, 16, 0, LEAF, 4, LEAF, 7, LEAF, 10]
PARAMETERS = [1.0, 0.5, 1.0, -1.0, 10.0, 0.25, 0.75, 30.0, 1.0, 0.0, 20.0, 0.0, 1.0]


@contextmanager
def new_file():
    with TemporaryDirectory() as folder, h5py.File(Path(folder) / "forest.h5", "w") as opened:
        yield opened


def write(group, topology=TOPOLOGY, parameters=PARAMETERS, *, columns=2.0, labels=(1, 2), name="Forest0000"):
    """A forest of one tree."""
    group[f"{name}/_ext_param/column_count_"] = [columns]
    group[f"{name}/_ext_param/labels"] = np.array(labels, dtype=np.uint32)
    group[f"{name}/_options/predict_weighted_"] = [0.0]
    group[f"{name}/Tree_0/topology"] = np.array(topology, dtype=np.int32)
    group[f"{name}/Tree_0/parameters"] = np.array(parameters)
    return group


@pytest.fixture
def file():
    with new_file() as opened:
        yield opened


# ---- equal predictions


@given(
    labels=st.sets(st.integers(1, 5), min_size=2).map(sorted),
    trees=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_forests_predict_what_sklearns_predict(labels, trees, seed):
    grown = [grow(3, labels, n_trees=n_trees, seed=seed + index) for index, n_trees in enumerate(trees)]
    with new_file() as file:
        for index, forest in enumerate(grown):
            write_forest(file.create_group(f"Forest{index:04}"), forest)
        found = read_forests(file, n_classes=5)
    # on the thresholds themselves, too: there "below" and "up to" differ
    thresholds = [tree.tree_.threshold for forest in grown for tree in forest.estimators_]
    rows = np.random.default_rng(seed).choice(np.concatenate(thresholds), size=(200, 3)).astype(np.float32)
    wanted = np.zeros((200, 5))
    for forest in grown:
        wanted[:, forest.classes_ - 1] += forest.predict_proba(rows) * len(forest.estimators_)
    assert np.allclose(found.predictor().predict_proba(rows), wanted / sum(trees), rtol=0, atol=1e-6)


@given(seed=st.integers(0, 1000), max_depth=st.integers(1, 4))
@settings(deadline=None, max_examples=15)
def test_cut_trees_say_what_sklearns_say_where_they_are_cut(seed, max_depth):
    forest = grow(3, (1, 2, 3), seed=seed)
    with new_file() as file:
        write_forest(file.create_group("Forest0000"), forest)
        found = read_forests(file, n_classes=3).limited(max_depth=max_depth)
    wanted = FlatForest.from_sklearn(forest, n_classes=3).limited(max_depth=max_depth)
    rows = np.random.default_rng(seed).normal(size=(100, 3)).astype(np.float32)
    assert np.allclose(found.predictor().predict_proba(rows), wanted.predictor().predict_proba(rows), rtol=0, atol=1e-6)
    assert np.allclose(found.probabilities.sum(axis=1), 1)


def test_a_tree_goes_left_below_its_threshold_and_right_at_it(file):
    forest = read_forests(write(file), n_classes=2)
    below = np.nextafter(np.float32(0.5), np.float32(0))
    rows = np.array([[-2, 0], [-1, 0], [0, below], [0, 0.5], [-2, 0.5]], dtype=np.float32)
    expected = [[0.25, 0.75], [0, 1], [0, 1], [1, 0], [1, 0]]
    assert np.array_equal(forest.predictor().predict_proba(rows), np.array(expected, dtype=np.float32))


def test_inner_nodes_say_what_the_leaves_below_say_by_their_weight(file):
    forest = read_forests(write(file), n_classes=2)
    assert np.allclose(forest.probabilities[0], [(10 * 0.25 + 30) / 60, (7.5 + 20) / 60])


def test_labels_that_were_never_painted_get_nothing(file):
    forest = read_forests(write(file, labels=(2, 4)), n_classes=4)
    found = forest.predictor().predict_proba(np.zeros((1, 2), dtype=np.float32))
    assert found.tolist() == [[0, 0, 0, 1]]


def test_leaves_without_weight_count_alike_where_a_tree_is_cut(file):
    parameters = list(PARAMETERS)
    parameters[4] = parameters[7] = parameters[10] = 0.0
    forest = read_forests(write(file, parameters=parameters), n_classes=2)
    assert np.allclose(forest.probabilities[0], [0.5 * 0.125 + 0.5, 0.5 * 0.875])


# ---- what vigra does not write


def changed(index, value):
    return {"topology": [*TOPOLOGY[:index], value, *TOPOLOGY[index + 1 :]]}


def parameter(index, value):
    return {"parameters": [*PARAMETERS[:index], value, *PARAMETERS[index + 1 :]]}


BAD_TREES = {
    "a cycle": (changed(4, 2), "own descendants|two parents"),
    "two parents": (changed(4, 14), "two parents"),
    "a child before the root": (changed(4, 0), "children that do not exist"),
    "a child below zero": (changed(4, -5), "children that do not exist"),
    "a child behind the end": (changed(4, 2**31 - 1), "children that do not exist"),
    "another kind of node": (changed(2, 2), r"kinds that ilastik does not make, \[2\]"),
    "a leaf of another kind": (changed(12, LEAF + 1), "kinds that ilastik does not make"),
    "no nodes": ({"topology": [2, 2]}, "children that do not exist"),
    "nothing": ({"topology": []}, "in a forest for others"),
    "a node that is cut off": ({"topology": [2, 2, 0, 0, 4]}, "cut off"),
    "another number of features": (changed(0, 3), r"\[3, 2\] in a forest for others"),
    "another number of classes": (changed(1, 3), r"\[2, 3\] in a forest for others"),
    "a feature that does not exist": (changed(6, 2), "tests on features that do not exist"),
    "a feature below zero": (changed(6, -1), "features that do not exist"),
    "parameters behind the end": (changed(13, 12), "parameters are missing"),
    "parameters below zero": (changed(13, -1), "parameters are missing"),
    "shares that add up to more": (parameter(5, 0.5), "add up to 1"),
    "shares below zero": ({"parameters": [*PARAMETERS[:5], 1.5, -0.5, *PARAMETERS[7:]]}, r"outside of \[0, 1\]"),
    "a threshold of NaN": (parameter(1, np.nan), "not finite"),
    "a threshold without end": (parameter(1, np.inf), "not finite"),
    "a weight below zero": (parameter(4, -1.0), "fewer than no samples"),
    "a weight beyond numbers": (parameter(4, 1e308), "more than there can be"),
    "no parameters": ({"parameters": []}, "parameters are missing"),
    "no labels": ({"labels": ()}, r"knows the labels \[\]"),
    "label zero": ({"labels": (0, 1)}, r"the labels \[0, 1\], but the project has the labels 1…2"),
    "a label too many": ({"labels": (1, 3)}, "labels 1…2"),
    "a label twice": ({"labels": (1, 1)}, r"the labels \[1, 1\]"),
    "half a feature": ({"columns": 1.5}, "whole number"),
    "features without end": ({"columns": np.inf}, "whole number"),
    "features without number": ({"columns": np.nan}, "whole number"),
    "more features than there can be": ({"columns": 2.0**31}, "whole number up to"),
}


@pytest.mark.parametrize(("change", "message"), BAD_TREES.values(), ids=BAD_TREES)
def test_trees_that_vigra_does_not_make_are_refused(file, change, message):
    with pytest.raises(ProjectFileError, match=message) as caught:
        read_forests(write(file, **change), n_classes=2)
    assert "\n" not in str(caught.value)


def replace(place, value):
    def change(file):
        del file[place]
        file[place] = value

    return change


BAD_FORESTS = {
    "no forest": (lambda file: file.pop("Forest0000"), "holds no forest.*Live Update"),
    "a forest that is no group": (replace("Forest0000", 1), "Expected the group .*Forest0000"),
    "a tree that is no group": (replace("Forest0000/Tree_0", 1), "Expected the group .*Tree_0"),
    "no trees": (lambda file: file["Forest0000"].pop("Tree_0"), "holds 0 trees"),
    "a tree without nodes": (lambda file: file["Forest0000/Tree_0"].pop("topology"), "Expected the dataset .*topology"),
    "nodes that are no whole numbers": (
        replace("Forest0000/Tree_0/topology", np.array(TOPOLOGY, dtype=float)),
        "nodes of float64",
    ),
    "nodes of text": (replace("Forest0000/Tree_0/topology", np.array([b"a"])), r"nodes of \|S1"),
    "leaves weighed by size": (replace("Forest0000/_options/predict_weighted_", [1.0]), "weighs its leaves by size"),
    "forests on other features": (
        lambda file: write(file, [3, *TOPOLOGY[1:]], columns=3.0, name="Forest0001"),
        r"on \[2, 3\] features",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_FORESTS.values(), ids=BAD_FORESTS)
def test_forests_that_vigra_does_not_make_are_refused(file, change, message):
    change(write(file))
    with pytest.raises(ProjectFileError, match=message):
        read_forests(file, n_classes=2)


def test_trees_that_are_all_depth_are_refused(file, monkeypatch):
    monkeypatch.setattr(vigra_forest, "_MOST_LEVELS", 50)
    topology, parameters = [1, 2], [1.0, 0.0, 1.0, 0.0, 1.0]
    for level in range(100):
        place = 2 + 7 * level
        topology += [0, 0, place + 5, place + 7, 0, LEAF, 2]
    with pytest.raises(ProjectFileError, match="more than 50 levels"):
        read_forests(write(file, [*topology, LEAF, 2], parameters, columns=1.0), n_classes=2)


def test_any_number_of_links_to_one_tree_cannot_fill_the_memory(file, monkeypatch):
    write(file)
    for number in range(1, 100):
        for part in ("topology", "parameters"):
            file[f"Forest0000/Tree_{number}/{part}"] = file[f"Forest0000/Tree_0/{part}"]
    assert read_forests(file, n_classes=2).n_trees == 100
    with monkeypatch.context() as patch:
        patch.setattr(vigra_forest, "_MOST_BYTES", 3000)
        with pytest.raises(ProjectFileError, match="far more than belongs there"):
            read_forests(file, n_classes=2)
    monkeypatch.setattr(vigra_forest, "_MOST_SHARES", 300)
    with pytest.raises(ProjectFileError, match="fit into memory"):
        read_forests(file, n_classes=2)


def write_complete(group, depth, n_trees, *, n_classes=255):
    """Trees of two classes with all leaves equally deep: small, but for the shares of all classes."""
    inner = 2**depth - 1
    places = np.concatenate([2 + 5 * np.arange(inner), 2 + 5 * inner + 2 * np.arange(inner + 1)])
    nodes = np.arange(inner)
    topology = np.zeros((inner, 5), dtype=np.int32)
    topology[:, 2], topology[:, 3] = places[2 * nodes + 1], places[2 * nodes + 2]
    leaves = np.tile(np.array([LEAF, 0], dtype=np.int32), inner + 1)
    write(group, np.concatenate([[2, 2], topology.ravel(), leaves]), [1.0, 0.25, 0.75])
    for index in range(1, n_trees):
        group.copy("Forest0000/Tree_0", f"Forest0000/Tree_{index}")
    return read_forests(group, n_classes=n_classes)


def test_reading_needs_little_more_memory_than_the_forest(file):
    tracemalloc.start()
    try:
        forest = write_complete(file, 8, 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert forest.n_trees == 30
    assert np.allclose(forest.probabilities[:, :2], [0.25, 0.75])
    assert peak < 2.5 * forest.probabilities.nbytes


def test_a_small_file_cannot_declare_shares_for_gigabytes(file):
    with pytest.raises(ProjectFileError, match="more nodes and classes than fit into memory"):
        write_complete(file, 18, 1)  # 1 GiB


def test_numbers_of_features_do_not_wrap_around(file):
    write(file)
    wide = np.array(TOPOLOGY, dtype=np.int64)
    wide[6] += 2**32
    replace("Forest0000/Tree_0/topology", wide)(file)
    with pytest.raises(ProjectFileError, match="tests on features that do not exist"):
        read_forests(file, n_classes=2)


# ---- vigra itself


@pytest.mark.realdata
def test_the_forests_of_a_real_project_predict_what_vigra_says(realdata_dir):
    golden = np.load(realdata_dir / "golden" / "ilastik_pc.npz", allow_pickle=False)
    forest = read_project(realdata_dir / "ilp" / "ilastik_pc.ilp").stages[0].forest
    found = forest.predictor().predict_proba(golden["forest_x"].astype(np.float32))
    assert np.abs(found - golden["forest_p"]).max() <= 1e-6
