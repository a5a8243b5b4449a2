"""What goes with a classifier: files of probabilities, and whether an image is one of those that it takes."""

import logging
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.contract import RFContract
from s2d_zoo.data.axes import count_space_dims, space_dims
from s2d_zoo.data.images import read_image
from s2d_zoo.errors import AxesError, ConfigError
from s2d_zoo.rf_adapter.predictors import ProbabilityMaps
from s2d_zoo.types import CHANNEL

logger = logging.getLogger(__name__)

#: probabilities of all classes add up to 1 but for this
_SUM_TOLERANCE: Final = 0.02


def read_maps(
    path: Path, *, ndim: int, foreground: int | None = None, axes: str | None = None, tell: bool = True
) -> ProbabilityMaps:
    """Probabilities out of a file; a warning tells if they can hardly be those of all classes.

    Args:
        path: the file.
        ndim: 2 or 3: of the image that they belong to. A stack of slices that belongs to a 2D image is one of classes,
            as Fiji writes it (Trainable Weka Segmentation, Labkit).
        foreground: the channel of the objects, counted from 1; 2 when ``None``, which a warning tells.
        axes: where the file does not tell.
        tell: whether to warn so; not where a classifier tells anyway.

    Raises:
        ImageFileError: if it cannot be read.
        UserInputError: for NaN.
        ConfigError: if there is no such channel.
    """
    maps = read_image(path, axes=axes)
    if axes is None and ndim == 2 and "z" in maps.dims and maps.sizes[CHANNEL] == 1:
        maps = maps.isel({CHANNEL: 0}, drop=True).rename(z=CHANNEL)
    if foreground is not None and not 1 <= foreground <= max(2, maps.sizes[CHANNEL]):
        msg = f"{path} has {maps.sizes[CHANNEL]} channels, counted from 1; there is no channel {foreground}."
        raise ConfigError(msg)
    described = ProbabilityMaps.describe(maps, foreground=2 if foreground is None else foreground)
    if tell and foreground is None and not described.single:
        _tell_foreground(path, described)
    _warn_about_values(path, described)
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


def _tell_foreground(path: Path, maps: ProbabilityMaps) -> None:
    """Say which channel was taken for the objects, since nobody did."""
    shares = maps.maps.mean(dim=space_dims(maps.maps)).values / max(1.0, maps.contract.value_range[1])
    logger.warning(
        "%s: channel 2 of %d is taken for the objects (it covers %.0f %% of the image), since that is the usual order. "
        "If that is wrong: --channel foreground=1.",
        path,
        len(shares),
        100 * shares[1],
    )


def _warn_about_values(path: Path, maps: ProbabilityMaps) -> None:
    """Say so if the channels of a file can hardly be the probabilities of all classes."""
    if np.isin(maps.maps.values, (0, 1)).all():
        logger.warning(
            "%s: all values are 0 or 1. Is this a segmentation? Enhancers need to see how sure a classifier is.", path
        )
    if maps.largest_deviation > _SUM_TOLERANCE:
        logger.warning(
            "%s: the channels should add up to 1 at every px, but are up to %.3g off. Are these the probabilities of "
            "all classes, and not of some of them, or of something else?",
            path,
            maps.largest_deviation,
        )
