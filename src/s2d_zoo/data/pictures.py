"""PNG, JPEG and NPY: small images, read and written as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import xarray as xr

from s2d_zoo.data.axes import label_axes
from s2d_zoo.data.image_metadata import check_declared_size, check_number_type
from s2d_zoo.data.stored import PutBlock, Window
from s2d_zoo.errors import ImageFileError
from s2d_zoo.types import CHANNEL


def read_picture(path: Path, axes: str | None) -> xr.DataArray:
    """Read a PNG or JPEG, in the order in which it is stored, without alpha.

    Raises:
        ImageFileError: for a picture for print (CMYK).
        OSError, ValueError: from Pillow, for damaged files.
    """
    with iio.imopen(path, "r", plugin="pillow") as file:
        values = file.read(index=0)
        mode = file.metadata(index=0).get("mode")
    if mode == "CMYK":
        msg = f"{path} is a CMYK picture for print, expected grey or RGB. Convert it to RGB."
        raise ImageFileError(msg)
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        values = values[..., :-1]
    return label_axes(values, axes or "yxc"[: values.ndim])


def read_npy(path: Path, axes: str | None) -> xr.DataArray:
    """Read an NPY file; never unpickles.

    Raises:
        ImageFileError: if it holds no numbers, or declares more than it holds.
        OSError, ValueError: from NumPy, for damaged files.
    """
    # mapped first: a header may declare more than there is
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_number_type(mapped.dtype, path)
    check_declared_size(mapped.shape, mapped.dtype, stored=path.stat().st_size, path=path)
    return label_axes(np.array(mapped), axes)


def check_fits_png(image: xr.DataArray, location: str) -> None:
    """Check that a PNG can hold an image (channel (z) y x).

    Raises:
        ImageFileError: naming what it can hold.
    """
    fits = {("uint8", 1), ("uint8", 3), ("uint16", 1)}
    if "z" in image.dims or (image.dtype.name, image.sizes[CHANNEL]) not in fits:
        msg = (
            f"A PNG holds 2D uint8 of 1 or 3 channels, or uint16 of 1; cannot write {dict(image.sizes)} of type "
            f"{image.dtype} to {location}. Write a .tif instead."
        )
        raise ImageFileError(msg)


@contextmanager
def create_png(path: Path) -> Iterator[PutBlock]:
    """Create a PNG; the one block that it takes is the whole image (channel y x).

    Yields:
        What writes the image; a ``ValueError`` for a part of it.
    """

    def put(window: Window, image: xr.DataArray) -> None:
        if window:
            msg = "a PNG is written as a whole, not block by block"
            raise ValueError(msg)
        planes = np.ascontiguousarray(image.transpose("y", "x", CHANNEL).values)
        iio.imwrite(path, planes[..., 0] if planes.shape[-1] == 1 else planes, plugin="pillow", extension=".png")

    yield put
