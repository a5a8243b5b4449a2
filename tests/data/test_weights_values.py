"""Equal tensors have equal digests, whatever wrote the file; nothing else has one."""

import warnings
import zipfile

import pytest
import torch
from torch import nn

from s2d_zoo.data.weights_values import digest_values


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 1))


def save_script(network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.rand(1, 1, 8, 8), check_trace=False).save(path)
    return path


def save_state(network, path):
    torch.save(network.state_dict(), path)
    return path


def test_a_state_dict_and_torchscript_of_the_same_weights_have_one_digest(network, tmp_path):
    digest = digest_values(save_state(network, tmp_path / "state.pt"))
    assert digest == digest_values(save_script(network, tmp_path / "script.pt"))
    assert len(digest) == 64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(tmp_path / "script.pt").save(tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() != (tmp_path / "script.pt").read_bytes()
    assert digest == digest_values(tmp_path / "again.pt")


def test_one_other_value_gives_another_digest(network, tmp_path):
    digest = digest_values(save_state(network, tmp_path / "state.pt"))
    with torch.no_grad():
        network[0].bias[0] += 1e-6
    assert digest_values(save_state(network, tmp_path / "other.pt")) != digest


def test_other_files_have_none(network, tmp_path):
    save_state(network, tmp_path / "state.pt")
    damaged = bytearray((tmp_path / "state.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "state.pt") as archive:
        first = next(entry for entry in archive.infolist() if "/data/" in entry.filename)
    damaged[first.header_offset] ^= 255
    (tmp_path / "damaged.pt").write_bytes(damaged)
    (tmp_path / "text.pt").write_text("no zip")
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    assert [digest_values(path) for path in sorted(tmp_path.glob("[!s]*"))] == [None] * 4


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest_values(tmp_path / "missing.pt")
