"""TIFF, as Fiji, OME tools and tifffile write it: axes, pixel sizes, and files that were cut off."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
import xarray as xr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.axes import LETTER_TO_DIM, label_axes
from s2d_zoo.data.image_metadata import check_declared_size, check_number_type, pixel_size_from, pixel_size_of
from s2d_zoo.errors import ImageFileError
from s2d_zoo.types import CHANNEL

#: resolutions coarser than this, in micrometer, describe a printer or a screen (600 dpi: 42), not a microscope
_COARSEST_PIXEL: Final = 20.0
_RESOLUTION_UNITS: Final = {2: "inch", 3: "cm"}
#: what ImageJ can open
_IMAGEJ_TYPES: Final = ("uint8", "uint16", "float32")
_IMAGEJ_BYTES: Final = 2**32 - 2**25
_IMAGEJ_UNITS: Final = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm"}
#: of the TIFF tag ExtraSamples: associated and unassociated alpha
_ALPHA: Final = (1, 2)


def read_tiff(path: Path, axes: str | None = None) -> xr.DataArray:
    """Read the one image of a TIFF file, in the order in which it is stored.

    Args:
        path: the file.
        axes: one letter for each dimension as stored; overrides what the file says.

    Returns:
        The array with its dims, and ``attrs["pixel_size"]`` where known. Alpha is dropped.

    Raises:
        ImageFileError: if the file holds several images of the same kind, ends too early, or holds no numbers.
        AxesError: if the axes are neither known nor to be guessed.
        ValueError, IndexError, RuntimeError, OSError, struct.error: from tifffile and the codecs, for damaged files.
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
        array = label_axes(first.asarray(), axes or _axes_of(first.axes))
        if axes is None:
            array = _drop_alpha(array, first)
        pixel_size = _pixel_size_of(file)
    if pixel_size is not None:
        array.attrs["pixel_size"] = pixel_size
    return array


def write_tiff(path: Path, image: xr.DataArray) -> None:
    """Write an image (channel (z) y x) such that Fiji opens it, where Fiji knows the type; uncompressed.

    Types other than uint8, uint16 and float32, and images above 4 GiB, become a plain TIFF with the axes in
    tifffile's notation. The pixel size is kept. The same image gives the same bytes.
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
        _planes(image),
        shape=tuple(size for size in shape[:2] if size > 1) + shape[2:],
        dtype=image.dtype,
        imagej=imagej,
        bigtiff=image.nbytes >= _IMAGEJ_BYTES,
        photometric="minisblack",
        metadata=metadata,
        resolution=resolution,
        resolutionunit="NONE",
    )


def _planes(image: xr.DataArray) -> Iterator[np.ndarray[Any, Any]]:
    for z in range(image.sizes.get("z", 1)):
        volume = image.isel(z=z, missing_dims="ignore")
        for channel in range(image.sizes[CHANNEL]):
            yield np.ascontiguousarray(volume.isel({CHANNEL: channel}).values)


def _axes_of(found: str) -> str | None:
    letters = found.lower().replace("s", "c")
    # a sequence of pages without a name is a stack, unless the file has another z
    for unnamed in "qi":
        if letters.count(unnamed) == 1 and "z" not in letters:
            letters = letters.replace(unnamed, "z")
    known = set(letters) <= set(LETTER_TO_DIM) and len(set(letters)) == len(letters)
    return letters if known else None


def _drop_alpha(array: xr.DataArray, series: tifffile.TiffPageSeries) -> xr.DataArray:
    page = series.keyframe
    n_alpha = sum(kind in _ALPHA for kind in page.extrasamples)
    if n_alpha == 0 or "S" not in series.axes:
        return array
    return array.isel({CHANNEL: slice(None, -n_alpha)})


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
