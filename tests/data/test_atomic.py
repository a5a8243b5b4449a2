"""Files that are there whole, or not at all."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from s2d_zoo.data.atomic import atomic_write, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé"), inner, max_size=3),
    max_leaves=8,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end_only(tmp_path):
    with atomic_write(tmp_path / "a.txt") as written:
        written.write_text("new")
        assert written.name == "a.txt"
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names_in(tmp_path) == ["a.txt"]


def test_missing_parents_are_made(tmp_path):
    with atomic_write(tmp_path / "b" / "c" / "a.txt") as written:
        written.touch()
    assert (tmp_path / "b" / "c" / "a.txt").is_file()


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write():
        with atomic_write(tmp_path / "a.txt") as written:
            written.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    for content in ("old", "new"):
        with atomic_write(tmp_path / "a") as written:
            written.mkdir()
            (written / content).touch()
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == ["new"]


def test_an_error_leaves_the_old_directory(tmp_path):
    (tmp_path / "a" / "old").mkdir(parents=True)

    def write():
        with atomic_write(tmp_path / "a") as written:
            written.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == ["old"]


def test_the_old_directory_comes_back_if_the_last_step_fails(tmp_path, monkeypatch):
    (tmp_path / "a" / "old").mkdir(parents=True)
    replace = type(tmp_path).replace

    def fail_for_the_new(self, target):
        if self.name == "a" and self.parent != tmp_path:
            raise OSError("no rename today")
        return replace(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", fail_for_the_new)
    with pytest.raises(OSError, match="no rename today"), atomic_write(tmp_path / "a") as written:
        written.mkdir()
    assert names_in(tmp_path / "a") == ["old"]


@pytest.mark.parametrize("kind", ["file", "directory", "broken link"])
def test_what_is_there_is_kept_unless_asked(tmp_path, kind):
    if kind == "file":
        (tmp_path / "a").touch()
    elif kind == "directory":
        (tmp_path / "a").mkdir()
    else:
        (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="overwrite=True"), atomic_write(tmp_path / "a", overwrite=False):
        pytest.fail("the body must not run")
    assert names_in(tmp_path) == ["a"]


def test_a_file_that_came_in_between_is_kept(tmp_path):
    def write():
        with atomic_write(tmp_path / "a", overwrite=False) as written:
            written.write_text("mine")
            (tmp_path / "a").write_text("theirs")

    with pytest.raises(FileExistsError):
        write()
    assert (tmp_path / "a").read_text() == "theirs"


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        pass
    assert names_in(tmp_path) == []


def test_a_directory_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "a") as written:
        written.touch()
    assert (tmp_path / "a").is_dir()


@given(obj=JSON)
@settings(max_examples=50, deadline=None)
def test_json_is_read_back(tmp_path_factory, obj):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, obj)
    assert json.loads(path.read_text(encoding="utf-8")) == obj


def test_json_has_one_form(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é"]})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": [\n    "é"\n  ],\n  "b": 1\n}\n'.encode()


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names_in(tmp_path) == []
