"""The enhancers that others published: fetched from a zoo by their id, understood as far as that goes, and used."""

import hashlib
import json
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from bioimageio.spec.utils import read_yaml
from scipy import ndimage
from tests.assets.published_enhancers import PUBLISHED, make_published
from tests.zoo.local_zoo import Server, Zoo

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import apply_network, load_network
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ContractMismatchError, UnsafePackageError
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.fit_check import check_fit_files
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.pipeline.single_steps import enhance_file
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.download import download_model

pytestmark = pytest.mark.realdata

VOLUMES = tuple(name for name, one in PUBLISHED.items() if one.ndim == 3)


@pytest.fixture(scope="module")
def published(tmp_path_factory, realdata_dir):
    """A zoo with the four of them, all downloaded by the ids that it lists: id → folder in the cache."""
    folder = tmp_path_factory.mktemp("published")
    with Server() as server, pytest.MonkeyPatch.context() as patch:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        patch.setenv("S2D_ZOO_CACHE", str(folder / "cache"))
        patch.setenv("S2D_ZOO_COLLECTION_LIST", server.url("/list.json"))
        patch.setenv("BIOIMAGEIO_COLLECTION_INDEX_URL", server.url("/index.json"))
        zoo = Zoo(server, folder)
        for name in PUBLISHED:
            publish(zoo, name, make_published(name, realdata_dir / "zoo_rdf", folder / name))
        yield {name: download_model(name).folder for name in PUBLISHED}
        server.shutdown()
        thread.join()


def publish(zoo, name, folder):
    """Serve the files of a package as they are, and list it."""
    for path in folder.iterdir():
        zoo.server.put(f"/{name}/{path.name}", path.read_bytes())
    content = (folder / "rdf.yaml").read_bytes()
    source = zoo.server.url(f"/{name}/rdf.yaml")
    zoo.items[name] = [{"version": "v0", "source": source, "sha256": hashlib.sha256(content).hexdigest()}]
    zoo.manifests[name] = read_yaml(content.decode())
    zoo.list()


@dataclass(frozen=True)
class Sample:
    """Files of an image with blobs, strokes on it, and the truth."""

    files: dict  #: of `AdaptInputs`
    truth: np.ndarray


def make_sample(folder, ndim, seed):
    """Bright blobs, 64 px wide; of volumes 16 planes, strokes on three of them."""
    shape, dims = ((16, 64, 64), "zyx") if ndim == 3 else ((64, 64), "yx")
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal(shape), 4, mode="wrap")
    truth = (smooth > np.quantile(smooth, 0.7)).astype(np.uint16)
    noisy = 100 + 80 * ndimage.gaussian_filter(truth.astype(float), 1) + generator.normal(0, 12, shape)
    strokes = np.zeros(shape, np.uint8)
    lines = (slice(6, 7), slice(24, 25), slice(40, 41), slice(58, 59))
    for plane in (3, 8, 12) if ndim == 3 else (Ellipsis,):
        for line in lines:
            strokes[plane][line] = truth[plane][line] + 1
    for name, values in (("cells", noisy.astype(np.uint16)), ("truth", truth), ("strokes", strokes)):
        write_image(folder / f"{name}.tif", xr.DataArray(values, dims=tuple(dims)))
    files = {"images": (folder / "cells.tif",), "scribbles": (folder / "strokes.tif",)}
    return Sample(files=files | {"ground_truth": (folder / "truth.tif",)}, truth=truth)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return {ndim: make_sample(tmp_path_factory.mktemp(f"{ndim}D"), ndim, seed=ndim) for ndim in (2, 3)}


def run(name, sample, settings, output, **changes):
    inputs = AdaptInputs(enhancer=name, trust_code=PUBLISHED[name].needs_trust, **(sample.files | changes))
    result = adapt(inputs, settings, output, progress=False)
    write_report(result)
    return result


@pytest.fixture
def without_packages(monkeypatch):
    """Writing them takes most of a run's time."""
    monkeypatch.setattr("s2d_zoo.pipeline.adapt.write_packages", lambda *_: ())


# ---- what is known of them


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_files_are_those_of_its_description(name, published, realdata_dir):
    found, original = (
        path.read_text(encoding="utf-8").splitlines()
        for path in (published[name] / "rdf.yaml", realdata_dir / "zoo_rdf" / f"{name}.rdf.yaml")
    )
    differing = [new for new, old in zip(found, original, strict=True) if new != old]
    assert differing
    assert all("sha256: " in line for line in differing)
    assert find_model(name) == published[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_contract_is_derived_and_what_is_unknown_is_said(name, published, caplog):
    expected = PUBLISHED[name]
    enhancer = load_enhancer(published[name], trust_code=expected.needs_trust)
    contract = enhancer.contract
    assert (contract.ndim, contract.roles, contract.value_range) == (expected.ndim, ("foreground",), (0, 1))
    assert (contract.features, contract.pixel_size, contract.object_diameter) == (None, None, None)
    assert contract.forest.implementation == "unknown"
    assert enhancer.model.network.channels == (1, expected.channels)
    (message,) = caplog.messages
    how = "not preprocessed" if name == "amiable-crocodile" else "preprocessed as its description says: scale_range"
    assert f"the foreground of a {expected.ndim}D forest, from 0 to 1 ({how})" in message
    assert "which features, pixel size and size of objects it was trained on is unknown" in message


def test_the_sizes_along_z_are_its_own(published):
    network = load_enhancer(published["independent-shrimp"]).model.network
    assert (network.along_z.smallest, network.along_z.step, network.along_z.halo) == (16, 8, 4)
    assert (network.tiles.smallest, network.tiles.step, network.tiles.halo) == (128, 16, 32)


def test_code_is_run_only_if_it_is_trusted(published, samples, tmp_path, tiny_settings):
    inputs = AdaptInputs(enhancer="amiable-crocodile", **samples[2].files)
    sha256 = hashlib.sha256((published["amiable-crocodile"] / "unet.py").read_bytes()).hexdigest()
    with pytest.raises(UnsafePackageError, match=rf"the file unet\.py of the package, SHA-256 {sha256}.*--trust-code"):
        adapt(inputs, tiny_settings(), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "ndim"), [("hiding-blowfish", 3), ("determined-chipmunk", 2)])
@pytest.mark.usefixtures("published")
def test_volumes_and_planes_are_not_mixed_up(name, ndim, samples, tmp_path, tiny_settings):
    other = PUBLISHED[name].ndim
    with pytest.raises(ContractMismatchError, match=f"takes {other}D probabilities; the forest delivers {ndim}D. Use"):
        run(name, samples[ndim], tiny_settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- what they are used for


@pytest.mark.usefixtures("published", "without_packages")
@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_used_by_adapt(name, samples, tmp_path, tiny_settings):
    expected = PUBLISHED[name]
    sample = samples[expected.ndim]
    result = run(name, sample, tiny_settings(), tmp_path / "out")
    assert result.segmentors.problem is None
    assert result.fused is None
    assert ("these are volumes" if expected.ndim == 3 else "network of another project") in result.not_fused
    folder = tmp_path / "out" / "images" / "01-cells"
    maps = {path.stem: read_image(path) for path in folder.iterdir()}
    for one in ("enhanced", "pseudo_labels", "segmentation"):
        assert maps[one].shape == (2, *sample.truth.shape)
    for one in ("forest_foreground", "pseudo_label_weights"):
        assert maps[one].shape == (1, *sample.truth.shape)
    assert np.corrcoef(maps["enhanced"].values[0].ravel(), sample.truth.ravel())[0, 1] > 0.5
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"RF", "enhanced", "pseudo-labels", "segmentor", "segmentor, strokes only"} == set(
        facts["scores"]["training"]
    )
    assert facts["scores"]["training"]["enhanced"]["iou"] > 0.5


@pytest.mark.usefixtures("published", "quick_validation")
def test_the_segmentor_of_a_volume_is_packaged_and_gives_its_planes(samples, tmp_path, tiny_settings):
    result = run("independent-shrimp", samples[3], tiny_settings(), tmp_path / "out")
    assert [path.name for path in result.packages] == ["tiny-segmentor.zip"]
    assert result.good
    segmentor = load_network(tmp_path / "out" / "segmentor.safetensors")
    image = read_image(samples[3].files["images"][0])
    (prediction,) = result.predictions
    np.testing.assert_array_equal(prediction.segmentation[:, 5], apply_network(segmentor, image[:, 5]))


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", VOLUMES)
def test_probabilities_of_a_volume_are_enhanced(name, samples, tmp_path):
    foreground = 0.2 + 0.6 * ndimage.gaussian_filter(samples[3].truth.astype(np.float32), 1)
    maps = xr.DataArray(np.stack([1 - foreground, foreground]), dims=("channel", "z", "y", "x"))
    write_image(tmp_path / "maps.tif", maps)
    assert check_fit_files(name, probabilities=tmp_path / "maps.tif").fits
    enhance_file(tmp_path / "maps.tif", tmp_path / "enhanced.tif", enhancer=name, rescale=0.5, progress=False)
    enhanced = read_image(tmp_path / "enhanced.tif")
    assert enhanced.shape == (2, 16, 64, 64)
    assert np.corrcoef(enhanced.values[0].ravel(), foreground.ravel())[0, 1] > 0.9


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(("name", "shape"), [("hiding-blowfish", (2, 4, 8, 8)), ("determined-chipmunk", (2, 8, 8))])
def test_maps_of_other_dimensions_than_it_takes_are_told(name, shape, tmp_path):
    dims = ("channel", *"zyx"[4 - len(shape) :])
    write_image(tmp_path / "maps.tif", xr.DataArray(np.full(shape, 0.5, np.float32), dims=dims))
    other = len(shape) - 1
    told = f"takes {PUBLISHED[name].ndim}D probabilities; the forest delivers {other}D. Use a {other}D enhancer"
    with pytest.raises(ContractMismatchError, match=told):
        enhance_file(tmp_path / "maps.tif", tmp_path / "out.tif", enhancer=name, progress=False)
