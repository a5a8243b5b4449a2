"""Scores of every method on the same images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import xarray as xr

from s2d_zoo.data.scores import Score, score_masks
from s2d_zoo.pipeline.prediction import Prediction

#: method → score
Scores: TypeAlias = Mapping[str, Score]

_THRESHOLD: Final = 0.5

#: what is scored, in the order of the pipeline
METHODS: Final[Mapping[str, Callable[[Prediction], xr.DataArray | None]]] = {
    "RF": lambda prediction: prediction.foreground,
    "enhanced": lambda prediction: prediction.enhanced[0],
    "fused": lambda prediction: None if prediction.fused is None else prediction.fused[0],
    "pseudo-labels": lambda prediction: None if prediction.labels is None else prediction.labels.labels[0],
    "base model, untouched": lambda prediction: None if prediction.base is None else prediction.base[0],
    "segmentor": lambda prediction: None if prediction.segmentation is None else prediction.segmentation[0],
    "segmentor, strokes only": lambda prediction: (
        None if prediction.strokes_only is None else prediction.strokes_only[0]
    ),
}


def score_predictions(predictions: Sequence[Prediction], truth: Sequence[xr.DataArray]) -> dict[str, Score]:
    """Score of each method's foreground at 0.5, all images taken together.

    Args:
        predictions: one for each image.
        truth: y x, integers, 0 = background, one for each image.

    Returns:
        Methods in the order of the pipeline; those that were not run are left out.
    """
    scores = {}
    for method in METHODS:
        maps = [METHODS[method](prediction) for prediction in predictions]
        if all(one is not None for one in maps) and maps:
            predicted = [one.values >= _THRESHOLD for one in maps if one is not None]
            scores[method] = score_masks(predicted, [labels.values > 0 for labels in truth])
    return scores
