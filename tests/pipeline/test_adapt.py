"""Whole runs: what they write, that they repeat bit by bit, and that they can be interrupted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import apply_network, load_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune import finetuning as training_loop
from s2d_zoo.pipeline import adapt as adapt_module
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.fusion import FusionSettings
from s2d_zoo.pipeline.job import PseudoLabelSettings
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.rf_adapter.persistence import load_classifier


def test_a_run_is_good_and_makes_three_packages_that_pass(run):
    assert run.result.good
    assert [path.name for path in run.result.packages] == [
        "tiny-segmentor.zip",
        "tiny-segmentor-fused.zip",
        "enhancer.zip",
    ]
    for package, report in zip(run.result.packages, run.result.validation, strict=True):
        assert report.package == str(package)
        assert report.passed
        assert {result.status for result in report.results} <= {"passed", "limited", "skipped"}
        assert len(report.verdicts) == 4


def test_a_run_writes_every_stage(run):
    assert set(run.lasting) == {
        "classifier.safetensors",
        "segmentor.safetensors",
        "packages/enhancer.zip",
        "packages/tiny-segmentor.zip",
        "packages/tiny-segmentor-fused.zip",
        *(
            f"images/01-cells/{name}.tif"
            for name in (
                "forest_foreground",
                "enhanced",
                "fused",
                "pseudo_labels",
                "pseudo_label_weights",
                "segmentation",
                "held_out_strokes",
            )
        ),
        *(f"images/test-01-others/{name}.tif" for name in ("forest_foreground", "enhanced", "fused", "segmentation")),
    }
    written = {path.name for path in run.output.iterdir()}
    assert {"run.json", "report.html", "report.json", "validation"} <= written
    assert {path.name for path in (run.output / "validation").iterdir()} == {
        f"{path.stem}.{kind}" for path in run.result.packages for kind in ("md", "json", "html")
    }
    assert "checkpoints" not in written, "they are of no use after the end"
    assert not list(run.output.rglob(".*")), "nothing temporary is left"


def test_maps_are_probabilities_of_the_size_of_the_image(run):
    for path in set((run.output / "images").glob("*/*.tif")) - set(run.output.rglob("held_out_strokes.tif")):
        values = read_image(path)
        assert values.sizes["y"] == values.sizes["x"] == 96
        assert 0 <= float(values.min()) <= float(values.max()) <= 1


def test_what_is_written_is_what_is_returned(run):
    (prediction,) = run.result.predictions
    folder = run.output / "images" / "01-cells"
    np.testing.assert_array_equal(read_image(folder / "enhanced.tif").values, prediction.enhanced.values)
    np.testing.assert_array_equal(read_image(folder / "pseudo_labels.tif").values, prediction.labels.labels.values)
    np.testing.assert_array_equal(read_image(folder / "segmentation.tif").values, prediction.segmentation.values)


def test_the_saved_forest_and_segmentor_give_the_same_maps_again(run):
    image = read_image(run.inputs.images[0])
    (prediction,) = run.result.predictions
    forest = load_classifier(run.output / "classifier.safetensors")
    np.testing.assert_allclose(forest.predict_proba(image)[1], prediction.foreground, atol=1e-6)
    segmentor = load_network(run.output / "segmentor.safetensors")
    np.testing.assert_allclose(apply_network(segmentor, image), prediction.segmentation, atol=1e-6)


def test_the_enhancer_that_was_used_lies_beside_unchanged(run, package):
    assert (run.output / "packages" / "enhancer.zip").read_bytes() == package.read_bytes()


def test_each_stage_builds_on_the_one_before(run):
    (prediction,) = run.result.predictions
    forest = prediction.foreground.values
    assert np.corrcoef(forest.ravel(), prediction.enhanced.values[0].ravel())[0, 1] > 0.5
    strokes = run.result.job.split.training[0].values
    np.testing.assert_array_equal(prediction.labels.labels.values[0][strokes > 0], strokes[strokes > 0] == 2)
    assert (prediction.labels.weights.values[strokes > 0] == 1).all()
    assert 0.2 < prediction.labels.kept < 1


def test_the_fused_network_gives_what_forest_and_enhancer_give_one_after_another(run):
    image = run.result.job.data.images[0].values[np.newaxis].astype(np.float32)
    with torch.inference_mode():
        found = run.result.fused.model(torch.from_numpy(image)).numpy()
    difference = np.abs(found - run.result.fused.unfused(image))
    # a pixel right at a threshold of the forest may change sides, with all that the enhancer makes of it
    assert (difference > 1e-3).mean() < 0.01
    assert found.std() > 0.05


def test_the_fused_maps_differ_from_the_enhanced_ones_at_borders_only(run):
    # there the forest sees the mirrored image, where the enhancer saw mirrored probabilities
    for prediction in (*run.result.predictions, *run.result.test_predictions):
        pair = prediction.fused.values.ravel(), prediction.enhanced.values.ravel()
        assert np.corrcoef(*pair)[0, 1] > 0.95
    for methods in run.result.scores.values():
        assert methods["fused"].iou == pytest.approx(methods["enhanced"].iou, abs=0.005)
    written = read_image(run.output / "images" / "01-cells" / "fused.tif")
    np.testing.assert_array_equal(written.values, run.result.predictions[0].fused.values)


def test_held_out_strokes_are_in_no_pseudo_label(run):
    split = run.result.job.split
    held_out = split.held_out[0].values > 0
    assert held_out.any()
    assert not (held_out & (split.training[0].values > 0)).any()
    assert not np.array_equal(
        run.result.predictions[0].labels.labels.values[0][held_out], split.held_out[0].values[held_out] == 2
    )


def test_every_method_is_scored_where_there_is_truth(run):
    assert list(run.result.scores["training"]) == [
        "RF",
        "enhanced",
        "fused",
        "pseudo-labels",
        "segmentor",
        "segmentor, strokes only",
    ]
    assert list(run.result.scores["test"]) == ["RF", "enhanced", "fused", "segmentor", "segmentor, strokes only"]


def test_the_times_of_all_stages_are_kept(run):
    assert list(run.result.seconds) == [
        *("reading", "forests", "enhancement", "fusion", "pseudo-labels", "segmentors"),
        "packages and validation",
    ]


def test_the_kept_share_is_that_of_the_pseudo_labels(run):
    (prediction,) = run.result.predictions
    assert run.result.kept == pytest.approx(prediction.labels.kept)


@pytest.mark.usefixtures("quick_validation")
def test_a_second_run_with_the_same_seed_is_equal_bit_by_bit(run, tmp_path, lasting, tiny_settings):
    adapt(run.inputs, tiny_settings(), tmp_path / "again", progress=False)
    assert lasting(tmp_path / "again") == run.lasting


@pytest.mark.usefixtures("quick_validation")
def test_another_seed_gives_another_forest_and_segmentor(run, tmp_path, lasting, tiny_settings):
    adapt(run.inputs, tiny_settings(seed=5), tmp_path / "other", progress=False)
    found = lasting(tmp_path / "other")
    for name in ("classifier.safetensors", "segmentor.safetensors"):
        assert found[name] != run.lasting[name]


@pytest.mark.usefixtures("quick_validation")
def test_a_run_without_truth_has_no_scores_and_no_baseline(run, plain_inputs, tmp_path, tiny_settings, lasting):
    result = adapt(plain_inputs, tiny_settings(), tmp_path / "out", progress=False)
    assert result.scores == {}
    assert result.segmentors.baseline is None
    assert result.predictions[0].strokes_only is None
    assert result.test_predictions == ()
    # the truth was used for nothing else
    assert lasting(tmp_path / "out")["segmentor.safetensors"] == run.lasting["segmentor.safetensors"]


@pytest.mark.usefixtures("quick_validation")
def test_a_run_that_was_interrupted_in_training_is_resumed_to_the_same_result(
    run, tmp_path, stop_in_training, lasting, tiny_settings
):
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        adapt(run.inputs, tiny_settings(), output, progress=False)
    assert (output / "checkpoints" / "segmentor" / "last.ckpt").is_file()
    stop_in_training()
    before = json.loads((output / "checkpoints" / "seconds.json").read_text())
    result = adapt(run.inputs, tiny_settings(), output, existing="resume", progress=False)
    assert lasting(output) == run.lasting
    assert result.seconds["segmentors"] > before["segmentors"] > 0  # of both runs, as the package says, too


@pytest.mark.usefixtures("quick_validation")
def test_a_run_that_was_interrupted_after_training_is_resumed_to_the_same_result(
    run, tmp_path, monkeypatch, lasting, tiny_settings
):
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(adapt_module, "write_packages", lambda *_: pytest.fail("stop here"))
        with pytest.raises(pytest.fail.Exception):
            adapt(run.inputs, tiny_settings(), output, progress=False)
    adapt(run.inputs, tiny_settings(), output, existing="resume", progress=False)
    assert lasting(output) == run.lasting


@pytest.mark.usefixtures("quick_validation")
@pytest.mark.parametrize("change", [{"seed": 6}, {"pseudo_labels": PseudoLabelSettings(n_forests=1)}], ids=str)
def test_another_run_cannot_be_resumed(run, tmp_path, stop_in_training, contents, tiny_settings, change):
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        adapt(run.inputs, tiny_settings(), output, progress=False)
    stop_in_training()
    before = contents(output)
    with pytest.raises(ConfigError, match="run with other options"):
        adapt(run.inputs, tiny_settings(**change), output, existing="resume", progress=False)
    assert contents(output) == before


@pytest.mark.usefixtures("quick_validation")
def test_a_segmentor_that_ends_worse_is_a_result_and_no_error(run, tmp_path, monkeypatch, tiny_settings):
    output = tmp_path / "out"
    adapt(run.inputs, tiny_settings(), output, progress=False)
    assert (output / "segmentor.safetensors").exists()
    monkeypatch.setattr(training_loop, "_compare", lambda *_, **__: "IoU 0.1, before 0.9")
    result = adapt(run.inputs, tiny_settings(), output, existing="overwrite", progress=False)
    assert not result.good
    assert "worse than its start: IoU 0.1, before 0.9" in result.segmentors.problem
    assert "segmentor" in result.scores["training"]  # how bad it is may be seen
    assert [path.name for path in result.packages] == ["tiny-segmentor-fused.zip", "enhancer.zip"]
    for name in ("segmentor.safetensors", "packages/tiny-segmentor.zip"):
        assert not (output / name).exists(), "that of the run before is not this run's"


@pytest.mark.usefixtures("quick_validation")
def test_several_images_are_worked_on_together(run, tmp_path, tiny_settings):
    inputs = replace(
        run.inputs,
        images=run.inputs.images * 2,
        scribbles=run.inputs.scribbles * 2,
        ground_truth=(),
        test_images=(),
        test_ground_truth=(),
    )
    result = adapt(inputs, tiny_settings(), tmp_path / "out", progress=False)
    assert len(result.predictions) == 2
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["01-cells", "02-cells"]


@pytest.mark.usefixtures("quick_validation")
def test_an_enhancer_in_a_folder_is_used_but_not_copied(plain_inputs, tmp_path, folder, tiny_settings):
    inputs = replace(plain_inputs, enhancer=str(folder.path))
    result = adapt(inputs, tiny_settings(), tmp_path / "out", progress=False)
    assert [path.name for path in result.packages] == ["tiny-segmentor.zip", "tiny-segmentor-fused.zip"]


@pytest.mark.usefixtures("quick_validation")
def test_a_pixel_size_far_off_is_noted_and_rescaling_mends_it(plain_inputs, tmp_path, folder, caplog, tiny_settings):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["pixel_size"] = {"y": 1.0, "x": 1.0}
    image = read_image(plain_inputs.images[0]).assign_attrs(pixel_size=PixelSize(y=0.25, x=0.25))
    write_image(tmp_path / "cells.tif", image)
    inputs = replace(plain_inputs, images=(tmp_path / "cells.tif",), enhancer=str(folder.save()))
    plain = adapt(inputs, tiny_settings(), tmp_path / "plain", progress=False)
    (misfit,) = plain.misfits
    assert "--rescale auto" in caplog.text
    assert misfit.field == "pixel_size"
    scaled = adapt(inputs, tiny_settings(rescale="auto"), tmp_path / "scaled", progress=False)
    given = adapt(inputs, tiny_settings(rescale=0.25), tmp_path / "given", progress=False)
    np.testing.assert_array_equal(scaled.predictions[0].enhanced, given.predictions[0].enhanced)
    assert not np.allclose(scaled.predictions[0].enhanced, plain.predictions[0].enhanced, atol=1e-3)
    found = read_image(tmp_path / "plain" / "images" / "01-cells" / "enhanced.tif")
    assert found.attrs["pixel_size"].x == pytest.approx(0.25)


@pytest.mark.usefixtures("quick_validation")
def test_what_is_rescaled_is_not_fused_and_the_run_is_good_all_the_same(plain_inputs, tmp_path, tiny_settings):
    result = adapt(plain_inputs, tiny_settings(rescale=0.5), tmp_path / "out", progress=False)
    assert result.good
    assert result.fused is None
    assert result.not_fused.startswith("probabilities are rescaled by 0.5")
    assert result.predictions[0].fused is None
    assert [path.name for path in result.packages] == ["tiny-segmentor.zip", "enhancer.zip"]
    assert not list((tmp_path / "out").rglob("*fused*"))
    page = write_report(result).read_text(encoding="utf-8")
    assert "There is no fused package: probabilities are rescaled by 0.5" in page
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert facts["not_fused"] == result.not_fused


@pytest.mark.usefixtures("quick_validation")
def test_a_limited_forest_is_fused_and_the_loss_told(run, plain_inputs, tmp_path, tiny_settings, lasting):
    settings = tiny_settings(fusion=FusionSettings(trees=2, max_depth=3))
    result = adapt(plain_inputs, settings, tmp_path / "out", progress=False)
    assert result.fused.classifier.forest.n_trees == 2
    found = lasting(tmp_path / "out")
    assert found["classifier.safetensors"] == run.lasting["classifier.safetensors"], "the forest itself is kept whole"
    with open_package(tmp_path / "out" / "packages" / "tiny-segmentor-fused.zip") as contents:
        own = contents.rdf["config"]["s2d_zoo"]["fused"]
        card = (contents.folder / "README.md").read_text()
    assert (own["trees"], own["depth"]) == (2, 3)
    assert 0 < own["loss"]["mean"] < 1
    assert "The forest was limited from 5 to 2 trees and from" in card


@pytest.mark.usefixtures("quick_validation")
def test_progress_goes_to_stderr_and_only_if_wanted(plain_inputs, tmp_path, capfd, tiny_settings):
    adapt(plain_inputs, tiny_settings(), tmp_path / "quiet", progress=False)
    assert capfd.readouterr() == ("", "")
    adapt(plain_inputs, tiny_settings(), tmp_path / "loud", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "segmentor" in err


def test_the_validation_that_is_written_is_the_one_that_is_returned(run):
    for report in run.result.validation:
        name = report.package.rsplit("/", maxsplit=1)[-1].removesuffix(".zip")
        written = json.loads((run.output / "validation" / f"{name}.json").read_text())
        assert written["passed"] == report.passed
        assert [one["consumer"] for one in written["verdicts"]] == [one.consumer.name for one in report.verdicts]
        assert len(written["results"]) == len(report.results)
