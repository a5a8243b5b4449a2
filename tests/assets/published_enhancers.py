"""Packages in the very shape of the four enhancers in the zoo that were published before there were RF contracts.

Their descriptions are the published ones, word for word, but for the SHA-256 of the files that are made here: small
networks of the stated classes and arguments, which all but give back what they take, and everything else that a
description names.
"""

import hashlib
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import xarray as xr
from bioimageio.spec.utils import read_yaml
from tests.assets import published_unet

from s2d_zoo.data.images import write_image


@dataclass(frozen=True)
class Published:
    """What tells one of them from the others."""

    ndim: int
    channels: int  #: of its output
    needs_trust: bool = False  #: it has no TorchScript


PUBLISHED = {
    "hiding-blowfish": Published(ndim=2, channels=2),
    "amiable-crocodile": Published(ndim=2, channels=1, needs_trust=True),
    "determined-chipmunk": Published(ndim=3, channels=1),
    "independent-shrimp": Published(ndim=3, channels=2),
}


def make_published(name, descriptions, folder):
    """Make one of them as an unpacked package.

    Args:
        name: of `PUBLISHED`.
        descriptions: folder with the published descriptions, NAME.rdf.yaml.
        folder: to be made.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    text = (descriptions / f"{name}.rdf.yaml").read_text(encoding="utf-8")
    rdf = read_yaml(text)
    shutil.copyfile(published_unet.__file__, folder / "unet.py")
    network = make_network(rdf)
    values = np.random.default_rng(0).random(rdf["inputs"][0]["shape"]["min"], dtype=np.float32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch advises against TorchScript
        output = network(torch.from_numpy(preprocessed(values, rdf))).numpy()
        if "torchscript" in rdf["weights"]:
            traced = torch.jit.trace(network, torch.from_numpy(values), check_trace=False)
            traced.save(folder / rdf["weights"]["torchscript"]["source"])
    torch.save(network.state_dict(), folder / "weights.pt")
    np.save(folder / rdf["test_inputs"][0], values)
    np.save(folder / rdf["test_outputs"][0], output)
    _write_the_rest(rdf, values, output, folder)
    (folder / "rdf.yaml").write_text(_with_hashes(text, rdf, folder), encoding="utf-8")
    return folder


def make_network(rdf):
    """The network that a description names, always with the same weights; it gives back what it takes, sharpened."""
    entry = rdf["weights"]["pytorch_state_dict"]
    torch.manual_seed(0)
    network = getattr(published_unet, entry["architecture"].partition(":")[2])(**entry["kwargs"]).eval()
    with torch.no_grad():
        network.head.weight[:] *= 0.1
        network.head.weight[0, -1], network.head.bias[0] = 12, -6
    return network


def preprocessed(values, rdf):
    """From minimum to maximum, where the description says so."""
    return (values - values.min()) / (np.ptp(values) + 1e-6) if rdf["inputs"][0].get("preprocessing") else values


def _write_the_rest(rdf, values, output, folder):
    """Documentation, cover, samples, attachments, and the environment of the code."""
    (folder / rdf["documentation"]).write_text(f"# {rdf['name']}\n\n{rdf['description']}\n", encoding="utf-8")
    (folder / "environment.yaml").write_text("dependencies: [pytorch]\n", encoding="utf-8")
    for name in rdf.get("attachments", {}).get("files", ()):
        (folder / name).write_text('run("Enhance Contrast...", "saturated=0");\n', encoding="utf-8")
    grey = (255 * values[0, 0]).astype(np.uint8).reshape(-1, values.shape[-1])[:32, :32]
    for name in rdf["covers"]:
        iio.imwrite(folder / name, np.concatenate([grey, grey], axis=1))
    dims = ("channel", *"zyx"[5 - values.ndim :])
    for key, sample in (("sample_inputs", values), ("sample_outputs", output)):
        for name in rdf.get(key, ()):
            write_image(folder / name, xr.DataArray(sample[0], dims=dims))


def _with_hashes(text, rdf, folder):
    """The description with the SHA-256 of these files in place of those of the published ones."""
    for entry in rdf["weights"].values():
        code = entry.get("architecture", "").partition(":")[0]
        for key, name in (("sha256", entry["source"]), ("architecture_sha256", code)):
            if key in entry:
                text = text.replace(entry[key], hashlib.sha256(Path(folder / name).read_bytes()).hexdigest())
    return text
