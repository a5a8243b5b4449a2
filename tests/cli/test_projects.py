"""Commands on ilastik projects and on probabilities of others; bad projects are told in one line."""

import h5py
import numpy as np
import pytest
from tests.rf_adapter.nuclei_projects import apply, autocontext_project, fit, nuclei_project

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.rf_adapter.persistence import load_classifier


@pytest.fixture
def write(tmp_path, nuclei, scribbles):
    """Write a project, let its file be changed, and give its path."""

    def make(change=None, kind=nuclei_project, **changes):
        path = kind(nuclei[0], scribbles, **changes).write(tmp_path / "made.ilp")
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return path

    return make


@pytest.fixture
def classify(call, files, tmp_path):
    def run(*options):
        return call("classify", "--image", files.image, "--output", tmp_path / "out.tif", "--quiet", *options)

    return run


# ---- classify


def test_a_project_classifies_as_it_was_trained(classify, write, nuclei, scribbles, tmp_path):
    outcome = classify("--ilastik-project", write())
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout == f"probabilities: {tmp_path / 'out.tif'}\n"
    expected = apply(fit(nuclei[0], scribbles), nuclei[0])
    np.testing.assert_allclose(read_image(tmp_path / "out.tif"), expected, atol=1e-6)


def test_a_project_is_retrained_and_kept_when_asked(classify, write, tmp_path):
    kept = tmp_path / "forest.safetensors"
    outcome = classify("--ilastik-project", write(trained=False), "--retrain", "--trees", 3, "--save-classifier", kept)
    assert outcome.exit_code == 0, outcome.stderr
    contract = load_classifier(kept).contract
    assert (contract.forest.implementation, contract.forest.n_estimators) == ("sklearn", 3)
    assert [entry.name for entry in contract.classes] == ["background", "cells"]


def test_a_projects_forest_can_be_kept_as_ours(classify, write, tmp_path):
    kept = tmp_path / "forest.safetensors"
    assert classify("--ilastik-project", write(), "--save-classifier", kept).exit_code == 0
    first = read_image(tmp_path / "out.tif")
    assert classify("--classifier", kept, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out.tif"), first)


def test_autocontext_classifies_but_is_not_kept_as_one_forest(classify, write, tmp_path):
    path = write(kind=autocontext_project)
    outcome = classify("--ilastik-project", path, "--save-classifier", tmp_path / "forest.safetensors")
    assert outcome.exit_code == 2
    assert "leave out --save-classifier" in outcome.message
    assert not (tmp_path / "out.tif").exists()
    assert classify("--ilastik-project", path).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--retrain",),
        ("--retrain", "--scribbles", "STROKES"),
        ("--ilastik-project", "PROJECT", "--scribbles", "STROKES"),
        ("--ilastik-project", "PROJECT", "--classifier", "PROJECT"),
    ],
    ids=" ".join,
)
def test_sources_that_contradict_each_other_are_misuse(classify, write, files, tmp_path, options):
    places = {"STROKES": files.strokes, "PROJECT": write()}
    outcome = classify(*(places.get(option, option) for option in options))
    assert outcome.exit_code == 2
    assert "Give one of --scribbles" in outcome.message
    assert not (tmp_path / "out.tif").exists()


# ---- enhance, fuse, adapt


@pytest.fixture
def enhance(call, package, tmp_path):
    def run(maps, *options, output="out.tif"):
        return call(
            *("enhance", "--probabilities", maps, "--enhancer", package, "--output", tmp_path / output, "--quiet"),
            *options,
        )

    return run


def test_a_channel_is_chosen_for_the_enhancer(enhance, classify, write, tmp_path):
    assert classify("--ilastik-project", write()).exit_code == 0
    maps = (tmp_path / "out.tif").rename(tmp_path / "maps.tif")
    write_image(tmp_path / "reversed.tif", read_image(maps)[::-1])
    for name, options in (("a", ()), ("b", ("--channel", "foreground=2"))):
        assert enhance(maps, *options, output=f"{name}.tif").exit_code == 0
    assert enhance(tmp_path / "reversed.tif", "--channel", "foreground=1", output="c.tif").exit_code == 0
    assert enhance(maps, "--ilastik-project", output="d.tif").exit_code == 2  # it is --classifier here
    assert enhance(maps, "--classifier", tmp_path / "made.ilp", output="e.tif").exit_code == 0
    first = read_image(tmp_path / "a.tif")
    for name in "bce":
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif"), first)
    wrong = enhance(maps, "--channel", "foreground=1", "--foreground", 2, output="f.tif")
    assert (wrong.exit_code, "contradict each other" in wrong.message) == (2, True)


def test_a_project_is_fused(call, package, files, write, tmp_path):
    common = (
        *("fuse", "--enhancer", package, "--image", files.image, "--output", tmp_path / "mine.zip", "--quiet"),
        *("--id", "mine", "--name", "My fused model", "--authors", "Ada", "--license", "MIT"),
    )
    outcome = call(*common, "--ilastik-project", write(kind=autocontext_project))
    assert outcome.exit_code == 2
    assert "two forests one after another (Autocontext)" in outcome.message
    outcome = call(*common, "--ilastik-project", write(), "--classifier", write())
    assert outcome.exit_code == 2
    assert "Give either --classifier" in outcome.message
    assert not (tmp_path / "mine.zip").exists()
    outcome = call(*common, "--ilastik-project", write())
    assert outcome.exit_code == 0, outcome.stderr
    assert "F01" in outcome.stdout
    assert (tmp_path / "mine.zip").is_file()


# ---- bad projects


def unknown_features(file):
    names = file["FeatureSelections/FeatureIds"][()]
    names[0] = b"Sobel"
    file["FeatureSelections/FeatureIds"][...] = names


def labels_outside(file):
    block = file["PixelClassification/LabelSets/labels000/block0000"]
    block.attrs["blockSlice"] = "[50:146,0:96,0:1]"


def other_workflow(file):
    del file["PixelClassification"], file["workflowName"]
    file["workflowName"] = b"Carving"


def no_labels(file):
    del file["PixelClassification/LabelSets/labels000/block0000"]


def nothing(file):
    for name in list(file):
        del file[name]


BAD = {
    "other workflow": ({"change": other_workflow}, 1, "workflow 'Carving', which has no pixel classification"),
    "no labels": ({"change": no_labels}, 2, "has no labels. Paint"),
    "no forest": ({"trained": False}, 1, "holds no trained forest"),
    "unknown features": ({"change": unknown_features}, 1, "Sobel, which do not exist here"),
    "raw missing": ({"path": "away/cells.tif"}, 1, "wants the image away/cells.tif, which is not there"),
    "labels outside": ({"change": labels_outside}, 1, "outside of the image"),
    "empty": ({"change": nothing}, 1, "no pixel classification"),
}


@pytest.fixture
def adapt(call, package, tmp_path):
    def run(*options):
        arguments = ("adapt", "--enhancer", package, "--output", tmp_path / "out", "--authors", "A", "--license", "MIT")
        return call(*arguments, *options)

    return run


def check_refusal(outcome, exit_code, words):
    assert outcome.exit_code == exit_code, outcome
    assert outcome.stdout == ""
    assert words in outcome.message
    lines = [line for line in outcome.stderr.splitlines() if line.strip(" │╭╮╰╯─")]
    assert len(lines) <= 2, outcome.stderr  # the frame's title, and the line


@pytest.mark.parametrize(("changes", "exit_code", "words"), BAD.values(), ids=BAD)
def test_a_bad_project_is_told_in_one_line(adapt, write, tmp_path, changes, exit_code, words):
    check_refusal(adapt("--ilastik-project", write(**changes)), exit_code, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["classify", "check-fit", "adapt", "adapt --retrain"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Dear diary", "made.ilp"),
        (b"", "made.ilp"),
        (5000, "made.ilp"),
        (..., "made.ilp"),
        (other_workflow, "'Carving'"),
        (unknown_features, "Sobel"),
        (labels_outside, "outside of the image"),
    ],
    ids=["not HDF5", "empty", "truncated", "missing", "other workflow", "features", "labels outside"],
)
def test_every_command_refuses_what_cannot_be_read(
    call, adapt, classify, package, write, tmp_path, command, content, words
):
    path = write(content if callable(content) else None)
    if content is ...:
        path.unlink()
    elif isinstance(content, int):
        path.write_bytes(path.read_bytes()[:content])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    if command == "classify":
        outcome = classify("--ilastik-project", path)
    elif command == "check-fit":
        outcome = call("check-fit", "--enhancer", package, "--ilastik-project", path)
    else:
        outcome = adapt("--ilastik-project", path, *command.split()[1:])
    check_refusal(outcome, 1, words)
    assert [one.name for one in tmp_path.iterdir() if one != path] == []


def test_what_goes_with_a_project_and_what_does_not_is_told(adapt, write, files, tmp_path):
    project = ("--ilastik-project", write())
    maps = ("--image", files.image, "--probabilities", files.image)
    for options, words in (
        ((*project, "--scribbles", files.strokes), "leave out --scribbles and --probabilities"),
        ((*project, "--probabilities", files.image), "leave out --scribbles and --probabilities"),
        (("--image", files.image, "--scribbles", files.strokes, "--retrain"), "give --ilastik-project"),
        ((*maps, "--test-image", files.image), "--test-image needs a classifier"),
        ((*maps, "--probabilities", files.image), "--probabilities was given 2 times and --image 1 times"),
        (("--image", files.image), "Nothing to learn from"),
        ((), "No image was given"),
    ):
        check_refusal(adapt(*options), 2, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--foreground", 1, "--channel", "foreground=2"), "contradict each other"),
        (("--channel", "2"), "expected foreground=NUMBER"),
        (("--channel", "foreground=0"), "there is no channel 0"),
        (("--foreground", 0), "there is no channel 0"),
    ],
    ids=str,
)
def test_a_channel_that_cannot_be_meant_is_misuse(adapt, files, tmp_path, nuclei, scribbles, options, words):
    write_image(tmp_path / "maps.tif", apply(fit(nuclei[0], scribbles), nuclei[0]).astype(np.float32))
    outcome = adapt("--image", files.image, "--probabilities", tmp_path / "maps.tif", *options)
    assert outcome.exit_code == 2
    assert words in outcome.message
    assert not (tmp_path / "out").exists()
