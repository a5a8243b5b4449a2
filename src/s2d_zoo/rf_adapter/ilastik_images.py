"""The images of an ilastik project, together with what is painted on them."""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.data.axes import as_image, label_axes, space_shape
from s2d_zoo.data.image_metadata import check_number_type
from s2d_zoo.data.images import check_finite, read_array
from s2d_zoo.errors import AxesError, ConfigError, ProjectFileError
from s2d_zoo.rf_adapter.ilastik_labels import paint
from s2d_zoo.rf_adapter.ilastik_project import IlastikProject, RawReference
from s2d_zoo.rf_adapter.project_file import open_project
from s2d_zoo.rf_adapter.project_file import read_array as read_dataset
from s2d_zoo.types import CHANNEL

#: an image in the project itself; larger ones are refused before they are read
_MOST_BYTES: Final = 2**35
#: channels of a picture without transparency
_COLOURS: Final = 3
#: ilastik joins the file and the dataset within it like folders
_HDF5_INSIDE: Final = re.compile(r"^(.+?\.(?:h5|hdf5|hdf|ilp))/(.+)$", re.IGNORECASE)

#: several files, joined as ilastik does on Windows and elsewhere, or a pattern of names
_STACK: Final = re.compile(r"\*|\.\w+[;:](?:[/\\]|\w:[/\\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image of a project, or one of its time points."""

    name: str
    lane: int
    time: int | None  #: None where there is no time, or just one point
    image: xr.DataArray  #: channel (z) y x
    path: (
        Path | None
    )  #: of the file that holds it (of a dataset in HDF5: ``file.h5:/key``); None where the project does
    scribbles: tuple[xr.DataArray, ...]  #: (z) y x, uint8, of each stage

    @property
    def painted(self) -> bool:
        """Whether anything is painted on it, in any stage."""
        return any(bool((one > 0).any()) for one in self.scribbles)


def read_frames(project: IlastikProject, images: Sequence[Path] = (), *, axes: str | None = None) -> Iterator[Frame]:
    """Read the images of a project, one after another.

    Args:
        project: as read.
        images: where its images are now, one for each lane; where the project says when empty.
        axes: of these images, where neither they nor the project tell.

    Raises:
        ConfigError: if not as many images are given as there are lanes.
        ProjectFileError: if an image is not where the project says, or labels lie outside of it.
        AxesError: if an image has other axes or sizes than the one in the project.
        ImageFileError: if an image cannot be read.
    """
    if images and len(images) != len(project.raw):
        wanted = ", ".join(one.location for one in project.raw)
        msg = f"{project.path} has {len(project.raw)} images ({wanted}), but {len(images)} were given with --image."
        raise ConfigError(msg)
    for lane, raw in enumerate(project.raw):
        path = images[lane] if images else None if raw.embedded else _find(project, raw)
        array = _read_embedded(project, raw) if path is None else _read_file(project, raw, path, axes)
        yield from _cut(project, lane, array, path)


def _cut(project: IlastikProject, lane: int, array: xr.DataArray, path: Path | None) -> Iterator[Frame]:
    """One frame for each time point."""
    raw = project.raw[lane]
    times = array.sizes.get("time", 1)
    for time in range(times):
        image = as_image(
            array.isel(time=time, drop=True) if "time" in array.dims else array, what=f"image {raw.nickname}"
        )
        check_finite(image, f"image {raw.nickname}")
        labels = [stage.labels[lane] if lane < len(stage.labels) else () for stage in project.stages]
        yield Frame(
            name=raw.nickname if times == 1 else f"{raw.nickname}-t{time}",
            lane=lane,
            time=None if times == 1 else time,
            image=image,
            path=path,
            scribbles=tuple(paint(blocks, space_shape(image), time=time) for blocks in labels),
        )


def _read_embedded(project: IlastikProject, raw: RawReference) -> xr.DataArray:
    """As stored, with its axes."""
    with open_project(project.path) as file:
        location = raw.location.strip("/")
        if location not in file:
            msg = (
                f"{project.path} should hold the image {raw.nickname} itself, but does not. Say where it is: --image "
                "FILE, or add it again in ilastik."
            )
            raise ProjectFileError(msg)
        values = read_dataset(file, location, most_bytes=_MOST_BYTES)
    check_number_type(values.dtype, project.path)
    return _checked(label_axes(values, raw.axes), raw, project)


def _read_file(project: IlastikProject, raw: RawReference, path: Path, axes: str | None) -> xr.DataArray:
    """As stored, with its axes."""
    try:
        array = read_array(path, axes=axes)
    except AxesError:
        if axes is not None or not raw.axes:
            raise
        array = read_array(path, axes=raw.axes)
    return _checked(_with_axes_of(raw, array) if axes is None else array, raw, project)


def _with_axes_of(raw: RawReference, array: xr.DataArray) -> xr.DataArray:
    """Call the axes what they are called in the project, where the shape is the one that it knows."""
    if raw.shape and array.shape == raw.shape and len(raw.axes) == array.ndim:
        return xr.DataArray(array.values, dims=label_axes(array.values, raw.axes).dims, attrs=array.attrs)
    return array


def _checked(array: xr.DataArray, raw: RawReference, project: IlastikProject) -> xr.DataArray:
    if not raw.shape or len(raw.shape) != len(raw.axes):
        return array
    expected = dict(label_axes(np.empty(0).reshape([0] * len(raw.axes)), raw.axes).sizes)
    expected = {dim: size for dim, size in zip(expected, raw.shape, strict=True) if size > 1}
    found = {dim: size for dim, size in array.sizes.items() if size > 1}
    if expected != found:
        advice = _advise(expected.get(CHANNEL, 1), found.get(CHANNEL, 1))
        msg = (
            f"{project.path} was made on an image of {_show(expected)} ({raw.nickname}), but the one here has "
            f"{_show(found)}. {advice}"
        )
        raise AxesError(msg)
    return array


def _show(sizes: Mapping[Hashable, int]) -> str:
    return ", ".join(f"{dim}={size}" for dim, size in sizes.items())


def _advise(wanted: int, found: int) -> str:
    """What to do about an image of other sizes; ilastik takes transparency for a channel, and we leave it out."""
    if (wanted, found) == (_COLOURS + 1, _COLOURS):
        return (
            "The fourth channel may be transparency (alpha), which s2d-zoo leaves out of pictures. Save the image as a "
            "TIFF of four plain channels (in Fiji: Image > Color > Make Composite), or train on it without alpha."
        )
    if (wanted, found) == (_COLOURS, _COLOURS + 1):
        return "Here it has a fourth channel, which may be transparency (alpha). Save the image without it."
    return "Give the image that the project was made on."


def _find(project: IlastikProject, raw: RawReference) -> Path:
    """Where the project says: an absolute path, or one relative to the project."""
    location = _HDF5_INSIDE.sub(r"\1:/\2", raw.location)
    path = project.path.parent / location  # an absolute path stays what it is
    if raw.location and _is_there(_file_of(path)):
        return path
    stored = PureWindowsPath(location)  # whose drive, C:, looks like the file of a dataset, file.h5:
    name = _file_of(Path(*stored.parts[bool(stored.anchor) :])).name
    beside = project.path.parent / name
    hint = f" Is it {beside}?" if name and _is_there(beside) else ""
    if "://" in raw.location:
        hint = " It is on the web: download it as one file."
    elif _STACK.search(raw.location):
        hint = " It is a stack of files: save it as one TIFF, e.g. in Fiji."
    several = " once for each image, in the project's order" if len(project.raw) > 1 else ""
    where = f"Say where it is: --image FILE{several}.{hint}"
    msg = f"{project.path} wants the image {raw.location}, which is not there. {where}"
    raise ProjectFileError(msg)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def _file_of(path: Path) -> Path:
    """Of ``file.h5:/key`` the file, of ``store.zarr/key`` the store."""
    stores = [parent for parent in path.parents if parent.suffix == ".zarr"]
    return stores[-1] if stores else Path(str(path).partition(":/")[0])
