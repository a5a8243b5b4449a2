"""Read and write images: TIFF, PNG, JPEG, HDF5 (``file.h5:/key``), Zarr and OME-Zarr (``x.zarr/key``), NPY.

What comes out is always ordered as `s2d_zoo.types` says, with the pixel size in ``attrs["pixel_size"]``
(a `s2d_zoo.contract.PixelSize`) where the file states it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import xarray as xr

from s2d_zoo.data import hdf5, ome_zarr
from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.axes import as_image, as_labels
from s2d_zoo.data.image_metadata import check_number_type
from s2d_zoo.data.ome_zarr import ZarrFormat
from s2d_zoo.data.pictures import check_fits_png, create_png, read_npy, read_picture
from s2d_zoo.data.reading import check_there, reading
from s2d_zoo.data.stored import PlacedBlock, PutBlock
from s2d_zoo.data.tiff import create_tiff, find_image
from s2d_zoo.errors import ImageFileError, UserInputError

#: creates a file to be filled block by block
_Create: TypeAlias = Callable[[Path], AbstractContextManager[PutBlock]]
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
    array = as_image(read_array(path, axes=axes), what=f"image {path}")
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
    array = as_labels(read_array(path, axes=axes), what=f"label image {path}")
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
    write_blocks(path, [({}, image)], like=image, overwrite=overwrite, zarr_format=zarr_format)


def write_blocks(
    path: str | os.PathLike[str],
    blocks: Iterable[PlacedBlock],
    *,
    like: xr.DataArray,
    overwrite: bool = False,
    zarr_format: ZarrFormat = 2,
) -> None:
    """Write an image block by block, e.g. while it is computed; otherwise as `write_image`.

    TIFF and Zarr get the same bytes as from `write_image`; of HDF5 the chunks may lie in another order. If the
    blocks end with an error, nothing is left behind.

    Args:
        path: as for `write_image`; a ``.png`` takes one block only.
        blocks: where each lies in the image, and its pixels. Together they fill the image.
        like: channel (z) y x: sizes, number type and pixel size of what is written; its values do not count, see
            `s2d_zoo.data.stored.outline_of`.
        overwrite: as for `write_image`.
        zarr_format: as for `write_image`.

    Raises:
        ImageFileError: as `write_image`; for a wrong name or a file that is there, before the first block is asked for.
    """
    check_number_type(like.dtype, Path(path))
    target, create = _writer(os.fspath(path), like, zarr_format)
    with ExitStack() as stack:
        with _writing(target):
            if overwrite:
                _check_replaceable(target, os.fspath(path))
            put = stack.enter_context(create(stack.enter_context(atomic_write(target, overwrite=overwrite))))
        for window, block in blocks:
            with _writing(target):
                put(window, block)
        with _writing(target):
            stack.close()


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise ImageFileError(str(error)) from error
    except (OSError, ValueError) as error:
        msg = f"Cannot write {target}: {error}. Check the space on the disk, the permissions and the name."
        raise ImageFileError(msg) from error


def check_finite(array: xr.DataArray, what: str, *, start: Mapping[str, int] = MappingProxyType({})) -> None:
    """Check that there is no NaN and no infinity.

    Args:
        array: any dims and number type; integers always pass.
        what: named in the message.
        start: px, where the array begins in the image that it is part of.

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
    position = ", ".join(
        f"{dim}={int(index) + start.get(str(dim), 0)}" for dim, index in zip(array.dims, first, strict=True)
    )
    msg = (
        f"The {what} should hold finite numbers, but {n_bad} of {bad.size} values are NaN or infinite, the first at "
        f"{position}. Fill them, e.g. with 0 or with the values around them."
    )
    raise UserInputError(msg)


def read_array(path: str | os.PathLike[str], *, axes: str | None = None) -> xr.DataArray:
    """Read an image in the order in which it is stored, whatever dims it has.

    Args:
        path: as for `read_image`.
        axes: as for `read_image`.

    Returns:
        The number type of the file, native byte order; alpha is dropped; ``attrs["pixel_size"]`` as for `read_image`.

    Raises:
        ImageFileError: as for `read_image`.
        AxesError: if the axes are unknown or contradict the shape.
    """
    location = os.fspath(path)
    file, read = _reader(location)
    check_there(file, location)
    with reading(location):
        array = read(file, axes)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _reader(location: str) -> tuple[Path, Callable[[Path, str | None], xr.DataArray]]:
    # Zarr first: the name of an array inside a store may look like anything
    if (zarr_place := ome_zarr.split_location(location)) is not None:
        return zarr_place[0], lambda path, axes: ome_zarr.find_array(path, zarr_place[1]).load(axes)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        return hdf5_place[0], lambda path, axes: hdf5.find_dataset(path, hdf5_place[1]).load(axes)
    try:
        return Path(location), _READERS[Path(location).suffix.lower()]
    except KeyError:
        raise _unknown_kind(location, _KNOWN) from None


def _writer(location: str, image: xr.DataArray, zarr_format: ZarrFormat) -> tuple[Path, _Create]:
    zarr_place = ome_zarr.split_location(location)
    if zarr_place is not None and zarr_place[1] is None:
        return zarr_place[0], lambda path: ome_zarr.create_ome_zarr(path, image, zarr_format=zarr_format)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        return hdf5_place[0], lambda path: hdf5.create_hdf5(path, hdf5_place[1], image)
    suffix = Path(location).suffix.lower()
    if suffix in {".tif", ".tiff"}:
        return Path(location), lambda path: create_tiff(path, image)
    if suffix == ".png":
        check_fits_png(image, location)
        return Path(location), create_png
    raise _unknown_kind(location, _WRITABLE)


def _unknown_kind(location: str, known: str) -> ImageFileError:
    suffix = Path(location).suffix
    return ImageFileError(
        f"The name of an image file ends with one of {known}; {location} ends with {suffix!r}. "
        "Export it as TIFF, e.g. from Fiji."
    )


def _check_replaceable(target: Path, location: str) -> None:
    if target.is_dir() and not ome_zarr.is_zarr(target):
        msg = f"{target} is a directory and no Zarr store; it will not be replaced. Give another name."
        raise ImageFileError(msg)
    if (hdf5_place := hdf5.split_location(location)) is not None:
        hdf5.check_nothing_lost(*hdf5_place)


_READERS: Final[Mapping[str, Callable[[Path, str | None], xr.DataArray]]] = {
    ".tif": lambda path, axes: find_image(path).load(axes),
    ".tiff": lambda path, axes: find_image(path).load(axes),
    ".png": read_picture,
    ".jpg": read_picture,
    ".jpeg": read_picture,
    ".npy": read_npy,
}
