"""Inputs of the demo."""

import numpy as np
import pytest

from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.pipeline.demo import write_demo_inputs
from s2d_zoo.pipeline.sources import read_inputs

SMALL = {"size": 96, "n_strokes": 3, "seed": 0, "overwrite": False}


def test_the_inputs_fit_together(tmp_path):
    data = read_inputs(write_demo_inputs(tmp_path / "demo", **SMALL))
    assert len(data.classes) == 2
    assert data.images[0].shape == data.test_images[0].shape == (1, 96, 96)
    assert not np.array_equal(data.images[0], data.test_images[0])
    truth, strokes = data.ground_truth[0].values, data.scribbles[0].values
    assert (truth[strokes == 2] > 0).all()
    assert (truth[strokes == 1] == 0).all()


def test_the_seed_decides(tmp_path, contents):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo_inputs(tmp_path / name, **{**SMALL, "seed": seed})
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_a_folder_that_is_not_empty_is_left_alone_unless_allowed(tmp_path, contents):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        write_demo_inputs(tmp_path, **SMALL)
    assert contents(tmp_path) == {"notes.txt": b"mine"}
    write_demo_inputs(tmp_path, **{**SMALL, "overwrite": True})
    assert (tmp_path / "inputs" / "train.tif").is_file()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(ConfigError):
        write_demo_inputs(tmp_path / "demo", **{**SMALL, "overwrite": True})


@pytest.mark.parametrize("wrong", [{"size": 20}, {"n_strokes": 0}], ids=str)
def test_wrong_sizes_write_nothing(tmp_path, wrong):
    with pytest.raises(UserInputError):
        write_demo_inputs(tmp_path / "demo", **{**SMALL, **wrong})
    assert not (tmp_path / "demo").exists()
