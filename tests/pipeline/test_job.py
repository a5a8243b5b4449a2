"""Opening a run: everything is checked before the first forest, and before anything is written."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from s2d_zoo.contract import PixelSize
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import (
    ConfigError,
    ContractMismatchError,
    PackageError,
    SavedFileError,
    ScribbleError,
    UserInputError,
)
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline.job import AdaptSettings, PseudoLabelSettings, open_job
from s2d_zoo.trainer import TrainingSettings

OURS = Attribution(authors=(Author(name="Ada"),), license="MIT")


def test_a_job_sets_strokes_aside_and_records_itself(plain_inputs, tmp_path, tiny_settings):
    job = open_job(plain_inputs, tiny_settings(), tmp_path / "out", progress=False)
    assert job.split.n_held_out == 2
    assert job.split.n_training == 6
    assert (tmp_path / "out" / "run.json").is_file()
    assert job.label("text") is None
    assert job.image_folder(0) == tmp_path / "out" / "images" / "01-cells"


def test_progress_has_labels_where_it_is_wanted(plain_inputs, tmp_path, tiny_settings):
    assert open_job(plain_inputs, tiny_settings(), tmp_path / "out").label("text") == "text"


def test_the_segmentor_is_trained_with_the_seed_of_the_run(tiny_settings):
    assert tiny_settings(seed=9).seeded_segmentor.training.seed == 9


@pytest.mark.parametrize("existing", ["refuse", "resume"])
def test_a_folder_with_other_things_is_left_alone(plain_inputs, tmp_path, contents, existing, tiny_settings):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty|no run to resume"):
        open_job(plain_inputs, tiny_settings(), tmp_path, existing=existing)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_overwriting_leaves_what_is_not_replaced(plain_inputs, tmp_path, tiny_settings):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run.json").write_text("old")
    open_job(plain_inputs, tiny_settings(), tmp_path, existing="overwrite")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "run.json").read_text() != "old"


def test_overwriting_forgets_the_checkpoints_of_another_training(plain_inputs, tmp_path, tiny_settings):
    (tmp_path / "checkpoints" / "segmentor").mkdir(parents=True)
    open_job(plain_inputs, tiny_settings(), tmp_path, existing="overwrite")
    assert not (tmp_path / "checkpoints").exists()


def test_an_output_that_is_a_file_is_refused(plain_inputs, tmp_path, tiny_settings):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        open_job(plain_inputs, tiny_settings(), tmp_path / "out", existing="overwrite")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_empty_folder_is_as_good_as_none(plain_inputs, tmp_path, tiny_settings):
    open_job(plain_inputs, tiny_settings(), tmp_path)
    assert (tmp_path / "run.json").is_file()


def test_the_same_run_can_be_resumed(plain_inputs, tmp_path, tiny_settings):
    open_job(plain_inputs, tiny_settings(), tmp_path)
    (tmp_path / "checkpoints").mkdir()
    open_job(plain_inputs, tiny_settings(), tmp_path, existing="resume")
    assert (tmp_path / "checkpoints").is_dir()


def test_a_run_on_changed_files_is_not_resumed(plain_inputs, tmp_path, tiny_settings):
    image = read_image(plain_inputs.images[0])
    inputs = replace(plain_inputs, images=(tmp_path / "cells.tif",))
    write_image(tmp_path / "cells.tif", image)
    open_job(inputs, tiny_settings(), tmp_path / "out")
    write_image(tmp_path / "cells.tif", image + 1, overwrite=True)
    with pytest.raises(ConfigError, match="other inputs"):
        open_job(inputs, tiny_settings(), tmp_path / "out", existing="resume")


def test_an_enhancer_that_is_nowhere_is_refused(plain_inputs, tmp_path, tiny_settings):
    with pytest.raises(PackageError, match="No model 'nonsense'"):
        open_job(replace(plain_inputs, enhancer="nonsense"), tiny_settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def volume(folder, _rdf):
    values = np.zeros((4, 40, 40), dtype=np.uint8)
    values[:, :20] = 1
    write_image(folder / "volume.tif", xr.DataArray(values * 9, dims=("z", "y", "x")))
    write_image(folder / "strokes.tif", xr.DataArray(values + 1, dims=("z", "y", "x")))
    return {"images": (folder / "volume.tif",), "scribbles": (folder / "strokes.tif",)}


def other_roles(_folder, rdf):
    rdf["config"]["s2d_zoo"]["rf_contract"]["classes"][1]["role"] = "other"
    return {}


@pytest.mark.parametrize(("change", "words"), [(volume, "3D"), (other_roles, "one channel each of other")])
def test_an_enhancer_whose_contract_does_not_fit_is_refused_before_any_forest(
    plain_inputs, tmp_path, folder, change, words, tiny_settings
):
    changed = change(tmp_path, folder.rdf)
    inputs = replace(plain_inputs, **changed, enhancer=str(folder.save()))
    with pytest.raises(ContractMismatchError, match=words):
        open_job(inputs, tiny_settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rescaling_by_unknown_pixel_sizes_is_refused_before_any_forest(plain_inputs, tmp_path, tiny_settings):
    with pytest.raises(ConfigError, match="Cannot tell how to rescale"):
        open_job(plain_inputs, tiny_settings(rescale="auto"), tmp_path / "out")


def test_rescaling_by_absurd_pixel_sizes_is_refused_before_any_forest(plain_inputs, tmp_path, folder, tiny_settings):
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["pixel_size"] = {"y": 100.0, "x": 100.0}
    image = read_image(plain_inputs.images[0]).assign_attrs(pixel_size=PixelSize(y=0.25, x=0.25))
    write_image(tmp_path / "cells.tif", image)
    inputs = replace(plain_inputs, images=(tmp_path / "cells.tif",), enhancer=str(folder.save()))
    with pytest.raises(ConfigError, match="1/16…16"):
        open_job(inputs, tiny_settings(rescale="auto"), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"foreground": 3}, ConfigError, "labels 1…2"),
        ({"class_names": ("a",)}, ConfigError, "2 classes, but 1 names"),
        ({"class_names": ("a", "")}, ConfigError, "needs a name"),
        ({"class_names": ("a", "b", "c"), "foreground": 3}, ScribbleError, "No stroke has the label of the foreground"),
        ({"model_name": "enhancer"}, ConfigError, "both be written to enhancer.zip"),
    ],
)
def test_settings_that_contradict_the_strokes_or_files_are_refused(
    plain_inputs, tmp_path, change, error, words, tiny_settings
):
    with pytest.raises(error, match=words):
        open_job(plain_inputs, tiny_settings(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inputs_are_checked_before_the_folder_is_touched(plain_inputs, tmp_path, contents, tiny_settings):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("precious")
    before = contents(tmp_path)
    inputs = replace(plain_inputs, scribbles=plain_inputs.images)
    with pytest.raises(UserInputError):
        open_job(inputs, tiny_settings(), tmp_path, existing="overwrite")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_name": "abc"},
        {"model_name": "a/b name"},
        {"model_name": "------"},
        {"seed": -1},
        {"rescale": 0.0},
        {"rescale": float("nan")},
    ],
    ids=str,
)
def test_settings_are_checked_when_they_are_made(wrong):
    with pytest.raises(ConfigError):
        AdaptSettings(attribution=OURS, **wrong)


@pytest.mark.parametrize("wrong", [{"n_forests": 0}, {"confidence": 0.4}, {"confidence": 1.0}], ids=str)
def test_pseudo_label_settings_are_checked_when_they_are_made(wrong):
    with pytest.raises(ConfigError):
        PseudoLabelSettings(**wrong)


def test_a_share_of_held_out_strokes_out_of_range_is_refused(plain_inputs, tmp_path, tiny_settings):
    settings = tiny_settings(pseudo_labels=PseudoLabelSettings(held_out=1.0))
    with pytest.raises(ConfigError, match="fraction"):
        open_job(plain_inputs, settings, tmp_path / "out")


def test_default_settings_only_need_makers_and_terms():
    settings = AdaptSettings(attribution=OURS)
    assert settings.model_id == "segmentor-adapted-with-s2d-zoo"
    assert settings.segmentor == SegmentorSettings(
        training=TrainingSettings(steps=1000, steps_per_epoch=100, batch_size=4)
    )


def test_overwriting_removes_the_results_of_an_earlier_run(plain_inputs, tmp_path, tiny_settings):
    open_job(plain_inputs, tiny_settings(), tmp_path)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "earlier.zip").write_text("earlier")
    (tmp_path / "report.html").write_text("earlier")
    open_job(plain_inputs, tiny_settings(), tmp_path, existing="overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_overwriting_leaves_a_folder_alone_that_no_run_wrote(plain_inputs, tmp_path, tiny_settings):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.tif").write_text("mine")
    open_job(plain_inputs, tiny_settings(), tmp_path, existing="overwrite")
    assert (tmp_path / "images" / "mine.tif").read_text() == "mine"


def test_a_damaged_run_file_is_named_on_resume(plain_inputs, tmp_path, tiny_settings):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(SavedFileError, match=r"run\.json is damaged"):
        open_job(plain_inputs, tiny_settings(), tmp_path, existing="resume")


def test_a_resumed_run_names_the_option_that_differs(plain_inputs, tmp_path, tiny_settings):
    open_job(plain_inputs, tiny_settings(), tmp_path)
    with pytest.raises(ConfigError, match=r"options\.settings\.foreground|options\.settings\.model_name"):
        open_job(plain_inputs, tiny_settings(model_name="Another model"), tmp_path, existing="resume")
