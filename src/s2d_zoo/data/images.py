"""Read and write images: TIFF, PNG, JPEG, HDF5 (``file.h5:/key``), Zarr and OME-Zarr (``x.zarr/key``), NPY.

What comes out is always ordered as `s2d_zoo.types` says, with the pixel size in ``attrs["pixel_size"]``
(a `s2d_zoo.contract.PixelSize`) where the file states it.
"""

import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import imageio.v3 as iio
import numpy as np
import xarray as xr
from PIL.Image import DecompressionBombError

from s2d_zoo.data import hdf5, ome_zarr
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.axes import as_image, as_labels, label_axes
from s2d_zoo.data.image_metadata import check_declared_size, check_number_type
from s2d_zoo.data.ome_zarr import ZarrFormat
from s2d_zoo.data.tiff import read_tiff, write_tiff
from s2d_zoo.errors import ImageFileError, UserInputError
from s2d_zoo.types import CHANNEL

#: what the libraries below raise for files that are no image, cut off or damaged (each tried in the tests)
_DAMAGED: Final = (
    OSError,
    EOFError,
    ValueError,  # with tifffile's TiffFileError, zarr's errors and broken JSON
    LookupError,
    TypeError,
    RuntimeError,  # with imagecodecs' errors
    struct.error,
    zlib.error,
    DecompressionBombError,
)
_KNOWN: Final = ".tif, .tiff, .png, .jpg, .jpeg, .h5, .hdf5, .hdf, .npy, .zarr"
_WRITABLE: Final = ".tif, .tiff, .png, .h5, .hdf5, .hdf, .zarr"


def read_image(path: str | os.PathLike[str], *, axes: str | None = None) -> xr.DataArray:
    """Read an image.

    Args:
        path: a file, ``file.h5:/key``, a ``.zarr`` directory or ``x.zarr/key``. Where an HDF5 file or a Zarr group
            holds only one array, the key may be left out. Of an OME-Zarr image the full resolution is read.
        axes: one letter of ``tczyx`` for each dimension as stored, e.g. ``"zyxc"``; overrides what the file says.
            Without either, 2D is read as ``yx``, colour as ``yxc``, else ``zyx`` and ``czyx``.

    Returns:
        channel (z) y x, in the number type of the file (bool becomes uint8), native byte order; alpha is dropped.
        ``attrs["pixel_size"]`` is there where the file states a length in a known unit.

    Raises:
        ImageFileError: if it is missing, empty, cut off, damaged, no image or of an unknown kind, if the key is
            missing, or if several arrays are there and none was named.
        AxesError: if the axes are unknown, contradict the shape, or there are several time points.
        UserInputError: if floating point values are NaN or infinite.
    """
    array = as_image(_read(os.fspath(path), axes), what=f"image {path}")
    check_finite(array, f"image {path}")
    return array.astype(np.uint8) if array.dtype == bool else array


def read_labels(path: str | os.PathLike[str], *, axes: str | None = None) -> xr.DataArray:
    """Read a label image, e.g. instances or strokes.

    Args:
        path: as for `read_image`.
        axes: as for `read_image`.

    Returns:
        (z) y x, unsigned: uint8, uint16 and uint32 as they are; other integers as the smallest of these that holds
        the largest id; bool as uint8. ``attrs["pixel_size"]`` as for `read_image`.

    Raises:
        ImageFileError: as for `read_image`.
        AxesError: as for `read_image`, or if there are several channels (a colour picture).
        UserInputError: if the values are not integers, or negative, or above 4294967295.
    """
    array = as_labels(_read(os.fspath(path), axes), what=f"label image {path}")
    if array.dtype.kind == "f":
        msg = (
            f"Label images are integers, one id per pixel; {path} holds {array.dtype}. If these are probabilities, "
            "threshold or segment them first; if they are ids, save them as 16 bit (Fiji: Image > Type > 16-bit)."
        )
        raise UserInputError(msg)
    if array.dtype.name in {"uint8", "uint16", "uint32"}:
        return array
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest > np.iinfo(np.uint32).max:
        msg = (
            f"Label ids run from 0 (background or unlabelled) to {np.iinfo(np.uint32).max}; {path} holds {lowest} to "
            f"{highest}. Relabel it, e.g. with 0 for pixels to be ignored."
        )
        raise UserInputError(msg)
    return array.astype(next(dtype for dtype in (np.uint8, np.uint16, np.uint32) if highest <= np.iinfo(dtype).max))


def write_image(
    path: str | os.PathLike[str], array: xr.DataArray, *, overwrite: bool = False, zarr_format: ZarrFormat = 2
) -> None:
    """Write an image or label image; the same array gives the same bytes, and a run cut off leaves no half a file.

    Args:
        path: ``.tif`` (opens in Fiji; keeps the pixel size), ``.png`` (2D, uint8 of 1 or 3 channels or uint16 of 1;
            no pixel size), ``.h5`` or ``file.h5:/key`` (opens in ilastik; the whole file is replaced) or ``.zarr``
            (OME-Zarr of one resolution).
        array: (channel) (z) y x, any number type that the format has; bool is written as uint8.
        overwrite: whether a file that is there is replaced.
        zarr_format: 2 for OME-Zarr 0.4, which every consumer reads; 3 for OME-Zarr 0.5.

    Raises:
        ImageFileError: if it is there already, cannot be written, or the format cannot hold the array.
        AxesError: if the dims are not those of an image.
    """
    image = as_image(array)
    image = image.astype(np.uint8) if image.dtype == bool else image
    check_number_type(image.dtype, Path(path))
    target, write = _writer(os.fspath(path), image, zarr_format)
    try:
        if overwrite:
            _check_replaceable(target, os.fspath(path))
        with atomic_write(target, overwrite=overwrite) as written:
            write(written)
    except FileExistsError as error:
        raise ImageFileError(str(error)) from error
    except (OSError, ValueError) as error:
        msg = f"Cannot write {target}: {error}. Check the space on the disk, the permissions and the name."
        raise ImageFileError(msg) from error


def check_finite(array: xr.DataArray, what: str) -> None:
    """Check that there is no NaN and no infinity.

    Args:
        array: any dims and number type; integers always pass.
        what: named in the message.

    Raises:
        UserInputError: with the number of such values and the position of the first.
    """
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array.values)
    n_bad = int(bad.sum())
    if n_bad == 0:
        return
    first = np.unravel_index(int(bad.argmax()), bad.shape)
    position = ", ".join(f"{dim}={int(index)}" for dim, index in zip(array.dims, first, strict=True))
    msg = (
        f"The {what} should hold finite numbers, but {n_bad} of {bad.size} values are NaN or infinite, the first at "
        f"{position}. Fill them, e.g. with 0 or with the values around them."
    )
    raise UserInputError(msg)


def _read(location: str, axes: str | None) -> xr.DataArray:
    path, read = _reader(location)
    _check_there(path, location)
    try:
        array = read(path, axes)
    except UserInputError:
        raise
    except _DAMAGED as error:
        msg = (
            f"Cannot read {location}: expected an image file of the kind that its name says, found one that is "
            f"damaged, cut off or of another kind ({type(error).__name__}: {error}). Copy or export it again, and "
            "check that it opens in Fiji."
        )
        raise ImageFileError(msg) from error
    except MemoryError as error:
        msg = f"{location} does not fit into memory ({error}). Crop it, or work on it block by block as Zarr."
        raise ImageFileError(msg) from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _reader(location: str) -> tuple[Path, Callable[[Path, str | None], xr.DataArray]]:
    # Zarr first: the name of an array inside a store may look like anything
    if (zarr_place := ome_zarr.split_location(location)) is not None:
        return zarr_place[0], lambda path, axes: ome_zarr.read_zarr(path, zarr_place[1], axes)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        return hdf5_place[0], lambda path, axes: hdf5.read_hdf5(path, hdf5_place[1], axes)
    try:
        return Path(location), _READERS[Path(location).suffix.lower()]
    except KeyError:
        raise _unknown_kind(location, _KNOWN) from None


def _writer(location: str, image: xr.DataArray, zarr_format: ZarrFormat) -> tuple[Path, Callable[[Path], None]]:
    zarr_place = ome_zarr.split_location(location)
    if zarr_place is not None and zarr_place[1] is None:
        return zarr_place[0], lambda path: ome_zarr.write_ome_zarr(path, image, zarr_format=zarr_format)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        return hdf5_place[0], lambda path: hdf5.write_hdf5(path, hdf5_place[1], image)
    suffix = Path(location).suffix.lower()
    if suffix in {".tif", ".tiff"}:
        return Path(location), lambda path: write_tiff(path, image)
    if suffix == ".png":
        planes = _png_planes(image, location)
        return Path(location), lambda path: iio.imwrite(path, planes, plugin="pillow", extension=".png")
    raise _unknown_kind(location, _WRITABLE)


def _unknown_kind(location: str, known: str) -> ImageFileError:
    suffix = Path(location).suffix
    return ImageFileError(
        f"The name of an image file ends with one of {known}; {location} ends with {suffix!r}. "
        "Export it as TIFF, e.g. from Fiji."
    )


def _check_there(path: Path, location: str) -> None:
    if not path.exists():
        msg = f"There is no file {path} (asked for as {location!r} in {Path.cwd()}). Check the name."
        raise ImageFileError(msg)
    is_store = path.suffix.lower() == ".zarr"
    if path.is_dir() != is_store:
        expected, found = ("a directory", "a file") if is_store else ("a file", "a directory")
        msg = f"{path} should be {expected}, but is {found}. Name one image."
        raise ImageFileError(msg)
    if not is_store and path.stat().st_size == 0:
        msg = f"{path} is empty (0 bytes), expected an image. Copy or export it again."
        raise ImageFileError(msg)


def _check_replaceable(target: Path, location: str) -> None:
    if target.is_dir() and not ome_zarr.is_zarr(target):
        msg = f"{target} is a directory and no Zarr store; it will not be replaced. Give another name."
        raise ImageFileError(msg)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        hdf5.check_nothing_lost(*hdf5_place)


def _read_picture(path: Path, axes: str | None) -> xr.DataArray:
    with iio.imopen(path, "r", plugin="pillow") as file:
        values = file.read(index=0)
        mode = file.metadata(index=0).get("mode")
    if mode == "CMYK":
        msg = f"{path} is a CMYK picture for print, expected grey or RGB. Convert it to RGB."
        raise ImageFileError(msg)
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        values = values[..., :-1]
    return label_axes(values, axes or "yxc"[: values.ndim])


def _read_npy(path: Path, axes: str | None) -> xr.DataArray:
    # mapped first: a header may declare more than there is
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_number_type(mapped.dtype, path)
    check_declared_size(mapped.shape, mapped.dtype, stored=path.stat().st_size, path=path)
    return label_axes(np.array(mapped), axes)


_READERS: Final[Mapping[str, Callable[[Path, str | None], xr.DataArray]]] = {
    ".tif": read_tiff,
    ".tiff": read_tiff,
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
    ".npy": _read_npy,
}


def _png_planes(image: xr.DataArray, location: str) -> np.ndarray[Any, Any]:
    fits = {("uint8", 1), ("uint8", 3), ("uint16", 1)}
    if "z" in image.dims or (image.dtype.name, image.sizes[CHANNEL]) not in fits:
        msg = (
            f"A PNG holds 2D uint8 of 1 or 3 channels, or uint16 of 1; cannot write {dict(image.sizes)} of type "
            f"{image.dtype} to {location}. Write a .tif instead."
        )
        raise ImageFileError(msg)
    planes = [image.isel({CHANNEL: channel}).values for channel in range(image.sizes[CHANNEL])]
    return np.stack(planes, axis=-1) if len(planes) > 1 else np.ascontiguousarray(planes[0])
