"""The tool that puts a trained enhancer among the bundled models: all of it, or nothing."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from s2d_zoo.data.hashing import sha256_of

TOOL = Path(__file__).parents[1] / "tools" / "bundle_enhancer.py"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The tool, for a repository that is empty; packages pass their validation."""
    spec = importlib.util.spec_from_file_location("bundle_enhancer", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(module, "validate_package", lambda _: SimpleNamespace(passed=True))
    (tmp_path / "bundled").mkdir()
    return module


@pytest.fixture
def trained(tmp_path, package):
    """What pretraining leaves."""
    folder = tmp_path / "trained"
    (folder / "card").mkdir(parents=True)
    shutil.copy(package, folder / "tiny-enhancer.zip")
    (folder / "card" / "README.md").write_text("# Tiny\n", encoding="utf-8")
    (folder / "card" / "evaluation.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def quality(tmp_path, trained):
    """What its measurement leaves."""
    folder = tmp_path / "quality"
    folder.mkdir()
    enhancer = {"id": "tiny", "sha256": sha256_of(trained / "tiny-enhancer.zip")}
    facts = {"enhancer": enhancer, "doubt": None, "targets_not_finished": []}
    (folder / "quality.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "quality.md").write_text("# Quality of tiny\n\nGood.\n\n## target\n", encoding="utf-8")
    for kind in ("svg", "png"):
        (folder / f"quality.{kind}").write_text(kind, encoding="utf-8")
    return folder


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_package_list_card_and_figures_fit_together(tool, trained, quality, tmp_path):
    name = tool.bundle(trained)
    tool.add_quality(name, quality)
    (item,) = json.loads((tmp_path / "bundled" / "collection.json").read_text(encoding="utf-8"))["items"]
    (version,) = item["versions"]
    assert (item["id"], item["type"]) == (name, "model")
    assert sha256_of(tmp_path / "bundled" / version["source"]) == version["sha256"]
    card = tmp_path / "model_cards" / name
    text = (card / "README.md").read_text(encoding="utf-8")
    assert text == "# Tiny\n\n## Measured worth\n\nGood.\n\n### target\n"
    assert json.loads((card / "evaluation.json").read_text(encoding="utf-8"))["quality"]["enhancer"]["id"] == "tiny"
    assert (card / "quality.png").is_file()


def test_figures_of_another_package_are_refused(tool, trained, quality, tmp_path):
    name = tool.bundle(trained)
    (quality / "quality.json").write_text('{"enhancer": {"id": "tiny", "sha256": "0"}}', encoding="utf-8")
    with pytest.raises(SystemExit, match="about another tiny"):
        tool.add_quality(name, quality)
    assert files_of(tmp_path / "model_cards" / name) == ["README.md", "evaluation.json"]


def test_figures_of_a_model_that_is_not_bundled_are_refused(tool, quality):
    with pytest.raises(SystemExit, match="no bundled elsewhere"):
        tool.add_quality("elsewhere", quality)


def test_a_missing_plot_leaves_the_old_card(tool, trained, quality, tmp_path):
    name = tool.bundle(trained)
    (quality / "quality.png").unlink()
    with pytest.raises(FileNotFoundError):
        tool.add_quality(name, quality)
    assert files_of(tmp_path / "model_cards") == [name]
    assert files_of(tmp_path / "model_cards" / name) == ["README.md", "evaluation.json"]


@pytest.mark.parametrize(
    ("key", "value"), [("doubt", "It was trained on this."), ("targets_not_finished", ["mito_epfl"])]
)
def test_figures_that_are_not_all_there_or_doubtful_are_refused(tool, trained, quality, tmp_path, key, value):
    name = tool.bundle(trained)
    facts = json.loads((quality / "quality.json").read_text(encoding="utf-8"))
    (quality / "quality.json").write_text(json.dumps({**facts, key: value}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"trained on this|mito_epfl"):
        tool.add_quality(name, quality)
    assert files_of(tmp_path / "model_cards" / name) == ["README.md", "evaluation.json"]


def test_figures_that_are_added_again_replace_those_of_before(tool, trained, quality, tmp_path):
    name = tool.bundle(trained)
    tool.add_quality(name, quality)
    card = tmp_path / "model_cards" / name
    before = (card / "README.md").read_text(encoding="utf-8")
    tool.add_quality(name, quality)
    assert (card / "README.md").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_without_a_package_or_with_several_is_refused(tool, trained, count):
    package = trained / "tiny-enhancer.zip"
    shutil.copy(package, trained / "other.zip") if count else package.unlink()
    with pytest.raises(SystemExit, match=f"one package, found {count}"):
        tool.bundle(trained)


def test_a_model_that_is_bundled_again_loses_its_old_figures(tool, trained, quality, tmp_path):
    name = tool.bundle(trained)
    tool.add_quality(name, quality)
    assert tool.bundle(trained) == name
    assert files_of(tmp_path / "model_cards" / name) == ["README.md", "evaluation.json"]
    assert len(json.loads((tmp_path / "bundled" / "collection.json").read_text(encoding="utf-8"))["items"]) == 1


def test_what_fails_validation_or_is_too_large_is_refused(tool, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "MOST_BYTES", 10)
    with pytest.raises(SystemExit, match="at most 10 can come along"):
        tool.bundle(trained)
    monkeypatch.setattr(tool, "MOST_BYTES", 10**7)
    monkeypatch.setattr(tool, "validate_package", lambda _: SimpleNamespace(passed=False))
    with pytest.raises(SystemExit, match="fails a check"):
        tool.bundle(trained)
    assert list((tmp_path / "bundled").iterdir()) == []
