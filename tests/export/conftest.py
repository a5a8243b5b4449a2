"""A tiny network of each kind, and what is said about it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import xarray as xr
from tests.export.bases import image_of, load, make_base

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import ClassContract, FeatureContract, FilterSelection, ForestContract, RFContract
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.export.description import Attribution, Author, FinetunedDetails, Fusion, ModelDetails
from s2d_zoo.export.finetuned import write_finetuned
from s2d_zoo.export.fused import build_pixel_forest
from s2d_zoo.export.lineage import Parent
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.export.tolerance import Tolerance, Tolerances
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection


def make_model(**kwargs):
    """A network whose stored statistics differ from those at the start, as after training."""
    torch.manual_seed(0)
    model = UNet(**{"features": 2, "depth": 2, **kwargs})
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, kwargs.get("in_channels", 1), 32, 32))
    return model


@pytest.fixture
def model():
    return make_model()


@pytest.fixture(scope="session")
def contract():
    return RFContract(
        ndim=2,
        classes=(
            ClassContract(name="background", role="background"),
            ClassContract(name="nuclei", role="foreground"),
        ),
        channels=(1,),
        features=FeatureContract(
            filters=(FilterSelection(name="GaussianSmoothing", scales=(0.7, 1.6)),), compute_in_2d=True
        ),
        forest=ForestContract(implementation="sklearn", n_estimators=100, labels="simulated strokes"),
    )


@pytest.fixture(scope="session")
def attribution():
    author = Author.parse("Ada Lovelace; Analytical Engine, London; 0000-0002-1825-0097; @ada")
    return Attribution(authors=(author,), license="CC-BY-4.0")


@pytest.fixture(scope="session")
def enhancer(contract, attribution):
    return ModelDetails(
        id="tiny-enhancer",
        name="Tiny enhancer",
        description="Enhances the nuclei probabilities of a forest.",
        attribution=attribution,
        kind="enhancer",
        contract=contract,
        tags=("nuclei", "shallow2deep"),
        config={"training": {"epochs": 3}},
    )


@pytest.fixture(scope="session")
def segmentor(attribution):
    return ModelDetails(
        id="tiny-segmentor",
        name="Tiny segmentor",
        description="Segments nuclei.",
        attribution=attribution,
        kind="segmentor",
    )


@pytest.fixture(scope="session")
def facts():
    return CardFacts(
        training_data="8 simulated images",
        training_data_license="CC0-1.0",
        strokes="5 strokes for each class, simulated",
        seed=7,
        evaluation="On 3 images that were not trained on.",
        figures={"IoU of the enhancer": 0.87654321, "images": 3},
        limits=("Touching nuclei are not split.",),
        lineage=("12 forests", "an enhancer"),
    )


@pytest.fixture(scope="session")
def example():
    values = np.random.default_rng(0).random((1, 70, 100), dtype=np.float32)
    return xr.DataArray(values, dims=("channel", "y", "x"))


@pytest.fixture(scope="session")
def package(tmp_path_factory, enhancer, example, facts):
    path = tmp_path_factory.mktemp("package") / "enhancer.zip"
    return write_package(make_model(), enhancer, example, path, facts=facts)


@pytest.fixture(scope="session")
def tolerances():
    return Tolerances(formats=Tolerance(absolute=2e-4, mismatched_per_million=100, largest_measured=3e-5))


@dataclass(frozen=True)
class FusedParts:
    """A fused model, and what it was made from."""

    model: PixelForest
    classifier: PixelClassifier
    fed: tuple[int, ...]
    image: xr.DataArray  #: channel y x, that the forest was fitted on

    def unfused(self, values):
        """Filters by bioimage-cpp, trees by sklearn, and the enhancer: ``(1, channel, y, x)`` in and out."""
        features = self.classifier.selection.compute(xr.DataArray(values[0], dims=("channel", "y", "x")))
        fed = self.classifier.predict_features(features).values[list(self.fed)]
        with torch.inference_mode():
            return self.model.enhancer(torch.from_numpy(fed[np.newaxis])).numpy()


def make_sensitive(in_channels):
    """A network through which every change of the input is seen in the output."""
    torch.manual_seed(0)
    model = UNet(in_channels, features=2, depth=1, norm="none")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        logits = model.logits(torch.rand(4, in_channels, 32, 32))
        model.head.weight.mul_(4 / logits.std())
        model.head.bias.sub_(model.logits(torch.rand(4, in_channels, 32, 32)).mean(dim=(0, 2, 3)))
    return model


def make_fused(channels=1, n_classes=2, fed=(1,), *, n_estimators=5):
    """Fitted on stripes, ``n_classes`` shades of grey with noise, 60 x 66 px."""
    generator = np.random.default_rng(channels)
    labels = (np.arange(60)[:, np.newaxis] // 7 + np.zeros(66, dtype=int)) % n_classes + 1
    values = 300 * labels + generator.normal(scale=120, size=(channels, *labels.shape)) + 1000
    image = xr.DataArray(values.clip(0).astype(np.uint16), dims=("channel", "y", "x"))
    strokes = np.where(generator.random(labels.shape) < 0.1, labels, 0).astype(np.uint8)
    classifier = PixelClassifier(
        selection=FeatureSelection({"GaussianSmoothing": (0.7,), "StructureTensorEigenvalues": (1.0,)}),
        settings=ForestSettings(n_estimators=n_estimators),
        classes=name_classes(n_classes),
        random_state=5,
    ).fit(image, xr.DataArray(strokes, dims=("y", "x")))
    model = build_pixel_forest(
        classifier.forest.to_arrays(),
        classifier.selection.to_contract(),
        raw_channels=channels,
        fed=fed,
        enhancer=make_sensitive(len(fed)),
    )
    return FusedParts(model=model, classifier=classifier, fed=fed, image=image)


@pytest.fixture(scope="session")
def fused_maker():
    return make_fused


@pytest.fixture(scope="session")
def fused_parts():
    return make_fused()


@pytest.fixture(scope="session")
def fused(fused_parts, attribution):
    return ModelDetails(
        id="tiny-fused",
        name="Tiny fused model",
        description="Foreground and boundary of raw images.",
        attribution=attribution,
        kind="fused",
        fusion=Fusion(forest=fused_parts.classifier.contract, enhancer="tiny-enhancer", facts={"trees": 5}),
    )


# ---- finetuned models of others


@pytest.fixture
def finetuned(attribution):
    return FinetunedDetails(
        id="my-model",
        name="My model",
        description="Finds nuclei.",
        attribution=attribution,
        kind="segmentor",
        parent=Parent(id="tiny-base", version="1.0.0"),
        source="https://example.com/tiny-base",
        config={"provenance": {"seed": 7}},
    )


@pytest.fixture
def finetune(tmp_path, finetuned, facts):
    """Write a base and its finetuned package: model before, model after, path."""

    def make(folder=None, *, image=None, details=finetuned, facts=facts, output="new.zip", judge=None, **options):
        folder = folder or make_base(tmp_path / "base", **options)
        with open_package(folder) as contents:
            base, trained = load(contents)
            image = image_of() if image is None else image
            path = write_finetuned(
                trained, base, contents, details, image, tmp_path / output, facts=facts, overwrite=True, judge=judge
            )
        return base, trained, path

    return make
