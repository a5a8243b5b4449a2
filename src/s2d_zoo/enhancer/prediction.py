"""Applying an enhancer to a forest's probabilities."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from scipy import ndimage

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.contract_fit import Misfit, check_fit, matching_channels, rescale_factor
from s2d_zoo.data.axes import as_image
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.resizing import resize_by, resize_to
from s2d_zoo.errors import ConfigError, ContractMismatchError
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

#: beyond this, an image is not rescaled but the pixel sizes are wrong
_LARGEST_FACTOR: Final = 16.0
#: px; what is next to each other
_EDGE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Enhancer:
    """A trained enhancer and the forests' output that it takes."""

    id: str
    model: UNet | PackagedModel  #: one of ours, or of anybody's package
    contract: RFContract

    def check(self, delivered: RFContract) -> tuple[Misfit, ...]:
        """Refuse a forest that does not fit; return what is only advisable.

        Raises:
            ContractMismatchError: listing every fatal misfit.
        """
        return check_fit(self.contract, delivered)

    def rescale_factor(self, delivered: RFContract) -> float:
        """By which factor to resize probabilities so that objects have a size that the enhancer knows.

        1 where it was trained on objects of this size; of several sizes that it knows, the nearest one counts.

        Raises:
            ConfigError: if a pixel size is unknown.
        """
        factor = rescale_factor(self.contract, delivered)
        if factor is None:
            whose = "enhancer" if self.contract.pixel_size is None else "image"
            msg = f"Cannot tell how to rescale: the pixel size of the {whose} is unknown. Give --rescale a factor."
            raise ConfigError(msg)
        return factor

    def enhance(
        self,
        probabilities: xr.DataArray,
        delivered: RFContract,
        *,
        rescale: float = 1.0,
        progress: str | None = None,
    ) -> xr.DataArray:
        """Enhance the probabilities of a forest.

        Args:
            probabilities: channel (z) y x, float32 in [0, 1], all classes of the forest.
            delivered: the forest's contract.
            rescale: resize the probabilities in plane by this factor first, and the result back.
            progress: label of a progress bar on stderr.

        Returns:
            channel (z) y x, float32 in [0, 1]: foreground, boundary. Where the enhancer gives the foreground only,
            the boundary is where that changes: its morphological gradient, of a volume in 3D.

        Raises:
            ContractMismatchError: if the forest does not fit, or values lie outside of [0, 1].
            ConfigError: if the factor is absurd.
        """
        self.check(delivered)
        check_rescale(rescale)
        probabilities = as_image(probabilities, what="probabilities")
        _check_values(probabilities, delivered)
        fed = probabilities.isel({CHANNEL: list(matching_channels(self.contract, delivered))})
        enhanced = self._apply(resize_by(fed, rescale), progress)
        return resize_to(enhanced, y=fed.sizes["y"], x=fed.sizes["x"]).assign_attrs(probabilities.attrs)

    def _apply(self, fed: xr.DataArray, progress: str | None) -> xr.DataArray:
        if isinstance(self.model, UNet):
            return apply_network(self.model, fed, progress=progress)
        enhanced = self.model.predict(fed, progress=progress)
        if enhanced.sizes[CHANNEL] == 1:
            edges = ndimage.morphological_gradient(enhanced.values[0], size=_EDGE)  # that many px along every axis
            enhanced = xr.concat([enhanced, enhanced.copy(data=edges[np.newaxis])], dim=CHANNEL)
        return enhanced.assign_coords({CHANNEL: list(OUTPUT_CHANNELS)})


def check_rescale(factor: float) -> None:
    """Refuse a factor that no image can mean.

    Raises:
        ConfigError: if it is absurd.
    """
    if not 1 / _LARGEST_FACTOR <= factor <= _LARGEST_FACTOR:
        msg = f"The rescaling factor must lie in 1/{_LARGEST_FACTOR:g}…{_LARGEST_FACTOR:g}, got {factor:g}."
        raise ConfigError(msg)


def _check_values(probabilities: xr.DataArray, delivered: RFContract) -> None:
    if probabilities.sizes[CHANNEL] != len(delivered.classes):
        msg = (
            f"The forest's contract names {len(delivered.classes)} classes, but the probabilities have "
            f"{probabilities.sizes[CHANNEL]} channels. Give all channels, in the order of the labels."
        )
        raise ContractMismatchError(msg)
    low, high = float(probabilities.values.min()), float(probabilities.values.max())  # xarray's own leave NaN out
    if not (low >= 0 and high <= 1 + 1e-5):  # also true for NaN
        msg = f"Probabilities must lie in 0…1, found {low:g}…{high:g}. A uint8 export must be divided by 255."
        raise ContractMismatchError(msg)
