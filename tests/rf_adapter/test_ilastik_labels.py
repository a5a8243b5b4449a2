"""Strokes come to the pixels on which they were painted, or are refused."""

import h5py
import numpy as np
import pytest

from s2d_zoo.errors import AxesError, ProjectFileError
from s2d_zoo.rf_adapter import ilastik_project
from s2d_zoo.rf_adapter.ilastik_labels import paint, read_labels_of_lane
from s2d_zoo.rf_adapter.ilastik_project import read_project

from .ilastik_projects import Block, Lane, axistags, simple_project


@pytest.fixture
def lane(tmp_path):
    """Blocks (values, blockSlice, axes) as ilastik stores them."""
    with h5py.File(tmp_path / "lane.h5", "w") as file:

        def make(*blocks):
            for index, (values, place, *axes) in enumerate(blocks):
                file[f"block{index:04}"] = values
                file[f"block{index:04}"].attrs["blockSlice"] = place
                if axes:
                    file[f"block{index:04}"].attrs["axistags"] = axistags(axes[0])
            file.flush()
            return file["/"]

        yield make


ONE = np.ones((1, 1, 1), dtype=np.uint8)


def read(group, axes="yxc", shape=(20, 30, 1), n_classes=2, **options):
    return read_labels_of_lane(group, axes=axes, shape=shape, n_classes=n_classes, **options)


# ---- places


def test_strokes_come_to_their_place(lane):
    values = np.array([[1, 0, 2]], dtype=np.uint8)[..., np.newaxis]
    blocks = read(lane((values, "[4:5,7:10,0:1]"), (2 * ONE, "[0:1,0:1,0:1]")))
    painted = paint(blocks, {"y": 20, "x": 30})
    assert painted.dims == ("y", "x")
    assert {tuple(map(int, place)): painted.values[tuple(place)] for place in np.argwhere(painted.values)} == {
        (0, 0): 2,
        (4, 7): 1,
        (4, 9): 2,
    }


def test_blocks_that_overlap_do_not_erase_each_other(lane):
    wide = np.array([[0, 1, 0]], dtype=np.uint8)[..., np.newaxis]
    blocks = read(lane((2 * ONE, "[0:1,0:1,0:1]"), (wide, "[0:1,0:3,0:1]")))
    assert paint(blocks, {"y": 1, "x": 3}).values.tolist() == [[2, 1, 0]]


def test_each_time_point_has_its_own_strokes(lane):
    values = np.array([1, 2], dtype=np.uint8).reshape(2, 1, 1, 1)
    blocks = read(lane((values, "[3:5,2:3,6:7,0:1]")), axes="tyxc", shape=(9, 5, 9, 1))
    assert [int(paint(blocks, {"y": 5, "x": 9}, time=time).values[2, 6]) for time in range(6)] == [0, 0, 0, 1, 2, 0]


def test_a_depth_of_one_slice_is_dropped(lane):
    blocks = read(lane((ONE[np.newaxis], "[0:1,2:3,6:7,0:1]")), axes="zyxc", shape=(1, 5, 9, 1))
    assert paint(blocks, {"y": 5, "x": 9}).values[2, 6] == 1


def test_the_axes_that_a_block_says_count(lane):
    (block,) = read(lane((ONE, "[6:7,2:3,0:1]", "xyc")))
    assert dict(block.start) == {"x": 6, "y": 2}


def test_labels_of_old_projects_may_have_more_axes_than_their_images(lane):
    (block,) = read(
        lane((np.ones((1, 2, 3, 1, 1), dtype=np.uint8), "[1:2,4:6,7:10,0:1,0:1]")), axes="tyxc", shape=(5, 33, 77, 1)
    )
    assert dict(block.start) == {"time": 1, "x": 4, "y": 7, "z": 0}


def test_labels_of_old_projects_may_have_their_channel_at_the_end(lane):
    (block,) = read(lane((np.ones((2, 3, 1), dtype=np.uint8), "[4:6,7:10,0:1]")), axes="cyx", shape=(3, 20, 30))
    assert dict(block.start) == {"y": 4, "x": 7}


def test_the_ilastik_that_stored_every_label_alike_is_known_by_its_version(tmp_path):
    block = Block("txyzc", (0, 2, 3, 1, 0), np.ones((1, 1, 1, 1, 1), dtype=np.uint8), tagged=False)
    project = simple_project(labels=[[block]], forests=[])
    project.lanes = [Lane(np.zeros((9, 9, 9, 9, 1), dtype=np.uint8), "tzyxc")]
    starts = {}
    for version, workflow in (
        ("1.3.3post1", "Object Classification (from pixel classification)"),
        ("1.3.3post1", "Pixel Classification"),
        ("1.3.3post2", "Object Classification (from pixel classification)"),
    ):
        project.version, project.workflow = version, workflow
        ((found,),) = read_project(project.write(tmp_path / "made.ilp")).stages[0].labels
        starts[version, workflow[:6]] = dict(found.start)
    assert starts["1.3.3post1", "Object"] == {"time": 0, "x": 2, "y": 3, "z": 1}
    other = {"time": 0, "z": 2, "y": 3, "x": 1}
    assert starts["1.3.3post1", "Pixel "] == starts["1.3.3post2", "Object"] == other


# ---- places that are none


@pytest.mark.parametrize(
    "place",
    [
        "[5:1,0:1,0:1]",
        "[-1:0,0:1,0:1]",
        "[0:1,0:1]",
        "[0:1,0:1,0:1,0:1]",
        "[0:2,0:1,0:1]",
        "[0:99999999999999999999,0:1,0:1]",
        "[a:b,0:1,0:1]",
        "slice",
        "",
        "[1:2\n,0:1,0:1]" * 1000,
    ],
)
def test_places_that_are_no_slices_are_refused(lane, place):
    with pytest.raises(ProjectFileError, match=r"block0000 of .* for its shape .*found blockSlice") as caught:
        read(lane((ONE, place)))
    assert len(str(caught.value)) < 800


def test_a_block_without_a_place_is_refused(lane):
    group = lane((ONE, ""))
    del group["block0000"].attrs["blockSlice"]
    with pytest.raises(ProjectFileError, match="found blockSlice ''"):
        read(group)


@pytest.mark.parametrize("place", ["[20:21,0:1,0:1]", "[0:1,30:31,0:1]", "[999999999998:999999999999,0:1,0:1]"])
def test_places_outside_of_the_image_are_refused(lane, place):
    with pytest.raises(ProjectFileError, match=r"outside of the image with the sizes .*'y': 20, 'x': 30"):
        read(lane((ONE, place)))


def test_places_outside_are_noticed_when_the_image_is_there_where_the_project_does_not_say_its_size(lane):
    blocks = read(lane((ONE, "[20:21,0:1,0:1]")), shape=())
    with pytest.raises(ProjectFileError, match=r"reach beyond the image.*'y': 20"):
        paint(blocks, {"y": 20, "x": 30})


@pytest.mark.parametrize("place", ["[0:1,0:1,1:2]", "[0:1,0:1,0:2]"])
def test_labels_have_one_channel(lane, place):
    values = np.ones((1, 1, 1 + place.endswith("0:2]")), dtype=np.uint8)
    with pytest.raises(ProjectFileError, match="outside of the image"):
        read(lane((values, place, "yxc")))


@pytest.mark.parametrize("axes", ["yyc", "yxq", "yx"])
def test_axes_that_cannot_be_are_refused(lane, axes):
    with pytest.raises((AxesError, ProjectFileError)):
        read(lane((ONE, "[0:1,0:1,0:1]", axes)))


# ---- labels that are none


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (3 * ONE, "uint8 up to 3"),
        (ONE.astype(float), "float64"),
        (-ONE.astype(np.int8), "int8"),
        (np.array([[[b"a"]]]), r"\|S1"),
        (np.full((1, 1, 1), 2**63, dtype=np.uint64), "uint64"),
    ],
    ids=["too large", "float", "negative", "text", "huge"],
)
def test_labels_that_the_project_does_not_have_are_refused(lane, values, found):
    with pytest.raises(ProjectFileError, match=f"{found}.*expected labels 0…2"):
        read(lane((values, "[0:1,0:1,0:1]")))


def test_more_labels_than_fit_into_memory_are_refused(tmp_path, monkeypatch):
    project = simple_project()
    project.lanes *= 2
    project.stages[0].labels *= 2
    path = project.write(tmp_path / "made.ilp")
    assert read_project(path)
    monkeypatch.setattr(ilastik_project, "MOST_BYTES", 15)  # 8 for each image
    with pytest.raises(ProjectFileError, match=r"labels001/block0001.*far more than belongs there"):
        read_project(path)
