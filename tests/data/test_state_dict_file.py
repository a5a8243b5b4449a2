"""State dicts, read as tensors and nothing else; hostile ones are in test_hostile_packages.py, too."""

import pickle

import pytest
import torch

from s2d_zoo.data.state_dict_file import read_state_dict
from s2d_zoo.errors import PackageError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


@pytest.mark.parametrize("as_zip", [True, False])
def test_tensors_come_out_as_they_went_in(path, as_zip):
    torch.save({"weight": torch.arange(6.0)}, path, _use_new_zipfile_serialization=as_zip)
    assert torch.equal(read_state_dict(path)["weight"], torch.arange(6.0))
    only = read_state_dict(path, shapes_only=True)["weight"]
    assert (only.shape, only.device.type) == ((6,), "meta")


def test_a_whole_network_is_told_from_its_weights(path):
    torch.save(torch.nn.Conv2d(1, 1, 1), path)
    with pytest.raises(PackageError, match=r"weights\.pt cannot.*wants to call torch\.nn\.modules\.conv\.Conv2d"):
        read_state_dict(path)


def test_a_list_is_no_state_dict(path):
    torch.save([torch.ones(1)], path)
    with pytest.raises(PackageError, match=r"weights\.pt cannot be read as tensors by name: the file holds list"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"weight": 1}, protocol=4)])
def test_anything_else_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"weights\.pt cannot be read.*is damaged, or holds more \(\w+\)"):
        read_state_dict(path)


def test_a_file_that_declares_too_much_is_refused(path):
    torch.save({"weight": torch.zeros(300)}, path)
    path.write_bytes(path.read_bytes().replace(b"M\x2c\x01", b"M\xff\xff"))
    with pytest.raises(PackageError, match=r"weights\.pt cannot be read.*the file (is damaged|declares)"):
        read_state_dict(path)
