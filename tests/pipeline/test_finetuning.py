"""Training from files to files: fresh networks and ours."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.images import write_image
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.errors import AxesError, ConfigError, NotImprovedError, PackageError, UserInputError
from s2d_zoo.finetune import finetuning as training_loop
from s2d_zoo.finetune.finetuning import SegmentorTraining
from s2d_zoo.pipeline import finetuning
from s2d_zoo.pipeline.finetuning import FinetuneFiles, finetune_files


@pytest.fixture
def files(run):
    folder = run.output / "images" / "01-cells"
    return FinetuneFiles(
        images=run.inputs.images,
        pseudo_labels=(folder / "pseudo_labels.tif",),
        weights=(folder / "pseudo_label_weights.tif",),
    )


def finetune(files, output, tiny_settings, **options):
    return finetune_files(files, output, settings=tiny_settings().seeded_segmentor, progress=False, **options)


def test_a_segmentor_is_trained_as_in_a_whole_run(run, files, tmp_path, tiny_settings):
    done = finetune(files, tmp_path / "net.safetensors", tiny_settings)
    assert done.training.end is None
    assert (done.difference, done.validation) == (None, None)
    assert (tmp_path / "net.safetensors").read_bytes() == run.lasting["segmentor.safetensors"]


def test_held_out_strokes_and_a_base_model_are_used(run, files, tmp_path, tiny_settings):
    files = replace(files, held_out=run.inputs.scribbles, base_model=run.output / "segmentor.safetensors")
    done = finetune(files, tmp_path / "net.safetensors", tiny_settings, allow_worse=True)
    training = done.training
    assert training.start is not None
    assert training.end.iou >= training.start.iou
    before = load_network(run.output / "segmentor.safetensors").head.weight
    assert not np.allclose(training.model.head.weight.detach(), before.detach())
    assert len(done.difference.changed) > 0


def test_without_weights_every_pixel_counts(files, tmp_path, tiny_settings, monkeypatch):
    seen = {}

    def look(base_model, images, labels, settings, **_):
        seen["weights"] = labels[0].weights
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "train_segmentor", look)
    with pytest.raises(KeyboardInterrupt):
        finetune(replace(files, weights=()), tmp_path / "net.safetensors", tiny_settings)
    assert (seen["weights"] == 1).all()
    assert seen["weights"].dims == ("y", "x")


@pytest.mark.parametrize("weighting", ["rectified", "none"])
def test_weights_that_would_be_ignored_are_refused(files, tmp_path, tiny_settings, weighting):
    settings = replace(tiny_settings().seeded_segmentor, weighting=weighting)
    with pytest.raises(ConfigError, match=f"with {weighting} they would be ignored"):
        finetune_files(files, tmp_path / "net.safetensors", settings=settings, progress=False)
    finetune_files(replace(files, weights=()), tmp_path / "net.safetensors", settings=settings, progress=False)


@pytest.mark.parametrize("option", ["pseudo_labels", "weights", "held_out"])
def test_files_that_belong_together_must_be_equally_many(files, option):
    with pytest.raises(ConfigError, match="give one for each"):
        replace(files, **{option: files.images * 2})


def test_pseudo_labels_are_needed(files):
    with pytest.raises(ConfigError, match="--pseudo-labels was given 0 times"):
        replace(files, pseudo_labels=())


@pytest.mark.parametrize(
    ("field", "values", "error", "words"),
    [
        ("pseudo_labels", np.ones((1, 96, 96)), UserInputError, "found 1 channels"),
        ("pseudo_labels", np.full((2, 96, 96), 2.0), UserInputError, "values 2 to 2"),
        ("pseudo_labels", np.ones((2, 90, 96)), AxesError, "same pixels"),
        ("weights", np.full((1, 96, 96), -1.0), UserInputError, "-1"),
        ("weights", np.ones((1, 96, 90)), AxesError, "same pixels"),
        ("weights", np.zeros((1, 96, 96)), UserInputError, "weight 0"),
        ("held_out", np.ones((1, 96, 90), dtype=np.uint8), AxesError, "same pixels"),
    ],
)
def test_labels_and_weights_that_do_not_fit_are_refused(files, tmp_path, tiny_settings, field, values, error, words):
    path = tmp_path / "wrong.tif"
    kept = values if values.dtype == np.uint8 else values.astype(np.float32)
    write_image(path, xr.DataArray(kept, dims=("channel", "y", "x")))
    with pytest.raises(error, match=words):
        finetune(replace(files, **{field: (path,)}), tmp_path / "net.safetensors", tiny_settings)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_base_model_with_other_channels_is_refused(files, tmp_path, tiny_settings):
    save_network(UNet(in_channels=3, features=2, depth=2), tmp_path / "base.safetensors")
    with pytest.raises(AxesError, match=r"3 channel\(s\)"):
        finetune(replace(files, base_model=tmp_path / "base.safetensors"), tmp_path / "net.safetensors", tiny_settings)


def test_a_network_that_is_there_is_not_replaced(files, tmp_path, tiny_settings):
    (tmp_path / "net.safetensors").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        finetune(files, tmp_path / "net.safetensors", tiny_settings)
    assert (tmp_path / "net.safetensors").read_text() == "mine"


def test_one_that_got_worse_leaves_its_report_and_nothing_else(run, files, tmp_path, tiny_settings, monkeypatch):
    monkeypatch.setattr(training_loop, "_compare", lambda *_, **__: "IoU 0.100, before 0.900")
    files = replace(files, held_out=run.inputs.scribbles)
    with pytest.raises(NotImprovedError, match=r"IoU 0\.100, before 0\.900.*Report: .*net\.report\.md"):
        finetune(files, tmp_path / "net.safetensors", tiny_settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.report.json", "net.report.md"]
    text = (tmp_path / "net.report.md").read_text()
    assert "**No model was written**, because it is worse than its start: IoU 0.100, before 0.900." in text
    assert "| IoU |" in text  # by how much
    assert f"image 1, {run.inputs.images[0].name}: SHA-256" in text


def test_a_training_that_changes_nothing_is_reported_as_not_given_out(run, files, tmp_path, tiny_settings, monkeypatch):
    network = run.output / "segmentor.safetensors"
    unchanged = SegmentorTraining(model=load_network(network), steps=1)
    monkeypatch.setattr(finetuning, "train_segmentor", lambda *_, **__: unchanged)
    with pytest.raises(PackageError, match="to the last bit"):
        finetune(replace(files, base_model=network), tmp_path / "net.safetensors", tiny_settings)
    assert "**No model was written**, because its weights are those" in (tmp_path / "net.report.md").read_text()
    assert json.loads((tmp_path / "net.report.json").read_text())["given_out"] is False


def test_the_report_tells_how_it_does_and_what_changed(run, files, tmp_path, tiny_settings):
    files = replace(files, held_out=run.inputs.scribbles, base_model=str(run.output / "segmentor.safetensors"))
    done = finetune(files, tmp_path / "net.safetensors", tiny_settings, allow_worse=True)
    text = done.report.read_text()
    assert f"| IoU | {done.training.start.iou:.3f} | {done.training.end.iou:.3f} |" in text
    assert done.difference.table() in text
    facts = json.loads(done.report.with_suffix(".json").read_text())
    assert facts["held_out_strokes"]["calibration error"]["after"] == round(done.training.end.calibration_error, 4)
    assert facts["weights_difference"]["changed"] == len(done.difference.changed)
    assert facts["provenance"]["wall_time_minutes"] == 1


@pytest.mark.parametrize(("base", "output"), [(None, "net.zip"), ("net.safetensors", "net.zip"), ("x.zip", "net.st")])
def test_an_output_of_another_kind_is_refused(files, tmp_path, tiny_settings, base, output):
    with pytest.raises(ConfigError, match=r"--output that ends in \."):
        finetune(replace(files, base_model=base), tmp_path / output, tiny_settings)


def test_a_package_needs_its_makers(files, tmp_path, tiny_settings):
    with pytest.raises(ConfigError, match="give --authors and --license"):
        finetune(replace(files, base_model="some-model"), tmp_path / "net.zip", tiny_settings)
