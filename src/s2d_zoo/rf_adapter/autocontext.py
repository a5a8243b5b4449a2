"""ilastik's Autocontext: a second forest that sees the raw image and what the first one says of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr

from s2d_zoo.contract import RFContract
from s2d_zoo.data.axes import as_image, space_dims
from s2d_zoo.data.blockwise import Block, Blocking, assemble, iterate_blocks
from s2d_zoo.data.images import check_finite
from s2d_zoo.data.stored import PlacedBlock, outline_of
from s2d_zoo.errors import AxesError, ProjectFileError
from s2d_zoo.rf_adapter.classifier import PixelClassifier
from s2d_zoo.rf_adapter.feature_blocks import blocking_for, predict_window
from s2d_zoo.rf_adapter.ilastik_project import IlastikProject
from s2d_zoo.types import CHANNEL

#: ilastik hands probabilities on as whole numbers
_WHOLE: Final = 255


@dataclass(frozen=True, slots=True)
class AutocontextClassifier:
    """Two forests one after another; a `s2d_zoo.contract.ProbabilityPredictor`.

    Raises:
        ProjectFileError: if the second does not take the raw channels and all classes of the first.
    """

    first: PixelClassifier  #: on the raw image
    second: PixelClassifier  #: on the raw image and the first one's probabilities, 0…255

    def __post_init__(self) -> None:
        given = self._raw_channels + len(self.first.contract.classes)
        if self.second.contract.raw_channels != given:
            msg = (
                f"The second forest takes {self.second.contract.raw_channels} channels, but the raw image and the "
                f"classes of the first are {given}. Train the project in ilastik again."
            )
            raise ProjectFileError(msg)

    @property
    def contract(self) -> RFContract:
        """What it delivers: the classes of the second forest, from the raw image alone."""
        return self.second.contract.model_copy(update={"raw_channels": self._raw_channels})

    @property
    def _raw_channels(self) -> int:
        return self.first.contract.raw_channels or 1

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Class probabilities of an image; see `PixelClassifier.predict_proba`."""
        return assemble(self.predict_blocks(image, progress=progress), like=as_image(image))

    def predict_blocks(self, image: xr.DataArray, *, progress: str | None = None) -> Iterator[PlacedBlock]:
        """Class probabilities of an image that may be larger than memory; see `PixelClassifier.predict_blocks`."""
        image = as_image(image)
        if image.sizes[CHANNEL] != self._raw_channels:
            msg = f"The project is for images with {self._raw_channels} channels; this one has {image.sizes[CHANNEL]}."
            raise AxesError(msg)
        for stage in (self.first, self.second):
            if not stage.selection.compute_in_2d and len(space_dims(image)) != stage.contract.ndim:
                msg = (
                    f"The project filters images in {stage.contract.ndim}D; this one has the axes {image.dims}. Give "
                    "an image like the project's own."
                )
                raise AxesError(msg)
        for block in iterate_blocks(image, blocking=self._blocking(image), progress=progress):
            check_finite(block.image, "image", start=block.start)
            yield block.window, self._predict(block)

    def _blocking(self, image: xr.DataArray) -> Blocking:
        """Blocks that are small enough for both stages; what the first one must see lies around what the second must.

        A stage looks up and down only where it filters in 3D.
        """
        sizes = {str(dim): size for dim, size in image.sizes.items()}
        channels = self._raw_channels + len(self.first.contract.classes)
        seen = outline_of({**sizes, CHANNEL: channels}, np.dtype(np.float32), {})
        stages = (blocking_for(self.first.selection, image), blocking_for(self.second.selection, seen))
        dims = space_dims(image)
        return Blocking(
            halo={dim: sum(stage.halo.get(dim, 0) for stage in stages) for dim in dims},
            block={dim: min(stage.block[dim] for stage in stages) for dim in dims},
        )

    def _predict(self, block: Block) -> xr.DataArray:
        second = self.second.selection
        reach = {dim: 0 if dim == "z" and second.compute_in_2d else second.support for dim in block.inside}
        # what the second stage must see; it ends where the image does
        window = {
            dim: slice(max(0, part.start - reach[dim]), part.stop + reach[dim]) for dim, part in block.inside.items()
        }
        first = predict_window(self.first.selection, self.first.predict_features, block.image, window)
        raw = block.image.isel(window)
        whole = np.floor(first.values * np.float32(_WHOLE))
        seen = xr.DataArray(np.concatenate([raw.values.astype(np.float32), whole]), dims=raw.dims)
        inside = {
            dim: slice(part.start - window[dim].start, part.stop - window[dim].start)
            for dim, part in block.inside.items()
        }
        return predict_window(second, self.second.predict_features, seen, inside)


def stored_stage(project: IlastikProject) -> int:
    """The stage of the classifier that is stored: of Autocontext the second, if that one is trained."""
    last = len(project.stages) - 1
    return last if project.stages[last].forest is not None or project.stages[last].is_foreign else 0


def stored_classifier(
    project: IlastikProject, *, foreground: int | None = None
) -> PixelClassifier | AutocontextClassifier:
    """The classifier of a project, as ilastik trained it: of Autocontext both stages, if both are trained.

    Raises:
        ProjectFileError: if there is no forest, or it does not fit the features.
        ConfigError: if the foreground is not one of the labels, or cannot be told.
    """
    if stored_stage(project) > 0:
        return AutocontextClassifier(project.classifier(0, foreground=1), project.classifier(1, foreground=foreground))
    return project.classifier(0, foreground=foreground)
