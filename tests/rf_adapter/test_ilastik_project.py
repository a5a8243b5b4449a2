"""Projects are read back exactly as they were written, and what is no project is refused in one line."""

import json
import re

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from s2d_zoo.errors import ConfigError, ProjectFileError, S2DZooError
from s2d_zoo.rf_adapter.features import FILTERS, SCALES
from s2d_zoo.rf_adapter.ilastik_project import name_foreground, read_project

from .ilastik_projects import Block, Lane, Project, Stage, grow, projects, simple_project

DIMS = {"t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}


@pytest.fixture
def written(tmp_path):
    """Write a project, and let the test change its file."""

    def make(project=None, change=None):
        path = (project or simple_project()).write(tmp_path / "made.ilp")
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return path

    return make


def refusal(path):
    """The message for a project that is refused."""
    with pytest.raises(ProjectFileError) as caught:
        read_project(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- what was written is read


@given(project=projects())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_projects_are_read_back_exactly(tmp_path, project):
    found = read_project(project.write(tmp_path / "random.ilp"))
    assert (found.ilastik_version, found.workflow) == (project.version, project.workflow)
    assert len(found.raw) == len(project.lanes)
    for raw, lane in zip(found.raw, project.lanes, strict=True):
        assert (raw.nickname, raw.axes, raw.embedded) == (lane.nickname, lane.axes, lane.path is None)
        assert raw.shape == (lane.image.shape if lane.says_shape else ())
        assert lane.path is None or raw.location == lane.path
    assert len(found.stages) == len(project.stages)
    for stage, expected in zip(found.stages, project.stages, strict=True):
        assert_same_stage(stage, expected)


def assert_same_stage(stage, expected):
    assert (stage.class_names, stage.colours) == (expected.names, expected.colours)
    assert dict(stage.selection.scales) == {
        name: tuple(np.array(SCALES)[row]) for name, row in zip(FILTERS, expected.matrix, strict=True) if row.any()
    }
    used = expected.matrix.any(axis=0)
    assert stage.compute_in_2d == tuple(np.zeros(used.sum()) if expected.in_2d is None else expected.in_2d[used])
    for blocks, written in zip(stage.labels, expected.labels, strict=True):
        assert len(blocks) == len(written)
        for block, one in zip(blocks, written, strict=True):
            dims = [DIMS[letter] for letter in one.axes if letter != "c"]
            assert list(block.labels.dims) == dims
            assert np.array_equal(block.labels.values, one.values.squeeze(one.axes.index("c")))
            assert dict(block.start) == {DIMS[a]: s for a, s in zip(one.axes, one.start, strict=True) if a != "c"}
    counts = np.bincount(np.concatenate([[0], *(b.values.ravel() for lane in expected.labels for b in lane)]))
    assert stage.count_labels() == {label: count for label, count in enumerate(counts) if label and count}
    assert stage.n_forests == len(expected.forests)
    assert (stage.forest is None) == (not expected.forests)
    if expected.forests:
        assert_same_forest(stage, expected)


def assert_same_forest(stage, expected):
    """On rows in our order; ilastik weighs forests by their trees."""
    assert stage.forest.n_trees == sum(len(forest.estimators_) for forest in expected.forests)
    # it shows where there are eigenvalues, and others beside them
    clear = expected.matrix[4:].any() and expected.matrix[:4].any()
    assert stage.filters_ndim in ({expected.ndim} if clear else {expected.ndim, None})
    rows = np.random.default_rng(0).normal(size=(50, stage.forest.n_features)).astype(np.float32)
    theirs = rows if expected.order is None else rows[:, expected.order]
    wanted = np.zeros((50, len(expected.names)))
    for forest in expected.forests:
        wanted[:, forest.classes_ - 1] += forest.predict_proba(theirs) * len(forest.estimators_)
    assert np.allclose(stage.forest.predictor().predict_proba(rows), wanted / stage.forest.n_trees, atol=1e-6)


def test_the_classifier_of_a_project_predicts_what_its_forest_says(written):
    project = read_project(written())
    classifier = project.classifier(0)
    assert [entry.role for entry in classifier.contract.classes] == ["background", "foreground"]
    assert classifier.contract.forest.implementation == "vigra"
    assert "1.4.0" in classifier.contract.forest.labels
    assert classifier.forest is project.stages[0].forest


def test_lanes_and_labels_are_matched_by_number_beyond_three_digits(written):
    def rename(file):
        infos, sets = file["Input Data/infos"], file["PixelClassification/LabelSets"]
        for number in (999, 1000):
            infos.copy("lane0000", f"lane{number}")
            infos[f"lane{number}/Raw Data/nickname"][()] = f"number {number}".encode()
        sets.create_group("labels1000")
        sets.move("labels000", "labels999")
        sets.create_group("labels000")

    project = read_project(written(change=rename))
    assert [raw.nickname for raw in project.raw] == ["image", "number 999", "number 1000"]
    assert [len(blocks) for blocks in project.stages[0].labels] == [0, 2, 0]


def test_trainable_domain_adaptation_names_the_class_that_its_enhancer_gets(written):
    project = simple_project(
        group="TrainableDomainAdaptation",
        selected_channels=(2,),
        names=("a", "b", "c"),
        colours=((0, 0, 0),) * 3,
        forests=[grow(4, (1, 2, 3))],
    )
    (stage,) = (found := read_project(written(project))).stages
    assert (stage.name, stage.channels) == ("TrainableDomainAdaptation", (2,))
    assert found.classes(0)[2].role == "foreground"
    assert found.classes(0, foreground=1)[0].role == "foreground"


def test_a_project_in_which_nothing_was_done_yet_is_read(written):
    empty = Project([], [Stage(np.zeros((6, 7), dtype=bool), [], [], names=(), colours=())])
    project = read_project(written(empty))
    (stage,) = project.stages
    assert (stage.class_names, stage.selection, stage.forest, stage.labels) == ((), None, None, ())
    assert stage.count_labels() == {}
    with pytest.raises(ProjectFileError, match=r"no trained forest.*Live Update.*--retrain"):
        project.classifier(0)
    with pytest.raises(ProjectFileError, match="No features are selected"):
        project.new_classifier(0)


def test_without_a_forest_one_is_fitted_on_the_labels(written):
    project = read_project(written(simple_project(forests=[])))
    with pytest.raises(ProjectFileError, match="no trained forest"):
        project.classifier(0)
    assert project.new_classifier(0, seed=3).selection == project.stages[0].selection


PICKLED = {
    "pickled_type": b"clazyflow.classifiers.%s\n%sLazyflowClassifier\np0\n.",
    "ClassifierFactory": b"ccopy_reg\n_reconstructor\np0\n(clazyflow.classifiers.%s\n%sLazyflowClassifierFactory\np1\n",
}


@pytest.mark.parametrize("place", PICKLED)
@pytest.mark.parametrize(
    ("module", "kind", "message"),
    [
        (
            b"sklearnLazyflowClassifier",
            b"Sklearn",
            r"is one of scikit-learn.* as a pickle.*any code.*\(VIGRA\).*--retrain",
        ),
        (
            b"vigraRfLazyflowClassifier",
            b"VigraRf",
            r"is of ilastik's kind 'VigraRf', which .* not read.*\(VIGRA\).*--retr",
        ),
        (b"parallelVigraRfLazyflowClassifier", b"ParallelVigraRf", r"no trained forest.*Live Update.*--retrain"),
        (b"others", b"?", r"no trained forest.*Live Update.*--retrain"),
    ],
)
def test_a_classifier_of_another_kind_is_named(written, place, module, kind, message):
    where = f"{PC}/ClassifierFactory" if place == "ClassifierFactory" else f"{PC}/ClassifierForests/{place}"
    path = written(simple_project(forests=[]), lambda file: file.__setitem__(where, PICKLED[place] % (module, kind)))
    project = read_project(path)
    with pytest.raises(ProjectFileError, match=message):
        project.classifier(0)
    assert project.new_classifier(0).selection == project.stages[0].selection


@pytest.mark.parametrize("value", [np.void(b"Sklearn"), [b"SklearnLazyflowClassifier"], 7], ids=str)
def test_a_classifier_that_is_no_text_does_not_matter(written, value):
    path = written(simple_project(forests=[]), lambda file: file.__setitem__(f"{PC}/ClassifierFactory", value))
    assert read_project(path).stages[0].classifier_kind == ""


def test_old_projects_without_depth_in_their_images_are_volumes_where_they_were_painted_deep(written):
    image = np.zeros((4, 20, 30, 1), dtype=np.uint8)
    block = Block("zyxc", (2, 0, 0, 0), np.ones((1, 1, 1, 1), dtype=np.uint8), tagged=False)
    project = simple_project(labels=[[block]], in_2d=None, forests=[])
    project.lanes = [Lane(image, "zyxc", says_shape=False)]
    assert read_project(written(project)).ndim == 3


@pytest.mark.parametrize(
    ("names", "foreground"),
    [
        (("background", "cells"), 2),
        (("nuclei", "background"), 1),
        (("BG", "FG"), 2),
        (("Label 1", "Label 2"), 2),
        (("a", "b", "c"), 2),
    ],
)
def test_the_foreground_is_told_by_the_names(names, foreground):
    assert name_foreground(names) == foreground


def test_which_of_several_labels_is_the_foreground_must_be_said():
    with pytest.raises(ConfigError, match=r"1: background, 2: dim, 3: bright.*--foreground 2"):
        name_foreground(("background", "dim", "bright"))


# ---- files that are no projects


def test_what_is_no_file_of_hdf5_is_refused(tmp_path):
    (tmp_path / "text.ilp").write_text("not a project")
    (tmp_path / "empty.ilp").touch()
    (tmp_path / "folder.ilp").mkdir()
    messages = {name: refusal(tmp_path / f"{name}.ilp") for name in ("text", "empty", "folder", "missing")}
    assert "starts with b'not a pr'" in messages["text"]
    assert "starts with b''" in messages["empty"]
    assert "found a folder" in messages["folder"]
    assert "found nothing" in messages["missing"]
    assert "damaged" in refusal(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("workflow", ["Carving", "Tracking", "Object Classification (from binary image)"])
def test_workflows_without_pixel_classification_are_named(written, workflow):
    project = simple_project()
    project.workflow = workflow
    project.stages = []
    assert re.search(rf"{re.escape(repr(workflow))}.*--probabilities", refusal(written(project)))


# ---- projects that ilastik does not write


def put(place, value):
    """Replace what is at a place of a file."""

    def change(file):
        del file[place]
        file[place] = value

    return change


def remove(place):
    return lambda file: file.__delitem__(place)


def as_group(place):
    def change(file):
        del file[place]
        file.create_group(place)

    return change


def link(place, target):
    return lambda file: file.__setitem__(place, target)


def declare(place, **settings):
    """A dataset that declares much and holds nothing."""

    def change(file):
        attrs = dict(file[place].attrs)
        del file[place]
        file.create_dataset(place, **settings).attrs.update(attrs)

    return change


def virtual(file):
    layout = h5py.VirtualLayout((2,), "u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", (2,))
    file.create_virtual_dataset("PixelClassification/extra", layout)


def deep(file):
    file.create_group("/".join(["deep"] * 60))


RAW = "Input Data/infos/lane0000/Raw Data"
PC = "PixelClassification"
BLOCK = f"{PC}/LabelSets/labels000/block0000"
BAD_FILES = {
    "a soft link": (link("soft", h5py.SoftLink("/PixelClassification")), "/soft to another place"),
    "an external link": (link("else", h5py.ExternalLink("other.h5", "/")), "/else to another file"),
    "a cycle": (lambda file: file["Input Data"].__setitem__("up", file["/"]), "/Input Data/up to a group"),
    "a group linked twice": (lambda file: file.__setitem__("twin", file[PC]), "to a group that is elsewhere too"),
    "external storage": (
        lambda file: file.create_dataset("far", (4,), "u1", external=[("far.bin", 0, 4)]),
        "/far, whose values are stored in other files",
    ),
    "a virtual dataset": (virtual, "extra, whose values are stored in other files"),
    "groups nested deep": (deep, "nested more than 32 deep"),
    "no raw image": (remove(f"{RAW}/filePath"), "no raw image"),
    "a lane that is no group": (put("Input Data/infos/lane0000", 1), "Expected the group .*lane0000"),
    "a lane of labels that is no group": (put(f"{PC}/LabelSets/labels000", [1]), "Expected the group .*labels000"),
    "labels without an image": (remove("Input Data/infos/lane0000"), "labels for 1 images, but there are 0"),
    "labels that are a group": (as_group(BLOCK), "Expected the dataset .*block0000"),
    "too many classes": (put(f"{PC}/LabelNames", np.full(300, b"n")), "holds 300 texts, but at most 255"),
    "colours of text": (put(f"{PC}/LabelColors", b"red"), "whole numbers"),
    "a shape that is NaN": (put(f"{RAW}/shape", [np.nan, 1, 1]), "whole numbers"),
    "axis tags of another kind": (put(f"{RAW}/axistags", b'{"axes": ["y"]}'), "damaged"),
    "axis tags cut off": (put(f"{RAW}/axistags", b'{"axes": [{"ke'), "damaged"),
    "axis tags without end": (put(f"{RAW}/axistags", b"[" * 100_000), "damaged"),
    "a name of text that is a list": (put(f"{RAW}/nickname", [b"a", b"b"]), "damaged"),
    "nothing in a dataset": (put(f"{RAW}/nickname", h5py.Empty("S1")), "holds nothing"),
    "an unknown feature": (
        put("FeatureSelections/FeatureIds", np.array([b"Sobel", *(name.encode() for name in FILTERS[1:])])),
        "Sobel, which do not exist here",
    ),
    "a scale of NaN": (put("FeatureSelections/Scales", np.full(7, np.nan)), "do not exist here.*nan"),
    "a scale below zero": (put("FeatureSelections/Scales", -np.array(SCALES)), "do not exist here"),
    "a filter at a scale at which it is not defined": (
        put("FeatureSelections/SelectionMatrix", np.ones((6, 7), dtype=bool)),
        "from scale 0.7",
    ),
    "a table of another size": (put("FeatureSelections/SelectionMatrix", np.ones((6, 6))), "no table"),
    "a huge table": (
        declare("FeatureSelections/SelectionMatrix", shape=(2**20, 2**30), dtype="u1", chunks=(64, 64)),
        "declares an array",
    ),
    "huge labels": (declare(BLOCK, shape=(2**31, 2**15, 1), dtype="u1", chunks=(64, 64, 1)), "declares an array"),
    "a huge name": (declare(f"{RAW}/nickname", shape=(2**27,), dtype="u1", chunks=(64,)), "far more than belongs"),
}


@pytest.mark.parametrize(("change", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_ilastik_does_not_write_is_refused_in_one_line(written, change, message):
    assert re.search(message, refusal(written(change=change)))


def test_axes_that_do_not_exist_are_refused(written):
    tags = json.dumps({"axes": [{"key": "q"}, {"key": "y"}, {"key": "x"}]}).encode()
    with pytest.raises(S2DZooError, match=r"letters 'czyxt'.*'qyx'"):
        read_project(written(change=put(f"{RAW}/axistags", tags)))


def test_line_breaks_in_names_stay_out_of_messages(written):
    assert "we ird" in refusal(written(change=put("FeatureSelections/FeatureIds", np.array([b"we\nird"] * 6))))


# ---- a classifier that does not fit


def test_a_forest_on_features_that_are_no_longer_selected_is_refused(written):
    less = np.zeros((6, 7), dtype=bool)
    less[0, 1] = True
    changed = put("FeatureSelections/SelectionMatrix", less)
    assert re.search("selection was changed after the training.*--retrain", refusal(written(change=changed)))


def test_a_forest_without_names_on_other_features_is_refused(written):
    def change(file):
        del file[f"{PC}/ClassifierForests/feature_names"]
        matrix = file["FeatureSelections/SelectionMatrix"][()]
        matrix[1, 1] = matrix[2, 2] = matrix[3, 3] = True
        file["FeatureSelections/SelectionMatrix"][...] = matrix

    project = read_project(written(change=change))
    with pytest.raises(ProjectFileError, match="takes 4 features, but those that are selected are 7 for each channel"):
        project.classifier(0)


def test_a_volume_with_features_in_2d_and_others_in_3d_is_refused(written):
    mixed = np.array([True, True, False, True, True, True, True])
    project = simple_project(in_2d=mixed, forests=[], labels=[[]])
    project.lanes = [Lane(np.zeros((5, 20, 30, 1), dtype=np.uint8), "zyxc")]
    with pytest.raises(ProjectFileError, match="some scales in 2D and others in 3D"):
        read_project(written(project)).new_classifier(0)


def test_a_class_without_a_name_and_a_foreground_that_is_none_are_refused(written):
    project = read_project(written(simple_project(names=("a", ""))))
    with pytest.raises(ConfigError, match="needs a name"):
        project.classes(0)
    with pytest.raises(ConfigError, match="one of the labels 1…2"):
        project.classes(0, foreground=3)


# ---- real projects


@pytest.mark.realdata
def test_every_real_project_holds_what_its_manifest_says(realdata_dir):
    manifest = json.loads((realdata_dir / "ilp" / "manifest.json").read_text())
    assert len(manifest) == 7
    for entry in manifest:
        project = read_project(realdata_dir / "ilp" / entry["file"])
        assert (project.ilastik_version, project.workflow) == (entry["ilastik"], entry["workflow"])
        assert project.ndim == (3 if entry["file"] == "cloud_ilastik_em.ilp" else 2)
        assert [stage.name for stage in project.stages] == [one["group"] for one in entry["classifier"]]
        for index, (stage, one) in enumerate(zip(project.stages, entry["classifier"], strict=True)):
            assert stage.count_labels() == {int(label): count for label, count in one["label_px"].items()}
            found = (stage.n_forests, stage.forest.n_trees, stage.forest.n_features, len(stage.class_names))
            assert found == (one["forests"], one["trees"], one["features"], one["classes"])
            classifier = project.classifier(index, foreground=1)
            ndim = 2 if classifier.selection.compute_in_2d else 3
            channels = classifier.contract.raw_channels
            assert len(classifier.selection.names(ndim=ndim, channels=channels)) == one["features"]


#: what the README of the shared data says: labels, and forests / trees / features, of all stages
README = {
    "ilastik_pc.ilp": ([1132], [(4, 100, 49)]),
    "ilastik_autocontext.ilp": ([1576, 2028], [(10, 100, 49), (10, 100, 196)]),
    "ilastik_mitocheck.ilp": ([113], [(40, 100, 49)]),
    "ilastik_pc_oc_133.ilp": ([24], [(4, 100, 25)]),
    "fractal_pixel_classifier_2D.ilp": ([32142], [(8, 100, 49)]),
    "neubias_nuclei.ilp": ([22079], [(8, 100, 16)]),
    "cloud_ilastik_em.ilp": ([1127], [(4, 100, 28)]),
}


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "labels", "forests"), [(name, *found) for name, found in README.items()])
def test_every_real_project_holds_what_the_readme_says(realdata_dir, name, labels, forests):
    stages = read_project(realdata_dir / "ilp" / name).stages
    assert [sum(stage.count_labels().values()) for stage in stages] == labels
    assert [(stage.n_forests, stage.forest.n_trees, stage.forest.n_features) for stage in stages] == forests
