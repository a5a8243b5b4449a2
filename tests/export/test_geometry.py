import pytest

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.geometry import TileGeometry


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_sizes_suit_every_consumer(depth):
    geometry = TileGeometry.from_model(UNet(features=1, depth=depth))
    assert geometry.min_size % geometry.step == 0  # Fiji
    assert 512 % geometry.min_size == 0  # QuPath
    assert geometry.min_size > 2 * geometry.halo
    assert geometry.halo % geometry.step == 0
    assert geometry.receptive_radius <= geometry.halo < geometry.receptive_radius + geometry.step


def test_the_smallest_such_size_is_taken():
    geometry = TileGeometry.from_model(UNet(features=1, depth=2))
    assert geometry == TileGeometry(min_size=64, step=4, halo=24, receptive_radius=23)


def test_a_network_that_looks_too_far_is_refused():
    with pytest.raises(ConfigError, match=r"looks 443 px far.*Use an enhancer of less depth, or smaller scales"):
        TileGeometry.from_model(UNet(features=1, depth=6))
