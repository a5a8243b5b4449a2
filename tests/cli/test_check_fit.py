"""`s2d-zoo check-fit`: what it says, and how it ends."""

import numpy as np
import pytest
import xarray as xr
from tests.rf_adapter.nuclei_projects import nuclei_project

from s2d_zoo.data.images import write_image
from s2d_zoo.rf_adapter.persistence import save_classifier


@pytest.fixture
def project(tmp_path, nuclei, scribbles):
    return nuclei_project(nuclei[0], scribbles).write(tmp_path / "made.ilp")


@pytest.fixture
def maps(tmp_path):
    """A file of maps with one value everywhere."""

    def write(value, dtype=np.float32):
        values = np.full((2, 20, 20), value, dtype=dtype)
        write_image(tmp_path / "maps.tif", xr.DataArray(values, dims=("channel", "y", "x")), overwrite=True)
        return tmp_path / "maps.tif"

    return write


def test_a_project_that_fits_ends_with_0(call, package, project):
    outcome = call("check-fit", "--enhancer", package, "--ilastik-project", project)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [
        "made.ilp fits tiny-enhancer",
        "  the enhancer takes: foreground, 2D",
        "  the classifier delivers: 1: background (background), 2: cells (foreground), 2D",
    ]
    assert outcome.stderr == ""


@pytest.mark.parametrize("option", [("--foreground", 1), ("--channel", "foreground=1")], ids=str)
def test_a_wrong_label_ends_with_1_and_the_right_one_is_named(call, package, project, option):
    outcome = call("check-fit", "--enhancer", package, "--ilastik-project", project, *option)
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("made.ilp does not fit tiny-enhancer\n")
    assert "  WRONG: classes: " in outcome.stdout
    assert "--foreground 2" in outcome.stdout
    assert outcome.stderr == ""


def test_a_saved_forest_is_compared_too(call, package, classifier, tmp_path):
    save_classifier(classifier, tmp_path / "forest.safetensors")
    outcome = call("check-fit", "--enhancer", package, "--classifier", tmp_path / "forest.safetensors")
    assert (outcome.exit_code, outcome.stdout.splitlines()[0]) == (0, "forest.safetensors fits tiny-enhancer")


@pytest.mark.parametrize("option", [(), ("--channel", "foreground=1"), ("--channel", " foreground = 2 ")], ids=str)
def test_maps_are_compared_with_or_without_a_channel(call, package, maps, option):
    outcome = call("check-fit", "--enhancer", package, "--probabilities", maps(0.5), *option)
    assert outcome.exit_code == 0, outcome.stderr
    label = 1 if "=1" in "".join(option) else 2
    assert f"{label}: foreground (foreground)" in outcome.stdout


def test_maps_of_bytes_end_with_1(call, package, maps):
    outcome = call("check-fit", "--enhancer", package, "--probabilities", maps(100, np.uint8))
    assert outcome.exit_code == 1
    assert "  WRONG: value_range: " in outcome.stdout
    assert "divided by 255" in outcome.stdout


def test_a_bundled_enhancer_is_taken_by_its_name(call, project):
    outcome = call("check-fit", "--enhancer", "nuclei-fluo-2d", "--ilastik-project", project)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith("made.ilp fits nuclei-fluo-2d, with reservations\n")
    assert "  note: features: " in outcome.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Give one of --ilastik-project, --classifier and --probabilities."),
        (["--ilastik-project", "a.ilp", "--probabilities", "b.tif"], "Give one of"),
        (["--classifier", "a", "--probabilities", "b.tif"], "Give one of"),
        (["--probabilities", "MAPS", "--foreground", 1, "--channel", "foreground=2"], "contradict each other"),
        (["--probabilities", "MAPS", "--foreground", 3], "there is no channel 3"),
        (["--probabilities", "MAPS", "--channel", "foreground=0"], "there is no channel 0"),
        *(
            (["--probabilities", "MAPS", "--channel", text], "expected foreground=NUMBER")
            for text in ("2", "foreground", "foreground=", "foreground=x", "foreground=-1", "nuclei=2", "foreground=²")
        ),
    ],
    ids=str,
)
def test_misuse_is_told_and_ends_with_2(call, package, maps, options, words):
    chosen = [maps(0.5) if option == "MAPS" else option for option in options]
    outcome = call("check-fit", "--enhancer", package, *chosen)
    assert outcome.exit_code == 2, outcome
    assert words in outcome.message
    assert outcome.stdout == ""


@pytest.mark.parametrize("option", ["--ilastik-project", "--classifier", "--probabilities", "--enhancer"])
def test_files_that_are_missing_are_named(call, package, project, tmp_path, option):
    chosen = {"--enhancer": package, option: tmp_path / "nowhere.ilp"}
    if option == "--enhancer":
        chosen["--ilastik-project"] = project
    outcome = call("check-fit", *(part for pair in chosen.items() for part in pair))
    assert outcome.exit_code == 1
    assert "nowhere.ilp" in outcome.message
    assert outcome.stdout == ""
