"""Files of torch that declare what they do not hold; whole packages of that kind are in test_hostile_packages.py."""

import zipfile

import pytest
import torch

from s2d_zoo.data.torch_archive import is_archive, reason_against_values

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.float8_e4m3fn),
)


@pytest.fixture
def path(tmp_path):
    """Tensors of every type, empty ones, and two that share their values."""
    tensors = {str(dtype): torch.zeros(3, dtype=dtype) for dtype in DTYPES}
    shared = torch.zeros(300)
    tensors |= {"empty": torch.empty(0), "shared": shared, "view": shared[100:200], "scalar": torch.tensor(1)}
    torch.save(tensors, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def rewrite(path, change, *more):
    """Write the file anew with another list of tensors, and more members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
        for name, content, *how in more:
            archive.writestr(name, content, *how)


def test_what_torch_writes_is_in_order(path):
    assert is_archive(path)
    assert reason_against_values(path) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_in_order(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    torch.jit.trace(network.eval(), torch.rand(1, 1, 8, 8)).save(tmp_path / "traced.pt")
    torch.jit.script(network).save(tmp_path / "scripted.pt")
    assert reason_against_values(tmp_path / "traced.pt") is reason_against_values(tmp_path / "scripted.pt") is None


@pytest.mark.parametrize("count", [b"J\x2d\x01\0\0", b"\x8a\x08" + (2**40).to_bytes(8, "little"), b"J\xff\xff\xff\xff"])
def test_more_or_fewer_values_than_can_be_are_refused(path, count):
    rewrite(path, lambda content: content.replace(b"M\x2c\x01", count, 1))
    reason = reason_against_values(path)
    assert "GiB of values in weights/data/" in reason
    assert "where there are 1200 bytes" in reason


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"FloatStorage", b"NovelStorage", "values that are not there (torch NovelStorage"),
        (b"X\x01\0\0\x000", b"X\x01\0\0\0x", "values that are not there (torch DoubleStorage weights/data/x)"),
        (b"K\x03tq", b"K\x03K\x03tq", "in a way in which torch never does"),
        (b"X\x07\0\0\0storage", b"X\x07\0\0\0Storage", "in a way in which torch never does"),
        (b"K\x03tq", b"NtQ.", "in a way in which torch never does"),
        (b"\x80\x02", b"\x80\x02q\x01h\x01h\xffQ.", "in a way in which torch never does"),
        (b"\x80\x02", b"\xff", "is damaged, or was cut short"),
    ],
)
def test_a_list_in_other_words_is_refused(path, old, new, words):
    rewrite(path, lambda content: content.replace(old, new, 1))
    assert words in str(reason_against_values(path))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("weights/data/99", bytes(1000), zipfile.ZIP_DEFLATED), "holds compressed values (weights/data/99)"),
        (("weights/DATA/0", b"x"), "holds two files under one name"),
        (("weights/constants.pkl", bytes(65 * 1024**2), zipfile.ZIP_DEFLATED), "a list of tensors of more than 64 MiB"),
    ],
)
def test_values_that_are_hidden_or_compressed_are_refused(path, member, words):
    rewrite(path, lambda content: content, member)
    assert words in reason_against_values(path)


def test_half_a_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:500])
    assert is_archive(path)
    assert "is damaged, or was cut short" in reason_against_values(path)


def test_what_is_no_zip_is_no_archive(path):
    path.write_bytes(b"\x80\x02}q")
    assert not is_archive(path)
