"""Sizes that a network can be run at, and how much of a tile's border is not to be trusted."""

from dataclasses import dataclass
from typing import Final

from s2d_zoo.data.network import Network, halo_of
from s2d_zoo.data.packaged_network import PackagedNetwork, TileSizes
from s2d_zoo.errors import ConfigError

#: QuPath makes tiles of this size, and counts them in multiples of the smallest size
_QUPATH_TILE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGeometry:
    """Sizes of the y and x axes, in px; of volumes, those of z, too."""

    min_size: int  #: smallest input
    step: int  #: inputs have ``min_size + n * step``; 0 if there is but one size
    halo: int  #: border of the output that depends on what lies outside of the tile
    receptive_radius: int | None  #: how far an output pixel looks; None if nobody knows
    along_z: TileSizes | None = None  #: None for planes

    @classmethod
    def of_packaged(cls, network: PackagedNetwork) -> "TileGeometry":
        """The geometry that the description of anybody's package states."""
        tiles = network.tiles
        return cls(
            min_size=tiles.smallest, step=tiles.step, halo=tiles.halo, receptive_radius=None, along_z=network.along_z
        )

    @property
    def smallest(self) -> tuple[int, ...]:
        """Smallest sizes of (z) y x."""
        return (*((self.along_z.smallest,) if self.along_z else ()), self.min_size, self.min_size)

    @property
    def steps(self) -> tuple[int, ...]:
        """By how much (z) y x may grow."""
        return (*((self.along_z.step,) if self.along_z else ()), self.step, self.step)

    @classmethod
    def from_model(cls, model: Network) -> "TileGeometry":
        """The geometry of a network that every consumer agrees with.

        The halo is the receptive radius, rounded up to a multiple of the step, so that tiles remain aligned
        with the pooling. The smallest size is a multiple of the step (Fiji fails otherwise), divides 512
        (QuPath's tiles) and leaves something between two halos.

        Raises:
            ConfigError: if the network looks too far for any such size.
        """
        step, radius = model.step, model.receptive_radius
        halo = halo_of(model)
        sizes = [size for size in range(step, _QUPATH_TILE + 1, step) if _QUPATH_TILE % size == 0 and size > 2 * halo]
        if not sizes:
            msg = (
                f"The network looks {radius} px far, so that tiles of {_QUPATH_TILE} px (QuPath's size) would be "
                f"nothing but border (halo {halo} px). Use an enhancer of less depth, or smaller scales."
            )
            raise ConfigError(msg)
        return cls(min_size=sizes[0], step=step, halo=halo, receptive_radius=radius)
