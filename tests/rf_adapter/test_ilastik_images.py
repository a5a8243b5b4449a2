"""The images of a project come from where it says, or from where the user says, and fit what is painted on them."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given, settings
from PIL import Image

from s2d_zoo.data.images import write_image
from s2d_zoo.errors import AxesError, ConfigError, ProjectFileError, S2DZooError
from s2d_zoo.rf_adapter.ilastik_images import read_frames
from s2d_zoo.rf_adapter.ilastik_project import read_project

from .ilastik_projects import Block, Lane, axistags, projects, simple_project


def write(project, folder):
    """A project and the files that it refers to."""
    for lane in project.lanes:
        if lane.path is not None and not Path(lane.path).is_absolute():
            file, _, key = lane.path.partition(".h5/")
            path = folder / f"{file}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as opened:
                opened[key] = lane.image
                opened[key].attrs["axistags"] = axistags(lane.axes)
    return project.write(folder / "made.ilp")


def elsewhere(tmp_path, location, *, shape=(20, 30, 1)):
    """A project whose image is said to be at a location."""
    project = simple_project()
    project.lanes = [Lane(np.zeros(shape, dtype=np.uint8), "yxc", location)]
    return read_project(project.write(tmp_path / "made.ilp"))


# ---- images and strokes


@given(project=projects())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_images_and_strokes_of_random_projects_come_back_exactly(tmp_path, project):
    frames = list(read_frames(read_project(write(project, tmp_path))))
    expected = [frame for lane in range(len(project.lanes)) for frame in restate(project, lane)]
    assert len(frames) == len(expected)
    for frame, (image, strokes) in zip(frames, expected, strict=True):
        assert np.array_equal(frame.image.values, image)
        assert frame.painted == any(one.any() for one in strokes)
        for found, one in zip(frame.scribbles, strokes, strict=True):
            assert np.array_equal(found.values, one)


def restate(project, index):
    """Image and strokes of each time point, by way of tczyx."""
    lane = project.lanes[index]

    def to_5d(values, axes):
        missing = [letter for letter in "tczyx" if letter not in axes]
        values = values.reshape([1] * len(missing) + list(values.shape))
        return np.transpose(values, [[*missing, *axes].index(letter) for letter in "tczyx"])

    image = to_5d(lane.image, lane.axes)
    canvases = []
    for stage in project.stages:
        canvas = np.zeros((*image.shape[:1], 1, *image.shape[2:]), dtype=np.uint8)
        for block in stage.labels[index]:
            start = dict(zip(block.axes, block.start, strict=True))
            values = to_5d(block.values, block.axes)
            canvas[
                tuple(slice(start.get(a, 0), start.get(a, 0) + n) for a, n in zip("tczyx", values.shape, strict=True))
            ] = values
        canvases.append(canvas)
    drop = (lambda values: values[..., 0, :, :]) if image.shape[2] == 1 else (lambda values: values)
    return [(drop(image[t]), [drop(canvas[t, 0]) for canvas in canvases]) for t in range(image.shape[0])]


def test_time_points_are_frames_with_their_numbers(tmp_path):
    project = simple_project(labels=[[Block("tyxc", (1, 0, 0, 0), np.ones((1, 1, 1, 1), dtype=np.uint8))]])
    project.lanes = [Lane(np.zeros((2, 20, 30, 1), dtype=np.uint8), "tyxc")]
    frames = list(read_frames(read_project(write(project, tmp_path))))
    assert [(frame.name, frame.lane, frame.time, frame.painted) for frame in frames] == [
        ("image-t0", 0, 0, False),
        ("image-t1", 0, 1, True),
    ]


def test_an_image_at_an_absolute_path_is_found(tmp_path):
    image = xr.DataArray(np.arange(600, dtype=np.uint8).reshape(20, 30), dims=("y", "x"))
    (tmp_path / "far").mkdir()
    write_image(tmp_path / "far" / "image.tif", image)
    (frame,) = read_frames(elsewhere(tmp_path, str(tmp_path / "far" / "image.tif")))
    assert np.array_equal(frame.image.values[0], image.values)


def test_images_that_were_moved_can_be_given(tmp_path):
    image = xr.DataArray(np.arange(600, dtype=np.uint8).reshape(20, 30), dims=("y", "x"))
    write_image(tmp_path / "moved.tif", image)
    project = elsewhere(tmp_path, "gone.tif")
    (frame,) = read_frames(project, [tmp_path / "moved.tif"])
    assert np.array_equal(frame.image.values[0], image.values)
    with pytest.raises(ConfigError, match=r"has 1 images \(gone.tif\), but 2 were given with --image"):
        list(read_frames(project, [tmp_path / "moved.tif"] * 2))


def test_all_channels_are_given_whatever_an_enhancer_takes(tmp_path):
    """SelectedChannels are of the probabilities."""
    project = simple_project(selected_channels=(1,), forests=[], labels=[[]])
    project.lanes = [Lane(np.zeros((20, 30, 3), dtype=np.uint8), "yxc")]
    (frame,) = read_frames(read_project(write(project, tmp_path)))
    assert frame.image.sizes["channel"] == 3


@pytest.mark.parametrize("given", [True, False], ids=["a file", "embedded"])
def test_an_image_of_which_the_project_says_nothing_is_read_as_it_is(tmp_path, given):
    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    project = simple_project()
    project.lanes = [Lane(image, "yx", says_shape=False)]
    path = project.write(tmp_path / "made.ilp")
    with h5py.File(path, "r+") as file:
        del file["Input Data/infos/lane0000/Raw Data/axistags"]
    write_image(tmp_path / "image.tif", xr.DataArray(image, dims=("y", "x")))
    (frame,) = read_frames(read_project(path), [tmp_path / "image.tif"] if given else [])
    assert np.array_equal(frame.image.values[0], image)
    assert frame.painted


# ---- images that are not there


@pytest.mark.parametrize(
    ("location", "hint"),
    [
        ("gone.tif", "--image FILE"),
        ("/nowhere/gone.tif", "--image FILE"),
        ("C:\\Users\\ada\\gone.tif", "--image FILE"),
        ("C:/Users/ada/gone.tif", "--image FILE"),
        ("sub/gone.h5/volume/data", "--image FILE"),
        ("stack/slice*.png", "stack of files: save it as one TIFF"),
        ("/a/1.png:/a/2.png", "stack of files"),
        ("C:\\a\\1.png;C:\\a\\2.png", "stack of files"),
        ("https://example.org/image.zarr", "on the web: download it"),
        ("precomputed://https://example.org/image", "on the web"),
        ("x" * 5000 + ".png", "--image FILE"),
        ("", "--image FILE"),
    ],
)
def test_an_image_that_is_not_there_is_named(tmp_path, location, hint):
    project = elsewhere(tmp_path, location)
    with pytest.raises(S2DZooError, match=hint) as caught:
        list(read_frames(project))
    assert location in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/old/place/image.tif", "image.tif"),
        ("D:\\old\\image.tif", "image.tif"),
        ("C:/Users/ada/image.tif", "image.tif"),
        ("C:/Users/ada/image.h5/volume/data", "image.h5"),
        ("\\\\server\\share\\old\\image.tif", "image.tif"),
        ("old/image.tif", "image.tif"),
        ("old\\image.tif", "image.tif"),
    ],
)
def test_an_image_beside_the_project_is_suggested(tmp_path, location, name):
    (tmp_path / name).touch()
    with pytest.raises(ProjectFileError, match=rf"Is it .*{re.escape(str(tmp_path / name))}\?"):
        list(read_frames(elsewhere(tmp_path, location)))


# ---- images that do not fit


@pytest.mark.parametrize("shape", [(20, 31), (30, 20), (2, 20, 30)])
def test_an_image_of_another_size_is_refused(tmp_path, shape):
    dims = ("z", "y", "x")[-len(shape) :]
    write_image(tmp_path / "other.tif", xr.DataArray(np.zeros(shape, dtype=np.uint8), dims=dims))
    with pytest.raises(AxesError, match=r"made on an image of .*y=20, x=30.*the one here has"):
        list(read_frames(elsewhere(tmp_path, "gone.tif"), [tmp_path / "other.tif"]))


def test_transparency_that_we_leave_out_and_ilastik_does_not_is_explained(tmp_path):
    Image.fromarray(np.full((20, 30, 4), 9, dtype=np.uint8)).save(tmp_path / "picture.png")
    with pytest.raises(AxesError, match=r"channel=4.*transparency \(alpha\), which s2d-zoo leaves out.*four plain"):
        list(read_frames(elsewhere(tmp_path, "picture.png", shape=(20, 30, 4))))
    tifffile.imwrite(
        tmp_path / "plain.tif", np.zeros((4, 20, 30), dtype=np.uint8), imagej=True, metadata={"axes": "CYX"}
    )
    project = elsewhere(tmp_path, "plain.tif", shape=(20, 30, 3))
    with pytest.raises(AxesError, match=r"fourth channel, which may be transparency \(alpha\). Save the image without"):
        list(read_frames(project))


def test_a_volume_is_refused_where_strokes_are_flat_and_the_project_does_not_say_its_size(tmp_path):
    project = simple_project()
    project.lanes[0].says_shape = False
    write_image(tmp_path / "deep.tif", xr.DataArray(np.zeros((3, 20, 30), dtype=np.uint8), dims=("z", "y", "x")))
    with pytest.raises(AxesError, match=r"painted on the axes y x, but the image has z, too"):
        list(read_frames(read_project(write(project, tmp_path)), [tmp_path / "deep.tif"]))


def test_labels_outside_of_an_image_are_refused_where_the_project_does_not_say_its_size(tmp_path):
    project = simple_project()
    project.lanes = [Lane(np.zeros((8, 8, 1), dtype=np.uint8), "yxc", says_shape=False)]
    with pytest.raises(ProjectFileError, match="labels reach beyond the image"):
        list(read_frames(read_project(write(project, tmp_path))))


def embedded(tmp_path, **settings):
    """A project whose embedded image is replaced."""
    path = simple_project().write(tmp_path / "made.ilp")
    with h5py.File(path, "r+") as file:
        (name,) = file["Input Data/local_data"]
        del file[f"Input Data/local_data/{name}"]
        if settings:
            file.create_dataset(f"Input Data/local_data/{name}", **settings)
    return read_project(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "should hold the image .* itself.*--image FILE"),
        ({"data": np.zeros((20, 31, 1), dtype=np.uint8)}, "made on an image of"),
        ({"data": np.zeros((20, 30), dtype=np.uint8)}, "name 3 dimensions, but the array has 2"),
        ({"data": np.full((20, 30, 1), b"a")}, "type"),
        ({"data": np.full((20, 30, 1), np.nan)}, "NaN"),
        ({"shape": (2**20, 2**20, 1), "dtype": "u1", "chunks": (64, 64, 1)}, "declares an array"),
    ],
    ids=["missing", "another size", "other axes", "text", "NaN", "huge"],
)
def test_an_embedded_image_that_is_none_is_refused(tmp_path, settings, message):
    with pytest.raises(S2DZooError, match=message) as caught:
        list(read_frames(embedded(tmp_path, **settings)))
    assert "\n" not in str(caught.value)


def test_an_embedded_image_that_is_hardly_stored_is_refused_in_a_large_file_too(tmp_path):
    project = embedded(tmp_path, shape=(2**14, 2**15, 1), dtype="u1", chunks=(2**10, 2**10, 1), compression="gzip")
    with h5py.File(project.path, "r+") as file:
        file["padding"] = np.zeros(300_000, dtype=np.uint8)
    with pytest.raises(ProjectFileError, match=r"declares an array of shape .* only 0 bytes of it are stored"):
        list(read_frames(project))


# ---- real projects


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "images", "n_labels"),
    [
        ("ilastik_pc.ilp", (), 1132),
        ("ilastik_autocontext.ilp", (), 1576),
        ("ilastik_mitocheck.ilp", ("ilastik_mitocheck_small_2D+t.h5",), 113),
    ],
)
def test_real_forests_classify_their_own_strokes(realdata_dir, name, images, n_labels):
    folder = realdata_dir / "ilp"
    project = read_project(folder / name)
    classifier = project.classifier(0, foreground=1)
    right = []
    for frame in read_frames(project, [folder / image for image in images]):
        if frame.painted:
            strokes = frame.scribbles[0].values
            found = classifier.predict_proba(frame.image).values.argmax(axis=0) + 1
            right.append((found == strokes)[strokes > 0])
    assert np.concatenate(right).size == n_labels
    assert np.concatenate(right).mean() >= 0.97


@pytest.mark.realdata
def test_a_real_project_names_the_image_that_it_wants(realdata_dir):
    project = read_project(realdata_dir / "ilp" / "ilastik_mitocheck.ilp")
    with pytest.raises(ProjectFileError, match=r"wants the image mitocheck_2d\+t/mitocheck_small_2D\+t\.h5"):
        list(read_frames(project))
