"""What a transfer curve can be measured on, and what is refused before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.data.images import write_image
from s2d_zoo.errors import AxesError, ConfigError, UserInputError
from s2d_zoo.pipeline.transfer_inputs import TransferInputs, TransferSettings, read_transfer_data, with_steps

#: background above, an object below
HALF = np.repeat(np.arange(2, dtype=np.uint8), 8 * 4).reshape(8, 8)


def write_pair(folder, name, image, labels=HALF):
    """An image and its ground truth, as files."""
    dims = ("z", "y", "x")
    paths = folder / f"{name}.tif", folder / f"{name}-truth.tif"
    for path, values in zip(paths, (image, labels), strict=True):
        write_image(path, xr.DataArray(values, dims=dims[-values.ndim :]))
    return paths


@pytest.fixture
def inputs(tmp_path):
    """Two images to paint on, and one to score on."""
    pairs = [write_pair(tmp_path, f"cells-{number}", HALF * 50 + np.uint8(number)) for number in range(3)]
    images, truth = zip(*pairs, strict=True)
    return TransferInputs(
        images=images[:2], ground_truth=truth[:2], test_images=images[2:], test_ground_truth=truth[2:]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgets": (0, 1)}, "at least 1"),
        ({"budgets": ()}, "at least 1"),
        ({"budgets": (2, 2)}, "named once"),
        ({"starts": ("random", "luck")}, "random, pretrained, enhancer"),
        ({"starts": ()}, "one or more"),
        ({"starts": ("random", "random")}, "named once"),
        ({"n_seeds": 0}, "At least one seed"),
        ({"finetuning_rate": 0.0}, "rates"),
        ({"n_forests": 0}, "At least one forest"),
    ],
)
def test_settings_out_of_range_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        TransferSettings(**changes)


def test_steps_must_be_positive():
    assert with_steps(50).training.steps_per_epoch == 50
    with pytest.raises(ConfigError, match="positive"):
        with_steps(0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": ()}, "--dataset"),
        ({"dataset": "nuclei_hela"}, "either --image"),
        ({"dataset": "nuclei_hela", "images": ()}, "leave out"),
        ({"ground_truth": ()}, "--ground-truth was given 0 times and --image 2"),
        ({"test_ground_truth": ()}, "--test-ground-truth was given 0 times and --test-image 1"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(inputs, changes, said):
    with pytest.raises(ConfigError, match=said):
        replace(inputs, **changes)


def test_a_single_image_cannot_be_painted_on_and_scored_on(inputs):
    with pytest.raises(ConfigError, match="second one"):
        TransferInputs(images=inputs.images[:1], ground_truth=inputs.ground_truth[:1])


@pytest.mark.parametrize(("n_images", "n_test"), [(2, 1), (3, 1), (4, 1), (6, 2), (7, 2)])
def test_without_test_images_the_last_third_is_held_out(tmp_path, n_images, n_test):
    pairs = [write_pair(tmp_path, f"i{number}", HALF * 50 + np.uint8(number)) for number in range(n_images)]
    images, truth = zip(*pairs, strict=True)
    data = read_transfer_data(TransferInputs(images=images, ground_truth=truth))
    assert [entry.name for entry in data.test] == [f"i{number}.tif" for number in range(n_images)][-n_test:]
    assert len(data.training) == n_images - n_test
    assert "held out" in data.split


@pytest.mark.parametrize(
    ("image", "labels", "error", "said"),
    [
        (np.zeros((3, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8), AxesError, "2D images"),
        (HALF, np.repeat(HALF, 2, axis=0), AxesError, "same pixels"),
        (HALF, np.zeros_like(HALF), UserInputError, "background everywhere"),
        (HALF, np.ones_like(HALF), UserInputError, "objects everywhere"),
    ],
)
@pytest.mark.parametrize("part", ["images", "test_images"])
def test_images_that_nothing_can_be_measured_on_are_refused(inputs, tmp_path, image, labels, error, said, part):
    write_pair(tmp_path, "odd", image, labels)
    truth = {"images": "ground_truth", "test_images": "test_ground_truth"}[part]
    odd = {part: (tmp_path / "odd.tif",), truth: (tmp_path / "odd-truth.tif",)}
    with pytest.raises(error, match=said):
        read_transfer_data(replace(inputs, **odd))


def test_images_with_other_channels_are_refused(inputs, tmp_path):
    _, truth = write_pair(tmp_path, "grey", HALF)
    write_image(tmp_path / "coloured.tif", xr.DataArray(np.zeros((3, 8, 8), np.uint8), dims=("channel", "y", "x")))
    odd = replace(inputs, test_images=(tmp_path / "coloured.tif",), test_ground_truth=(truth,))
    with pytest.raises(AxesError, match="same number of channels"):
        read_transfer_data(odd)


def test_an_image_cannot_be_on_both_sides(inputs, tmp_path):
    """Under whatever name."""
    image, truth = write_pair(tmp_path, "copy", HALF * 50 + np.uint8(1))
    twice = replace(inputs, test_images=(image,), test_ground_truth=(truth,))
    with pytest.raises(UserInputError, match=r"copy\.tif is also one to paint on \(cells-1\.tif\)"):
        read_transfer_data(twice)


def test_a_dataset_is_painted_on_its_train_split_and_scored_on_its_test_split(tmp_path):
    for split, numbers in (("train", (0, 1)), ("test", (2, 3))):
        folder = tmp_path / "nuclei_hela" / split
        for number in numbers:
            for kind, values in (("raw", HALF * 50 + np.uint8(number)), ("label", HALF)):
                write_image(folder / kind / f"{number}.tif", xr.DataArray(values, dims=("y", "x")))
    data = read_transfer_data(TransferInputs(dataset="nuclei_hela", data_dir=tmp_path))
    assert [entry.name for entry in data.training] == ["0", "1"]
    assert [entry.name for entry in data.test] == ["2", "3"]
    assert "test split of nuclei_hela" in data.split
