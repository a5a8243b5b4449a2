"""How much an enhancer adds to a forest, on images that it was not trained on; forests see strokes on each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from s2d_zoo.data.datasets import LabelledImage
from s2d_zoo.data.scores import Score, score_masks
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.errors import UserInputError
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Forest and enhancer on the same images, scored together at a threshold of 0.5."""

    name: str  #: of the images
    n_images: int
    n_strokes: int  #: per class and image
    seed: int
    forest: Score
    enhanced: Score

    @property
    def loss(self) -> str:
        """That the enhancer does harm there, in words; empty if it does not."""
        if self.enhanced.iou >= self.forest.iou:
            return ""
        return (
            f"On {self.name} it is worse than the forest alone: IoU {self.enhanced.iou:.3f} against "
            f"{self.forest.iou:.3f}."
        )

    def to_json(self) -> dict[str, Any]:
        """The figures, rounded to four places."""
        return {
            "images": self.name,
            "n_images": self.n_images,
            "strokes_per_class_and_image": self.n_strokes,
            "seed": self.seed,
            "iou": {"RF": round(self.forest.iou, 4), "enhanced": round(self.enhanced.iou, 4)},
            "dice": {"RF": round(self.forest.dice, 4), "enhanced": round(self.enhanced.dice, 4)},
        }


def compare_on_images(
    enhancer: Enhancer,
    images: Sequence[LabelledImage],
    *,
    name: str,
    n_strokes: int = 10,
    seed: int = 0,
    forest: ForestSettings | None = None,
    progress: str | None = None,
) -> Comparison:
    """Paint simulated strokes on each image, fit a forest on them, and score it with and without the enhancer.

    Args:
        enhancer: what to evaluate.
        images: with instances as labels (y x, 0 = background); those without foreground or background are left out.
        name: of the images, for tables.
        n_strokes: per class and image.
        seed: of strokes and forests.
        forest: how to grow the forests.
        progress: label of the progress bar on stderr.

    Raises:
        UserInputError: if no image is left.
    """
    scored = [image for image in images if 0 < np.count_nonzero(image.labels) < image.labels.size]
    if not scored:
        msg = f"None of the {len(images)} images of {name} has both foreground and background: nothing to score."
        raise UserInputError(msg)
    truth, plain, enhanced = [], [], []
    for number, entry in enumerate(tqdm(scored, desc=progress, disable=progress is None, unit="image")):
        strokes = simulate_scribbles(binary_classes(entry.labels), n_strokes=n_strokes, seed=seed * 1000 + number)
        classifier = PixelClassifier(settings=forest, random_state=seed).fit(entry.image, strokes)
        probabilities = classifier.predict_proba(entry.image)
        truth.append(entry.labels.values > 0)
        plain.append(probabilities.values[1] >= 0.5)
        enhanced.append(enhancer.enhance(probabilities, classifier.contract).values[0] >= 0.5)
    return Comparison(
        name=name,
        n_images=len(scored),
        n_strokes=n_strokes,
        seed=seed,
        forest=score_masks(plain, truth),
        enhanced=score_masks(enhanced, truth),
    )
