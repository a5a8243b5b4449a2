"""What each weighting makes of pseudo-labels, and that training heeds it."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from s2d_zoo.data.patches import PatchDataset, PatchSettings, PatchSource
from s2d_zoo.errors import ConfigError
from s2d_zoo.finetune.losses import RectifiedLoss
from s2d_zoo.finetune.pseudo_labels import PseudoLabels, consensus_labels, stroke_labels
from s2d_zoo.finetune.weighting import WEIGHTING_IN_WORDS, WEIGHTINGS, check_weighting, pixel_weights, weighted_loss
from s2d_zoo.trainer import TrainingSettings, train, weighted_bce_and_dice

SIZE = 48
ALL = pytest.mark.parametrize("weighting", WEIGHTINGS)


def test_each_scheme_has_words_of_its_own():
    assert len(set(WEIGHTING_IN_WORDS.values())) == len(WEIGHTINGS)


def plane(values):
    return xr.DataArray(np.asarray(values), dims=("y", "x"))


def member(*foreground):
    row = np.array([foreground], dtype=np.float32)
    return xr.DataArray(np.stack([row, row / 10]), dims=("channel", "y", "x"))


@pytest.fixture
def row_of_labels():
    """Four pixels: two members agree, one of them is unsure, both are, and they are but it was painted."""
    members = [member(0.9, 0.9, 0.6, 0.6), member(0.9, 0.6, 0.6, 0.6)]
    return consensus_labels(members, scribbles=plane(np.array([[0, 0, 0, 1]], np.uint8)))


@pytest.mark.parametrize(
    ("weighting", "channels"),
    [
        ("consensus", [[1, 0.5, 0, 1]]),
        ("none", [[1, 1, 1, 1]]),
        ("rectified", [[1, 1, 1, 1], [0, 0, 0, 1]]),
        ("both", [[1, 0.5, 0, 1], [0, 0, 0, 1]]),
    ],
)
def test_the_weights_of_each_scheme(row_of_labels, weighting, channels):
    weights = pixel_weights(row_of_labels, weighting)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights[:, 0], channels)


@pytest.mark.parametrize(("weighting", "kind"), [("consensus", None), ("none", None), ("rectified", 1), ("both", 1)])
def test_the_loss_of_each_scheme(weighting, kind):
    loss = weighted_loss(weighting, channels=3)
    if kind is None:
        assert loss is weighted_bce_and_dice
    else:
        assert isinstance(loss, RectifiedLoss)
        assert loss.confidence.shape == (2, 3)
        assert weighted_loss(weighting) is not loss, "each training has its own means"


@ALL
def test_strokes_count_fully_even_where_the_given_weights_do_not_say_so(weighting):
    labels = PseudoLabels(
        labels=member(1, 1), weights=plane(np.zeros((1, 2), np.float32)), painted=plane([[True, False]])
    )
    assert pixel_weights(labels, weighting)[0, 0, 0] == 1


@ALL
def test_without_strokes_nothing_is_painted(weighting):
    labels = consensus_labels([member(0.9, 0.1)])
    assert labels.painted is None
    assert not pixel_weights(labels, weighting)[1:].any()


@ALL
def test_where_only_strokes_are_known_nothing_else_ever_counts(weighting):
    labels = stroke_labels(plane(np.array([[0, 1, 2]], np.uint8)))
    np.testing.assert_array_equal(pixel_weights(labels, weighting)[0, 0], [0, 1, 1])


@pytest.mark.parametrize("call", [check_weighting, weighted_loss, lambda name: pixel_weights(None, name)])
def test_an_unknown_scheme_is_refused_with_those_there_are(call):
    with pytest.raises(ConfigError, match="one of consensus, rectified, both, none, got 'magic'"):
        call("magic")


# ---- labels that are wrong exactly where the weight is low: right only if weights count


class PixelByPixel(nn.Module):
    """A sum of two facts about a pixel: is it bright, and is it of the doubtful kind?"""

    def __init__(self):
        super().__init__()
        self.sum = nn.Conv2d(2, 2, kernel_size=1)
        nn.init.zeros_(self.sum.weight)
        nn.init.zeros_(self.sum.bias)

    def logits(self, image):
        return self.sum(image)


@pytest.fixture
def scene():
    """Facts about each pixel; the truth: it is bright; and the doubtful kind, a third of the image and bright."""
    third = np.arange(SIZE) // (SIZE // 3) * np.ones((SIZE, 1))
    return np.stack([third > 0, third == 2]).astype(np.float32), third > 0, third == 2


def labels_from_forests(*foregrounds, scribbles=None):
    maps = [np.stack([values, np.zeros(values.shape)]).astype(np.float32) for values in foregrounds]
    members = [xr.DataArray(values, dims=("channel", "y", "x")) for values in maps]
    return consensus_labels(members, scribbles=scribbles)


def learn(folder, scene, labels, weighting, *, start=None):
    """A network, and whether it is sure of the truth on the doubtful kind of pixels."""
    facts, _, doubtful = scene
    source = PatchSource(
        image=facts,
        target=labels.labels.values,
        weight=pixel_weights(labels, weighting),
        focus=np.array([], dtype=int),
    )
    model = PixelByPixel() if start is None else copy.deepcopy(start)
    settings = TrainingSettings(
        steps=60, steps_per_epoch=60, batch_size=2, learning_rate=0.2, ema_decay=0, device="cpu"
    )
    patches = PatchDataset([source], PatchSettings(size=32, augment=False))
    model = train(model, patches, settings, folder=folder, loss=weighted_loss(weighting)).model
    with torch.no_grad():
        says = torch.sigmoid(model.logits(torch.as_tensor(facts)[None]))[0, 0].numpy()[doubtful]
    return model, bool((says > 0.8).all())


@pytest.fixture
def unsure_where_wrong(scene):
    """Forests that are wrong there, and not sure of it."""
    _, truth, doubtful = scene
    return labels_from_forests(*[np.where(doubtful, wrong, truth) for wrong in (0.22, 0.25, 0.3)])


@pytest.fixture
def wrong(scene):
    """Where forests are wrong, and sure of it: on four tenths of the doubtful pixels."""
    return scene[2] & (np.random.default_rng(0).random((SIZE, SIZE)) < 0.4)


@pytest.fixture
def start_that_knows(tmp_path, scene):
    """A network that has learnt the truth."""
    model, right = learn(tmp_path / "start", scene, labels_from_forests(scene[1]), "none")
    assert right
    return model


@pytest.mark.parametrize(("weighting", "right"), [("consensus", True), ("none", False)])
def test_consensus_keeps_what_forests_are_not_sure_of_from_being_learnt(
    tmp_path, scene, unsure_where_wrong, weighting, right
):
    assert learn(tmp_path, scene, unsure_where_wrong, weighting)[1] == right


@pytest.mark.parametrize(("weighting", "right"), [("rectified", True), ("both", True), ("consensus", False)])
def test_rectification_keeps_what_the_network_contradicts_from_being_learnt(
    tmp_path, scene, wrong, start_that_knows, weighting, right
):
    labels = labels_from_forests(scene[1] & ~wrong)
    assert learn(tmp_path / "end", scene, labels, weighting, start=start_that_knows)[1] == right


@pytest.mark.parametrize(("weighting", "right"), [("both", True), ("rectified", False)])
def test_both_heeds_the_forests_where_the_network_knows_nothing(tmp_path, scene, unsure_where_wrong, weighting, right):
    assert learn(tmp_path, scene, unsure_where_wrong, weighting)[1] == right


@pytest.mark.parametrize("weighting", ["rectified", "both"])
def test_strokes_are_learnt_even_where_the_network_contradicts_them(
    tmp_path, scene, wrong, start_that_knows, weighting
):
    """The same labels as above, but painted: now it is the network that is out of date."""
    strokes = plane(wrong.astype(np.uint8))
    labels = labels_from_forests(scene[1] & ~wrong, scribbles=strokes)
    assert not learn(tmp_path / "end", scene, labels, weighting, start=start_that_knows)[1]
