"""Forests as flat arrays: they predict what sklearn's do, always the same bytes, and refuse damage."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.errors import ConfigError, SavedFileError, UserInputError
from s2d_zoo.rf_adapter import flat_forest
from s2d_zoo.rf_adapter.flat_forest import FlatForest


def grow(seed=0, *, n_rows=60, n_features=4, labels=(1, 2), n_estimators=4, n_jobs=1, **settings):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n_rows, n_features)).astype(np.float32).round(1)
    painted = generator.permutation(np.resize(labels, n_rows))
    forest = RandomForestClassifier(n_estimators=n_estimators, random_state=seed, n_jobs=n_jobs, **settings)
    return forest.fit(rows, painted), rows


@pytest.fixture(scope="module")
def grown():
    return grow()


@pytest.fixture(scope="module")
def forest(grown):
    return FlatForest.from_sklearn(grown[0], n_classes=2)


@given(
    seed=st.integers(0, 2**16),
    n_features=st.integers(1, 6),
    labels=st.sampled_from([(1, 2), (1, 3), (2, 3), (1, 2, 3)]),
    max_depth=st.sampled_from([None, 1, 3]),
    min_samples_leaf=st.integers(1, 5),
)
@settings(deadline=None, max_examples=20)
def test_it_predicts_what_sklearn_predicts(seed, n_features, labels, max_depth, min_samples_leaf):
    original, rows = grow(
        seed, n_features=n_features, labels=labels, max_depth=max_depth, min_samples_leaf=min_samples_leaf
    )
    flat = FlatForest.from_sklearn(original, n_classes=3)
    assert (flat.n_trees, flat.n_classes, flat.n_features) == (4, 3, n_features)
    unseen = np.random.default_rng(seed + 1).normal(size=(50, n_features)).astype(np.float32)
    for tested in (rows, unseen):
        found = flat.predictor().predict_proba(tested)
        assert found.dtype == np.float32
        expected = np.zeros((len(tested), 3))
        expected[:, np.asarray(labels) - 1] = original.predict_proba(tested)
        assert np.abs(found - expected).max() < 1e-6
        assert np.abs(found.sum(axis=1) - 1).max() < 1e-6


@given(seed=st.integers(0, 2**16), labels=st.sampled_from([(1, 2), (1, 3)]))
@settings(deadline=None, max_examples=8)
def test_arrays_and_back_is_the_identity(seed, labels):
    original, rows = grow(seed, labels=labels)
    flat = FlatForest.from_sklearn(original, n_classes=3)
    arrays = flat.to_arrays()
    back = FlatForest.from_arrays(arrays, n_features=flat.n_features)
    assert all(np.array_equal(arrays[name], values) for name, values in back.to_arrays().items())
    assert np.array_equal(back.predictor().predict_proba(rows), flat.predictor().predict_proba(rows))


def test_bytes_do_not_depend_on_repeats_threads_or_chunks(forest, monkeypatch):
    rows = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    expected = forest.predictor().predict_proba(rows).tobytes()
    monkeypatch.setattr(flat_forest, "_CHUNK_ROWS", 64)
    for n_threads in (1, 2, 5, None):
        assert forest.predictor().predict_proba(rows, n_threads=n_threads).tobytes() == expected


def test_the_forest_does_not_depend_on_the_threads_that_grew_it():
    first, second = (FlatForest.from_sklearn(grow(5, n_jobs=n)[0], n_classes=2).to_arrays() for n in (1, 2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_rows_may_be_none_or_a_view_in_any_order(forest, grown):
    rows = grown[1]
    predictor = forest.predictor()
    assert predictor.predict_proba(rows[:0]).shape == (0, 2)
    assert np.array_equal(predictor.predict_proba(np.asfortranarray(rows)[::-1]), predictor.predict_proba(rows)[::-1])


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, -0.1, 1 / 3, 1e-40, 16777217.0])
def test_a_float32_feature_next_to_a_float64_threshold_is_never_on_the_wrong_side(threshold):
    stump = FlatForest(
        roots=np.array([0, 3]),
        feature=np.array([0, -1, -1]),
        threshold=np.array([threshold, 0.0, 0.0]),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        probabilities=np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]),
        n_features=1,
    )
    nearest = np.float32(threshold)
    values = np.array([np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))])
    goes_left = values.astype(np.float64) <= threshold
    assert goes_left[0]
    assert not goes_left[2]
    assert np.array_equal(stump.predictor().predict_proba(values[:, np.newaxis])[:, 0], goes_left)


@pytest.mark.parametrize("n_rows", [63, 64, 65, 200])
def test_every_row_is_predicted_where_chunks_do_not_divide_them(forest, monkeypatch, n_rows):
    rows = np.random.default_rng(2).normal(size=(4, n_rows)).astype(np.float32).T  # as features come: plane by plane
    alone = [forest.predictor().predict_proba(row[np.newaxis])[0] for row in rows]
    monkeypatch.setattr(flat_forest, "_CHUNK_ROWS", 64)
    assert np.array_equal(forest.predictor().predict_proba(rows, n_threads=2), alone)


@pytest.mark.parametrize("shape", [(5, 3), (5, 5), (4,), (2, 2, 4)], ids=str)
def test_rows_of_other_width_are_refused(forest, shape):
    with pytest.raises(UserInputError, match="rows of 4 features"):
        forest.predictor().predict_proba(np.zeros(shape, dtype=np.float32))


# ---- smaller forests


def walk(forest, tree, row, max_depth):
    """Shares of the node that a row ends in, and its depth: one step after another."""
    start = forest.roots[tree]
    node, depth = start, 0
    while forest.feature[node] >= 0 and depth < max_depth:
        left = row[forest.feature[node]] <= forest.threshold[node]
        node, depth = start + (forest.left if left else forest.right)[node], depth + 1
    return forest.probabilities[node], depth


@given(
    seed=st.integers(0, 2**16),
    n_trees=st.sampled_from([None, 1, 3, 4, 9]),
    max_depth=st.sampled_from([None, 1, 2, 4, 99]),
    min_samples_leaf=st.sampled_from([1, 8, 60]),
)
@settings(deadline=None, max_examples=30)
def test_a_limited_forest_says_what_a_walk_with_fewer_steps_says(seed, n_trees, max_depth, min_samples_leaf):
    original, rows = grow(seed, labels=(1, 2, 3), min_samples_leaf=min_samples_leaf)
    flat = FlatForest.from_sklearn(original, n_classes=3)
    limited = flat.limited(n_trees=n_trees, max_depth=max_depth)
    kept = min(n_trees or 4, 4)
    deepest = max_depth or 10**6
    ends = [[walk(flat, tree, row, deepest) for tree in range(kept)] for row in rows]
    expected = [np.mean([shares for shares, _ in one], axis=0) for one in ends]
    assert np.abs(limited.predictor().predict_proba(rows) - expected).max() < 1e-6
    assert limited.n_trees == kept
    assert max(depth for one in ends for _, depth in one) <= limited.depths().max() <= deepest


@pytest.mark.parametrize("limits", [{}, {"n_trees": 4}, {"n_trees": 9}, {"max_depth": 60}], ids=str)
def test_a_forest_that_is_not_limited_is_the_same(forest, limits):
    before, after = forest.to_arrays(), forest.limited(**limits).to_arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(before[name].dtype == after[name].dtype for name in before)


def test_fewer_trees_are_the_first_ones(grown, forest):
    original, rows = grown
    first = [tree.predict_proba(rows) for tree in original.estimators_[:3]]
    found = forest.limited(n_trees=3).predictor().predict_proba(rows)
    assert np.abs(found - np.mean(first, axis=0)).max() < 1e-6
    assert np.abs(found - forest.predictor().predict_proba(rows)).max() > 0.01


def test_a_limited_forest_is_smaller_and_can_be_kept_in_a_file(forest):
    small = forest.limited(n_trees=2, max_depth=2)
    assert len(small.feature) <= 2 * 7 < len(forest.feature)
    back = FlatForest.from_arrays(small.to_arrays(), n_features=4)
    assert np.array_equal(back.depths(), small.depths())


def test_depths_are_counted_from_each_root(grown, forest):
    expected = []
    for tree in grown[0].estimators_:
        depth = np.zeros(tree.tree_.node_count, dtype=int)
        for node in range(tree.tree_.node_count):
            for child in (tree.tree_.children_left[node], tree.tree_.children_right[node]):
                if child >= 0:
                    depth[child] = depth[node] + 1
        assert depth.max() == tree.get_depth()
        expected.append(depth)
    assert np.array_equal(forest.depths(), np.concatenate(expected))


@pytest.mark.parametrize("limits", [{"n_trees": 0}, {"max_depth": 0}, {"n_trees": -1, "max_depth": 3}], ids=str)
def test_nothing_is_left_of_a_forest_without_trees_or_decisions(forest, limits):
    with pytest.raises(ConfigError, match="at least 1 tree of depth 1"):
        forest.limited(**limits)


# ---- damage


def change(name, position, value):
    def apply(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][position] = value

    return apply


def replace(name, function):
    def apply(arrays):
        arrays[name] = function(arrays[name])

    return apply


DAMAGE = {
    "an array too short": (replace("threshold", lambda array: array[:-1]), "node arrays"),
    "probabilities without classes": (replace("probabilities", lambda array: array[:, 0]), "node arrays"),
    "no roots": (replace("roots", lambda array: array[:0]), "roots"),
    "roots in a table": (replace("roots", lambda array: array[:, np.newaxis]), "roots"),
    "roots that begin late": (change("roots", 0, 1), "roots"),
    "roots that end early": (replace("roots", lambda array: array[:-1]), "roots"),
    "an empty tree": (change("roots", 2, 0), "roots"),
    "a column too far": (change("feature", 0, 4), "column"),
    "a column below -1": (change("feature", 0, -2), "column"),
    "a child in another tree": (change("right", 0, 10**6), "child"),
    "a child before its parent": (change("left", 0, 0), "child"),
    "a leaf with a child": (change("left", -1, 7), "child"),
    "an inner node without child": (change("left", 0, -1), "child"),
    "children between nodes": (replace("left", lambda array: array + 0.5), "integers"),
    "roots between nodes": (replace("roots", lambda array: array.astype(float)), "integers"),
    "a probability of 2": (change("probabilities", 0, 2.0), "probabilities"),
    "a probability of NaN": (change("probabilities", 0, np.nan), "probabilities"),
    "a threshold of NaN": (change("threshold", 0, np.nan), "thresholds"),
    "an array missing": (lambda arrays: arrays.pop("left"), "missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_arrays_are_refused(forest, damage, message):
    arrays = forest.to_arrays()
    damage(arrays)
    with pytest.raises(SavedFileError, match=message):
        FlatForest.from_arrays(arrays, n_features=forest.n_features)
