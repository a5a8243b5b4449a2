import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.written_description import (
    is_old_format,
    listed,
    local_file,
    mappings,
    own_config,
    source_of,
    steps,
    tensor_files,
    value_at,
)


def test_anything_may_stand_anywhere():
    assert value_at({"a": [1]}, "a", "b") is None
    assert value_at({"a": {"b": 1}}, "a", "b") == 1
    assert listed("text") == []
    assert mappings([1, {"a": 1}, None]) == [{"a": 1}]
    assert own_config({"config": {"s2d_zoo": "text"}}) is None


def test_the_format_is_told_from_its_version():
    assert is_old_format({"format_version": "0.4.10"})
    assert not is_old_format({"format_version": "0.5.9"})


def test_files_are_named_in_two_ways():
    assert source_of("a.md") == "a.md"
    assert source_of({"source": "a.md", "sha256": "0"}) == "a.md"
    assert source_of({"source": 1}) is None
    assert source_of(None) is None


def test_operations_are_named_in_two_ways():
    tensor = {"preprocessing": [{"name": "clip", "kwargs": {"min": 0}}], "postprocessing": [{"id": "sigmoid"}]}
    assert list(steps(tensor)) == [("clip", {"min": 0}), ("sigmoid", {})]


def test_test_tensors_are_named_in_two_ways():
    old = {"inputs": [{}], "outputs": [{}], "test_inputs": ["a.npy"], "test_outputs": []}
    new = {"inputs": [{"test_tensor": {"source": "a.npy"}}], "outputs": [{}]}
    for rdf in (old, new):
        assert list(tensor_files(rdf)) == [("input 1", "a.npy"), ("output 1", None)]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "none.npy", "https://example.com/a", None, "link"])
def test_only_files_of_the_package_are_given(folder, name):
    (folder.path.parent / "secret").write_text("s")
    (folder.path / "link").symlink_to(folder.path.parent / "secret")
    with open_package(folder.path) as contents:
        assert local_file(contents, name) is None
        assert local_file(contents, "README.md") == (folder.path / "README.md").resolve()
