"""The exception tree: drawn in the docstring as it is in the code."""

import inspect
import re

import pytest

from s2d_zoo import errors

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]


def drawn_tree():
    """(name, parent's name, note) of every line of the tree in the docstring."""
    path, found = [], []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ((?:│   |    |├── |└── )*)([A-Z]\w+)( \(also (\w+)\))?(\s|$)", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            found.append((match[2], path[depth - 1] if depth else "Exception", match[4]))
    return found


def test_the_drawn_tree_equals_the_classes():
    drawn = {(name, parent) for name, parent, _ in drawn_tree()}
    assert drawn == {(cls.__name__, cls.__bases__[0].__name__) for cls in CLASSES}


def test_other_bases_are_drawn_too():
    drawn = {name: other for name, _, other in drawn_tree()}
    for cls in CLASSES:
        others = [base.__name__ for base in cls.__bases__[1:]]
        assert others == ([drawn[cls.__name__]] if drawn[cls.__name__] else [])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_explained_and_caught_by_the_root(cls):
    assert cls.__doc__
    assert issubclass(cls, errors.S2DZooError)


def test_wrong_input_is_a_value_error():
    with pytest.raises(ValueError, match="label 3"):
        raise errors.ScribbleError("label 3")
