"""Random patches: number n is always the same patch, and looks as the settings say."""

from itertools import islice

import numpy as np
import pytest
import torch
from monai.data.meta_obj import get_track_meta

from s2d_zoo.data.patches import PatchDataset, PatchSettings, PatchSource, without_metadata
from s2d_zoo.errors import ConfigError, UserInputError

PLAIN = PatchSettings(size=16, augment=False)
VARIED = PatchSettings(size=16)
UPRIGHT = PatchSettings(size=16, upright=1.0)
NOWHERE = np.array([], dtype=int)


def source(height=40, width=50, *, channels=1, weight=True, focus=NOWHERE, seed=0):
    generator = np.random.default_rng(seed)
    return PatchSource(
        image=generator.random((channels, height, width), dtype=np.float32),
        target=generator.integers(0, 5, (2, height, width)).astype(np.float32),
        weight=generator.integers(0, 2, (1, height, width)).astype(np.float32) if weight else None,
        focus=focus,
    )


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("settings", [PLAIN, VARIED, UPRIGHT], ids=["plain", "varied", "upright"])
def test_a_patch_is_the_same_whoever_asks_and_when(settings):
    sources = [source(), source(30, 20, seed=1)]
    dataset = PatchDataset(sources, settings, seed=3)
    forwards = [dataset[number] for number in range(5)]
    backwards = [PatchDataset(sources, settings, seed=3)[number] for number in reversed(range(5))]
    assert all(map(equal, forwards, reversed(backwards)))
    assert not equal(forwards[0], forwards[1])
    assert not equal(forwards[0], PatchDataset(sources, settings, seed=4)[0])


@pytest.mark.parametrize("settings", [PLAIN, VARIED, UPRIGHT], ids=["plain", "varied", "upright"])
@pytest.mark.parametrize("size", [(40, 50), (16, 16), (9, 30), (3, 2)])
@pytest.mark.parametrize("weight", [True, False])
def test_patches_have_their_size_whatever_the_image(settings, size, weight):
    patch = PatchDataset([source(*size, channels=3, weight=weight)], settings)[0]
    assert {key: tuple(values.shape) for key, values in patch.items()} == {
        "image": (3, 16, 16),
        "target": (2, 16, 16),
        "weight": (1, 16, 16),
    }
    assert all(type(values) is torch.Tensor and values.dtype == torch.float32 for values in patch.values())
    assert weight or bool((patch["weight"] == 1).all())


def test_a_plain_patch_is_a_window_of_the_image():
    one = source()
    patch = PatchDataset([one], PLAIN)[0]
    windows = np.lib.stride_tricks.sliding_window_view(one.image[0], (16, 16))
    (position,) = np.argwhere((windows == patch["image"][0].numpy()).all(axis=(2, 3)))
    y, x = position
    assert np.array_equal(patch["target"], one.target[:, y : y + 16, x : x + 16])
    assert np.array_equal(patch["weight"], one.weight[:, y : y + 16, x : x + 16])


def test_upright_patches_are_windows_of_the_image_in_all_eight_positions():
    one = source(17, 18)
    windows = np.lib.stride_tricks.sliding_window_view(one.image[0], (16, 16)).reshape(-1, 16, 16)
    found = set()
    for number in range(80):
        patch = PatchDataset([one], UPRIGHT)[number]
        image, target = patch["image"][0].numpy(), patch["target"].numpy()
        ways = [
            (quarters, flip)
            for quarters in range(4)
            for flip in (False, True)
            if (windows == np.rot90(image[::-1] if flip else image, -quarters)).all(axis=(1, 2)).any()
        ]
        assert len(ways) == 1
        found.add(ways[0])
        assert set(np.unique(target)) <= set(range(5))
    assert len(found) == 8


def test_a_share_of_the_patches_is_upright():
    one = source()
    values = set(one.image.ravel().tolist())
    half = PatchDataset([one], PatchSettings(size=16, upright=0.5))
    upright = [set(half[number]["image"].flatten().tolist()) <= values for number in range(200)]
    assert 0.4 < np.mean(upright) < 0.6


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_0_to_1_is_refused(share):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        PatchSettings(upright=share)


@pytest.mark.parametrize("zoom", [(1.4, 0.7), (0.0, 1.4), (-1.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0)])
def test_absurd_zooms_are_refused(zoom):
    with pytest.raises(ConfigError, match="two factors above 0"):
        PatchSettings(zoom=zoom)


def test_an_image_smaller_than_a_patch_is_mirrored_outwards():
    one = source(10, 50)
    patch = PatchDataset([one], PLAIN)[0]["image"][0].numpy()
    assert np.array_equal(patch[10:], patch[4:10][::-1])


def test_labels_and_weights_are_not_interpolated():
    dataset = PatchDataset([source()], VARIED)
    for patch in islice((dataset[number] for number in range(100)), 5):
        assert set(patch["target"].unique().tolist()) <= {0, 1, 2, 3, 4}
        assert set(patch["weight"].unique().tolist()) <= {0, 1}


def test_upright_images_and_targets_are_turned_alike():
    one = source()
    same = PatchSource(image=one.image, target=one.image, weight=None, focus=NOWHERE)
    patches = [PatchDataset([same], UPRIGHT)[number] for number in range(8)]
    assert all(torch.equal(patch["image"], patch["target"]) for patch in patches)


def test_soft_targets_are_interpolated():
    target = PatchDataset([source()], PatchSettings(size=16, soft_target=True))[0]["target"]
    assert 0 <= target.min() < target.max() <= 4
    assert not torch.equal(target, target.round())


def test_image_and_target_are_varied_alike():
    smooth = np.sin(np.indices((64, 64)).sum(axis=0) / 9)[np.newaxis].astype(np.float32)
    one = PatchSource(image=smooth, target=smooth, weight=None, focus=NOWHERE)
    dataset = PatchDataset([one], PatchSettings(size=24, soft_target=True))
    for number in range(4):
        assert torch.allclose(dataset[number]["image"], dataset[number]["target"], atol=1e-5)


@pytest.mark.parametrize("zoom", [(0.6, 1.9), (0.9, 1.1)])
def test_objects_grow_and_shrink_by_the_zoom_and_no_more(zoom):
    sigma, size = 4.0, 128
    y, x = np.indices((240, 240)) - 120
    blob = np.exp(-(x**2 + y**2) / (2 * sigma**2))[np.newaxis].astype(np.float32)
    one = PatchSource(image=blob, target=blob, weight=None, focus=np.array([120 * 240 + 120]))
    dataset = PatchDataset([one], PatchSettings(size=size, zoom=zoom))
    found = []
    for number in range(60):
        values = dataset[number]["image"][0].numpy().astype(float)
        if values.max() < 0.9 or values[[0, -1]].max() > 1e-3 or values[:, [0, -1]].max() > 1e-3:
            continue  # cut by a border
        share = values / values.sum()
        centred = [axis - (axis * share).sum() for axis in np.indices(values.shape)]
        covariance = [[(a * b * share).sum() for b in centred] for a in centred]
        found += list(np.sqrt(np.linalg.eigvalsh(covariance)) / sigma)
    assert len(found) > 20
    shear = 1.1
    assert min(found) > zoom[0] / shear
    assert max(found) < zoom[1] * shear
    assert min(found) < 0.98
    assert max(found) > 1.02


def test_half_of_the_patches_are_centred_on_the_focus():
    one = source(200, 200, focus=np.array([50 * 200 + 150]))
    one.image[:] = 0
    one.image[0, 50, 150] = 1
    dataset = PatchDataset([one], PLAIN)
    centred = [bool(dataset[number]["image"][0, 8, 8] == 1) for number in range(200)]
    assert 70 < sum(centred) < 130


def test_the_last_change_gets_the_sample_and_a_generator_of_its_own():
    def noise(sample, generator):
        return {**sample, "image": torch.as_tensor(generator.random((1, 2)))}

    first, second = (PatchDataset([source()], VARIED, finish=noise) for _ in range(2))
    assert equal(first[3], second[3])
    assert not torch.equal(first[3]["image"], first[4]["image"])


def test_without_sources_there_is_an_error():
    with pytest.raises(UserInputError, match="nothing to train on"):
        PatchDataset([], PLAIN)


def test_metadata_are_switched_back_on_whatever_happens():
    before = get_track_meta()
    with pytest.raises(ZeroDivisionError), without_metadata():
        1 / get_track_meta()
    assert get_track_meta() == before


@pytest.mark.parametrize("size", [(200, 200), (70, 90)])
def test_varied_patches_come_from_everywhere_whatever_the_largest_window(size):
    """If the window were as large as the smallest zoom needs, larger zooms would see the middle of images only."""
    height, width = size
    position = np.stack(np.indices(size)).astype(np.float32)
    one = PatchSource(image=position, target=position[:1], weight=None, focus=NOWHERE)
    dataset = PatchDataset([one], PatchSettings(size=16, zoom=(0.3, 2.0)))
    centres = np.stack([dataset[number]["image"][:, 8, 8].numpy() for number in range(150)])
    assert centres[:, 0].min() < 0.25 * height
    assert centres[:, 0].max() > 0.75 * height
    assert centres[:, 1].min() < 0.25 * width
    assert centres[:, 1].max() > 0.75 * width
