"""Classifiers in files: save and load is the identity; anything else is refused with a reason."""

import json

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from s2d_zoo.errors import SavedFileError, UnsupportedFormatVersionError, UserInputError
from s2d_zoo.rf_adapter import persistence
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.persistence import FORMAT, FORMAT_VERSION, load_classifier, save_classifier


@pytest.fixture
def saved(classifier, tmp_path):
    return save_classifier(classifier, tmp_path / "classifier.safetensors")


def rewrite(path, *, arrays=(), header=()):
    """Change arrays and header of a file; ``None`` takes one away."""
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["s2d_zoo"])
    changed = [
        {name: value for name, value in {**old, **dict(new)}.items() if value is not None}
        for old, new in ((load_file(path), arrays), (metadata, header))
    ]
    save_file(changed[0], path, metadata={"s2d_zoo": json.dumps(changed[1])})


def test_save_and_load_is_the_identity(classifier, saved, nuclei):
    loaded = load_classifier(saved)
    assert loaded.contract == classifier.contract
    assert loaded.settings == classifier.settings
    assert loaded.selection == classifier.selection
    assert loaded.classes == classifier.classes
    assert loaded.random_state == classifier.random_state
    assert loaded.predict_proba(nuclei[0]).values.tobytes() == classifier.predict_proba(nuclei[0]).values.tobytes()


def test_saving_again_gives_the_same_bytes(classifier, saved, tmp_path):
    for again in (classifier, load_classifier(saved)):
        assert save_classifier(again, str(tmp_path / "again")).read_bytes() == saved.read_bytes()


def test_all_that_was_chosen_is_kept(nuclei, scribbles, tmp_path):
    fitted = PixelClassifier(
        selection=FeatureSelection({"StructureTensorEigenvalues": (1.3,)}, compute_in_2d=False),
        settings=ForestSettings(n_estimators=3, max_depth=4, min_samples_leaf=2),
        classes=name_classes(4, foreground=1, names=["é", "b", "c", "d"]),
        random_state=11,
    ).fit(nuclei[0], scribbles)
    loaded = load_classifier(save_classifier(fitted, tmp_path / "deep" / "er" / "classifier"))
    assert (loaded.settings, loaded.classes, loaded.random_state) == (fitted.settings, fitted.classes, 11)
    assert loaded.selection == fitted.selection
    assert np.array_equal(loaded.predict_proba(nuclei[0]), fitted.predict_proba(nuclei[0]))


def test_the_file_states_its_format_and_version(saved):
    with safe_open(saved, framework="numpy") as file:
        header = json.loads(file.metadata()["s2d_zoo"])
    assert (header["format"], header["format_version"]) == (FORMAT, FORMAT_VERSION)
    assert header["s2d_zoo_version"]


def test_a_classifier_that_learnt_nothing_is_not_saved(tmp_path):
    with pytest.raises(UserInputError, match="call fit"):
        save_classifier(PixelClassifier(), tmp_path / "classifier")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(classifier, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(arrays, path, **_):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(persistence, "save_file", fail)
    with pytest.raises(SavedFileError, match=r"Cannot write .*No space left"):
        save_classifier(classifier, saved)
    assert saved.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SavedFileError, match=r"Cannot read a classifier from .*nothing"):
        load_classifier(tmp_path / "nothing")


def test_a_directory_is_no_classifier(tmp_path):
    with pytest.raises(SavedFileError, match="Cannot read"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(SavedFileError, match="Cannot read"):
        load_classifier(saved)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "is not a classifier: .* found None"),
        ({"format": "pt"}, "is not a classifier: .* found None"),
        ({"s2d_zoo": "[]"}, "is not a classifier: .* found None"),
        ({"s2d_zoo": '{"format": "s2d-zoo/network"}'}, "found 's2d-zoo/network'"),
        ({"s2d_zoo": "{"}, "Cannot read"),
    ],
    ids=["bare", "of torch", "a list", "a network", "broken JSON"],
)
def test_a_foreign_file_is_refused(tmp_path, metadata, message):
    save_file({"weight": np.zeros(3)}, tmp_path / "foreign", metadata=metadata)
    with pytest.raises(SavedFileError, match=message):
        load_classifier(tmp_path / "foreign")


def test_a_foreign_file_of_types_that_numpy_lacks_is_refused(tmp_path):
    save_torch_file({"weight": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "foreign")
    with pytest.raises(SavedFileError, match=r"Cannot read|is not a classifier"):
        load_classifier(tmp_path / "foreign")


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "2", None])
def test_a_newer_version_is_refused_and_says_so(saved, version):
    rewrite(saved, header={"format_version": version, "s2d_zoo_version": "99.0"})
    with pytest.raises(UnsupportedFormatVersionError, match=r"s2d-zoo 99\.0.*Update"):
        load_classifier(saved)


@pytest.mark.parametrize(
    "damage",
    [
        {"header": {"contract": None}},
        {"header": {"contract": {"ndim": 2}}},
        {"header": {"contract": []}},
        {"header": {"n_features": None}},
        {"header": {"n_features": 5}},
        {"header": {"n_features": [4]}},
        {"header": {"random_state": "x"}},
        {"arrays": {"threshold": None}},
        {"arrays": {"left": np.zeros(3, np.int32)}},
        {"arrays": {"probabilities": np.full((3, 2), np.nan)}},
    ],
    ids=str,
)
def test_a_damaged_file_is_named_and_refused(saved, damage):
    rewrite(saved, **damage)
    with pytest.raises(SavedFileError, match=r"classifier in .*classifier\.safetensors is damaged"):
        load_classifier(saved)
