"""Opening files of anybody: damaged anywhere, they end in one error of ours, never in a crash or a hang."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2d_zoo.errors import ProjectFileError, S2DZooError
from s2d_zoo.rf_adapter.ilastik_images import read_frames
from s2d_zoo.rf_adapter.ilastik_project import read_project
from s2d_zoo.rf_adapter.project_file import (
    as_text,
    open_project,
    parse_axistags,
    read_array,
    read_attribute,
    read_text,
    read_texts,
    read_whole_numbers,
    sort_numbered,
)
from s2d_zoo.rf_adapter.project_heaps import check_heaps

from .ilastik_projects import axistags, simple_project


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good project, as bytes."""
    return simple_project().write(tmp_path_factory.mktemp("whole") / "whole.ilp").read_bytes()


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "made.ilp", "w") as opened:
        yield opened


def read_everything(path):
    """Whether a project can be read; errors other than ours come out."""
    try:
        project = read_project(path)
        for index in range(len(project.stages)):
            project.classifier(index)
        list(read_frames(project))
    except S2DZooError as error:
        one_line = "\n" not in str(error)
        if not one_line:
            pytest.fail(f"not one line: {error}")
        return False
    return True


# ---- damage


def test_projects_cut_off_anywhere_are_refused(tmp_path, whole):
    path = tmp_path / "cut.ilp"
    path.write_bytes(whole)
    assert read_everything(path)
    for length in [*range(0, 120, 7), *range(120, len(whole), 797), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert not read_everything(path), length


@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=8),
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_projects_with_some_other_bytes_are_read_or_refused(tmp_path, whole, changes):
    # most bytes of the file are zeros that mean nothing: change the others
    meaning = [place for place, byte in enumerate(whole) if byte]
    damaged = bytearray(whole)
    for where, content in changes:
        place = meaning[int(where * len(meaning))]
        damaged[place : place + len(content)] = content
    path = tmp_path / "changed.ilp"
    path.write_bytes(damaged)
    read_everything(path)


def lengths_of_texts(whole):
    """Places in the file in which the lengths of objects in its first heap are."""
    place = whole.index(b"GCOL\x01") + 16
    while int.from_bytes(whole[place : place + 2], "little"):
        yield place + 8
        place += 16 + -(-int.from_bytes(whole[place + 8 : place + 16], "little") // 8) * 8


def test_texts_with_another_length_do_not_hang(tmp_path, whole):
    """HDF5 2.0 reads on for ever where the objects of a heap do not fill it; so this is a process of its own."""
    for number, place in enumerate(lengths_of_texts(whole)):
        for length in (0xFFFFFFFFFFFFFFF0, 0, 3000, 2**40):
            damaged = bytearray(whole)
            damaged[place : place + 8] = length.to_bytes(8, "little")
            (tmp_path / f"{number}-{length}.ilp").write_bytes(damaged)
    program = """
        import sys
        from s2d_zoo.errors import S2DZooError
        from s2d_zoo.rf_adapter.ilastik_project import read_project
        for path in sys.argv[1:]:
            try:
                read_project(path)
            except S2DZooError as error:
                sys.stdout.write(f"{error}\\n")
    """
    paths = sorted(map(str, tmp_path.glob("*.ilp")))
    command = [sys.executable, "-c", textwrap.dedent(program), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    refused = done.stdout.splitlines()
    assert len(refused) == len(paths)
    assert all("damaged" in message for message in refused)


def test_attributes_of_kinds_that_ilastik_does_not_write_count_as_missing(file):
    """HDF5 2.0 may crash where a text in an attribute was turned into a list."""
    file["block"] = [1]
    kind = h5py.h5t.py_create(h5py.vlen_dtype(np.int32), logical=True)
    h5py.h5a.create(file["block"].id, b"blockSlice", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    file["block"].attrs["axistags"] = "text"
    file["block"].attrs["isEmpty"] = True
    file["block"].attrs["texts"] = ["a", "b"]
    names = ("blockSlice", "axistags", "isEmpty", "texts", "missing")
    assert [read_attribute(file["block"], name) for name in names] == [None, "text", True, None, None]


def test_texts_that_lie_elsewhere_are_refused(tmp_path, whole):
    path = tmp_path / "made.ilp"
    path.write_bytes(whole)
    with h5py.File(path) as opened:
        place = opened["workflowName"].id.get_offset()
    for content in (
        b"\xff\xff\xff\x7f",
        np.random.default_rng(0).bytes(16),
        b"\x01\0\0\0" + b"\xff" * 8 + b"\x01\0\0\0",
    ):
        damaged = bytearray(whole)
        damaged[place : place + len(content)] = content
        path.write_bytes(damaged)
        with pytest.raises(ProjectFileError, match="workflowName points to texts that are not there"):
            read_project(path)


def texts_that_are_one(path, text, count):
    """A file with a list of texts that all point to one."""
    with h5py.File(path, "w") as file:
        file["texts"] = [text, *["x"] * (count - 1)]
        place = file["texts"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16 * count] = content[place : place + 16] * count
    path.write_bytes(content)


def test_any_number_of_pointers_to_one_text_cannot_fill_the_memory(tmp_path):
    path = tmp_path / "made.ilp"
    texts_that_are_one(path, "ab", 300)
    with open_project(path) as file:
        assert read_texts(file, "texts", most=300) == ("ab",) * 300
    texts_that_are_one(path, "a" * 60_000, 300)
    with pytest.raises(ProjectFileError, match="far more than belongs there"), open_project(path) as file:
        read_texts(file, "texts", most=300)


@pytest.mark.parametrize("settings", [{"chunks": (2,)}, {"fillvalue": b"a"}], ids=str)
def test_texts_that_are_stored_where_they_cannot_be_checked_are_refused(file, settings):
    made = file.create_dataset("texts", (2,), dtype=h5py.string_dtype(), **settings)
    made[:] = ["a", "b"]
    file.flush()
    with pytest.raises(ProjectFileError, match="/texts are stored in chunks or by a fill value"):
        read_texts(file, "texts", most=2)


def test_texts_that_were_never_written_are_empty(file):
    file.create_dataset("texts", (2,), dtype=h5py.string_dtype())
    assert read_texts(file, "texts", most=2) == ("", "")


@pytest.mark.parametrize("dtype", ["S1", h5py.string_dtype()], ids=str)
def test_more_texts_than_belong_in_a_list_are_refused(file, dtype):
    file.create_dataset("texts", data=["a"] * 4, dtype=dtype)
    file.flush()
    assert read_texts(file, "texts", most=4) == ("a",) * 4
    with pytest.raises(ProjectFileError, match=r"/texts of .* holds 4 texts, but at most 3 belong there"):
        read_texts(file, "texts", most=3)


def test_what_looks_like_a_heap_at_the_very_end_is_refused(tmp_path):
    path = tmp_path / "end.ilp"
    path.write_bytes(bytes(100) + b"GCOL\x01\0\0\0")
    with pytest.raises(ProjectFileError, match="texts at byte 100"):
        check_heaps(path)


# ---- values


def test_errors_of_ours_pass_and_others_are_explained(tmp_path, whole):
    path = tmp_path / "made.ilp"
    path.write_bytes(whole)
    damaged = r"made.ilp is damaged or cut off \(ValueError: two lines\).*copy it"
    with pytest.raises(ProjectFileError, match=damaged), open_project(path):
        raise ValueError("two\nlines")
    with pytest.raises(ProjectFileError, match=r"^of ours$"), open_project(path):
        raise ProjectFileError("of\nours")


def test_a_project_that_does_not_fit_into_memory_is_not_called_damaged(tmp_path, whole):
    path = tmp_path / "made.ilp"
    path.write_bytes(whole)
    with pytest.raises(ProjectFileError, match=r"memory of this machine \(Unable to") as caught, open_project(path):
        raise MemoryError("Unable to allocate 7.5 GiB")
    assert "damaged" not in str(caught.value)


def test_empty_lists_come_as_empty(file):
    file["list"] = np.empty(1)
    file["list"].attrs["isEmpty"] = True
    file["full"] = [1.0, 2.0]
    file["full"].attrs["isEmpty"] = False
    file.flush()
    assert read_array(file, "list").shape == (0,)
    assert read_array(file, "full").tolist() == [1, 2]


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", "café", np.array(b"caf\xc3\xa9"), np.array("café", dtype=object)])
def test_texts_are_read_however_they_are_stored(value):
    assert as_text(value) == "café"


def test_bytes_that_are_no_text_and_line_breaks_do_no_harm():
    assert as_text(b"a\xff\nb\x1b[31m\x00") == "a\ufffd b [31m "


def test_a_text_that_is_not_there_has_a_default(file):
    file["there"] = "yes"
    file.flush()
    assert (read_text(file, "there"), read_text(file, "missing", "no")) == ("yes", "no")


def test_axistags_are_read():
    assert parse_axistags(axistags("tzyxc").decode()) == "tzyxc"


@pytest.mark.parametrize("values", [[1.0, 2.0], np.array([1, 2], dtype=np.uint8), [True, False]])
def test_whole_numbers_are_read_in_any_type(file, values):
    file["numbers"] = values
    assert read_whole_numbers(file, "numbers").dtype == np.int64


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1e300], np.array([b"1"])])
def test_what_is_no_whole_number_is_refused(file, values):
    file["numbers"] = values
    with pytest.raises(ProjectFileError, match="whole numbers"):
        read_whole_numbers(file, "numbers")


@pytest.mark.parametrize(
    "dtype",
    [np.dtype([("a", "i4"), ("b", "f8")]), np.dtype("V1"), np.dtype("(2,)i4"), h5py.vlen_dtype(np.int32)],
    ids=["records", "bytes", "arrays", "lists"],
)
def test_values_of_kinds_that_ilastik_does_not_write_are_refused(file, dtype):
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, b"odd", kind, h5py.h5s.create_simple((3,)))
    with pytest.raises(ProjectFileError, match="should hold numbers or texts, but holds"):
        read_array(file, "odd")


@pytest.mark.parametrize("values", [[1.0, 0.7], [[-0.5]]], ids=str)
def test_numbers_between_whole_ones_are_refused_and_not_cut(file, values):
    file["numbers"] = values
    with pytest.raises(ProjectFileError, match=rf"whole numbers, found one between, {np.ravel(values)[-1]}"):
        read_whole_numbers(file, "numbers")


def test_a_dataset_of_nothing_is_refused(file):
    file["odd"] = h5py.Empty("f8")
    with pytest.raises(ProjectFileError, match="but holds nothing"):
        read_array(file, "odd")


def test_numbered_names_are_sorted_by_number():
    names = ["labels1000", "labels101", "labels999", "labels", "labels" + "9" * 40]
    assert sort_numbered(names) == ["labels", "labels101", "labels999", "labels1000", "labels" + "9" * 40]
