"""Files to call the commands with, and a way to call them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from s2d_zoo.cli import cli
from s2d_zoo.data.images import write_image
from s2d_zoo.validate.validation import validate_package


@dataclass(frozen=True)
class Outcome:
    """What a call did."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def message(self):
        """The error without its frame, as one line."""
        return " ".join(self.stderr.translate(str.maketrans("", "", "│╭╮╰╯─")).split())


@pytest.fixture
def call(monkeypatch):
    """Call a command in this process; nothing but an exit may come out of it."""
    monkeypatch.setenv("COLUMNS", "2000")

    def invoke(*arguments):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return Outcome(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    return invoke


@pytest.fixture(autouse=True)
def quick_validation(monkeypatch):
    """Only the checks that do not run the network, and no time is measured; both is done elsewhere."""

    def quick(path, **options):
        return validate_package(path, **{"select": ("S", "F", "C", "L"), **options})

    for module in ("validated", "packages"):
        monkeypatch.setattr(f"s2d_zoo.pipeline.{module}.validate_package", quick)
    monkeypatch.setattr("s2d_zoo.export.package.describe_costs", lambda *_: ("Quick and small.",))


@dataclass(frozen=True)
class Files:
    """Files of one image."""

    image: Path
    strokes: Path
    truth: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory, nuclei, scribbles):
    """A simulated image, strokes on it, and its truth. Not to be changed."""
    folder = tmp_path_factory.mktemp("files")
    made = Files(image=folder / "cells.tif", strokes=folder / "strokes.tif", truth=folder / "truth.tif")
    write_image(made.image, nuclei[0])
    write_image(made.truth, nuclei[1])
    write_image(made.strokes, scribbles)
    return made


@pytest.fixture
def adapt_arguments(files, package, tmp_path):
    """Make the arguments of a small run, some of them changed (left out where None)."""

    def make(*flags, **changes):
        chosen = {
            "image": files.image,
            "scribbles": files.strokes,
            "enhancer": package,
            "output": tmp_path / "out",
            "authors": "Ada; Analytical Engine",
            "license": "MIT",
            "name": "Tiny segmentor",
            "trees": 5,
            "forests": 2,
            "steps": 4,
            "segmentor-features": 2,
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        pairs = ((f"--{name}", value) for name, value in chosen.items() if value is not None)
        return ["adapt", *(part for pair in pairs for part in pair), *flags]

    return make


@pytest.fixture(scope="session")
def contents():
    """List every file below a folder, with what it holds."""

    def read_all(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read_all
