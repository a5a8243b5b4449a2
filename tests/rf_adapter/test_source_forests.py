"""Many forests from labelled images: staged, cached, and resumed with the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.microscopes import Microscope, MicroscopeVariation
from s2d_zoo.data.scribbles import count_classes
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.rf_adapter import source_forests
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.source_forests import SourceForests, SourceForestSettings
from s2d_zoo.rf_adapter.source_strokes import dense_crop

SETTINGS = SourceForestSettings(n_forests=4, n_stages=2, n_images=2, n_neighbours=2, n_estimators=5, seed=7)
SELECTION = FeatureSelection({"GaussianSmoothing": (0.7, 1.6), "GaussianGradientMagnitude": (1.0,)})


def labelled(name, size, seed):
    image, instances = simulate_nuclei(NucleiSimulation(size=size, n_nuclei=4, diameter=18, photons=20), seed=seed)
    return LabelledImage(name=name, image=image, labels=instances)


IMAGES = (labelled("a", 64, 1), labelled("b", 80, 2), labelled("c", 96, 3))


def forests_in(folder, images=IMAGES, settings=SETTINGS, selection=SELECTION):
    return SourceForests(images, folder, settings, selection=selection)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    forests = forests_in(tmp_path_factory.mktemp("grown"))
    forests.grow()
    return forests


def strokes(forests, number):
    """Strokes of a forest, by image."""
    group = zarr.open_group(forests.folder / "maps.zarr", mode="r")[f"{number:04d}"]
    return {index: group[f"strokes-{index:04d}"][:] for index in group.attrs["painted"]}


# ---- what is grown


def test_maps_are_uint8_and_of_the_images_size(grown):
    maps = grown.maps()
    assert {entry.forest for entry in maps} == {0, 1, 2, 3}
    for entry in maps:
        assert entry.probabilities.dtype == np.uint8
        assert entry.probabilities.shape == entry.labels.shape
        assert entry.probabilities.max() > entry.probabilities.min()


def test_a_map_is_what_its_forest_says(grown):
    entry = grown.maps()[-1]
    image = next(image for image in IMAGES if image.name == entry.image)
    foreground = grown.classifier(entry.forest).predict_proba(image.image).values[1]
    assert np.array_equal(entry.probabilities, np.round(foreground * 255))


def test_a_forest_is_shown_with_images_that_it_was_not_painted_on(grown):
    for number in range(SETTINGS.n_forests):
        shown = [entry.image for entry in grown.maps() if entry.forest == number]
        painted = [grown.images[index].name for index in strokes(grown, number)]
        assert 1 <= len(painted) <= SETTINGS.n_images
        assert sorted(shown + painted) == ["a", "b", "c"]  # three images, and room for two neighbours


def test_strokes_are_true_and_of_both_classes(grown):
    for number in range(SETTINGS.n_forests):
        painted = strokes(grown, number)
        assert count_classes([xr.DataArray(values, dims=("y", "x")) for values in painted.values()]) == 2
        for index, values in painted.items():
            truth = np.where(grown.images[index].labels.values > 0, 2, 1)
            assert np.array_equal(values[values > 0], truth[values > 0])


@pytest.mark.parametrize("number", [2, 3])
def test_the_second_stage_adds_tiles_where_the_first_was_wrong(grown, number):
    before, after = strokes(grown, number - 2), strokes(grown, number)
    group = zarr.open_group(grown.folder / "maps.zarr", mode="r")[f"{number - 2:04d}"]
    assert before.keys() == after.keys()
    for index, values in after.items():
        assert np.all(values[before[index] > 0] == before[index][before[index] > 0])
        image = grown.images[index]
        error = np.abs(group[f"{index:04d}"][:] / 255 - (image.labels.values > 0))
        added = (values > 0) & (before[index] == 0)
        assert added.sum() >= 25 * 13 / 2
        assert error[added].mean() > error.mean()


def test_forests_differ(grown):
    files = [(grown.folder / "forests" / f"{number:04d}.safetensors").read_bytes() for number in range(4)]
    assert len(set(files)) == 4


# ---- resuming


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (source_forests, "save_classifier", 1),
        (source_forests, "save_classifier", 3),
        (PixelClassifier, "predict_features", 6),
    ],
    ids=["before the first is saved", "after two", "between two maps"],
)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(owner, name, call, grown, tmp_path, monkeypatch):
    original, calls = getattr(owner, name), []

    def breaking(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, breaking)
        with pytest.raises(KeyboardInterrupt):
            forests_in(tmp_path).grow()
    assert contents(tmp_path) != contents(grown.folder)
    forests_in(tmp_path).grow()
    assert contents(tmp_path) == contents(grown.folder)


def test_what_is_complete_is_not_grown_again(grown, monkeypatch, capsys):
    monkeypatch.setattr(SourceForests, "_grow_one", lambda *_: pytest.fail("grown again"))
    again = forests_in(grown.folder)
    again.grow(progress="forests")
    assert len(again.maps()) == len(grown.maps())
    assert "forests" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, seed=8)},
        {"settings": replace(SETTINGS, n_estimators=6)},
        {"images": IMAGES[:2]},
        {"images": (replace(IMAGES[0], name="z"), *IMAGES[1:])},
        {"images": (replace(IMAGES[0], image=IMAGES[0].image + 1), *IMAGES[1:])},
        {"images": (replace(IMAGES[0], labels=IMAGES[0].labels * 2), *IMAGES[1:])},
        {"selection": FeatureSelection({"GaussianSmoothing": (0.7,)})},
    ],
    ids=["seed", "trees", "fewer images", "name", "image", "labels", "features"],
)
def test_a_folder_made_from_something_else_is_refused(grown, change):
    before = contents(grown.folder)
    with pytest.raises(ConfigError, match=r"holds forests with other \w+(, \w+)*\. Choose another folder"):
        forests_in(grown.folder, **change)
    assert contents(grown.folder) == before


# ---- what it is grown from


def test_images_without_both_classes_are_left_out(tmp_path):
    empty = replace(IMAGES[0], labels=IMAGES[0].labels * 0)
    full = replace(IMAGES[0], labels=IMAGES[0].labels * 0 + 1)
    assert forests_in(tmp_path, images=(empty, IMAGES[1], full)).images == (IMAGES[1],)


@pytest.mark.parametrize("images", [(), (replace(IMAGES[0], labels=IMAGES[0].labels * 0),)], ids=["none", "empty"])
def test_without_any_such_image_there_is_an_error(tmp_path, images):
    with pytest.raises(UserInputError, match=f"None of the {len(images)} source images"):
        forests_in(tmp_path / "new", images=images)
    assert not (tmp_path / "new").exists()


def test_images_with_different_channels_are_refused(tmp_path):
    colour = replace(IMAGES[0], image=xr.concat([IMAGES[0].image] * 3, dim="channel"))
    with pytest.raises(UserInputError, match=r"same channels, found images with \[1, 3\]"):
        forests_in(tmp_path, images=(*IMAGES, colour))


def test_one_image_is_enough(tmp_path):
    settings = replace(SETTINGS, n_forests=1, n_stages=1)
    forests = forests_in(tmp_path, images=IMAGES[:1], settings=settings)
    forests.grow()
    assert [entry.image for entry in forests.maps()] == ["a"]


def test_neighbours_are_the_images_of_like_grey_values(tmp_path):
    images = [replace(IMAGES[0], name=str(factor), image=IMAGES[0].image * factor) for factor in (1, 20, 2, 15)]
    forests = forests_in(tmp_path, images=images)
    assert [forests._neighbours(index)[0] for index in range(4)] == [2, 3, 0, 1]


def test_neighbours_are_of_the_same_data_set(tmp_path):
    images = [replace(IMAGES[0], name=str(number), dataset=name) for number, name in enumerate("abab")]
    forests = forests_in(tmp_path, images=images)
    assert [forests._neighbours(index) for index in range(4)] == [[2], [3], [0], [1]]


def test_forests_see_the_images_as_other_microscopes_would_and_later_stages_as_the_first(tmp_path):
    variation = MicroscopeVariation(zoom=(0.5, 0.9), blur=1.0, noise=0.05, gamma=0.1)
    forests = forests_in(tmp_path, settings=replace(SETTINGS, microscopes=variation))
    forests.grow()
    group = zarr.open_group(tmp_path / "maps.zarr", mode="r")
    views = [Microscope.from_json(group[f"{number:04d}"].attrs["microscope"]) for number in range(4)]
    assert views[:2] == views[2:]
    assert views[0] != views[1]
    sizes = {image.name: image.labels.sizes["y"] for image in IMAGES}
    for entry in forests.maps():
        expected = round(sizes[entry.image] * views[entry.forest].zoom)
        assert entry.probabilities.shape == entry.labels.shape == (expected, expected)
    last = forests.maps()[-1]
    index = next(index for index, image in enumerate(IMAGES) if image.name == last.image)
    seen = views[3].look_at(IMAGES[index], seed=1 * len(IMAGES) + index)
    foreground = forests.classifier(3).predict_proba(seen.image).values[1]
    assert np.array_equal(last.probabilities, np.round(foreground * 255))


def test_images_without_a_crop_of_both_classes_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(source_forests, "dense_crop", lambda classes, _, **__: classes.where(classes == 1, 0))
    forests = forests_in(tmp_path, settings=replace(SETTINGS, dense_fraction=1.0))
    with pytest.raises(UserInputError, match="in 20 draws"):
        forests.grow()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_forests": 2},
        {"n_stages": 0},
        {"n_images": 0},
        {"n_estimators": 0},
        {"n_neighbours": -1},
        {"strokes": (0, 5)},
        {"dense_pixels": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_forests_are_refused(wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        SourceForestSettings(**{"n_forests": 4, "n_stages": 3, **wrong})


def test_the_fewest_strokes_come_before_the_most():
    with pytest.raises(ConfigError, match="fewest strokes come before the most"):
        SourceForestSettings(strokes=(9, 3))


def test_a_dense_crop_has_no_more_pixels_of_a_class_than_wanted():
    classes = binary_classes(IMAGES[2].labels)
    whole, part = (dense_crop(classes, np.random.default_rng(3), most=most) for most in (None, 20))
    assert [int((part == label).sum()) for label in (1, 2)] == [20, 20]
    assert int((whole == 1).sum()) == int((whole == 2).sum()) > 20
    assert np.array_equal(part.values[part.values > 0], classes.values[part.values > 0])
