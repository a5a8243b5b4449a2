"""A Random Forest pixel classifier: strokes in, class probabilities out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import xarray as xr
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.contract import ClassContract, ForestContract, RFContract
from s2d_zoo.data.axes import as_image, count_space_dims, space_dims
from s2d_zoo.data.blockwise import assemble
from s2d_zoo.data.images import check_finite
from s2d_zoo.data.scribbles import check_scribbles, count_classes
from s2d_zoo.data.stored import PlacedBlock
from s2d_zoo.errors import AxesError, ConfigError, UserInputError
from s2d_zoo.rf_adapter.classes import choose_foreground_class, foreground_channels, name_classes
from s2d_zoo.rf_adapter.feature_blocks import predict_in_blocks
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest, ForestPredictor
from s2d_zoo.types import CHANNEL, FEATURE

_LABELS_IN_WORDS: Final = "strokes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestSettings:
    """How to grow a forest; the defaults are ilastik's.

    Raises:
        ConfigError: if a number is below 1.
    """

    n_estimators: int = 100
    max_depth: int | None = None  #: unlimited when None
    min_samples_leaf: int = 1

    def __post_init__(self) -> None:
        if min(self.n_estimators, self.min_samples_leaf, 1 if self.max_depth is None else self.max_depth) < 1:
            msg = f"Trees, depth and samples per leaf must be at least 1, got {self}."
            raise ConfigError(msg)


class PixelClassifier:
    """A Random Forest over ilastik's features (after ilastik, doi:10.1038/s41592-019-0582-9).

    Args:
        selection: features to compute; all of ilastik's when ``None``.
        settings: how to grow the forest.
        classes: name and meaning of label 1, 2, …; background and foreground when ``None``.
        random_state: seed; the same seed and strokes give the same forest, bit by bit.
    """

    def __init__(
        self,
        *,
        selection: FeatureSelection | None = None,
        settings: ForestSettings | None = None,
        classes: Sequence[ClassContract] | None = None,
        random_state: int = 0,
    ) -> None:
        self.selection = selection or FeatureSelection()
        self.settings = settings or ForestSettings()
        self.random_state = random_state
        self.classes = tuple(classes) if classes else name_classes(2)
        self._forest: FlatForest | None = None
        self._predictor: ForestPredictor | None = None
        self._contract: RFContract | None = None

    def fit(
        self, image: xr.DataArray | Sequence[xr.DataArray], scribbles: xr.DataArray | Sequence[xr.DataArray]
    ) -> Self:
        """Learn from strokes.

        Args:
            image: channel (z) y x, any number type; one or several.
            scribbles: (z) y x, 0 = unlabelled, 1…n = class; one for each image.

        Raises:
            ScribbleError: if the strokes are of one class only, or there are none.
            AxesError: if an image and its strokes differ in size, or images in channels.
            UserInputError: if an image has NaN or infinite values.
        """
        images, strokes = pair_up(image, scribbles)
        features = [self.selection.compute(one) for one in images]
        return self.fit_features(features, strokes, contract_of=images[0])

    def fit_features(
        self, features: Sequence[xr.DataArray], scribbles: Sequence[xr.DataArray], *, contract_of: xr.DataArray
    ) -> Self:
        """Learn from features that are already computed.

        Args:
            features: feature (z) y x, float32, as `FeatureSelection.compute` gives them.
            scribbles: (z) y x, uint8, one for each.
            contract_of: one of the images, for its channels and pixel size.

        Raises:
            ScribbleError: if the strokes are of one class only.
            ConfigError: if there are more classes than names for them.
        """
        n_classes = count_classes(scribbles)
        if n_classes > len(self.classes):
            named = ", ".join(entry.name for entry in self.classes)
            msg = f"The strokes use labels up to {n_classes}, but only {len(self.classes)} classes are named: {named}."
            raise ConfigError(msg)
        rows, labels = _labelled_rows(features, scribbles)
        forest = RandomForestClassifier(
            n_estimators=self.settings.n_estimators,
            max_depth=self.settings.max_depth,
            min_samples_leaf=self.settings.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=-1,
        ).fit(rows, labels)
        contract = RFContract(
            ndim=count_space_dims(contract_of),
            classes=self.classes,
            channels=foreground_channels(self.classes),
            features=self.selection.to_contract(),
            forest=ForestContract(
                implementation="sklearn",
                n_estimators=self.settings.n_estimators,
                max_depth=self.settings.max_depth,
                min_samples_leaf=self.settings.min_samples_leaf,
                labels=_LABELS_IN_WORDS,
            ),
            raw_channels=contract_of.sizes[CHANNEL],
            pixel_size=contract_of.attrs.get("pixel_size"),
        )
        return self._set(FlatForest.from_sklearn(forest, n_classes=len(self.classes)), contract)

    @classmethod
    def from_forest(cls, forest: FlatForest, contract: RFContract, *, random_state: int = 0) -> "PixelClassifier":
        """A fitted classifier from its parts, e.g. out of a file.

        Raises:
            ConfigError: if the contract does not say which features the forest takes, or names other classes or
                other features.
        """
        if contract.features is None or len(contract.classes) != forest.n_classes:
            msg = f"The contract must name features and {forest.n_classes} classes, got {contract}."
            raise ConfigError(msg)
        settings = ForestSettings(
            n_estimators=forest.n_trees,
            max_depth=contract.forest.max_depth,
            min_samples_leaf=contract.forest.min_samples_leaf,
        )
        selection = FeatureSelection.from_contract(contract.features)
        ndim = 2 if selection.compute_in_2d else contract.ndim
        n_features = len(selection.names(ndim=ndim, channels=contract.raw_channels or 1))
        if contract.raw_channels is not None and n_features != forest.n_features:
            msg = f"The contract names {n_features} features, but the forest takes {forest.n_features}."
            raise ConfigError(msg)
        classifier = cls(selection=selection, settings=settings, classes=contract.classes, random_state=random_state)
        return classifier._set(forest, contract)

    def with_foreground(self, foreground: int) -> "PixelClassifier":
        """The same forest, with another label as the objects'.

        Args:
            foreground: label, counted from 1.

        Raises:
            ConfigError: if it is not one of the labels.
            UserInputError: before `fit`.
        """
        forest, _, contract = self._fitted()
        classes = choose_foreground_class(self.classes, foreground)
        update = {"classes": classes, "channels": foreground_channels(classes)}
        return self.from_forest(forest, contract.model_copy(update=update), random_state=self.random_state)

    def _set(self, forest: FlatForest, contract: RFContract) -> Self:
        self._forest, self._predictor, self._contract = forest, forest.predictor(), contract
        return self

    @property
    def forest(self) -> FlatForest:
        """The fitted forest.

        Raises:
            UserInputError: before `fit`.
        """
        return self._fitted()[0]

    @property
    def contract(self) -> RFContract:
        """What it delivers.

        Raises:
            UserInputError: before `fit`.
        """
        return self._fitted()[2]

    def predict_proba(self, image: xr.DataArray, *, progress: str | None = None) -> xr.DataArray:
        """Class probabilities of an image, computed block by block.

        Args:
            image: channel (z) y x, with as many channels as the images it was fitted on.
            progress: label of a progress bar on stderr.

        Returns:
            channel (z) y x, float32 in [0, 1], one channel for each class, summing to 1.

        Raises:
            UserInputError: before `fit`, for NaN in the image, or an image too small for the largest scale.
            AxesError: if the number of channels differs, or of dimensions where the filters run in 3D.
        """
        return assemble(self.predict_blocks(image, progress=progress), like=as_image(image))

    def predict_blocks(self, image: xr.DataArray, *, progress: str | None = None) -> Iterator[PlacedBlock]:
        """Class probabilities of an image that may be larger than memory, one block after another.

        Args:
            image: as for `predict_proba`, in memory or from `s2d_zoo.data.lazy_images.open_image`.
            progress: as for `predict_proba`.

        Returns:
            For each block, x fastest: where it lies in the image, and its probabilities. Together they are equal to
            what `predict_proba` gives.

        Raises:
            UserInputError, AxesError: as for `predict_proba`; for NaN once its block is reached.
        """
        contract = self.contract
        image = as_image(image)
        if image.sizes[CHANNEL] != contract.raw_channels:
            msg = (
                f"The classifier was fitted on images with {contract.raw_channels} channels; this one has "
                f"{image.sizes[CHANNEL]}. Give the same channels in the same order."
            )
            raise AxesError(msg)
        if not self.selection.compute_in_2d and len(space_dims(image)) != contract.ndim:
            msg = (
                f"The classifier was fitted on {contract.ndim}D images; this one has axes {image.dims}. "
                "Give the same axes, or a classifier that filters slice by slice."
            )
            raise AxesError(msg)
        return predict_in_blocks(self.selection, self.predict_features, image, progress=progress)

    def predict_features(self, features: xr.DataArray) -> xr.DataArray:
        """Class probabilities (channel (z) y x, float32) of features (feature (z) y x, float32).

        Raises:
            UserInputError: before `fit`.
        """
        predictor = self._fitted()[1]
        rows = features.values.reshape(features.sizes[FEATURE], -1).T
        values = predictor.predict_proba(rows).T.reshape(-1, *features.shape[1:])
        names = [entry.name for entry in self.classes]
        return xr.DataArray(values, dims=(CHANNEL, *space_dims(features)), coords={CHANNEL: names})

    def _fitted(self) -> tuple[FlatForest, ForestPredictor, RFContract]:
        if self._forest is None or self._predictor is None or self._contract is None:
            msg = "This classifier has not learnt anything yet: call fit(image, scribbles) first."
            raise UserInputError(msg)
        return self._forest, self._predictor, self._contract


def pair_up(
    image: xr.DataArray | Sequence[xr.DataArray], scribbles: xr.DataArray | Sequence[xr.DataArray]
) -> tuple[tuple[xr.DataArray, ...], tuple[xr.DataArray, ...]]:
    """Check images and their strokes against each other; see `PixelClassifier.fit` for what may be wrong."""
    images = [image] if isinstance(image, xr.DataArray) else list(image)
    strokes = [scribbles] if isinstance(scribbles, xr.DataArray) else list(scribbles)
    if len(images) != len(strokes) or not images:
        msg = f"Each image needs its strokes: there are {len(images)} images and {len(strokes)} stroke images."
        raise UserInputError(msg)
    images = [as_image(one) for one in images]
    channels = {one.sizes[CHANNEL] for one in images}
    dims = {one.dims for one in images}
    if len(channels) > 1 or len(dims) > 1:
        msg = f"All images must have the same axes and channels, found {[dict(one.sizes) for one in images]}."
        raise AxesError(msg)
    for one in images:
        check_finite(one, "image")
    checked = tuple(check_scribbles(one, image=picture) for picture, one in zip(images, strokes, strict=True))
    count_classes(checked)
    return tuple(images), checked


def _labelled_rows(
    features: Sequence[xr.DataArray], scribbles: Sequence[xr.DataArray]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Feature rows (n, features) and labels (n) of all painted pixels."""
    rows, labels = [], []
    for one, strokes in zip(features, scribbles, strict=True):
        painted = strokes.values > 0
        rows.append(one.values[:, painted].T)
        labels.append(strokes.values[painted])
    return np.concatenate(rows), np.concatenate(labels)
