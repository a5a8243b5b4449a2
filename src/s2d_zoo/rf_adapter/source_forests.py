"""Many forests from labelled source images: what an enhancer learns from.

After Matskevych et al. 2022 (doi:10.3389/fcomp.2022.805166) and its staged variant in torch-em: the first
forests learn from a few simulated strokes or from a crop; each later stage continues a forest of the stage
before and adds tiles from where that one was most wrong, as a person who corrects the classifier would.

A forest is shown with the images that are most like those that it was painted on, because that is how people use one:
nobody expects a forest to work on an image from another microscope. What it says of painted images themselves is not
shown where there are others: it knows by heart what was painted there, and an enhancer would learn to trust it.

All is cached in one folder and resumed from there: ``forests/NNNN.safetensors`` and the foreground
probabilities ``maps.zarr/NNNN/<image>`` (uint8, 255 = 1).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from filelock import FileLock
from tqdm import tqdm

from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.microscopes import Microscope, MicroscopeVariation
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.persistence import load_classifier, save_classifier
from s2d_zoo.rf_adapter.source_strokes import dense_crop, has_both_classes, strokes, worst_tiles
from s2d_zoo.types import CHANNEL

_TILES_PER_IMAGE: Final = 3
#: grey-value percentiles by which images are compared
_PERCENTILES: Final = (5, 25, 50, 75, 90, 99)
#: so that the noise of no two seeds is the same, up to as many forests
_NOISE_STEP: Final = 1_000_003
#: draws before a source without enough of both classes is given up
_TRIES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceForestSettings:
    """How many forests, and from what.

    Raises:
        ConfigError: if there are fewer forests than stages, or a number is below 1.
    """

    n_forests: int = 90
    n_stages: int = 3  #: the first from strokes and crops; each later one adds worst tiles
    n_images: int = 2  #: at most as many images are painted on for one forest
    n_neighbours: int = 2  #: images, most like the first painted one, that the forest is shown with
    dense_fraction: float = 0.3  #: share of first-stage forests that learn from a dense crop instead of strokes
    strokes: tuple[int, int] = (2, 25)  #: fewest and most per class and image; drawn as a logarithm
    dense_pixels: int | None = None  #: of each class in a dense crop, at most: large crops take minutes to fit
    n_estimators: int = 100
    #: each first-stage forest sees the images as some other microscope would have taken them
    microscopes: MicroscopeVariation = field(default_factory=MicroscopeVariation)
    seed: int = 0

    def __post_init__(self) -> None:
        dense = 1 if self.dense_pixels is None else self.dense_pixels
        counts = (self.n_stages, self.n_images, self.n_estimators, self.strokes[0], dense)
        if min(counts) < 1 or self.n_forests < self.n_stages or self.n_neighbours < 0:
            msg = (
                "Counts must be at least 1, and there must be a forest for every stage; got "
                f"n_forests: {self.n_forests}, n_stages: {self.n_stages}, n_images: {self.n_images}, n_neighbours: "
                f"{self.n_neighbours}, strokes: {list(self.strokes)}, dense_pixels: {self.dense_pixels}, n_estimators: "
                f"{self.n_estimators}."
            )
            raise ConfigError(msg)
        if self.strokes[0] > self.strokes[1]:
            msg = f"The fewest strokes come before the most, got {self.strokes}."
            raise ConfigError(msg)

    @property
    def per_stage(self) -> int:
        """Forests in each stage (the last one may have fewer)."""
        return -(-self.n_forests // self.n_stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMap:
    """What one forest says of one image."""

    forest: int
    image: str  #: name of the image
    dataset: str | None  #: that the image is from; None where it is simulated
    labels: xr.DataArray  #: y x, at the size of the map
    probabilities: np.ndarray[Any, np.dtype[np.uint8]]  #: y x, foreground, 255 = 1


class SourceForests:
    """Forests grown from labelled images, in a folder.

    Args:
        images: instances or foreground as labels (y x, 0 = background); 2D.
        folder: where forests and maps are kept; grown further if it holds some already.
        settings: how many, and from what.
        selection: features; all of ilastik's when ``None``.

    Raises:
        UserInputError: if no image has both foreground and background, or they differ in channels.
        ConfigError: if the folder was made from other images or settings.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        folder: Path,
        settings: SourceForestSettings,
        *,
        selection: FeatureSelection | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.selection = selection or FeatureSelection()
        self.images = _with_both(images)
        if not self.images:
            msg = f"None of the {len(images)} source images has both foreground and background: choose another label."
            raise UserInputError(msg)
        channels = sorted({image.image.sizes[CHANNEL] for image in self.images})
        if len(channels) > 1:
            msg = f"All source images must have the same channels, found images with {channels}: choose fewer datasets."
            raise UserInputError(msg)
        self._signatures = np.stack([_signature(image) for image in self.images])
        #: SHA-256 over names, images and labels
        self.source_hash = hash_sources(self.images)
        self._check_same_source()

    def grow(self, *, progress: str | None = None) -> None:
        """Fit all forests that are not there yet, and predict their images; another process that does so is waited for.

        Args:
            progress: label of the progress bar on stderr; none when ``None``.
        """
        with FileLock(self.folder / ".lock"):
            maps = zarr.open_group(self.folder / "maps.zarr", mode="a", zarr_format=2)
            for number in tqdm(range(self.settings.n_forests), desc=progress, disable=progress is None, unit="forest"):
                if "complete" in maps.require_group(_name(number)).attrs:
                    continue
                self._grow_one(number, maps)

    def maps(self) -> list[SourceMap]:
        """All foreground probability maps, forest by forest.

        Raises:
            UserInputError: before all forests are grown.
        """
        stored = zarr.open_group(self.folder / "maps.zarr", mode="a", zarr_format=2)
        last = stored.get(_name(self.settings.n_forests - 1))
        if last is None or "complete" not in last.attrs:
            msg = f"Not all of the {self.settings.n_forests} forests in {self.folder} are grown yet: call grow() first."
            raise UserInputError(msg)
        found = []
        labels: dict[tuple[int, float], xr.DataArray] = {}
        for number in range(self.settings.n_forests):
            group: Any = stored[_name(number)]
            microscope = Microscope.from_json(group.attrs["microscope"])
            for index in group.attrs["complete"]:
                if (index, microscope.zoom) not in labels:  # forests of later stages share them
                    labels[index, microscope.zoom] = microscope.resize_labels(self.images[index].labels)
                found.append(
                    SourceMap(
                        forest=number,
                        image=self.images[index].name,
                        dataset=self.images[index].dataset,
                        labels=labels[index, microscope.zoom],
                        probabilities=np.asarray(group[_name(index)]),
                    )
                )
        return found

    def _grow_one(self, number: int, maps: zarr.Group) -> None:
        """Fit a forest, then write its maps, then its mark of completion: in this order, so that a kill is safe."""
        generator = np.random.default_rng((self.settings.seed, number))
        earlier = number - self.settings.per_stage
        if earlier < 0:
            noise = _NOISE_STEP * self.settings.seed + number
            view = _View(self.images, Microscope.draw(self.settings.microscopes, generator), seed=noise)
            painted = self._paint(view, generator)
        else:
            before: Any = maps[_name(earlier)]
            view = _View(self.images, Microscope.from_json(before.attrs["microscope"]), seed=before.attrs["view"])
            painted = _add_worst_tiles(view, before, generator)
        features = {index: self.selection.compute(view[index].image) for index in painted}
        first = next(iter(painted))
        classifier = PixelClassifier(
            selection=self.selection,
            settings=ForestSettings(n_estimators=self.settings.n_estimators),
            random_state=int(generator.integers(2**31)),
        ).fit_features(
            [features[index] for index in painted], list(painted.values()), contract_of=self.images[first].image
        )
        save_classifier(classifier, self._forest_path(number))
        group = maps.require_group(_name(number))
        shown = self._neighbours(first, besides=painted) or list(painted)
        for index in dict.fromkeys([*painted, *shown]):  # of painted ones, for the worst tiles of the next stage
            if index not in features:
                features[index] = self.selection.compute(view[index].image)
            foreground = classifier.predict_features(features.pop(index)).values[1]
            group.create_array(_name(index), data=np.round(foreground * 255).astype(np.uint8), overwrite=True)
        for index, drawn in painted.items():
            group.create_array(f"strokes-{_name(index)}", data=drawn.values, overwrite=True)
        group.attrs["painted"] = list(painted)
        group.attrs["microscope"] = asdict(view.microscope)
        group.attrs["view"] = view.seed
        group.attrs["complete"] = shown

    def _paint(self, view: "_View", generator: np.random.Generator) -> dict[int, xr.DataArray]:
        """Strokes or dense crops on one image or a few alike, both classes present."""
        for _ in range(_TRIES):
            first = int(generator.integers(len(self.images)))
            alike = [first, *self._neighbours(first, count=self.settings.n_images - 1)]
            chosen = alike[: int(generator.integers(1, len(alike) + 1))]
            dense = generator.random() < self.settings.dense_fraction
            crop = partial(dense_crop, most=self.settings.dense_pixels)
            paint = crop if dense else partial(strokes, between=self.settings.strokes)
            painted = {index: paint(binary_classes(view.labels(index)), generator) for index in chosen}
            if has_both_classes(painted):
                return painted
        msg = f"No crop with both foreground and background was found in {_TRIES} draws. Give larger source images."
        raise UserInputError(msg)

    def _neighbours(self, index: int, *, besides: Iterable[int] = (), count: int | None = None) -> list[int]:
        """The images of the same data set whose grey values are most like those of one image, none of them excepted."""
        distance = np.abs(self._signatures - self._signatures[index]).mean(axis=1)
        own = self.images[index].dataset
        distance[[image.dataset != own for image in self.images]] = np.inf
        distance[[index, *besides]] = np.inf
        wanted = min(self.settings.n_neighbours if count is None else count, int(np.isfinite(distance).sum()))
        return [int(other) for other in np.argsort(distance, kind="stable")[:wanted]]

    def classifier(self, number: int) -> PixelClassifier:
        """One of the forests."""
        return load_classifier(self._forest_path(number))

    def _forest_path(self, number: int) -> Path:
        return self.folder / "forests" / f"{_name(number)}.safetensors"

    def _check_same_source(self) -> None:
        described = {
            **asdict(self.settings),
            "features": self.selection.to_contract().model_dump(mode="json"),
            "images": self.source_hash,
        }
        described = json.loads(json.dumps(described))  # as it is read back: tuples are lists there
        path = self.folder / "settings.json"
        before = read_json(path) if path.exists() else described
        if different := sorted(key for key in {*before, *described} if before.get(key) != described.get(key)):
            msg = f"{self.folder} holds forests with other {', '.join(different)}. Choose another folder, or remove it."
            raise ConfigError(msg)
        (self.folder / "forests").mkdir(parents=True, exist_ok=True)
        write_json(path, described)


def _name(number: int) -> str:
    return f"{number:04d}"


def _with_both(images: Sequence[LabelledImage]) -> tuple[LabelledImage, ...]:
    """Those that have foreground and background."""
    return tuple(image for image in images if 0 < np.count_nonzero(image.labels) < image.labels.size)


def hash_sources(images: Sequence[LabelledImage]) -> str:
    """SHA-256 over names, images and labels of those with foreground and background: forests grow from no others."""
    digest = hashlib.sha256()
    for image in _with_both(images):
        digest.update(
            f"{image.dataset}/{image.name}".encode() + image.image.values.tobytes() + image.labels.values.tobytes()
        )
    return digest.hexdigest()


def _signature(image: LabelledImage) -> np.ndarray[Any, Any]:
    """Percentiles of the first channel, as logarithms: twice as bright is as far at any brightness."""
    values = image.image.isel({CHANNEL: 0}).values
    signature: np.ndarray[Any, Any] = np.log1p(np.percentile(values, _PERCENTILES).clip(min=0))
    return signature


class _View:
    """The source images as one microscope shows them, worked out when they are asked for."""

    def __init__(self, images: Sequence[LabelledImage], microscope: Microscope, *, seed: int) -> None:
        self.microscope = microscope
        self.seed = seed
        self._images = images

    def __getitem__(self, index: int) -> LabelledImage:
        return self.microscope.look_at(self._images[index], seed=self.seed * len(self._images) + index)

    def labels(self, index: int) -> xr.DataArray:
        return self.microscope.resize_labels(self._images[index].labels)


def _add_worst_tiles(view: _View, before: Any, generator: np.random.Generator) -> dict[int, xr.DataArray]:  # noqa: ANN401 - zarr's groups have no types
    """The strokes of an earlier forest, and small tiles where it was most wrong."""
    painted = {}
    for index in before.attrs["painted"]:
        truth = binary_classes(view.labels(index))
        drawn = np.asarray(before[f"strokes-{_name(index)}"]).copy()
        foreground = np.asarray(before[_name(index)]) / 255.0
        error = np.abs(foreground - (truth.values == 2))
        for window in worst_tiles(error, int(generator.integers(1, _TILES_PER_IMAGE + 1))):
            drawn[window] = truth.values[window]
        painted[index] = truth.copy(data=drawn)
    return painted
