"""ilastik's project files (``.ilp``): strokes, features, forests and where the images are, read without ilastik.

Read is the pixel classification of the workflows Pixel Classification, Autocontext (both stages), Object
Classification with pixel classification, and Trainable Domain Adaptation, as ilastik 1.2 to 1.4 writes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import h5py
import numpy as np

from s2d_zoo.contract import ClassContract, ForestContract, RFContract, Role, find_background
from s2d_zoo.data.axes import parse_axes
from s2d_zoo.errors import ConfigError, ProjectFileError
from s2d_zoo.rf_adapter.classes import choose_foreground_class, foreground_channels, name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.rf_adapter.ilastik_features import in_our_order, read_selection
from s2d_zoo.rf_adapter.ilastik_labels import MOST_BYTES, LabelBlock, read_labels_of_lane
from s2d_zoo.rf_adapter.project_file import (
    open_project,
    parse_axistags,
    read_group,
    read_text,
    read_texts,
    read_whole_numbers,
    sort_numbered,
)
from s2d_zoo.rf_adapter.vigra_forest import ILASTIKS_OWN, MOST_COLUMNS, explain_missing, read_forests, read_kind

#: groups of a pixel classification and of its features, by stage
_STAGES: Final = (
    ("PixelClassification", "FeatureSelections"),
    ("PixelClassification01", "FeatureSelections01"),
    ("TrainableDomainAdaptation", "FeatureSelections"),
)
_TRY: Final = "Open the project in ilastik and save it again."
_RAW_ROLE: Final = "Raw Data"
_LOCAL_DATA: Final = "/Input Data/local_data"
#: workflow and versions of ilastik that stored labels as txyzc, whatever the axes of the image
_CANONICAL_LABELS: Final = ("Object Classification (from pixel classification)", ("1.3.3", "1.3.3post1"))
#: labels are stored in one byte
_MOST_CLASSES: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class RawReference:
    """Where a project's image is, and what the project knows of it."""

    nickname: str
    location: str  #: path as stored: absolute, relative to the project, or inside of the project
    embedded: bool  #: in the project itself
    axes: str  #: letters of ``tczyx`` in the order of the image
    shape: tuple[int, ...]  #: empty where the project does not say

    @property
    def is_volume(self) -> bool:
        """Whether the project says that it has a z of more than one slice."""
        known = "z" in self.axes and len(self.shape) == len(self.axes)
        return known and self.shape[self.axes.index("z")] > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IlastikStage:
    """One pixel classification of a project."""

    name: str  #: of its group, e.g. ``PixelClassification01`` for the second stage of Autocontext
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  #: of each label, as painted
    selection: FeatureSelection | None  #: None where no features are selected
    compute_in_2d: tuple[bool, ...]  #: for each of ilastik's scales
    filters_ndim: Literal[2, 3] | None  #: of the features that the forest was trained on; None where unknown
    channels: tuple[int, ...] | None  #: of its probabilities that ilastik gives to an enhancer; None where unknown
    labels: tuple[tuple[LabelBlock, ...], ...]  #: painted blocks of each lane
    forest: FlatForest | None  #: all of ilastik's forests as one; None where it was not trained
    n_forests: int
    classifier_kind: str  #: of ilastik's classifiers, e.g. ``Sklearn``; "" where the project does not say

    @property
    def is_foreign(self) -> bool:
        """Whether ilastik was told to train another classifier than its own forests, one that is not read here."""
        return self.forest is None and self.classifier_kind not in {"", ILASTIKS_OWN}

    def count_labels(self) -> dict[int, int]:
        """Number of painted pixels of each label, over all lanes."""
        counts = np.zeros(256, dtype=np.int64)
        for lane in self.labels:
            for block in lane:
                counts += np.bincount(block.labels.values.ravel(), minlength=256)
        return {label: int(count) for label, count in enumerate(counts) if label and count}


@dataclass(frozen=True, slots=True, kw_only=True)
class IlastikProject:
    """What a project holds."""

    path: Path
    ilastik_version: str
    workflow: str
    raw: tuple[RawReference, ...]  #: one for each lane
    stages: tuple[IlastikStage, ...]  #: two for Autocontext

    @property
    def ndim(self) -> Literal[2, 3]:
        """3 if an image is a volume, or features were computed in 3D; else 2."""
        blocks = (block for stage in self.stages for lane in stage.labels for block in lane)
        volume = (
            any(one.is_volume for one in self.raw)
            or any(stage.filters_ndim == 3 for stage in self.stages)
            or any(block.reaches_into_depth for block in blocks)
        )
        return 3 if volume else 2

    def classifier(self, stage: int, *, foreground: int | None = None) -> PixelClassifier:
        """The forest of a stage as it was trained in ilastik.

        Args:
            stage: index into `stages`.
            foreground: label of the objects; see `name_foreground` when ``None``.

        Raises:
            ProjectFileError: if there is no forest, or it does not fit the features.
            ConfigError: if the foreground is not one of the labels, or cannot be told.
        """
        chosen = self.stages[stage]
        if chosen.forest is None:
            raise ProjectFileError(explain_missing(self.path, chosen.name, chosen.classifier_kind))
        selection = self.selection(stage)
        per_channel = len(selection.names(ndim=2 if selection.compute_in_2d else 3))
        channels, rest = divmod(chosen.forest.n_features, per_channel)
        if rest or not channels:
            msg = (
                f"The forest in {chosen.name} of {self.path} takes {chosen.forest.n_features} features, but those that "
                f"are selected are {per_channel} for each channel. Train it again in ilastik, or use --retrain."
            )
            raise ProjectFileError(msg)
        classes = self.classes(stage, foreground=foreground)
        contract = RFContract(
            ndim=self.ndim,
            classes=classes,
            channels=foreground_channels(classes),
            features=selection.to_contract(),
            forest=ForestContract(
                implementation="vigra",
                n_estimators=chosen.forest.n_trees,
                labels=f"strokes in ilastik {self.ilastik_version}",
            ),
            raw_channels=channels,
        )
        return PixelClassifier.from_forest(chosen.forest, contract)

    def new_classifier(
        self, stage: int, *, foreground: int | None = None, settings: ForestSettings | None = None, seed: int = 0
    ) -> PixelClassifier:
        """A classifier with the project's classes and features, to be fitted on its labels."""
        return PixelClassifier(
            selection=self.selection(stage),
            settings=settings,
            classes=self.classes(stage, foreground=foreground),
            random_state=seed,
        )

    def selection(self, stage: int) -> FeatureSelection:
        """The features of a stage.

        Raises:
            ProjectFileError: if none are selected, or some of them are to be computed in 3D and others in 2D.
        """
        chosen = self.stages[stage]
        if chosen.selection is None:
            msg = f"No features are selected in {chosen.name} of {self.path}. Select some in ilastik, and train it."
            raise ProjectFileError(msg)
        if self.ndim == 2:
            return FeatureSelection(chosen.selection.scales, compute_in_2d=True)
        if len(set(chosen.compute_in_2d)) > 1:
            msg = (
                f"{self.path} computes some scales in 2D and others in 3D ({chosen.compute_in_2d}), which s2d-zoo "
                "cannot. Choose one of both for all scales in ilastik's feature selection."
            )
            raise ProjectFileError(msg)
        return FeatureSelection(chosen.selection.scales, compute_in_2d=all(chosen.compute_in_2d))

    def classes(self, stage: int, *, foreground: int | None = None) -> tuple[ClassContract, ...]:
        """Name and meaning of each label."""
        names = self.stages[stage].class_names
        chosen = self.stages[stage].channels
        if foreground is None and chosen is not None and len(chosen) == 1:
            foreground = chosen[0] + 1  # what the user gave to an enhancer in Trainable Domain Adaptation
        label = name_foreground(names) if foreground is None else foreground
        background = find_background(names)
        named = name_classes(len(names), foreground=label, names=names)
        roles: dict[bool, Role] = {True: "background", False: "other"}
        known = [one.model_copy(update={"role": roles[number == background]}) for number, one in enumerate(named, 1)]
        return choose_foreground_class(known, label)


def name_foreground(names: tuple[str, ...]) -> int:
    """The label of the objects, where nobody said which it is: of two, the one that is not called background, else 2.

    Raises:
        ConfigError: for several labels beside a background; only the user knows which one is meant.
    """
    background = find_background(names)
    if background is None:
        return 2
    others = [label for label in range(1, len(names) + 1) if label != background]
    if len(others) == 1:
        return others[0]
    listed = ", ".join(f"{label}: {name}" for label, name in enumerate(names, start=1))
    msg = f"Which label is the foreground? The labels are {listed}. Say it, e.g. --foreground {others[0]}."
    raise ConfigError(msg)


def read_project(path: Path | str) -> IlastikProject:
    """Read a project, but for its images.

    Raises:
        ProjectFileError: if it is missing, damaged, leads to other files, is of a workflow without pixel
            classification, or holds what ilastik does not write.
    """
    path = Path(path)
    with open_project(path) as file:
        version, workflow = (read_text(file, name, "unknown") for name in ("ilastikVersion", "workflowName"))
        groups = [pair for pair in _STAGES if isinstance(file.get(pair[0]), h5py.Group)]
        if not groups:
            msg = (
                f"{path} is a project of ilastik's workflow {workflow!r}, which has no pixel classification. Give a "
                "project of Pixel Classification, Autocontext, or Object Classification from pixel classification; of "
                "other workflows export the probabilities and give them with --probabilities."
            )
            raise ProjectFileError(msg)
        raw = _read_lanes(file)
        canonical = workflow == _CANONICAL_LABELS[0] and version in _CANONICAL_LABELS[1]
        stages = tuple(_read_stage(file, *pair, raw, canonical_labels=canonical) for pair in groups)
    return IlastikProject(path=path, ilastik_version=version, workflow=workflow, raw=raw, stages=stages)


def _read_lanes(file: h5py.File) -> tuple[RawReference, ...]:
    infos = file.get("Input Data/infos")
    if not isinstance(infos, h5py.Group):
        return ()
    return tuple(_read_lane(read_group(infos, name)) for name in sort_numbered(infos))


def _read_lane(lane: h5py.Group) -> RawReference:
    raw = lane.get(_RAW_ROLE)
    if not isinstance(raw, h5py.Group) or "filePath" not in raw:
        msg = f"{lane.name} of {lane.file.filename} has no raw image. Add one in ilastik's Input Data and save it."
        raise ProjectFileError(msg)
    axes = parse_axistags(read_text(raw, "axistags")) if "axistags" in raw else read_text(raw, "axisorder")
    parse_axes(axes, len(axes))
    location = read_text(raw, "filePath")
    embedded = read_text(raw, "location") == "ProjectInternal"
    if embedded and not isinstance(lane.file.get(location), h5py.Dataset):  # before ilastik 1.3.3: where it came from
        location = f"{_LOCAL_DATA}/{read_text(raw, 'datasetId')}"
    return RawReference(
        nickname=read_text(raw, "nickname"),
        location=location,
        embedded=embedded,
        axes=axes,
        shape=tuple(read_whole_numbers(raw, "shape").ravel().tolist()) if "shape" in raw else (),
    )


def _read_stage(
    file: h5py.File, name: str, features: str, raw: tuple[RawReference, ...], *, canonical_labels: bool
) -> IlastikStage:
    group = file[name]
    names = read_texts(group, "LabelNames", most=_MOST_CLASSES) if "LabelNames" in group else ()
    colours = read_whole_numbers(group, "LabelColors").tolist() if "LabelColors" in group else []
    selection, in_2d = read_selection(file.get(features))
    forests = group.get("ClassifierForests")
    n_forests = sum(one.startswith("Forest") for one in forests) if isinstance(forests, h5py.Group) else 0
    forest = read_forests(forests, n_classes=len(names)) if n_forests else None
    filters_ndim = None
    if forest is not None and selection is not None and "feature_names" in forests:
        feature_names = read_texts(forests, "feature_names", most=MOST_COLUMNS)
        forest, filters_ndim = in_our_order(forest, feature_names, selection)
    sets = group.get("LabelSets")
    lanes = [read_group(sets, lane) for lane in sort_numbered(sets)] if isinstance(sets, h5py.Group) else []
    if any(len(lane) for lane in lanes[len(raw) :]):
        msg = f"{group.name} of {file.filename} has labels for {len(lanes)} images, but there are {len(raw)}. {_TRY}"
        raise ProjectFileError(msg)
    labels: list[tuple[LabelBlock, ...]] = []
    left = MOST_BYTES
    for lane, one in zip(lanes, raw, strict=False):
        blocks = read_labels_of_lane(
            lane, axes=one.axes, shape=one.shape, n_classes=len(names), canonical=canonical_labels, most_bytes=left
        )
        left -= sum(block.labels.nbytes for block in blocks)
        labels.append(blocks)
    channels = read_whole_numbers(group, "SelectedChannels").ravel().tolist() if "SelectedChannels" in group else []
    return IlastikStage(
        name=name,
        class_names=names,
        colours=tuple(tuple(colour) for colour in colours),
        selection=selection,
        compute_in_2d=in_2d,
        filters_ndim=filters_ndim,
        channels=tuple(channels) or None,
        labels=tuple(labels),
        forest=forest,
        n_forests=n_forests,
        classifier_kind=read_kind(group),
    )
