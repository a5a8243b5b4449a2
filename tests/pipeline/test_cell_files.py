"""Files of cells: kept as long as what they were made from stays."""

import json

import pytest
import xarray as xr

from s2d_zoo.errors import ConfigError, SavedFileError
from s2d_zoo.pipeline.cell_files import alone_in, checkpoint_folder, differing, hash_array, hash_arrays, read_finished

FACTS = {"settings": {"steps": 3, "names": ["a"]}, "version": "1"}


@pytest.fixture
def cell(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps({"format": "x", "format_version": 1, "facts": FACTS, "score": 1}))
    return path


def test_facts_that_differ_are_named(cell):
    assert differing(FACTS, json.loads(json.dumps(FACTS))) == []
    assert differing(FACTS, {"settings": {"steps": 4, "names": ["a"], "new": 1}}) == [
        "settings.new",
        "settings.steps",
        "version",
    ]
    assert differing({"a": 1}, None) == ["a"]


def test_a_cell_that_fits_is_kept_and_another_is_refused(cell, tmp_path):
    assert read_finished(cell, FACTS, form="x", version=1, what="a test")["score"] == 1
    assert read_finished(tmp_path / "missing.json", FACTS, form="x", version=1, what="a test") is None
    other = {**FACTS, "version": "2"}
    with pytest.raises(ConfigError, match=r"made with other version\..*--overwrite"):
        read_finished(cell, other, form="x", version=1, what="a test")
    assert read_finished(cell, other, form="x", version=1, what="a test", overwrite=True) is None
    with pytest.raises(SavedFileError, match="no cell of a test"):
        read_finished(cell, FACTS, form="y", version=1, what="a test", overwrite=True)


def test_checkpoints_of_something_else_are_thrown_away(tmp_path):
    folder = checkpoint_folder(tmp_path / "cell", FACTS)
    (folder / "last.ckpt").write_text("")
    assert (checkpoint_folder(folder, FACTS) / "last.ckpt").is_file()
    assert not (checkpoint_folder(folder, {}) / "last.ckpt").exists()
    (folder / "training").mkdir()
    (folder / "training" / "last.ckpt").write_text("")
    assert [path.name for path in checkpoint_folder(folder, FACTS).iterdir()] == ["facts.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="in the way"):
        checkpoint_folder(tmp_path / "mine", FACTS)


def test_checkpoints_of_a_killed_run_are_in_nobodys_way(tmp_path, monkeypatch):
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / ".facts.json.x").write_text("")
    folder = checkpoint_folder(tmp_path / "cell", FACTS)
    (folder / "training").mkdir()

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint_folder(folder, {})
    assert [path.name for path in checkpoint_folder(folder, {}).iterdir()] == ["facts.json"]


def test_a_second_process_in_a_folder_is_refused(tmp_path):
    folder = tmp_path / "out"
    with alone_in(folder), pytest.raises(ConfigError, match="Another process is at work"), alone_in(folder):
        pass
    with alone_in(folder):  # and not for ever
        pass


def test_hashes_tell_values_types_shapes_and_order_apart():
    arrays = [xr.DataArray([[1, 2]]), xr.DataArray([[1.0, 2.0]]), xr.DataArray([[1], [2]]), xr.DataArray([[2, 1]])]
    assert len({hash_array(one) for one in arrays}) == 4
    assert hash_array(arrays[0]) == hash_array(arrays[0].transpose().copy().transpose())
    assert hash_arrays(arrays) != hash_arrays(arrays[::-1])


def test_a_cell_that_was_computed_otherwise_is_none(cell):
    with pytest.raises(ConfigError, match="other version of the format"):
        read_finished(cell, FACTS, form="x", version=2, what="a test")
    assert read_finished(cell, FACTS, form="x", version=2, what="a test", overwrite=True) is None
