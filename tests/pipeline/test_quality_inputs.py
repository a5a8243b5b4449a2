"""Targets, settings and sources of the measurement of an enhancer."""

import numpy as np
import pytest

from s2d_zoo.data.images import read_image
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.pipeline.quality_inputs import (
    QualitySettings,
    QualitySources,
    QualityTarget,
    choose_targets,
    read_target,
    spread,
)

from .quality_cases import NUCLEI, RIM, named, nuclei, tiny, write_datasets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_datasets(tmp_path_factory.mktemp("datasets"))


@pytest.mark.parametrize(
    ("n", "count", "expected"),
    [(12, 2, (3, 9)), (3, 2, (0, 2)), (24, 3, (4, 12, 20)), (2, 2, (0, 1)), (2, 5, (0, 1)), (1, 2, (0,))],
)
def test_items_are_spread_evenly_and_none_is_taken_twice(n, count, expected):
    assert spread(range(n), count) == expected


@pytest.mark.parametrize("n", range(1, 15))
def test_whatever_their_number_no_item_is_taken_twice(n):
    for count in range(1, n + 1):
        assert len(set(spread(range(n), count))) == count


def test_the_objects_of_a_mask_are_its_instances(folder):
    data = read_target(QualityTarget(dataset="mito_vnc"), tiny(), data_dir=folder)
    assert data.instances == "mito_inst"
    assert [one.name for one in data.training] == ["000", "001", "002", "003"]
    assert data.painted == (1, 3)
    for mask, objects in zip(data.training, data.training_objects, strict=True):
        assert mask.labels.values.max() == 1
        assert objects.labels.values.max() > 1
        np.testing.assert_array_equal(mask.labels.values > 0, objects.labels.values > 0)
    perfect = data.truth.score([(one.labels > 0).astype("float32") for one in data.test])
    assert perfect.average_precision is not None


def test_labels_that_are_instances_are_their_own(folder):
    data = read_target(NUCLEI, tiny(n_painted=1), data_dir=folder)
    assert (data.instances, data.painted) == ("inst", (1,))
    assert [one.name for one in data.training] == ["t0", "t2", "t3"]
    assert [one.name for one in data.training_objects] == ["t0", "t2", "t3"]
    assert data.training_objects[0].labels.values.max() > 1


def test_what_lies_in_an_unlabelled_rim_is_left_out(folder):
    data = read_target(NUCLEI, tiny(), data_dir=folder)
    for number, one in enumerate(data.test):
        image, labels = nuclei(20 + number)
        np.testing.assert_array_equal(one.image.values, image.values)
        np.testing.assert_array_equal(one.labels.values, labels.values)
    assert {one.image.sizes["x"] for one in (*data.training, *data.training_objects)} == {64}
    assert read_image(folder / "nuclei_hela/test/raw/t0.tif").sizes["x"] == 64 + 2 * RIM


def test_membranes_have_no_objects_and_another_label_may_be_chosen(folder):
    target = QualityTarget(dataset="mito_vnc", label="membrane", structure="membranes")
    data = read_target(target, tiny(), data_dir=folder)
    assert target.name == "mito_vnc-membrane"
    assert (data.training[0].labels.values > 0).mean() < 0.2
    assert data.truth.structure == "membranes"
    as_objects = QualityTarget(dataset="mito_vnc", label="membrane")
    assert read_target(as_objects, tiny(), data_dir=folder).instances == "connected components of membrane"


def test_hashes_follow_what_was_read(folder):
    one = read_target(NUCLEI, tiny(), data_dir=folder).hashes
    other = read_target(QualityTarget(dataset="nuclei_hela", n_pseudo=2), tiny(), data_dir=folder).hashes
    assert one["test images"] == other["test images"]
    assert one["training images"] != other["training images"]


def test_a_dataset_without_images_is_refused(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "nuclei_gowt1" / split / "raw").mkdir(parents=True)
    with pytest.raises(UserInputError, match="has 0 images to train on and 0 to test on"):
        read_target(QualityTarget(dataset="nuclei_gowt1"), tiny(), data_dir=tmp_path)


def test_targets_are_chosen_by_name():
    targets = (NUCLEI, QualityTarget(dataset="mito_vnc", label="membrane"))
    assert choose_targets(targets, ()) == targets
    assert choose_targets(targets, ("mito_vnc-membrane",)) == targets[1:]
    with pytest.raises(ConfigError, match=r"No target moon\. The recipe has: nuclei_hela, mito_vnc-membrane"):
        choose_targets(targets, ("moon",))
    with pytest.raises(ConfigError, match="nuclei_hela, nuclei_hela"):
        choose_targets((NUCLEI, NUCLEI), ())
    with pytest.raises(ConfigError, match="has none"):
        choose_targets((), ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"structure": "dots"}, "objects, membranes"),
        ({"n_pseudo": 0}, "n_pseudo = 0"),
        ({"rescale": 100.0}, "rescaling factor"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        QualityTarget(dataset="mito_epfl", **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strokes": ()}, "at least 1"),
        ({"strokes": (0, 15)}, "at least 1"),
        ({"strokes": (15, 15)}, "once"),
        ({"n_seeds": 0}, "At least one seed"),
        ({"n_forests": 0}, "At least one seed"),
        ({"strokes": (5, 40)}, "15 for training must be one of 5, 40"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        QualitySettings(**change)


def test_the_usual_settings_are_those_of_the_plan():
    usual = QualitySettings()
    assert (usual.strokes, usual.n_seeds, usual.training_strokes, usual.n_training_seeds) == ((5, 15, 40), 5, 15, 3)
    assert (usual.n_painted, usual.n_forests) == (2, 5)
    segmentor = usual.segmentor
    assert (segmentor.training.steps, segmentor.training.batch_size, segmentor.patches.size) == (1000, 4, 256)


def test_steps_can_be_changed():
    changed = QualitySettings().with_steps(segmentor=7, direct=2500)
    assert (changed.segmentor.training.steps, changed.segmentor.training.steps_per_epoch) == (7, 7)
    assert (changed.direct.training.steps, changed.direct.training.steps_per_epoch) == (2500, 200)
    assert QualitySettings().with_steps() == QualitySettings()
    with pytest.raises(ConfigError, match="positive"):
        QualitySettings().with_steps(direct=0)


def test_the_direct_network_needs_images_to_train_on_and_to_validate_on():
    with pytest.raises(UserInputError, match="got 1 and 0"):
        QualitySources(names=("any",), training=named("a"), validation=())
