"""Packages in the command line of bioimageio.core, without a network."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr

from s2d_zoo.data.network import apply_network
from s2d_zoo.enhancer.pretrained import load_enhancer


@pytest.fixture
def bioimageio(tmp_path):
    """Run the command line in an empty folder; it fails if something asks for the network."""
    with socket.create_server(("127.0.0.1", 0)) as watch:
        watch.setblocking(False)
        address = f"http://127.0.0.1:{watch.getsockname()[1]}"
        proxies = {name: address for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind}_PROXY")}
        proxies |= {name.upper(): address for name in proxies} | {"no_proxy": "", "NO_PROXY": ""}
        own = {
            "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "cache"),
            "BIOIMAGEIO_HTTP_TIMEOUT": "1",
            "CI": "true",  # no progress bars
        }

        def run(*arguments):
            command = [Path(sys.executable).with_name("bioimageio"), *arguments]
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env=os.environ | proxies | own,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

        yield run
        with pytest.raises(BlockingIOError):
            watch.accept()


def test_its_test_passes_for_every_weights_format(model_package, bioimageio, tmp_path):
    bioimageio("test", model_package.path, "--summary", "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "passed"
    reproduced = {
        detail["loc"][-1]: detail["status"]
        for detail in summary["details"]
        if detail["name"].startswith("Reproduce test outputs")
    }
    assert reproduced == dict.fromkeys(["onnx", "pytorch_state_dict", "torchscript"], "passed")


@pytest.mark.parametrize("weights_format", ["onnx", "torchscript"])
def test_its_prediction_on_a_tiff_is_that_of_the_network_with_mirrored_borders(
    model_package, weights_format, bioimageio, tmp_path
):
    values = model_package.inputs[1]
    tifffile.imwrite(tmp_path / "image.tif", values[0])
    bioimageio(
        "predict",
        model_package.path,
        *("--inputs", "image.tif", "--outputs", "output.tif", "--weight-format", weights_format),
    )
    halo = model_package.halo
    padded = np.pad(values, [(0, 0), (0, 0), (halo, halo), (halo, halo)], mode="symmetric")
    expected = model_package.expected(padded)[..., halo:-halo, halo:-halo]
    model_package.assert_close(tifffile.imread(tmp_path / "output.tif"), expected)


def test_its_prediction_is_that_of_our_enhancer(package, bioimageio, tmp_path):
    image = xr.DataArray(np.random.default_rng(1).random((1, 72, 80), dtype="float32"), dims=("channel", "y", "x"))
    tifffile.imwrite(tmp_path / "image.tif", image.values)
    bioimageio("predict", package, "--inputs", "image.tif", "--outputs", "output.tif")
    expected = apply_network(load_enhancer(package).model, image)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "output.tif")[0], expected.values, atol=1e-5)
