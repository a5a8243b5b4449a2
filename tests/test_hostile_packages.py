"""Through whichever door they come: hostile packages are refused by name, before anything of them runs."""

import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from tests.assets.hostile_packages import HOSTILE, HUGE
from tests.conftest import Folder
from tests.zoo.local_zoo import Server

from s2d_zoo.cli import cli
from s2d_zoo.data.images import write_image
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo.download import download_model
from s2d_zoo.zoo.downloads import downloaded_models

BY_NAME = {hostile.name: hostile for hostile in HOSTILE}
#: with which messages are framed
FRAME = str.maketrans("", "", "│╭╮╰╯─")


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "4000")


@dataclass(frozen=True)
class Made:
    """A hostile package on the disk."""

    path: Path
    marker: Path  #: where a file would be written


@pytest.fixture(scope="module")
def make(tmp_path_factory, package):
    """Make a package by name, once: nothing may change it."""
    made = {}

    def make_once(name):
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            marker = place / "marker.txt"
            made[name] = Made(BY_NAME[name].make(Folder(place / "package", package), marker), marker)
        return made[name]

    yield make_once
    assert made
    assert not [one.marker for one in made.values() if one.marker.exists()]


@pytest.fixture(params=HOSTILE, ids=lambda hostile: hostile.name)
def hostile(request):
    return request.param


@pytest.fixture
def path(hostile, make):
    made = make(hostile.name)
    yield made.path
    assert not made.marker.exists()


def call(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.translate(FRAME).split())


# ---- the ways in


@pytest.mark.parametrize("trust_code", [False, True])
def test_it_is_not_loaded_as_a_model(hostile, path, trust_code):
    if trust_code and hostile.name == "architecture_that_writes":
        pytest.skip("this is what trust is for")
    opened = []
    with pytest.raises(PackageError, match=hostile.says), open_package(path) as contents:
        opened.append(load_packaged_model(contents, trust_code=trust_code))
    assert not opened


def test_it_is_not_loaded_as_an_enhancer(hostile, path):
    with pytest.raises(PackageError, match=hostile.says):
        load_enhancer(path)


def test_its_validation_finds_it(hostile, path):
    report = validate_package(path, ignore=("A", "R", "T"))
    assert report.exit_code == 1
    found = [one.message for one in report.results if one.check.name == hostile.check and one.status != "passed"]
    assert any(re.search(hostile.finds or hostile.says, message) for message in found), report


def test_it_is_downloaded_as_data_or_not_at_all(hostile, path):
    if hostile.copies:
        with pytest.raises(PackageError, match=hostile.says):
            load_enhancer(download_model(path).folder)
    else:
        with pytest.raises(PackageError, match=hostile.copying or hostile.says):
            download_model(path)
        assert downloaded_models() == ()


def test_the_command_that_applies_it_refuses_it(hostile, path, tmp_path, nuclei):
    write_image(tmp_path / "p.tif", (nuclei[0] / nuclei[0].max()).astype("float32"))
    exit_code, said = call(
        *("enhance", "--probabilities", tmp_path / "p.tif", "--enhancer", path, "--output", tmp_path / "out.tif")
    )
    assert exit_code == 1
    assert re.search(hostile.says, said), said
    assert not (tmp_path / "out.tif").exists()


def test_the_command_that_trains_it_refuses_it(hostile, path, tmp_path):
    values = np.random.default_rng(0).random((2, 64, 64), dtype=np.float32)
    write_image(tmp_path / "image.tif", xr.DataArray(values[:1], dims=("channel", "y", "x")))
    write_image(tmp_path / "labels.tif", xr.DataArray(values, dims=("channel", "y", "x")))
    exit_code, said = call(
        *("finetune", "--image", tmp_path / "image.tif", "--pseudo-labels", tmp_path / "labels.tif", "--base-model"),
        *(path, "--output", tmp_path / "out.zip", "--authors", "Ada", "--license", "MIT", "--steps", 1, "--quiet"),
    )
    assert exit_code == 1
    assert re.search(hostile.says, said), said
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize("name", ["parent_name", "pickle_in_state_dict"])
def test_the_command_that_validates_reports_it(name, make):
    hostile = BY_NAME[name]
    exit_code, said = call("validate", make(name).path, "--select", "S", "--quiet")
    assert exit_code == 1
    assert re.search(rf"{hostile.check}.*{hostile.says}", said), said


@pytest.mark.parametrize("name", [hostile.name for hostile in HOSTILE if not hostile.opens and hostile.check == "S01"])
def test_it_is_not_fetched_from_a_server(name, make):
    path = make(name).path
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        file, address = (path / "rdf.yaml", "/rdf.yaml") if path.is_dir() else (path, "/package.zip")
        exit_code, said = call("download", server.put(address, file.read_bytes()))
        server.shutdown()
        thread.join()
    assert exit_code == 1
    assert re.search(BY_NAME[name].says, said), said
    assert downloaded_models() == ()


# ---- whether they are hostile at all: what happens where nobody looks


def unpickle(path):
    return pickle.loads((path / "weights_state_dict.pt").read_bytes())  # noqa: S301 - made by these tests


def load_all(path):
    return torch.load(path / "weights_state_dict.pt", weights_only=False)


def load_objects(path):
    return np.load(path / "test_input.npy", allow_pickle=True)


def load_script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(path / "weights.pt")


def run_script(path):
    return load_script(path)(torch.zeros(1, 1, 8, 8))


def import_code(path):
    spec = importlib.util.spec_from_file_location("hostile_net", path / "net.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(
    ("name", "careless"),
    [
        ("pickle_in_state_dict", load_all),
        ("bare_pickle", unpickle),
        ("pickle_in_test_tensor", load_objects),
        ("script_that_writes_when_loaded", load_script),
        ("script_that_writes_when_run", run_script),
        ("script_that_maps_a_file", run_script),
        ("architecture_that_writes", import_code),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_marker_is_written_where_nobody_looks(name, careless, folder, tmp_path):
    marker = tmp_path / "marker.txt"
    path = BY_NAME[name].make(folder, marker)
    assert not marker.exists()
    careless(path)
    assert marker.exists()


def test_torch_itself_takes_foreign_memory_for_weights(make):
    path = make("huge_torchscript").path
    try:
        network = load_script(path)
    except RuntimeError:
        pytest.skip("this torch looks by itself")
    sizes = [values.untyped_storage().nbytes() for values in network.state_dict().values()]
    assert max(sizes) > (path / "weights.pt").stat().st_size


# ---- memory

IN_LITTLE_MEMORY = """
import json, resource, sys
from pathlib import Path

import torch
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo.download import download_model


def load(path):
    with open_package(path) as contents:
        load_packaged_model(contents)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2 * 1024**3,) * 2)
before, said = peak(), {}
for path in sys.argv[1:]:
    for way in (load, load_enhancer, download_model):
        try:
            way(Path(path))
            said[f"{path} {way.__name__}"] = ""
        except PackageError as error:
            said[f"{path} {way.__name__}"] = str(error)
    said[f"{path} validate"] = str(validate_package(Path(path), ignore=("A", "R", "T", "W01", "W02", "W06")))
print(json.dumps({"said": said, "bytes": peak() - before}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
def test_nobody_makes_room_for_what_is_declared(make):
    paths = {name: make(name).path for name in HUGE}
    arguments = [sys.executable, "-c", IN_LITTLE_MEMORY, *map(str, paths.values())]
    result = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    for name, path in paths.items():
        hostile = BY_NAME[name]
        for way in ("load", "load_enhancer", *(() if hostile.copies else ("download_model",))):
            assert re.search(hostile.says, found["said"][f"{path} {way}"]), (name, way, found)
        assert re.search(hostile.finds or hostile.says, found["said"][f"{path} validate"]), (name, found)
    assert found["bytes"] < 400 * 1024**2
