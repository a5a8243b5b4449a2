"""What goes into packages as architecture: one file that runs wherever torch is."""

import json
import subprocess
import sys
from importlib import resources

import numpy as np
import torch

from s2d_zoo.architectures.pixel_forest import PixelForest
from s2d_zoo.architectures.sources import PIXEL_FOREST_FILE, UNET_FILE, packaged_source
from s2d_zoo.data.network import network_kwargs

#: nothing but the file, torch and the standard library: a finder in front refuses everything of this project
CODE = """
import importlib.util, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("s2d_zoo", "sklearn", "bioimage_cpp", "xarray"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import torch

spec = importlib.util.spec_from_file_location("architecture", "pixel_forest.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.PixelForest(**json.load(open("kwargs.json")))
model.load_state_dict(torch.load("weights.pt", weights_only=True))
torch.save(model.eval()(torch.load("image.pt", weights_only=True)).detach(), "output.pt")
"""


def test_the_unet_is_packaged_as_it_is():
    text = (resources.files("s2d_zoo.architectures") / UNET_FILE).read_bytes()
    assert packaged_source(UNET_FILE) == text


def test_the_packaged_pixel_forest_imports_nothing_of_this_project():
    source = packaged_source(PIXEL_FOREST_FILE)
    assert b"s2d_zoo" not in source
    assert source.count(b"class UNet(") == source.count(b"class PixelForest(") == 1


def test_the_packaged_pixel_forest_runs_alone_and_gives_the_same(tmp_path):
    torch.manual_seed(0)
    filters = {"GaussianSmoothing": [0.7, 1.6], "StructureTensorEigenvalues": [1.0]}
    model = PixelForest(filters, raw_channels=2, nodes=3, trees=1, enhancer={"in_channels": 1, "features": 2}).eval()
    model.forest.threshold[0] = 0.5
    model.forest.left[:] = torch.tensor([1, 1, 2])
    model.forest.value[2] = 1
    image = torch.rand(1, 2, 24, 32)
    (tmp_path / "pixel_forest.py").write_bytes(packaged_source(PIXEL_FOREST_FILE))
    (tmp_path / "kwargs.json").write_text(json.dumps(network_kwargs(model)))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.save(image, tmp_path / "image.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    output = torch.load(tmp_path / "output.pt", weights_only=True)
    np.testing.assert_allclose(output.numpy(), model(image).detach().numpy(), atol=1e-6)
