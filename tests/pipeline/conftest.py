"""One whole run of `adapt`, made once and looked at by many tests."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.patches import PatchDataset, PatchSettings
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.enhancer.dataset import ProbabilityMap, make_patches
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.export.package import write_package
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.adapt import AdaptResult, adapt
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.job import AdaptSettings, PseudoLabelSettings
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.trainer import TrainingSettings, train
from s2d_zoo.validate.checks import Consumer
from s2d_zoo.validate.report import Verdict
from s2d_zoo.validate.validation import validate_package

OURS = Attribution(authors=(Author(name="Ada"),), license="MIT")


def make_settings(**changes):
    training = TrainingSettings(steps=5, steps_per_epoch=2, batch_size=2, device="cpu")
    settings = AdaptSettings(
        attribution=OURS,
        model_name="Tiny segmentor",
        forest=ForestSettings(n_estimators=5),
        pseudo_labels=PseudoLabelSettings(n_forests=2),
        segmentor=SegmentorSettings(
            features=2, depth=2, patches=PatchSettings(size=32, zoom=(0.8, 1.25), soft_target=True), training=training
        ),
        seed=4,
    )
    return replace(settings, **changes)


#: what is said of every package where the networks are not run
VERDICTS = tuple(
    Verdict(consumer=one, word="runs with limits", reasons=("T04: <seams>",))
    if one is Consumer.qupath
    else Verdict(consumer=one, word="runs", reasons=())
    for one in Consumer
)


def validate_quickly(path, **options):
    """Only the checks that do not run the network, and verdicts as if it had been run."""
    report = validate_package(path, **{"select": ("S", "F", "C", "L"), **options})
    return replace(report, verdicts=VERDICTS)


def be_quick(patch):
    for module in ("validated", "packages"):
        patch.setattr(f"s2d_zoo.pipeline.{module}.validate_package", validate_quickly)
    patch.setattr("s2d_zoo.pipeline.validated.verdicts_for", lambda _: VERDICTS)
    # the time that the card states would differ from run to run
    patch.setattr("s2d_zoo.export.package.describe_costs", lambda *_: ("Quick and small.",))


@pytest.fixture
def quick_validation(monkeypatch):
    """Run no network for the checks, and measure no time; `test_validated.py` does both."""
    be_quick(monkeypatch)


@pytest.fixture(scope="session")
def tiny_settings():
    """Make settings with few trees and few steps; arguments change them."""
    return make_settings


@dataclass(frozen=True)
class Run:
    """A run and its folder."""

    inputs: AdaptInputs
    result: AdaptResult
    output: Path

    @property
    def lasting(self):
        return lasting_files(self.output)


def lasting_files(output):
    """Contents of every file that must not differ between two equal runs."""
    patterns = ("*.safetensors", "images/*/*.tif", "packages/*.zip")
    found = [path for pattern in patterns for path in sorted(output.glob(pattern))]
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


@pytest.fixture(scope="session")
def lasting():
    """Read every file of a run that must not differ between two equal runs."""
    return lasting_files


@pytest.fixture(scope="session")
def package(tmp_path_factory, package, nuclei):
    """The tiny enhancer, trained until its output follows its input."""
    image, instances = nuclei
    values = image.values[0].astype(float)
    fuzzy = 255 * np.clip((values - values.min()) / np.ptp(values), 0, 1)
    patches = make_patches(
        [ProbabilityMap(probabilities=fuzzy.astype(np.uint8), labels=instances)], PatchSettings(size=32), seed=0
    )
    torch.manual_seed(0)
    settings = TrainingSettings(steps=80, steps_per_epoch=80, batch_size=4, learning_rate=0.03, device="cpu")
    folder = tmp_path_factory.mktemp("enhancer")
    network = UNet(features=4, depth=1, input_offset=(0.5,), input_scale=(0.25,))
    model = train(network, patches, settings, folder=folder).model
    details = ModelDetails(
        id="tiny-enhancer",
        name="Tiny enhancer",
        description="Enhances.",
        attribution=OURS,
        kind="enhancer",
        contract=load_enhancer(package).contract,
    )
    facts = CardFacts(training_data="none", training_data_license="CC0-1.0", strokes="none", seed=0)
    example = xr.DataArray(fuzzy[np.newaxis].astype(np.float32) / 255, dims=("channel", "y", "x"))
    return write_package(model, details, example, folder / "enhancer.zip", facts=facts)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, package):
    """Files of an image with strokes and truth, and of a test image; with the tiny enhancer."""
    folder = tmp_path_factory.mktemp("inputs")
    simulation = NucleiSimulation(size=96, n_nuclei=6, diameter=22, photons=40)
    for name, seed in (("cells", 1), ("others", 2)):
        image, instances = simulate_nuclei(simulation, seed=seed)
        write_image(folder / f"{name}.tif", image)
        write_image(folder / f"{name}-truth.tif", instances)
    truth = binary_classes(read_image(folder / "cells-truth.tif").isel(channel=0))
    write_image(folder / "cells-strokes.tif", simulate_scribbles(truth, n_strokes=4, seed=2))
    return AdaptInputs(
        images=(folder / "cells.tif",),
        scribbles=(folder / "cells-strokes.tif",),
        enhancer=str(package),
        ground_truth=(folder / "cells-truth.tif",),
        test_images=(folder / "others.tif",),
        test_ground_truth=(folder / "others-truth.tif",),
    )


@pytest.fixture(scope="session")
def plain_inputs(inputs):
    """The same image and strokes, and nothing else."""
    return AdaptInputs(images=inputs.images, scribbles=inputs.scribbles, enhancer=inputs.enhancer)


@pytest.fixture(scope="session")
def run(tmp_path_factory, inputs):
    """A finished run with its report, quickly validated. Not to be changed."""
    output = tmp_path_factory.mktemp("run") / "output"
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        result = adapt(inputs, make_settings(), output, progress=False)
    write_report(result)
    return Run(inputs=inputs, result=result, output=output)


@pytest.fixture(scope="session")
def strokes(inputs):
    """Values of the strokes, y x."""
    return np.asarray(read_image(inputs.scribbles[0]).values[0])


@pytest.fixture
def stop_in_training(monkeypatch):
    """Let the user press Ctrl-C in the second epoch of a training on raw images; call the result to stop that."""
    ask = PatchDataset.__getitem__

    def interrupted(patches, index):
        if index >= 5:
            raise KeyboardInterrupt
        return ask(patches, index)

    monkeypatch.setattr(PatchDataset, "__getitem__", interrupted)
    return lambda: monkeypatch.setattr(PatchDataset, "__getitem__", ask)


@pytest.fixture(scope="session")
def contents():
    """List every file below a folder, with what it holds."""
    return read_all


def read_all(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
