"""The real nuclei model: fetched by its id, trained further on strokes, exported, tested by bioimageio.core."""

import threading
import warnings
from dataclasses import replace

import pytest
import yaml
from bioimageio.core import test_model as judge_package
from tests.zoo.local_zoo import Server, Zoo

from s2d_zoo.data.datasets import load_dataset
from s2d_zoo.data.images import write_image
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.validate.checks import Check
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.download import download_model


@pytest.fixture
def downloaded(realdata_dir, tmp_path, monkeypatch):
    """The id by which the model lies in the cache."""
    folder = realdata_dir / "zoo" / "unet2d_nuclei_broad"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "rdf.yaml"}
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("BIOIMAGEIO_COLLECTION_INDEX_URL", server.url("/index.json"))
        monkeypatch.setenv("S2D_ZOO_COLLECTION_LIST", server.url("/list.json"))
        rdf = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
        Zoo(server, tmp_path).publish("nuclei-broad", rdf, files)
        download_model("nuclei-broad")
        server.shutdown()
        thread.join()
    return "nuclei-broad"


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.usefixtures("quick_validation")
def test_a_real_model_is_finetuned_and_names_its_parent(downloaded, realdata_dir, tmp_path, tiny_settings):
    entry = load_dataset("nuclei_gowt1", "train", data_dir=realdata_dir)[0]
    part = {"y": slice(200, 600), "x": slice(200, 600)}
    image, labels = entry.image.isel(part), entry.labels.isel(part)
    write_image(tmp_path / "image.tif", image)
    write_image(tmp_path / "truth.tif", labels)
    write_image(tmp_path / "strokes.tif", simulate_scribbles(binary_classes(labels), n_strokes=5, seed=0))
    inputs = AdaptInputs(
        images=(tmp_path / "image.tif",),
        scribbles=(tmp_path / "strokes.tif",),
        ground_truth=(tmp_path / "truth.tif",),
        enhancer="nuclei-fluo-2d",
        base_model=downloaded,
    )
    settings = tiny_settings(allow_worse=True)
    training = replace(settings.segmentor.training, learning_rate=1e-4)
    settings = replace(settings, segmentor=replace(settings.segmentor, training=training))
    result = adapt(inputs, settings, tmp_path / "out", progress=False)

    package, report = result.packages[0], result.validation[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert judge_package(package).status == "passed"
    with open_package(package) as contents:
        rdf = contents.rdf
    assert rdf["parent"] == {"id": "nuclei-broad", "version": "v0"}
    assert set(rdf["weights"]) == {"torchscript", "onnx"}
    assert [author["name"] for author in rdf["authors"]][-1] == "Ada"
    (lineage,) = [one for one in report.results if one.check is Check.L03]
    assert lineage.status == "passed"
    assert "stored tensors differ" in lineage.message  # compared with the downloaded package itself
    with open_package(find_model(downloaded)) as contents:
        stated = contents.rdf["weights"]["torchscript"]["sha256"]
    assert rdf["config"]["s2d_zoo"]["provenance"]["base_model"]["weights"]["torchscript"]["sha256"] == stated
    scores = result.scores["training"]
    assert scores["base model, untouched"].iou > 0.5  # it is a trained nuclei model
    assert abs(scores["segmentor"].iou - scores["base model, untouched"].iou) < 0.2  # after five small steps
    assert len(result.segmentors.difference.changed) > 0
