"""What `finetune` is told, and what it hands on."""

import pytest

from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.pipeline import finetuning


@pytest.fixture
def handed_on(call, files, monkeypatch):
    """The settings that a command line becomes."""

    def make(*options):
        seen = []

        def remember(*_, settings, **__):
            seen.append(settings)
            raise KeyboardInterrupt

        monkeypatch.setattr(finetuning, "finetune_files", remember)
        call("finetune", "--image", files.image, "--pseudo-labels", files.image, "--output", "out", *options)
        return seen[0]

    return make


def test_without_options_the_defaults_are_taken(handed_on):
    assert handed_on() == SegmentorSettings()


def test_what_is_trained_and_how_labels_count_is_chosen(handed_on):
    settings = handed_on(
        *("--layers", "head", "--l2-to-start", "0.01", "--freeze-batch-norm", "--learning-rate", "0.5"),
        *("--weighting", "both", "--mean-teacher", "--precision", "bfloat16"),
    )
    training = settings.training
    assert (training.layers, training.l2_to_start, training.freeze_batch_norm) == ("head", 0.01, True)
    assert (training.learning_rate, training.mean_teacher, settings.weighting) == (0.5, True, "both")
    assert training.precision == "bfloat16"
