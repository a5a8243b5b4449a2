"""Probabilities that others have made: files of maps, and any classifier with sklearn's interface."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr

from s2d_zoo.contract import ClassContract, ForestContract, RFContract
from s2d_zoo.data.axes import as_image, check_same_space, count_space_dims, space_dims
from s2d_zoo.data.blockwise import assemble
from s2d_zoo.data.images import check_finite
from s2d_zoo.data.stored import PlacedBlock
from s2d_zoo.errors import AxesError, ConfigError
from s2d_zoo.rf_adapter.classes import foreground_channels, name_classes
from s2d_zoo.rf_adapter.feature_blocks import predict_in_blocks
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.types import CHANNEL, FEATURE

#: rows that a foreign classifier gets at a time
_ROWS: Final = 65536
#: probabilities that were added up may exceed 1 by this much
_ROUNDING: Final = 1e-5


@dataclass(frozen=True, slots=True)
class ProbabilityMaps:
    """Probabilities that are there already, e.g. exported from ilastik, Weka or Labkit; a `ProbabilityPredictor`."""

    maps: xr.DataArray  #: channel (z) y x, one channel for each class
    contract: RFContract
    single: bool = False  #: only the foreground was given, the other channel is what is left

    @classmethod
    def describe(cls, maps: xr.DataArray, *, foreground: int = 2) -> "ProbabilityMaps":
        """Take maps of which nothing is known but their channels.

        Args:
            maps: channel (z) y x; a single channel is the foreground, and the background is what is left.
            foreground: which channel is the foreground, counted from 1. Of a single channel 1 and 2 say the same: the
                channel itself, and its place once the background is put before it.

        Raises:
            ConfigError: if there is no such channel.
            UserInputError: for NaN.
        """
        maps = as_image(maps, what="probabilities")
        check_finite(maps, "probabilities")
        low, high = float(maps.min()), float(maps.max())
        single = maps.sizes[CHANNEL] == 1
        if single:
            if foreground not in {1, 2}:
                msg = f"There is one channel, and that is the foreground; got channel {foreground}. Say 1, or nothing."
                raise ConfigError(msg)
            maps = xr.concat([max(1.0, high) - maps, maps], dim=CHANNEL)
            foreground = 2
        classes = name_classes(maps.sizes[CHANNEL], foreground=foreground)
        contract = RFContract(
            ndim=count_space_dims(maps),
            classes=classes,
            channels=foreground_channels(classes),
            forest=ForestContract(implementation="unknown", labels="unknown"),
            raw_channels=None,
            pixel_size=maps.attrs.get("pixel_size"),
        )
        if low < 0 or high > 1 + _ROUNDING:
            # unchecked: no contract may say so, which is what the comparison with an enhancer's is to find
            contract = contract.model_copy(update={"value_range": (low, high)})
        return cls(maps, contract, single)

    @property
    def largest_deviation(self) -> float:
        """How far the sum over all classes is from 1, at the worst pixel."""
        return float(np.abs(self.maps.values.sum(axis=0, dtype=np.float64) - 1).max())

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """The maps, whatever the image (channel (z) y x) shows.

        Raises:
            AxesError: if the image has other pixels.
        """
        del progress  # there is nothing to wait for
        check_same_space(as_image(image), self.maps, names=("image", "probabilities"))
        return self.maps.astype(np.float32).assign_attrs(image.attrs)


class Classifier(Protocol):
    """What sklearn's classifiers have in common."""

    @property
    def classes_(self) -> Any:  # noqa: ANN401 - an array
        """The labels that it knows, 1…n."""
        ...

    def predict_proba(self, rows: Any, /) -> Any:  # noqa: ANN401 - arrays
        """Probability of each label for rows of features."""
        ...


class SklearnClassifier:
    """Any fitted classifier with sklearn's interface on ilastik's features; a `ProbabilityPredictor`.

    Args:
        classifier: fitted on rows of ``selection``'s features and labels 1…n.
        selection: the features, in their order.
        classes: name and meaning of label 1…n; labels that it never saw get probability 0.
        raw_channels: of the images.
        ndim: 2 or 3, of the images.

    Raises:
        ConfigError: if it was not fitted, gives no probabilities, takes other features, or knows labels without a name.
    """

    def __init__(
        self,
        classifier: Classifier,
        selection: FeatureSelection,
        *,
        classes: Sequence[ClassContract] | None = None,
        raw_channels: int = 1,
        ndim: int = 2,
    ) -> None:
        filters_ndim = 2 if selection.compute_in_2d else ndim
        _check_interface(classifier, len(selection.names(ndim=filters_ndim, channels=raw_channels)))
        labels = np.asarray(classifier.classes_)
        self.classes = tuple(classes) if classes else name_classes(max(2, len(labels)))
        if labels.dtype.kind not in "ui" or labels.min() < 1 or labels.max() > len(self.classes):
            msg = f"The classifier knows the labels {labels.tolist()}; expected 1…{len(self.classes)}, one per class."
            raise ConfigError(msg)
        self.classifier = classifier
        self.selection = selection
        self.contract = RFContract(
            ndim=3 if ndim == 3 else 2,
            classes=self.classes,
            channels=foreground_channels(self.classes),
            features=selection.to_contract(),
            forest=ForestContract(implementation="unknown", labels=f"not stated; {type(classifier).__name__}"),
            raw_channels=raw_channels,
        )

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Class probabilities of an image; see `PixelClassifier.predict_proba`."""
        return assemble(self.predict_blocks(image, progress=progress), like=as_image(image))

    def predict_blocks(self, image: xr.DataArray, *, progress: str | None = None) -> Iterator[PlacedBlock]:
        """Class probabilities of an image that may be larger than memory; see `PixelClassifier.predict_blocks`."""
        image = as_image(image)
        if image.sizes[CHANNEL] != self.contract.raw_channels:
            msg = f"The classifier takes {self.contract.raw_channels} channels; this image has {image.sizes[CHANNEL]}."
            raise AxesError(msg)
        return predict_in_blocks(self.selection, self._predict_features, image, progress=progress)

    def _predict_features(self, features: xr.DataArray) -> xr.DataArray:
        rows = features.values.reshape(features.sizes[FEATURE], -1).T
        values = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        columns = np.asarray(self.classifier.classes_) - 1
        for start in range(0, len(rows), _ROWS):
            chunk = np.ascontiguousarray(rows[start : start + _ROWS])
            values[start : start + _ROWS, columns] = self.classifier.predict_proba(chunk)
        names = [entry.name for entry in self.classes]
        shape = (len(names), *features.shape[1:])
        return xr.DataArray(values.T.reshape(shape), dims=(CHANNEL, *space_dims(features)), coords={CHANNEL: names})


def _check_interface(classifier: Classifier, n_features: int) -> None:
    """Check what would otherwise show only once it predicts."""
    name = type(classifier).__name__
    if not hasattr(classifier, "classes_"):
        msg = f"The {name} was not fitted: it knows no classes. Call its fit(rows, labels) first."
        raise ConfigError(msg)
    if not hasattr(classifier, "predict_proba"):
        msg = (
            f"The {name} gives no probabilities: it has no predict_proba. Take another classifier, or wrap it, e.g. in "
            "sklearn's CalibratedClassifierCV."
        )
        raise ConfigError(msg)
    taken = getattr(classifier, "n_features_in_", n_features)
    if taken != n_features:
        msg = (
            f"The {name} was fitted on rows of {taken} features, but the selection has {n_features} for images with "
            "these channels and dimensions. Give the selection, raw_channels and ndim that it was fitted with."
        )
        raise ConfigError(msg)
