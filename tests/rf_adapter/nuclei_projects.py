"""ilastik projects of images with strokes and forests that were really fitted on them, for tests."""

import numpy as np
import xarray as xr
from sklearn.ensemble import RandomForestClassifier

from s2d_zoo.rf_adapter.features import FILTERS, SCALES, FeatureSelection

from .ilastik_projects import Block, Lane, Project, Stage

#: what the project's features are, in our words
SELECTION = FeatureSelection({"GaussianSmoothing": (0.7, 1.6), "HessianOfGaussianEigenvalues": (1.0,)})


def selection_matrix():
    """The same as ilastik stores it."""
    matrix = np.zeros((len(FILTERS), len(SCALES)), dtype=bool)
    for name, scales in SELECTION.scales.items():
        matrix[FILTERS.index(name), [SCALES.index(scale) for scale in scales]] = True
    return matrix


def rows_of(image):
    """Features of every pixel: (px, features)."""
    return SELECTION.compute(image).values.reshape(-1, image.sizes["y"] * image.sizes["x"]).T


def fit(image, strokes, *, seed=0):
    """A forest of sklearn on the painted pixels."""
    painted = strokes.values.ravel() > 0
    forest = RandomForestClassifier(n_estimators=5, random_state=seed, n_jobs=1)
    return forest.fit(rows_of(image)[painted], strokes.values.ravel()[painted])


def apply(forest, image):
    """What it says of an image: channel y x."""
    values = forest.predict_proba(rows_of(image)).T.reshape(-1, image.sizes["y"], image.sizes["x"])
    return xr.DataArray(values, dims=("channel", "y", "x"))


def pass_on(image, probabilities):
    """What the second stage of Autocontext sees: the image, and the first stage's probabilities in whole numbers."""
    values = np.concatenate([image.values.astype(np.float32), np.floor(255 * probabilities.values.astype(np.float32))])
    return xr.DataArray(values, dims=image.dims)


def make_stage(image, strokes, *, names=("background", "cells"), trained=True, seed=0, **changes):
    """One pixel classification on an image (channel y x)."""
    given = {
        "matrix": selection_matrix(),
        "forests": [fit(image, strokes, seed=seed)] if trained else [],
        "labels": [[Block("yxc", (0, 0, 0), strokes.values[..., np.newaxis])]],
        "names": names,
        "colours": ((0, 0, 0),) * len(names),
        "channels": image.sizes["channel"],
    }
    return Stage(**{**given, **changes})


def make_lane(image, path=None):
    return Lane(image.transpose("y", "x", "channel").values, "yxc", path, nickname="cells")


def nuclei_project(image, strokes, *, path=None, **changes):
    """Pixel Classification of an image (channel y x) that was painted with strokes (y x)."""
    return Project([make_lane(image, path)], [make_stage(image, strokes, **changes)])


def autocontext_project(image, strokes, *, first=True, second=True, **changes):
    """Both stages, trained or not, with the same strokes."""
    stages = [make_stage(image, strokes, trained=first)]
    seen = pass_on(image, apply(fit(image, strokes), image))
    stages.append(make_stage(seen, strokes, trained=second, **{"seed": 1, **changes}))
    return Project([make_lane(image)], stages, workflow="AutocontextTwoStage")
