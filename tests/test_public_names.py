"""The public names: few, listed alike in code, stub and documentation, and loaded only when they are used."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s2d_zoo

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "src" / "s2d_zoo" / "__init__.pyi"
REFERENCE = ROOT / "docs" / "reference" / "python.md"


def stub_homes():
    """Name → module, of every re-export in the stub."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return {alias.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def stub_all():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    (listed,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return ast.literal_eval(listed)


def documented_names():
    """The first column of the tables in the reference."""
    return re.findall(r"^\| `(\w+)` \|", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def loaded_after(statement):
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_there_are_at_most_25_and_they_are_sorted():
    assert len(s2d_zoo.__all__) <= 25
    assert s2d_zoo.__all__ == sorted(set(s2d_zoo.__all__))


@pytest.mark.parametrize("name", s2d_zoo.__all__)
def test_each_is_importable(name):
    assert getattr(s2d_zoo, name) is not None


def test_all_is_what_dir_shows():
    assert dir(s2d_zoo) == s2d_zoo.__all__


def test_the_stub_lists_the_same_names():
    assert stub_all() == s2d_zoo.__all__
    assert sorted(stub_homes()) == s2d_zoo.__all__


def test_the_stub_finds_them_in_the_same_modules():
    for name, module in stub_homes().items():
        assert getattr(importlib.import_module(module), name) is getattr(s2d_zoo, name)


def test_the_reference_lists_the_same_names():
    assert sorted(documented_names()) == s2d_zoo.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        _ = s2d_zoo.segment


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import s2d_zoo; s2d_zoo.__version__; dir(s2d_zoo); from s2d_zoo import S2DZooError")
    assert not loaded & {"torch", "numpy", "xarray", "pydantic", "lightning", "bioimageio"}


def test_a_name_that_needs_torch_loads_it():
    assert "torch" in loaded_after("from s2d_zoo import apply_network")
