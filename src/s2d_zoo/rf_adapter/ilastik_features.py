"""The features that an ilastik project selects, and the order in which its forests take them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import h5py
import numpy as np

from s2d_zoo.contract import FilterName
from s2d_zoo.errors import ConfigError, ProjectFileError
from s2d_zoo.rf_adapter.features import FILTERS, FeatureSelection
from s2d_zoo.rf_adapter.flat_forest import FlatForest
from s2d_zoo.rf_adapter.project_file import read_array, read_texts, read_whole_numbers

#: as ilastik names a feature: filter, scale, and the number of the eigenvalue or channel or both
_NAME: Final = re.compile(r"(?P<filter>[\w ]+?) \(σ=(?P<scale>[\d.]+)\)(?: in 2D)?(?: \[(?P<part>\d+)\])?")
#: letters of a name in a message
_SHOWN: Final = 200
#: ilastik has six filters; whoever adds some does not add more
_MOST_FILTERS: Final = 1000
_Name: TypeAlias = tuple[str, float, int]
_RETRAIN: Final = "Train it in ilastik again, or let s2d-zoo fit a forest on its labels: --retrain."


def read_selection(group: h5py.Group | None) -> tuple[FeatureSelection | None, tuple[bool, ...]]:
    """Read ``FeatureSelections``.

    Returns:
        The selection, ``None`` if nothing is selected; and for each scale in use, whether it is computed in 2D (all
        are not where an old project does not say).

    Raises:
        ProjectFileError: for filters or scales that do not exist here.
    """
    if not isinstance(group, h5py.Group) or "SelectionMatrix" not in group:
        return None, ()
    where = f"{group.name} of {group.file.filename}"
    matrix = read_whole_numbers(group, "SelectionMatrix").astype(bool)
    names = read_texts(group, "FeatureIds", most=_MOST_FILTERS)
    scales = read_array(group, "Scales").astype(float).ravel()
    in_2d = read_whole_numbers(group, "ComputeIn2d").ravel() if "ComputeIn2d" in group else np.zeros(len(scales))
    if matrix.shape != (len(names), len(scales)) or in_2d.shape != scales.shape:
        msg = (
            f"{where} is no table of filters and scales: {matrix.shape} for {len(names)} filters, {len(scales)} scales."
        )
        raise ProjectFileError(msg)
    if not matrix.any():
        return None, ()
    chosen = {name: tuple(scales[row].tolist()) for name, row in zip(names, matrix, strict=True) if row.any()}
    known: dict[str, FilterName] = {name: name for name in FILTERS}
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        msg = f"{where} selects the features {', '.join(unknown)}, which do not exist here: {', '.join(FILTERS)} do."
        raise ProjectFileError(msg)
    try:
        selection = FeatureSelection({known[name]: values for name, values in chosen.items()})
    except ConfigError as error:
        msg = f"{where} selects features that do not exist here. {error}"
        raise ProjectFileError(msg) from error
    return selection, tuple(bool(flag) for flag in in_2d[matrix.any(axis=0)])


def in_our_order(
    forest: FlatForest, names: Sequence[str], selection: FeatureSelection
) -> tuple[FlatForest, Literal[2, 3] | None]:
    """The same forest, for features in the order of `FeatureSelection`.

    Args:
        forest: as stored.
        names: of its features, as ilastik wrote them beside it.
        selection: the project's features.

    Returns:
        The forest, and whether its filters run in 2D or 3D, as far as that shows: eigenvalues are as many as
        dimensions. ``None`` where it may be either: where there are none of them, or nothing but them, so that 2
        channels in 3D are as many as 3 in 2D.

    Raises:
        ProjectFileError: if the forest was trained on other features than are selected now.
    """
    stored = [_parse(name) for name in names]
    layouts: dict[Literal[2, 3], list[_Name]] = {ndim: _layout(selection, len(stored), ndim) for ndim in (2, 3)}
    fitting = [ndim for ndim, layout in layouts.items() if sorted(layout) == sorted(stored)]
    wanted = layouts[fitting[0] if fitting else 2]
    if len(stored) != forest.n_features or not fitting:
        missing = sorted(set(stored) - set(wanted)) or sorted(set(wanted) - set(stored))
        example = f", e.g. {missing[0][0]} at {missing[0][1]:g} px" if missing else ""
        msg = (
            f"The forest takes {forest.n_features} features, among them others than the project selects{example}: the "
            f"selection was changed after the training. {_RETRAIN}"
        )
        raise ProjectFileError(msg)
    ndim = fitting[0] if len(fitting) == 1 else None
    if stored == wanted:
        return forest, ndim
    place = {name: index for index, name in enumerate(wanted)}
    moved = np.array([place[name] for name in stored], dtype=np.int32)
    inner = forest.feature >= 0
    feature = np.where(inner, moved[np.where(inner, forest.feature, 0)], -1).astype(np.int32)
    return replace(forest, feature=feature), ndim


def _parse(name: str) -> _Name:
    match = _NAME.fullmatch(name)
    if match is None:
        msg = f"The forest takes a feature that does not exist here, {name[:_SHOWN]!r}. {_RETRAIN}"
        raise ProjectFileError(msg)
    return match["filter"].replace(" ", "").lower(), float(match["scale"]), int(match["part"] or 0)


def _layout(selection: FeatureSelection, n_features: int, ndim: int) -> list[_Name]:
    """Filter, scale and number within these of each feature, for as many channels and eigenvalues as there must be."""
    layout: list[_Name] = []
    counts: Counter[tuple[str, float]] = Counter()
    channels = max(1, n_features // len(selection.names(ndim=ndim)))
    for _, filter_name, scale in selection.layout(ndim=ndim, channels=channels):
        key = (filter_name.lower(), scale)
        layout.append((*key, counts[key]))
        counts[key] += 1
    return layout
