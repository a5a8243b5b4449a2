"""Each stage by itself gives what it gives inside a whole run."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.network import load_network, save_network
from s2d_zoo.errors import AxesError, ConfigError, ContractMismatchError, SavedFileError, UserInputError
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline import single_steps
from s2d_zoo.pipeline.single_steps import (
    FinetuneFiles,
    classify_file,
    enhance_file,
    export_file,
    finetune_files,
)
from s2d_zoo.rf_adapter.classes import name_classes
from s2d_zoo.rf_adapter.classifier import ForestSettings, PixelClassifier
from s2d_zoo.rf_adapter.persistence import load_classifier, save_classifier

TREES = ForestSettings(n_estimators=5)


def classify(run, output, **changes):
    options = {"scribbles": run.inputs.scribbles[0], "forest": TREES, "seed": 4, "progress": False, **changes}
    return classify_file(run.inputs.images[0], output, **options)


def test_a_forest_is_fitted_kept_and_used_as_in_a_whole_run(run, tmp_path):
    output = classify(run, tmp_path / "probabilities.tif", save_to=tmp_path / "forest.safetensors")
    found = read_image(output)
    assert found.sizes["channel"] == 2
    np.testing.assert_array_equal(found[1], run.result.predictions[0].foreground)
    np.testing.assert_allclose(found.sum("channel"), 1, atol=1e-5)
    assert (tmp_path / "forest.safetensors").read_bytes() == run.lasting["classifier.safetensors"]


def test_a_saved_forest_gives_the_same_probabilities(run, tmp_path):
    fresh = classify(run, tmp_path / "fresh.tif")
    saved = classify(run, tmp_path / "saved.tif", scribbles=None, classifier=run.output / "classifier.safetensors")
    assert saved.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("both", [True, False])
def test_strokes_or_a_forest_are_needed_and_not_both(run, tmp_path, both):
    with pytest.raises(ConfigError, match="Give one of --scribbles"):
        classify(
            run,
            tmp_path / "out.tif",
            **({"classifier": tmp_path / "forest.safetensors"} if both else {"scribbles": None}),
        )


def test_more_names_than_labels_name_more_classes(run, tmp_path):
    output = classify(run, tmp_path / "out.tif", class_names=("a", "b", "c"), foreground=3)
    assert read_image(output).sizes["channel"] == 3


@pytest.mark.parametrize("target", ["output", "classifier"])
def test_results_that_are_there_are_not_replaced_unless_allowed(run, tmp_path, target):
    there = tmp_path / {"output": "out.tif", "classifier": "forest.safetensors"}[target]
    there.write_text("mine")
    options = {"save_to": tmp_path / "forest.safetensors"}
    with pytest.raises(ConfigError, match="--overwrite"):
        classify(run, tmp_path / "out.tif", **options)
    assert [path.name for path in tmp_path.iterdir()] == [there.name]
    assert there.read_text() == "mine"
    classify(run, tmp_path / "out.tif", overwrite=True, **options)
    assert there.read_bytes() != b"mine"


def test_probabilities_are_enhanced_as_in_a_whole_run(run, tmp_path):
    probabilities = classify(run, tmp_path / "probabilities.tif")
    for number, classifier in enumerate((None, run.output / "classifier.safetensors")):
        output = enhance_file(
            probabilities,
            tmp_path / f"{number}.tif",
            enhancer=run.inputs.enhancer,
            classifier=classifier,
            progress=False,
        )
        np.testing.assert_array_equal(read_image(output), run.result.predictions[0].enhanced)


def test_of_two_classes_one_is_enough_whichever_label_it_has(run, tmp_path):
    foreground = run.result.predictions[0].foreground
    write_image(tmp_path / "one.tif", foreground)
    saved = tmp_path / "first.safetensors"
    fitted = load_classifier(run.output / "classifier.safetensors")
    classes = name_classes(2, foreground=1, names=("cells", "background"))
    contract = fitted.contract.model_copy(update={"classes": classes, "channels": (0,)})
    save_classifier(PixelClassifier.from_forest(fitted.forest, contract), saved)
    found = {}
    for name, classifier in (("alone", None), ("label 2", run.output / "classifier.safetensors"), ("label 1", saved)):
        output = tmp_path / f"{name}.tif"
        enhance_file(tmp_path / "one.tif", output, enhancer=run.inputs.enhancer, classifier=classifier)
        found[name] = read_image(output).values
    np.testing.assert_array_equal(found["label 1"], found["alone"])
    np.testing.assert_array_equal(found["label 2"], found["alone"])


def test_values_of_0_to_255_are_refused(run, tmp_path):
    tifffile.imwrite(tmp_path / "bytes.tif", np.full((2, 40, 40), 100, dtype=np.uint8), metadata={"axes": "CYX"})
    with pytest.raises(ContractMismatchError, match="divided by 255"):
        enhance_file(tmp_path / "bytes.tif", tmp_path / "out.tif", enhancer=run.inputs.enhancer)
    assert not (tmp_path / "out.tif").exists()


def test_rescaling_needs_pixel_sizes_or_a_factor(run, tmp_path):
    probabilities = classify(run, tmp_path / "probabilities.tif")
    with pytest.raises(ConfigError, match="--rescale"):
        enhance_file(probabilities, tmp_path / "a.tif", enhancer=run.inputs.enhancer, rescale="auto")
    enhance_file(probabilities, tmp_path / "b.tif", enhancer=run.inputs.enhancer, rescale=0.5, progress=False)


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
    training = finetune(files, tmp_path / "net.safetensors", tiny_settings)
    assert training.end is None
    assert (tmp_path / "net.safetensors").read_bytes() == run.lasting["segmentor.safetensors"]


def test_held_out_strokes_and_a_base_model_are_used(run, files, tmp_path, tiny_settings):
    files = replace(files, held_out=run.inputs.scribbles, base_model=run.output / "segmentor.safetensors")
    training = finetune(files, tmp_path / "net.safetensors", tiny_settings)
    assert training.start is not None
    assert training.end.iou >= training.start.iou
    before = load_network(run.output / "segmentor.safetensors").head.weight
    assert not np.allclose(training.model.head.weight.detach(), before.detach())


def test_without_weights_every_pixel_counts(files, tmp_path, tiny_settings, monkeypatch):
    seen = {}

    def look(base_model, images, labels, settings, **_):
        seen["weights"] = labels[0].weights
        raise KeyboardInterrupt

    monkeypatch.setattr(single_steps, "train_segmentor", look)
    with pytest.raises(KeyboardInterrupt):
        finetune(replace(files, weights=()), tmp_path / "net.safetensors", tiny_settings)
    assert (seen["weights"] == 1).all()
    assert seen["weights"].dims == ("y", "x")


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


@pytest.fixture
def words():
    details = ModelDetails(
        id="mine",
        name="My model",
        description="Segments.",
        attribution=Attribution(authors=(Author(name="Ada"),), license="MIT"),
        kind="segmentor",
    )
    facts = CardFacts(training_data="cells", training_data_license="CC0-1.0", strokes="few", seed=0)
    return {"details": details, "facts": facts}


@pytest.mark.usefixtures("quick_validation")
def test_a_trained_network_is_exported_and_validated(run, tmp_path, words):
    network = run.output / "segmentor.safetensors"
    report = export_file(network, run.inputs.images[0], tmp_path / "mine.zip", **words)
    assert report.package == str(tmp_path / "mine.zip")
    assert report.passed
    assert (tmp_path / "mine.zip").is_file()
    with pytest.raises(ConfigError, match="--overwrite"):
        export_file(network, run.inputs.images[0], tmp_path / "mine.zip", **words)


def test_a_file_that_is_no_network_is_not_exported(run, tmp_path, words):
    with pytest.raises(SavedFileError, match="not a network"):
        export_file(run.output / "classifier.safetensors", run.inputs.images[0], tmp_path / "mine.zip", **words)
    assert not (tmp_path / "mine.zip").exists()


@pytest.mark.parametrize("target", ["output", "save_to"])
def test_an_input_is_never_overwritten(run, tmp_path, target):
    precious = tmp_path / "strokes.tif"
    precious.write_bytes(run.inputs.scribbles[0].read_bytes())
    places = {"output": tmp_path / "out.tif", "save_to": None, target: precious}
    with pytest.raises(ConfigError, match="is an input of this command"):
        classify(run, places["output"], scribbles=precious, save_to=places["save_to"], overwrite=True)
    assert precious.read_bytes() == run.inputs.scribbles[0].read_bytes()
