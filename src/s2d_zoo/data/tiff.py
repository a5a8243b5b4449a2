"""TIFF, as Fiji, OME tools and tifffile write it: axes, pixel sizes, and files that were cut off."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import tifffile
import xarray as xr
import zarr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.axes import LETTER_TO_DIM
from s2d_zoo.data.image_metadata import check_declared_size, check_number_type, pixel_size_from, pixel_size_of
from s2d_zoo.data.stored import PutBlock, StoredArray, Window, index_of
from s2d_zoo.errors import ImageFileError
from s2d_zoo.types import CHANNEL, SPACE

#: resolutions coarser than this, in micrometer, describe a printer or a screen (600 dpi: 42), not a microscope
_COARSEST_PIXEL: Final = 20.0
_RESOLUTION_UNITS: Final = {2: "inch", 3: "cm"}
#: what ImageJ can open
_IMAGEJ_TYPES: Final = ("uint8", "uint16", "float32")
_IMAGEJ_BYTES: Final = 2**32 - 2**25
_IMAGEJ_UNITS: Final = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm"}
#: of the TIFF tag ExtraSamples: associated and unassociated alpha
_ALPHA: Final = (1, 2)


def find_image(path: Path) -> StoredArray:
    """Find the one image of a TIFF file. The file is open only while it is looked at, and later while parts are read.

    Of images stored in one piece, as ImageJ writes them, only the rows that are asked for are read; else the tiles
    or strips that they touch. Images spread over several files are read as a whole.

    Raises:
        ImageFileError: if the file holds several images of the same kind, ends too early, or holds no numbers.
        ValueError, IndexError, RuntimeError, OSError, struct.error: from tifffile and the codecs, for damaged files;
            also when a part is read.
    """
    with tifffile.TiffFile(path) as file:
        first, *others = file.series
        if any(series.axes == first.axes for series in others):
            msg = (
                f"{path} holds {len(file.series)} images (shapes {[series.shape for series in file.series]}), expected "
                "one. Save the one you mean as a file of its own."
            )
            raise ImageFileError(msg)
        _check_page_chain(file, path)
        check_number_type(first.dtype, path)
        check_declared_size(first.shape, first.dtype, stored=path.stat().st_size, path=path)
        return StoredArray(
            shape=first.shape,
            dtype=first.dtype,
            read=lambda index: _read_part(path, index),
            axes=_axes_of(first.axes),
            pixel_size=_pixel_size_of(file),
            n_alpha=_count_alpha(first),
        )


@contextmanager
def create_tiff(path: Path, image: xr.DataArray) -> Iterator[PutBlock]:
    """Create a TIFF that Fiji opens, where Fiji knows the type, to be filled block by block; uncompressed.

    Types other than uint8, uint16 and float32, and images above 4 GiB, become a plain TIFF with the axes in
    tifffile's notation. The pixel size is kept. The same image gives the same bytes.

    Args:
        path: the file to create.
        image: channel (z) y x; its sizes, number type and pixel size count, not its values.

    Yields:
        What puts a block to its place.
    """
    n_channels = image.sizes[CHANNEL]
    # ImageJ's order is z before channel; plane by plane no array needs to be turned round
    depth = image.sizes.get("z", 1)
    shape = (depth, n_channels, image.sizes["y"], image.sizes["x"])
    kept = [axis for axis, size in zip("ZC", (depth, n_channels), strict=True) if size > 1]
    metadata: dict[str, Any] = {"axes": "".join((*kept, "YX"))}
    # tifffile takes a last axis of one px for samples when it reads ImageJ's metadata
    imagej = image.dtype.name in _IMAGEJ_TYPES and image.nbytes < _IMAGEJ_BYTES and image.sizes["x"] > 1
    pixel_size = pixel_size_of(image.attrs)
    resolution = None
    if pixel_size is not None:
        resolution = (1 / pixel_size.x, 1 / pixel_size.y)
        metadata["unit"] = _IMAGEJ_UNITS[pixel_size.unit]
        metadata |= {"spacing": pixel_size.z} if pixel_size.z else {}
    tifffile.imwrite(
        path,
        shape=tuple(size for size in shape[:2] if size > 1) + shape[2:],
        dtype=image.dtype,
        imagej=imagej,
        bigtiff=image.nbytes >= _IMAGEJ_BYTES,
        photometric="minisblack",
        metadata=metadata,
        resolution=resolution,
        resolutionunit="NONE",
    )
    with tifffile.TiffFile(path) as written:
        begin = written.series[0].dataoffset
    if begin is None:
        msg = "tifffile did not lay out the image in one piece"
        raise OSError(msg)
    with path.open("r+b") as file:
        yield lambda window, block: _put(file, begin, shape, window, block)


def _put(file: BinaryIO, begin: int, shape: tuple[int, ...], window: Window, block: xr.DataArray) -> None:
    """Write a block (channel (z) y x) into pixels stored as z channel y x, from byte ``begin`` on, row by row."""
    values = block.values if "z" in block.dims else block.values[:, np.newaxis]
    z, y, x = (range(size)[part] for size, part in zip((shape[0], *shape[2:]), index_of(window, SPACE), strict=True))
    for channel in range(shape[1]):
        for depth, plane in zip(z, values[channel], strict=True):
            first = (depth * shape[1] + channel) * shape[2] + y.start
            whole_rows = len(x) == shape[3]
            for row, pixels in [(0, plane)] if whole_rows else enumerate(plane):
                file.seek(begin + ((first + row) * shape[3] + x.start) * values.itemsize)
                file.write(np.ascontiguousarray(pixels).data)


def _read_part(path: Path, index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        whole = all(part.start == 0 and part.stop >= size for part, size in zip(index, series.shape, strict=True))
        if whole or series.is_multifile:
            return np.asarray(series.asarray()[index])
        if series.dataoffset is not None and series.keyframe.is_memmappable:
            # mapped anew for each part: what was touched would count as this process's memory until it is let go
            dtype = series.dtype.newbyteorder(file.byteorder)
            mapped = np.memmap(path, dtype=dtype, mode="r", offset=series.dataoffset, shape=series.shape)
            return np.array(mapped[index])
        with series.aszarr(level=0) as store:
            return np.asarray(zarr.open_array(store, mode="r")[index])


def _axes_of(found: str) -> str | None:
    letters = found.lower().replace("s", "c")
    # a sequence of pages without a name is a stack, unless the file has another z
    for unnamed in "qi":
        if letters.count(unnamed) == 1 and "z" not in letters:
            letters = letters.replace(unnamed, "z")
    known = set(letters) <= set(LETTER_TO_DIM) and len(set(letters)) == len(letters)
    return letters if known else None


def _count_alpha(series: tifffile.TiffPageSeries) -> int:
    return sum(kind in _ALPHA for kind in series.keyframe.extrasamples) if "S" in series.axes else 0


def _check_page_chain(file: tifffile.TiffFile, path: Path) -> None:
    # tifffile stops quietly at a page that lies behind the end of the file, and so returns part of the stack
    last = file.pages[-1]
    form = file.tiff
    file.filehandle.seek(last.offset)
    (n_tags,) = struct.unpack(form.tagnoformat, file.filehandle.read(form.tagnosize))
    file.filehandle.seek(n_tags * form.tagsize, 1)
    (following,) = struct.unpack(form.offsetformat, file.filehandle.read(form.offsetsize))
    if following != 0:
        msg = (
            f"{path} breaks off after {len(file.pages)} pages: the next should lie at byte {following} of "
            f"{path.stat().st_size}. The file is truncated; copy or export it again."
        )
        raise ImageFileError(msg)


def _pixel_size_of(file: tifffile.TiffFile) -> PixelSize | None:
    if file.ome_metadata:
        return _ome_pixel_size(file.ome_metadata)
    resolution = _resolution(file.pages.first)
    if resolution is None:
        return None
    described = file.imagej_metadata or (file.shaped_metadata or ({},))[0]
    if described.get("unit"):
        return pixel_size_from({**resolution, "z": described.get("spacing")}, described["unit"])
    unit = file.pages.first.tags.valueof("ResolutionUnit", default=2)
    pixel_size = pixel_size_from(resolution, _RESOLUTION_UNITS.get(int(unit)))
    if pixel_size is None or pixel_size.in_plane_micrometer > _COARSEST_PIXEL:
        return None
    return pixel_size


def _ome_pixel_size(text: str) -> PixelSize | None:
    image = tifffile.xml2dict(text).get("OME", {}).get("Image", {})
    pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
    sizes = {dim: pixels.get(f"PhysicalSize{dim.upper()}") for dim in "zyx"}
    units = {pixels.get(f"PhysicalSize{dim.upper()}Unit", "µm") for dim in "yx"}
    z_unit = pixels.get("PhysicalSizeZUnit", "µm")
    if len(units) != 1 or any(isinstance(size, str) for size in sizes.values()):
        return None
    unit = units.pop()
    return pixel_size_from(sizes if z_unit == unit else {**sizes, "z": None}, unit)


def _resolution(page: Any) -> dict[str, float | None] | None:  # noqa: ANN401 (TiffPage or TiffFrame)
    found: dict[str, float | None] = {}
    for dim, tag in (("y", "YResolution"), ("x", "XResolution")):
        numerator, denominator = page.tags.valueof(tag, default=(0, 1))
        found[dim] = denominator / numerator if numerator else None
    return found if any(found.values()) else None
