"""Each stage by itself gives what it gives inside a whole run."""

import numpy as np
import pytest
import tifffile

from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import ConfigError, ContractMismatchError, SavedFileError
from s2d_zoo.export.description import Attribution, Author, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline.single_steps import (
    classify_file,
    enhance_file,
    export_file,
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


def test_a_classifier_tells_which_channel_is_the_foreground(run, tmp_path, caplog):
    probabilities = classify(run, tmp_path / "probabilities.tif")
    for classifier, warned in ((None, True), (run.output / "classifier.safetensors", False)):
        caplog.clear()
        output = tmp_path / f"warned {warned}.tif"
        enhance_file(probabilities, output, enhancer=run.inputs.enhancer, classifier=classifier, progress=False)
        assert ("is taken for the objects" in caplog.text) is warned


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
