import imageio.v3 as iio
import numpy as np
import pytest

from s2d_zoo.export.cover import write_cover


@pytest.mark.parametrize("size", [32, 256, 512])
def test_the_cover_is_two_squares_below_500_kb(tmp_path, size):
    rng = np.random.default_rng(0)
    write_cover(
        tmp_path, rng.random((1, 1, size, size), dtype=np.float32), rng.random((1, 2, size, size), dtype=np.float32)
    )
    assert iio.imread(tmp_path / "cover.png").shape == (256, 512, 3)
    assert (tmp_path / "cover.png").stat().st_size < 500_000


def test_input_and_output_can_be_told_apart(tmp_path):
    output = np.zeros((1, 2, 64, 64), dtype=np.float32)
    output[0, 0, :32] = 1
    write_cover(tmp_path, np.zeros((1, 1, 64, 64), dtype=np.float32), output)
    picture = iio.imread(tmp_path / "cover.png")
    assert not picture[:, :256].any()  # a flat input is black, not noise
    assert picture[:128, 256:].any(axis=-1).all()
    assert not picture[128:, 256:].any()


def test_the_same_picture_has_the_same_bytes(tmp_path):
    values = np.random.default_rng(0).random((1, 2, 64, 64), dtype=np.float32)
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_cover(tmp_path / name, values, values)
        written.append((tmp_path / name / "cover.png").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(("size", "channels"), [(144, 1), (320, 3), (768, 4)])
def test_outputs_of_others_have_other_sizes_and_channels(tmp_path, size, channels):
    output = np.zeros((1, channels, size, size), dtype=np.float32)
    output[0, -1 if channels < 4 else 2, :, size // 2 :] = 1
    write_cover(tmp_path, np.zeros((1, 1, size, size), dtype=np.float32), output)
    picture = iio.imread(tmp_path / "cover.png")
    assert picture.shape == (256, 512, 3)
    assert picture[:, 384:].any(axis=-1).all()
    assert not picture[:, :384].any()


def test_of_a_volume_the_middle_is_shown(tmp_path):
    output = np.zeros((1, 1, 5, 32, 32), dtype=np.float32)
    output[0, 0, 2] = 1
    write_cover(tmp_path, np.zeros((1, 1, 5, 32, 32), dtype=np.float32), output)
    assert iio.imread(tmp_path / "cover.png")[:, 256:].any(axis=-1).all()
