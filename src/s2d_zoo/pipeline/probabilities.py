"""What goes with a classifier: files of probabilities, and whether an image is one of those that it takes."""

import logging
from pathlib import Path
from typing import Final

import xarray as xr

from s2d_zoo.contract import RFContract
from s2d_zoo.data.axes import count_space_dims
from s2d_zoo.data.images import read_image
from s2d_zoo.errors import AxesError
from s2d_zoo.rf_adapter.predictors import ProbabilityMaps
from s2d_zoo.types import CHANNEL

logger = logging.getLogger(__name__)

#: probabilities of all classes add up to 1 but for this
_SUM_TOLERANCE: Final = 0.02


def read_maps(path: Path, *, ndim: int, foreground: int | None = None, axes: str | None = None) -> ProbabilityMaps:
    """Probabilities out of a file; a warning tells if they can hardly be those of all classes.

    Args:
        path: the file.
        ndim: 2 or 3: of the image that they belong to. A stack of slices that belongs to a 2D image is one of classes,
            as Fiji writes it (Trainable Weka Segmentation, Labkit).
        foreground: the channel of the objects, counted from 1; 2 when ``None``.
        axes: where the file does not tell.

    Raises:
        ImageFileError: if it cannot be read.
        UserInputError: for NaN.
        ConfigError: if there is no such channel.
    """
    maps = read_image(path, axes=axes)
    if axes is None and ndim == 2 and "z" in maps.dims and maps.sizes[CHANNEL] == 1:
        maps = maps.isel({CHANNEL: 0}, drop=True).rename(z=CHANNEL)
    described = ProbabilityMaps.describe(maps, foreground=2 if foreground is None else foreground)
    _warn_about_sum(path, described)
    return described


def with_pixel_size(contract: RFContract, image: xr.DataArray) -> RFContract:
    """The contract of a classifier that knows of no pixel size, with that of the image (channel (z) y x)."""
    found = image.attrs.get("pixel_size")
    if contract.pixel_size is not None or found is None:
        return contract
    return contract.model_copy(update={"pixel_size": found})


def check_image(contract: RFContract, image: xr.DataArray, name: str) -> None:
    """Refuse an image (channel (z) y x) that a classifier does not take.

    Raises:
        AxesError: if it has other channels or dimensions.
    """
    if contract.raw_channels not in {None, image.sizes[CHANNEL]}:
        msg = f"The classifier takes images with {contract.raw_channels} channel(s); {name} has {image.sizes[CHANNEL]}."
        raise AxesError(msg)
    if count_space_dims(image) != contract.ndim:
        msg = f"The classifier is one for {contract.ndim}D images; {name} has axes {', '.join(map(str, image.dims))}."
        raise AxesError(msg)


def _warn_about_sum(path: Path, maps: ProbabilityMaps) -> None:
    """Say so if the channels of a file can hardly be the probabilities of all classes."""
    if maps.largest_deviation > _SUM_TOLERANCE:
        logger.warning(
            "%s: the channels should add up to 1 at every px, but are up to %.3g off. Are these the probabilities of "
            "all classes, and not of some of them, or of something else?",
            path,
            maps.largest_deviation,
        )
