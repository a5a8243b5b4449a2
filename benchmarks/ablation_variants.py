"""The variants of `ablations.py`: what is changed in the recipe, and in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from s2d_zoo.data.microscopes import MicroscopeVariation
from s2d_zoo.enhancer.dataset import ProbabilityVariation
from s2d_zoo.enhancer.training import EnhancerSettings
from s2d_zoo.rf_adapter.source_forests import SourceForestSettings

STEPS = 1000
SIZE = 192  #: px of a patch


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change to the recipe."""

    words: str
    enhancer: Callable[[EnhancerSettings], EnhancerSettings] = lambda settings: settings
    forests: str = "recipe"  #: a set of `forest_sets`
    further: str | None = None  #: a second set, all of it
    n_forests: int | None = None  #: as many, evenly over the stages; all where None
    bundled: bool = False  #: the bundled enhancer is scored, and nothing trained


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaVariation(ProbabilityVariation):
    """Probabilities to a power, too."""

    gamma: float = 0.4  #: standard deviation of the logarithm of the power
    share: float = 0.7  #: of the patches; as many as the temperature changes, whose place it takes

    def shift(self, probabilities: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        """As without, after the power."""
        if generator.random() < self.share:
            probabilities = probabilities ** float(np.exp(generator.normal(0, self.gamma)))
        return ProbabilityVariation.shift(self, probabilities, generator)


def _with_gamma(settings: EnhancerSettings) -> EnhancerSettings:
    return replace(settings, variation=GammaVariation(temperature=0.0, offset=0.0, drift=0.0, blur=0.0, noise=0.0))


def _varied(**changes: float) -> Callable[[EnhancerSettings], EnhancerSettings]:
    return lambda settings: replace(settings, variation=replace(settings.variation, **changes))


def _cut(**changes: float) -> Callable[[EnhancerSettings], EnhancerSettings]:
    return lambda settings: replace(settings, patches=replace(settings.patches, **changes))


def _seeded(seed: int) -> Callable[[EnhancerSettings], EnhancerSettings]:
    return lambda settings: replace(settings, training=replace(settings.training, seed=seed))


VARIANTS: Mapping[str, Variant] = {
    "recipe": Variant(words="as the recipe says"),
    "seed-1": Variant(words="the same, another seed of the training", enhancer=_seeded(1)),
    "forests-10": Variant(words="10 forests", n_forests=10),
    "forests-50": Variant(words="50 forests", n_forests=50),
    "forests-200": Variant(words="200 forests", further="another seed"),
    "crops-50": Variant(words="50 forests on random dense crops, no stages", forests="crops"),
    "one-microscope-50": Variant(words="50 forests, images only as they are", forests="one-microscope"),
    "upright": Variant(words="all patches only flipped and turned by right angles", enhancer=_cut(upright=1.0)),
    "no-variation": Variant(
        words="probabilities not varied", enhancer=_varied(temperature=0.0, offset=0.0, drift=0.0, blur=0.0, noise=0.0)
    ),
    "gamma": Variant(words="a power in place of the temperature", enhancer=_with_gamma),
    "smoothing": Variant(words="smoothing and noise, too", enhancer=_varied(blur=1.5, noise=0.08)),
    "label-noise": Variant(words="one in ten objects missing in the target", enhancer=_varied(missing=0.1)),
    "foreground-only": Variant(words="foreground only", enhancer=lambda settings: replace(settings, boundary=0.0)),
    "depth-2": Variant(words="depth 2", enhancer=lambda settings: replace(settings, depth=2)),
    "depth-4": Variant(words="depth 4", enhancer=lambda settings: replace(settings, depth=4)),
    "narrow": Variant(
        words="8 channels, at most 64",
        enhancer=lambda settings: replace(settings, features=8, max_features=64),
    ),
    "wide": Variant(
        words="16 channels, at most 128", enhancer=lambda settings: replace(settings, features=16, max_features=128)
    ),
    "bundled": Variant(words="the bundled enhancer: all steps of the recipe", bundled=True),
}


def forest_sets(settings: SourceForestSettings) -> dict[str, SourceForestSettings]:
    """The recipe's forests, and rivals."""
    fifty = replace(settings, n_forests=50)
    return {
        "recipe": settings,
        "another seed": replace(settings, seed=settings.seed + 2),  # validation has the next one
        "crops": replace(fifty, n_stages=1, dense_fraction=1.0),
        "one-microscope": replace(fifty, microscopes=MicroscopeVariation()),
    }
