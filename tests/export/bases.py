"""Packages of somebody else, made to be finetuned: a small network and the description around it."""

import copy
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
import yaml
from bioimageio.spec.utils import write_yaml
from torch import nn

from s2d_zoo.data.packaged_model import load_packaged_model

SIZE = 32


class Network(nn.Module):
    """Logits of two channels, looking 3 px far."""

    def __init__(self, channels=1, outputs=2, layer=nn.Conv2d, pool=nn.MaxPool2d):
        super().__init__()
        self.first = layer(channels, 3, 3, padding=1)
        self.pool = pool(2)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.last = layer(3, outputs, 1)

    def forward(self, image):
        return self.last(self.up(self.pool(torch.relu(self.first(image)))))


class InAList(Network):
    def forward(self, image):
        return [super().forward(image)]


class Normalised(Network):
    """Its ONNX file joins the normalisation with the convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        with torch.no_grad():
            self.norm.running_var.fill_(2.0)

    def forward(self, image):
        return self.last(self.norm(self.first(image)))


def image_of(size=50, channels=1, *, depth=None):
    """Raw values, neither normalised nor whole numbers."""
    shape = (channels, *((depth,) if depth else ()), size, size)
    values = np.random.default_rng(3).uniform(0.5, 4, shape).astype(np.float32)
    return xr.DataArray(values, dims=("channel", *(("z",) if depth else ()), "y", "x"))


def trace(network, example, *, script=False):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.script(network) if script else torch.jit.trace(network, example, check_trace=False)


def make_base(
    folder,
    network=None,
    *,
    preprocessing=(),
    postprocessing=({"id": "sigmoid"},),
    size=None,
    channels=1,
    outputs=2,
    depth=None,
    onnx=True,
    opset=17,
    script=False,
    change=lambda rdf: None,
):
    """Write an unpacked package, format 0.5.9."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = (network or Network(channels, outputs)).eval()
    space = [("z", depth)] * bool(depth) + [("y", SIZE), ("x", SIZE)]
    example = torch.rand(1, channels, *(number for _, number in space))
    trace(network, example, script=script).save(folder / "net.pt")
    weights = {"torchscript": {"source": "net.pt", "pytorch_version": "2.0.0"}}
    if onnx:
        weights["onnx"] = {"source": "net.onnx", "opset_version": opset, "parent": "torchscript"}
        free = {0: "batch", **{2 + index: name for index, (name, _) in enumerate(space)}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(folder / "net.onnx"),
                dynamo=False,
                opset_version=opset,
                input_names=["in"],
                output_names=["out"],
                dynamic_axes={"in": free, "out": free},
            )
    (folder / "README.md").write_text("# Base\n## Validation\n")
    sizes = {name: size or {"min": number, "step": 4} for name, number in space}
    references = {name: {"tensor_id": "image", "axis_id": name, "offset": 0} for name, _ in space}
    rdf = {
        "type": "model",
        "format_version": "0.5.9",
        "id": "tiny-base",
        "version": "1.0.0",
        "name": "Tiny base",
        "description": "Somebody's network.",
        "authors": [{"name": "Grace Hopper", "orcid": "0000-0002-1825-0097", "github_user": "constantinpape"}],
        "maintainers": [{"name": "Grace Hopper", "github_user": "constantinpape"}],
        "cite": [{"text": "A paper", "doi": "10.1234/base"}, {"text": "A page", "url": "https://example.com/"}],
        "license": "CC-BY-4.0",
        "tags": ["nuclei", "shallow2deep"],
        "git_repo": "https://example.com/",
        "training_data": {"id": "somebody/nuclei"},
        "documentation": "README.md",
        "inputs": [
            {
                "id": "image",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": [f"raw {index}" for index in range(channels)]},
                    *({"type": "space", "id": name, "size": sizes[name], "unit": "micrometer"} for name, _ in space),
                ],
                "data": {"type": "float32"},
                "preprocessing": list(preprocessing),
            }
        ],
        "outputs": [
            {
                "id": "map",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": [f"class{index}" for index in range(outputs)]},
                    *(
                        {"type": "space", "id": name, "size": references[name], "halo": 2, "unit": "micrometer"}
                        for name, _ in space
                    ),
                ],
                "postprocessing": list(postprocessing),
            }
        ],
        "weights": weights,
    }
    change(rdf)
    write_yaml(rdf, folder / "rdf.yaml")
    return folder


def load(contents, *, by=1.1, **options):
    """The base, and the same with other weights."""
    base = load_packaged_model(contents, **options)
    return base, nudged(base, by)


def nudged(base, by):
    """The same model with other weights, as after a training."""
    with torch.no_grad():
        network = copy.deepcopy(base.network)
        for parameter in network.parameters():
            parameter.mul_(by)
    return replace(base, network=network)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rdf_of(path):
    return yaml.safe_load(members_of(path)["rdf.yaml"])
