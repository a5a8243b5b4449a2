"""What all tests share: real data, and a tiny enhancer package with broken ones made from it."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from bioimageio.spec.utils import read_yaml, write_yaml

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import ClassContract, ForestContract, RFContract
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection


@pytest.fixture(scope="session")
def realdata_dir():
    """The folder with the real data sets: S2D_ZOO_DATA, else shared/data beside the checkout; skips without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("S2D_ZOO_DATA") or beside)
    if not (folder / "nuclei_gowt1").is_dir():
        pytest.skip(f"no real data in {folder}; set S2D_ZOO_DATA")
    return folder


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """A good package, as a zip."""
    torch.manual_seed(0)
    model = UNet(features=2, depth=2)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, 1, 32, 32))
    details = ModelDetails(
        id="tiny-enhancer",
        name="Tiny enhancer",
        description="Enhances.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        kind="enhancer",
        contract=RFContract(
            ndim=2,
            classes=(ClassContract(name="b", role="background"), ClassContract(name="f", role="foreground")),
            channels=(1,),
            forest=ForestContract(implementation="sklearn", labels="strokes"),
        ),
    )
    facts = CardFacts(training_data="none", training_data_license="CC0-1.0", strokes="none", seed=0)
    example = xr.DataArray(np.random.default_rng(0).random((1, 64, 64), dtype="float32"), dims=("channel", "y", "x"))
    return write_package(model, details, example, tmp_path_factory.mktemp("good") / "enhancer.zip", facts=facts)


class Folder:
    """An unpacked package that can be changed."""

    def __init__(self, path, package):
        self.path = path
        with zipfile.ZipFile(package) as archive:
            archive.extractall(path)
        self.rdf = read_yaml(path / "rdf.yaml")

    def keep_weights(self, *names):
        """Fewer formats, to save time; the first becomes the one that the others were made from."""
        self.rdf["weights"] = {name: self.rdf["weights"][name] for name in names}
        self.rdf["weights"][names[0]].pop("parent", None)
        return self

    def save(self):
        """Write the description, with the hashes of the files as they are now."""
        self._hash(self.rdf)
        return self.save_as_is()

    def save_as_is(self):
        write_yaml(self.rdf, self.path / "rdf.yaml")
        return self.path

    def _hash(self, value):
        if isinstance(value, dict):
            if "sha256" in value:
                value["sha256"] = hashlib.sha256((self.path / value["source"]).read_bytes()).hexdigest()
            for entry in value.values():
                self._hash(entry)
        elif isinstance(value, list):
            for entry in value:
                self._hash(entry)


@pytest.fixture
def folder(tmp_path, package):
    return Folder(tmp_path / "package", package)


@pytest.fixture
def zipped(tmp_path):
    """Make a zip from names and contents, without asking whether that is wise."""

    def make(members):
        path = tmp_path / "made.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members:
                archive.writestr(member, content)
        return path

    yield make
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def nuclei():
    """A small simulated image (channel y x, uint16) and its instances (y x). Not to be changed."""
    return simulate_nuclei(NucleiSimulation(size=96, n_nuclei=6, diameter=22, photons=40), seed=1)


@pytest.fixture(scope="session")
def scribbles(nuclei):
    """Strokes on `nuclei`: 1 = background, 2 = foreground."""
    return simulate_scribbles(binary_classes(nuclei[1]), n_strokes=4, seed=2)


@pytest.fixture(scope="session")
def classifier(nuclei, scribbles):
    """Fitted on `nuclei` and `scribbles`: few trees, few features."""
    selection = FeatureSelection({"GaussianSmoothing": (0.7, 1.6), "HessianOfGaussianEigenvalues": (1.0,)})
    return PixelClassifier(selection=selection, settings=ForestSettings(n_estimators=8), random_state=3).fit(
        nuclei[0], scribbles
    )
