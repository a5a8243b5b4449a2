"""What forests say that saw different strokes: the ground on which enhancers are compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from tqdm import tqdm

from s2d_zoo.data.scribbles import fold_strokes, resample_strokes
from s2d_zoo.errors import ScribbleError
from s2d_zoo.pipeline.sources import AdaptData
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.types import CHANNEL

#: forests that saw different strokes
N_FORESTS: Final = 3
#: mild changes of probabilities: exponents make a forest less or more sure, and noise is what the votes of another
#: hundred trees would add at a probability of one half
_EXPONENTS: Final = (0.8, 1.25)
_NOISE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What one forest says of all images."""

    probabilities: tuple[xr.DataArray, ...]  #: channel (z) y x, float32 in [0, 1], all classes
    perturbed: tuple[xr.DataArray, ...]  #: the same, mildly changed
    held_out: tuple[xr.DataArray, ...]  #: (z) y x, uint8, strokes that it never saw; all 0 where none could be spared


def fit_members(
    data: AdaptData, forest: ForestSettings, *, seed: int = 0, progress: bool = False
) -> tuple[tuple[Member, ...], bool]:
    """Fit forests on different strokes, and let them predict all images; features are computed once.

    Args:
        data: images and strokes.
        forest: how to grow the forests.
        seed: of forests, folds and noise.
        progress: show a progress bar on stderr.

    Returns:
        The members, and whether strokes were held out. Where there are too few, each forest is fitted on another draw
        of three quarters of the strokes, and nothing is held out.

    Raises:
        ScribbleError: unless both the foreground and another class are painted.
    """
    _check_painted(data)
    splits = fold_strokes(data.scribbles, foreground=data.foreground, n_folds=N_FORESTS, seed=seed)
    nothing = tuple(one.copy(data=np.zeros_like(one.values)) for one in data.scribbles)
    drawn: list[tuple[tuple[xr.DataArray, ...], tuple[xr.DataArray, ...]]] = [
        (split.training, split.held_out) for split in splits
    ] or [(resample_strokes(data.scribbles, seed=seed + number), nothing) for number in range(N_FORESTS)]
    with tqdm(total=len(data.images) + len(drawn), desc="forests", disable=not progress, unit="step") as bar:
        classifiers = [_new_classifier(data, forest, seed=seed + number) for number in range(len(drawn))]
        features = []
        for image in data.images:
            features.append(classifiers[0].selection.compute(image))
            bar.update()
        members = []
        for number, (classifier, (training, held_out)) in enumerate(zip(classifiers, drawn, strict=True)):
            classifier.fit_features(features, training, contract_of=data.images[0])
            probabilities = tuple(classifier.predict_features(one) for one in features)
            perturbed = tuple(_perturb_all(probabilities, number, seed=seed))
            members.append(Member(probabilities=probabilities, perturbed=perturbed, held_out=held_out))
            bar.update()
    return tuple(members), bool(splits)


def _check_painted(data: AdaptData) -> None:
    painted = {int(label) for one in data.scribbles for label in np.unique(one.values) if label}
    if data.foreground not in painted or len(painted) < 2:
        listed = ", ".join(f"{label}: {entry.name}" for label, entry in enumerate(data.classes, start=1))
        msg = (
            f"Strokes of the foreground (label {data.foreground}) and of another class are needed to compare "
            f"enhancers, found labels {sorted(painted)}. Paint both ({listed}), or say --foreground LABEL."
        )
        raise ScribbleError(msg)


def _new_classifier(data: AdaptData, forest: ForestSettings, *, seed: int) -> PixelClassifier:
    return PixelClassifier(selection=data.selection, settings=forest, classes=data.classes, random_state=seed)


def _perturb_all(probabilities: Sequence[xr.DataArray], number: int, *, seed: int) -> Iterator[xr.DataArray]:
    generator = np.random.default_rng((seed, number))
    for one in probabilities:
        yield perturb(one, generator, exponent=_EXPONENTS[number % len(_EXPONENTS)])


def perturb(probabilities: xr.DataArray, generator: np.random.Generator, *, exponent: float) -> xr.DataArray:
    """Make a forest mildly less (exponent below 1) or more sure, and add noise of 0.05.

    Args:
        probabilities: channel (z) y x, float32 in [0, 1], summing to 1.
        generator: of the noise.
        exponent: of the probabilities, before they are normalised again.

    Returns:
        channel (z) y x, float32 in [0, 1], summing to 1.
    """
    values = _normalised(probabilities.values**exponent)
    noise = generator.normal(0, _NOISE, size=values.shape).astype(np.float32)
    return probabilities.copy(data=_normalised(np.clip(values + noise, 1e-6, 1)))


def _normalised(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    normalised: np.ndarray[Any, Any] = values / values.sum(axis=0, keepdims=True)
    return normalised.astype(np.float32)


def foreground_of(probabilities: xr.DataArray, foreground: int) -> xr.DataArray:
    """Probability of the objects' label: (z) y x of channel (z) y x."""
    return probabilities.isel({CHANNEL: foreground - 1}, drop=True)
