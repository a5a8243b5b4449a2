"""How training patches are varied, by what they hold: raw values, or probabilities of a forest."""

from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from monai.transforms import Compose, RandGaussianNoise, RandGaussianSmooth

from s2d_zoo.data.patches import IMAGE, Sample, without_metadata
from s2d_zoo.trainer import View

#: what a network is trained on; ``"preprocessed"``: after the preprocessing of a package, whatever that leaves
Inputs: TypeAlias = Literal["raw", "probabilities", "preprocessed"]

#: brightness varies by up to this factor either way: images of one microscope and stain
_BRIGHTNESS: Final = 1.2
#: of the spread of values
_OFFSET: Final = 0.05
#: keeps logits finite
_CLIP: Final = 0.005
#: standard deviation of the log temperature and of the offset of probabilities, in logits; half of what an enhancer
#: sees in its first training, because here the forests are those that it is for
_TEMPERATURE: Final = 0.2
_BIAS: Final = 0.2


def vary_patches(inputs: Inputs, spread: torch.Tensor) -> View:
    """The change to the image of each patch, drawn anew each time.

    Args:
        inputs: what patches hold.
        spread: how far the values of each channel lie apart, channel 1 1, float32; not needed for probabilities.
    """
    return _VaryProbabilities() if inputs == "probabilities" else _VaryValues(spread)


class _VaryValues:
    """Brightness, sharpness and noise, each channel by its own spread of values."""

    def __init__(self, spread: torch.Tensor) -> None:
        self._spread = spread
        self._blur_and_noise = Compose(
            [
                RandGaussianSmooth(prob=0.2, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
                RandGaussianNoise(prob=0.3, std=0.05),
            ]
        )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        factor = float(np.exp(generator.uniform(-np.log(_BRIGHTNESS), np.log(_BRIGHTNESS))))
        image = sample[IMAGE] / self._spread * factor + float(generator.normal(0, _OFFSET))
        self._blur_and_noise.set_random_state(seed=int(generator.integers(2**31)))
        with without_metadata():
            varied: Any = self._blur_and_noise(image)
        return {**sample, IMAGE: torch.as_tensor(np.asarray(varied), dtype=torch.float32) * self._spread}


class _VaryProbabilities:
    """A forest that is surer or less sure, or biased; the result stays in [0, 1]."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        logits = torch.logit(sample[IMAGE], eps=_CLIP) * float(np.exp(generator.normal(0, _TEMPERATURE)))
        return {**sample, IMAGE: torch.sigmoid(logits + float(generator.normal(0, _BIAS)))}
