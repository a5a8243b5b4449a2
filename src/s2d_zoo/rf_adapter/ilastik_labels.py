"""Strokes in an ilastik project: blocks of labels, each with its place in the image."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import h5py
import numpy as np
import xarray as xr

from s2d_zoo.data.axes import parse_axes
from s2d_zoo.errors import AxesError, ProjectFileError
from s2d_zoo.rf_adapter.project_file import parse_axistags, read_array, read_attribute, sort_numbered
from s2d_zoo.types import CHANNEL, SPACE

#: order of labels in projects that do not say it, and whose images have other axes
CANONICAL_ORDER: Final = "txyzc"
_SLICE: Final = re.compile(r"\[?(\d{1,12}):(\d{1,12})\]?")
#: all blocks of a project; there is one byte for each painted pixel and those around it
MOST_BYTES: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelBlock:
    """A part of an image in which something is painted."""

    labels: xr.DataArray  #: (time) (z) y x, uint8, 0 = unlabelled, 1…n = label
    start: Mapping[str, int]  #: where it begins, for each of its dims

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Whether it lies within an image of these sizes; a dim that is missing there has size 1."""
        return all(self.start[dim] + size <= sizes.get(dim, 1) for dim, size in _sizes(self.labels).items())

    @property
    def reaches_into_depth(self) -> bool:
        """Whether it lies in a volume of more than one slice."""
        return self.start.get("z", 0) + self.labels.sizes.get("z", 1) > 1

    @property
    def times(self) -> range:
        """The time points that it covers; 0 where there is no time."""
        begin = self.start.get("time", 0)
        return range(begin, begin + self.labels.sizes.get("time", 1))


def read_labels_of_lane(
    lane: h5py.Group,
    *,
    axes: str,
    shape: Sequence[int],
    n_classes: int,
    canonical: bool = False,
    most_bytes: int = MOST_BYTES,
) -> tuple[LabelBlock, ...]:
    """Read the painted blocks of one image.

    Args:
        lane: e.g. ``PixelClassification/LabelSets/labels000``.
        axes: letters of the image's axes, in its order.
        shape: its sizes; empty where the project does not say, so that places cannot be checked.
        n_classes: how many labels the project has.
        canonical: whether the ilastik that wrote it stored labels as `CANONICAL_ORDER`, whatever the image's axes.
        most_bytes: how much may be read; a small file can declare any number of large blocks.

    Raises:
        AxesError: if the axes of a block are unknown.
        ProjectFileError: for places that are no slices or lie outside of the image, and for labels that do not exist.
    """
    known = len(shape) == len(axes)
    sizes = dict(zip(parse_axes(axes, len(axes)), shape, strict=True)) if known else {}
    blocks = []
    for name in sort_numbered(name for name in lane if name.startswith("block")):
        values = read_array(lane, name, most_bytes=most_bytes)
        most_bytes -= values.nbytes
        blocks.append(_place_block(values, lane[name], _orders(lane[name], axes, canonical), sizes, n_classes))
    return tuple(blocks)


def paint(blocks: Sequence[LabelBlock], sizes: Mapping[str, int], *, time: int = 0) -> xr.DataArray:
    """Labels of one time point: (z) y x, uint8, of the given sizes.

    Raises:
        AxesError: if the image has an axis that the labels lack.
        ProjectFileError: if a block lies outside.
    """
    dims = tuple(dim for dim in SPACE if dim in sizes)
    labels = xr.DataArray(np.zeros([sizes[dim] for dim in dims], dtype=np.uint8), dims=dims)
    for block in blocks:
        if time not in block.times:
            continue
        missing = [dim for dim in dims if dim not in block.start]
        if missing:
            msg = (
                f"The project's labels were painted on the axes {' '.join(block.start)}, but the image has "
                f"{' and '.join(missing)}, too ({dict(sizes)}). Give the image that they were painted on."
            )
            raise AxesError(msg)
        if not block.fits({**sizes, "time": block.times.stop}):
            msg = (
                f"The project's labels reach beyond the image: they were painted from {dict(block.start)} on over "
                f"{_sizes(block.labels)} px, the image has {dict(sizes)}. Give the image that they were painted on."
            )
            raise ProjectFileError(msg)
        values = block.labels.isel(time=time - block.start["time"]) if "time" in block.labels.dims else block.labels
        values = values.isel({dim: 0 for dim in values.dims if dim not in dims})
        place = tuple(slice(block.start[dim], block.start[dim] + values.sizes[dim]) for dim in dims)
        painted = values.transpose(*dims).values
        labels.values[place] = np.where(painted > 0, painted, labels.values[place])
    return labels


def _place_block(
    values: np.ndarray[Any, Any], node: h5py.Dataset, orders: Sequence[str], sizes: Mapping[str, int], n_classes: int
) -> LabelBlock:
    where = f"{node.name} of {node.file.filename}"
    if values.dtype.kind not in "ui" or (values.size and values.max() > n_classes) or (values < 0).any():
        highest = f" up to {values.max()}" if values.dtype.kind in "uif" and values.size else ""
        msg = (
            f"{where} holds {values.dtype}{highest}; expected labels 0…{n_classes}, the project's classes. "
            "Open the project in ilastik and save it again."
        )
        raise ProjectFileError(msg)
    text = str(read_attribute(node, "blockSlice") or "")
    slices = [_SLICE.fullmatch(part.strip()) for part in text.split(",")]
    places = [(int(one[1]), int(one[2])) for one in slices if one is not None]
    if len(places) != len(slices) or [stop - start for start, stop in places] != list(values.shape):
        msg = (
            f"{where} should lie at slices for its shape {values.shape}, found blockSlice {text[:200]!r}. "
            "Open the project in ilastik and save it again."
        )
        raise ProjectFileError(msg)
    starts = [start for start, _ in places]
    blocks = [_place(values, order, starts) for order in orders if len(order) == values.ndim]
    fitting = [block for block in blocks if block is not None and (not sizes or block.fits(sizes))]
    if not fitting:
        msg = (
            f"{where} was painted at {text}, outside of the image with the sizes {dict(sizes) or 'unknown'}, or on "
            f"other axes than {' or '.join(orders)}. Open the project in ilastik, check the image, and save it again."
        )
        raise ProjectFileError(msg)
    return fitting[0]


def _orders(block: h5py.Dataset, axes: str, canonical: bool) -> list[str]:  # noqa: FBT001 - private, passed on
    """Orders of axes in which a block may be stored, the likeliest first."""
    tags = read_attribute(block, "axistags")
    if tags is not None:
        return [parse_axistags(str(tags))]
    # some versions moved the channel to the end
    orders = [axes if "c" in axes else f"{axes}c", axes.replace("c", "") + "c", CANONICAL_ORDER]
    return list(dict.fromkeys(reversed(orders) if canonical else orders))


def _place(values: np.ndarray[Any, Any], order: str, starts: Sequence[int]) -> LabelBlock | None:
    """The block with these axes; ``None`` if it cannot have them, since labels have just one channel."""
    dims = parse_axes(order, values.ndim)
    array = xr.DataArray(values.astype(np.uint8), dims=dims)
    start = dict(zip(dims, starts, strict=True))
    if CHANNEL in dims:
        if array.sizes[CHANNEL] != 1 or start.pop(CHANNEL) != 0:
            return None
        array = array.isel({CHANNEL: 0})
    return LabelBlock(labels=array, start=start)


def _sizes(values: xr.DataArray) -> dict[str, int]:
    return {str(dim): size for dim, size in values.sizes.items()}
