"""Source images of an enhancer: public datasets and simulations, for training and for validation."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.dataset_registry import DatasetDescription
from s2d_zoo.data.datasets import LabelledImage, describe_dataset, load_dataset
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Citation

#: images simulated with one microscope and sample
_PER_SAMPLE: Final = 3
#: the simulated images of training, validation and evaluation never share a seed
_SIMULATION_SEEDS: Final = {"training": 0, "validation": 1_000_000, "evaluation": 2_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDataset:
    """A public dataset, and which of its labels.

    Raises:
        UserInputError: for a dataset that is unknown.
        ConfigError: for a label that it does not have.
    """

    name: str
    label: str | None = None  #: the first that it has where ``None``

    def __post_init__(self) -> None:
        known = describe_dataset(self.name).labels
        if self.label is not None and self.label not in known:
            msg = f"{self.name} has the labels {', '.join(known)}; there is no {self.label!r}."
            raise ConfigError(msg)

    @classmethod
    def parse(cls, text: str) -> "SourceDataset":
        """Read ``name`` or ``name:label``, e.g. ``mito_vnc:membrane``."""
        name, _, label = text.partition(":")
        return cls(name=name, label=label or None)

    def __str__(self) -> str:
        return self.name if self.label is None else f"{self.name} ({self.label})"

    def load(self, split: str, data_dir: Path | None) -> tuple[LabelledImage, ...]:
        """One split (see `load_dataset`)."""
        return load_dataset(self.name, split, data_dir=data_dir, label=self.label, without_rim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """Images to learn from.

    Raises:
        ConfigError: if there are none, or a dataset is named twice.
    """

    datasets: tuple[SourceDataset, ...] = ()
    n_simulated: int = 0  #: simulated nuclei, 256 px, besides
    #: share of the images, of each source, that decides when to stop: of a stack its last sections, since neighbours
    #: are alike; else random ones
    validation: float = 0.15

    def __post_init__(self) -> None:
        if (not self.datasets and self.n_simulated < 2) or not 0 < self.validation < 1:
            names = ", ".join(map(str, self.datasets)) or "none"
            msg = (
                "Source images are needed (a dataset, or two simulated ones), and a share of them in (0, 1) for "
                f"validation; got datasets: {names}, n_simulated: {self.n_simulated}, validation: {self.validation:g}."
            )
            raise ConfigError(msg)
        chosen = [(one.name, one.label or describe_dataset(one.name).labels[0]) for one in self.datasets]
        if len(set(chosen)) < len(chosen):  # each would hold back other images to validate
            msg = f"Each dataset (with a label of it) is named once; got {', '.join(map(str, self.datasets))}."
            raise ConfigError(msg)


def simulated_images(count: int, *, purpose: str, seed: int) -> list[LabelledImage]:
    """Simulated nuclei, three images of each sample; no image of one purpose appears in another."""
    first = _SIMULATION_SEEDS[purpose] + 100_000_000 * seed
    images = []
    for number in range(count):
        simulation = NucleiSimulation.random(seed=first + number // _PER_SAMPLE)
        image, labels = simulate_nuclei(simulation, seed=first + 500_000 + number)
        images.append(LabelledImage(name=f"simulated-{purpose}-{number:03d}", image=image, labels=labels))
    return images


def source_images(
    settings: SourceSettings, data_dir: Path | None, *, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The images to train on, and those of the same train splits that validate.

    Raises:
        DownloadError: if a dataset cannot be had.
        ConfigError: if a dataset has too few images to hold one back.
    """
    generator = np.random.default_rng(seed)
    training: list[LabelledImage] = []
    validation: list[LabelledImage] = []
    for source in settings.datasets:
        images = source.load("train", data_dir)
        n_validation = max(1, round(settings.validation * len(images)))
        if n_validation >= len(images):
            msg = f"{source} has {len(images)} image(s) to train on; at least one more is needed for validation."
            raise ConfigError(msg)
        order = np.arange(len(images))[::-1]
        if describe_dataset(source.name).layout == "images":
            order = generator.permutation(len(images))
        validation += [images[index] for index in sorted(order[:n_validation])]
        training += [images[index] for index in sorted(order[n_validation:])]
    simulated = settings.n_simulated
    training += simulated_images(simulated, purpose="training", seed=seed)
    n_validation = max(1, round(settings.validation * simulated)) if simulated else 0
    validation += simulated_images(n_validation, purpose="validation", seed=seed)
    return training, validation


def citations(settings: SourceSettings) -> tuple[Citation, ...]:
    """Who made the datasets: publications, each once."""
    found: dict[str, Citation] = {}
    for description in _described(settings):
        for text in description.citation.split("; "):
            words, _, doi = text.partition(", doi:")
            where = {"doi": doi} if doi else {"url": description.homepage}
            found.setdefault(words, Citation(text=f"{words} (training data)", **where))
    return tuple(found.values())


def cautions(settings: SourceSettings) -> Iterator[str]:
    """What belongs beside scores on the test splits of the datasets, a line for each of which there is something."""
    for description in _described(settings):
        if description.remarks:
            yield f"{description.name}: {' '.join(description.remarks)}"


def licences(settings: SourceSettings, *, shown: str | None) -> str:
    """Terms of the datasets, and what of them a package holds.

    Args:
        settings: naming them.
        shown: the dataset of the image whose probabilities are the package's test input.
    """
    if not settings.datasets:
        return "simulated"
    terms = "; ".join(f"{one.name}: {one.license.rstrip('.')}" for one in _described(settings))
    return (
        f"{terms}. Of these data the package holds what a forest said of a part of one image of {shown}, no raw image"
    )


def terms_left_out(settings: SourceSettings, *, license_: str) -> Iterator[str]:
    """What of the terms of the datasets the licence of a model passes over, or nobody knows, a sentence for each.

    Compared are non-commercial use (NC) and the same licence for what is made of the data (SA). Whether a network is
    made of its training data in this sense is for its authors to judge.

    Args:
        settings: naming the datasets.
        license_: SPDX identifier of the licence that the model is to have.
    """
    for description in _described(settings):
        left_out = [name for name in ("NC", "SA") if name in _terms(description.license) - _terms(license_)]
        if left_out:
            yield (
                f"{description.name} has the terms {description.license!r}, and the licence {license_} of the model "
                f"leaves out {' and '.join(left_out)}. Have the leave of its owners, or choose another licence."
            )
        elif re.search(r"\b(not|no licence) stated\b", description.license, re.IGNORECASE):
            yield f"{description.name}: {description.license.rstrip('.')}. Ask its owners before you publish the model."


def _described(settings: SourceSettings) -> list[DatasetDescription]:
    """Each dataset once, also where several of its labels are learnt."""
    return [describe_dataset(name) for name in dict.fromkeys(source.name for source in settings.datasets)]


def _terms(text: str) -> set[str]:
    """The words of a licence, as SPDX writes those that Creative Commons abbreviates."""
    return set(re.findall("[A-Z]+", re.sub("NON-?COMMERCIAL", "NC", text.upper())))


def common_pixel_size(images: Sequence[LabelledImage]) -> PixelSize | None:
    """Of all images, or None where they differ or do not say."""
    sizes = {image.image.attrs.get("pixel_size") for image in images}
    return sizes.pop() if len(sizes) == 1 else None


def median_diameter(images: Sequence[LabelledImage]) -> float | None:
    """Median diameter in px of the circles with the area of each object; None where labels are no objects but masks."""
    if all(int(image.labels.max()) <= 1 for image in images):
        return None
    areas = np.concatenate([np.bincount(image.labels.values.ravel())[1:] for image in images])
    diameters: Any = 2 * np.sqrt(areas[areas > 0] / np.pi)
    return round(float(np.median(diameters)), 1)
