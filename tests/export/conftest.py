"""A tiny network of each kind, and what is said about it."""

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import ClassContract, FeatureContract, FilterSelection, ForestContract, RFContract
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package


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
