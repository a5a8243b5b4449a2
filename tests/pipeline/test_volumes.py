"""Volumes, cut into planes for 2D networks and put together again."""

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import apply_network
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, stroke_labels
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.report import draw_stages
from s2d_zoo.pipeline.volumes import middle_number, middle_plane, planes_to_train_on, segment


def array(*shape, channels=1):
    """Values that are all different."""
    values = np.arange(channels * np.prod(shape), dtype=np.float32).reshape(channels, *shape)
    return xr.DataArray(values, dims=("channel", *"zyx"[3 - len(shape) :]))


def labels_of(image, weights):
    dims = image.dims[1:]
    return PseudoLabels(
        labels=xr.concat([image[0] / image.max(), image[0] * 0], dim="channel"),
        weights=xr.DataArray(np.broadcast_to(weights, image.shape[1:]).astype(np.float32), dims=dims),
        painted=xr.DataArray(np.zeros(image.shape[1:], bool), dims=dims),
    )


@pytest.fixture
def volume():
    return array(4, 5, 6)


def test_planes_stay_as_they_are_even_if_nothing_counts_on_them():
    images = [array(5, 6), array(5, 6)]
    labels = [labels_of(images[0], 0), labels_of(images[1], 1)]
    planes = planes_to_train_on(images, labels, held_out := [one[0] * 0 for one in images])
    for found, given in ((planes.images, images), (planes.labels, labels), (planes.held_out, held_out)):
        assert all(one is other for one, other in zip(found, given, strict=True))


def test_of_a_volume_the_planes_on_which_a_label_counts_are_taken(volume):
    weights = np.zeros((4, 5, 6))
    weights[1, 2, 3] = 0.2
    weights[3] = 1
    planes = planes_to_train_on([volume], [given := labels_of(volume, weights)])
    assert planes.held_out == ()
    for number, image, labels in zip((1, 3), planes.images, planes.labels, strict=True):
        xr.testing.assert_identical(image, volume.isel(z=number))
        xr.testing.assert_identical(labels.labels, given.labels.isel(z=number))
        xr.testing.assert_identical(labels.weights, given.weights.isel(z=number))
        xr.testing.assert_identical(labels.painted, given.painted.isel(z=number))


def test_planes_with_held_out_strokes_are_kept_for_the_test(volume):
    held_out = xr.zeros_like(volume[0], dtype=np.uint8)
    held_out[2, 0, 0] = 2
    weights = np.zeros((4, 5, 6))
    weights[0] = 1
    planes = planes_to_train_on([volume], [labels_of(volume, weights)], [held_out])
    assert [float(image.min()) for image in planes.images] == [0, 60]
    assert [int(one.max()) for one in planes.held_out] == [0, 2]


def test_labels_that_are_strokes_only_stay_so(volume):
    strokes = xr.zeros_like(volume[0], dtype=np.uint8)
    strokes[3, 1, 1] = 1
    (labels,) = planes_to_train_on([volume], [stroke_labels(strokes)]).labels
    assert labels.strokes_only
    bare = PseudoLabels(labels=volume, weights=volume[0])
    assert planes_to_train_on([volume], [bare]).labels[0].painted is None


def test_a_volume_is_segmented_plane_by_plane(volume):
    torch.manual_seed(0)
    model = UNet(features=2, depth=1, input_scale=(100.0,)).eval()
    segmented = segment(model, volume.assign_attrs(pixel_size="known"))
    assert segmented.dims == ("channel", "z", "y", "x")
    assert segmented.attrs == {"pixel_size": "known"}
    for number in range(4):
        xr.testing.assert_identical(segmented.isel(z=number).drop_attrs(), apply_network(model, volume[:, number]))
    xr.testing.assert_identical(segment(model, volume[:, 0]), apply_network(model, volume[:, 0]))


def test_the_middle_of_a_volume_is_a_plane_and_of_a_plane_itself(volume):
    assert middle_number(volume) == 2
    xr.testing.assert_identical(middle_plane(volume), volume[:, 2])
    assert middle_number(volume[:, 0]) is None
    xr.testing.assert_identical(middle_plane(volume[:, 0]), volume[:, 0])


def test_the_report_draws_the_plane_in_the_middle(volume):
    scaled = volume / float(volume.max())
    prediction = Prediction(foreground=scaled[0], enhanced=scaled, segmentation=scaled, labels=labels_of(volume, 1))
    figure = draw_stages(volume, prediction, scribbles=xr.ones_like(volume[0], dtype=np.uint8), truth=volume[0])
    shown = {axis.get_title(): axis.images[0].get_array() for axis in figure.axes if axis.get_title()}
    assert list(shown) == [
        "raw, plane 3 of 4",
        *("strokes", "Random Forest", "enhanced", "pseudo-labels", "pseudo-label weights", "segmentor", "ground truth"),
    ]
    for title in ("Random Forest", "enhanced", "segmentor"):
        np.testing.assert_array_equal(shown[title], scaled[0, 2])
