"""Features and what is predicted from them, block by block: the memory needed does not grow with the image."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import space_shape
from s2d_zoo.data.blockwise import Blocking, choose_block, iterate_blocks
from s2d_zoo.data.images import check_finite
from s2d_zoo.data.stored import PlacedBlock, Window
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.types import CHANNEL

#: the features of a block, once with halo, and without it once more as rows and once in the threads that use them
_FEATURE_BYTES: Final = 700 * 10**6
#: px; whole chunks of the files that are written (see `s2d_zoo.data.stored.CHUNKS`). Of blocks twice as high 6 % fewer
#: pixels would be filtered for halos, but with 64 threads they needed 1.9 GiB (benchmarks/large_image.py: 1.2)
LARGEST_BLOCK: Final[Mapping[str, int]] = MappingProxyType({"z": 64, "y": 512, "x": 1024})
#: slices per block where a volume is filtered slice by slice
_SLICES: Final = 16


def predict_in_blocks(
    selection: FeatureSelection,
    predict_features: Callable[[xr.DataArray], xr.DataArray],
    image: xr.DataArray,
    *,
    progress: str | None = None,
) -> Iterator[PlacedBlock]:
    """Compute features and predict from them, one block after another.

    Args:
        selection: the features.
        predict_features: takes features (feature (z) y x, float32), gives channel (z) y x, float32, of each pixel by
            itself.
        image: channel (z) y x, in memory or from `s2d_zoo.data.lazy_images.open_image`.
        progress: label of the progress bar on stderr; none when ``None``.

    Yields:
        For each block, x fastest: where it lies in the image, and what is predicted there. The more features, the
        smaller the blocks.

    Raises:
        UserInputError: for NaN in a block, or an image too small for the largest scale.
    """
    for block in iterate_blocks(image, blocking=blocking_for(selection, image), progress=progress):
        check_finite(block.image, "image", start=block.start)
        yield block.window, predict_window(selection, predict_features, block.image, block.inside)


def blocking_for(selection: FeatureSelection, image: xr.DataArray) -> Blocking:
    """Blocks of an image (channel (z) y x) whose features fit into memory, however many there are."""
    sizes = space_shape(image)
    slice_by_slice = selection.compute_in_2d and "z" in sizes
    depth = {"z": min(_SLICES, LARGEST_BLOCK["z"])} if slice_by_slice else {}
    held = {dim: size for dim, size in sizes.items() if dim not in depth}
    halo = dict.fromkeys(held, selection.support)
    n_features = len(selection.names(ndim=len(held), channels=image.sizes[CHANNEL]))
    limit = _FEATURE_BYTES // (n_features * np.dtype(np.float32).itemsize)
    block = choose_block(held, halo=halo, limit=limit, largest=LARGEST_BLOCK, inner_weight=2.0)
    return Blocking(halo=halo, block={**depth, **block})


def predict_window(
    selection: FeatureSelection,
    predict_features: Callable[[xr.DataArray], xr.DataArray],
    image: xr.DataArray,
    inside: Window,
) -> xr.DataArray:
    """Compute the features of an image (channel (z) y x), and predict from those in a window of it."""
    if "z" not in image.dims or not selection.compute_in_2d:
        return predict_features(selection.compute(image).isel(inside))
    # the features of one slice are held at a time
    in_plane = {dim: inside[dim] for dim in ("y", "x")}
    depth = image.isel(z=inside["z"])
    slices = [predict_features(selection.compute(depth.isel(z=z)).isel(in_plane)) for z in range(depth.sizes["z"])]
    return xr.concat(slices, dim="z").transpose(CHANNEL, "z", "y", "x")
