"""The rectified loss; the cases are small enough to work out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_zoo.finetune.losses import RectifiedLoss
from s2d_zoo.trainer import weighted_bce_and_dice


def row(*values):
    """One row of pixels: batch channel y x."""
    return torch.tensor(values, dtype=torch.float32)[None, None, None]


def logit(probability):
    return math.log(probability / (1 - probability))


def weights(counted, painted):
    return torch.cat([row(*counted), row(*painted)], dim=1)


@pytest.fixture
def pull(settled, monkeypatch):
    """How hard the cross-entropy pulls at each pixel, as a share of its pull without any weights."""
    monkeypatch.setattr("s2d_zoo.finetune.losses.soft_dice", lambda *_: torch.zeros(()))

    def measure(probabilities, labels, counted=(1, 1), painted=(0, 0)):
        logits = row(*map(logit, probabilities)).requires_grad_()
        settled(logits, row(*labels), weights(counted, painted)).backward()
        plain = (torch.sigmoid(logits.detach()) - row(*labels)) / sum(counted)
        return (logits.grad / plain).flatten().tolist()

    return measure


@pytest.fixture
def settled():
    """A loss that has seen: pixels labelled present get 0.9, those labelled absent get 0.8 for absent."""
    loss = RectifiedLoss(1).eval()
    loss.confidence.copy_(torch.tensor([[0.9], [0.8]]))
    return loss


@pytest.mark.parametrize(
    ("probability", "label", "weight"),
    [
        (0.9, 1, 1.0),  # as confident as is usual
        (0.6, 1, 0.7),
        (0.1, 1, 0.2),  # the network disagrees with the label
        (0.95, 1, 0.95),  # more confident than usual is unusual, too
        (0.2, 0, 1.0),
        (0.7, 0, 0.5),
        (0.9, 0, 0.3),
    ],
)
def test_a_pixel_counts_the_less_the_more_unusual_its_confidence(pull, probability, label, weight):
    assert pull([probability, 0.5], [label, 0])[0] == pytest.approx(weight, abs=1e-4)


def test_painted_pixels_count_fully_whatever_the_network_thinks(pull):
    assert pull([0.1, 0.1], [1, 1], painted=[1, 0]) == pytest.approx([1, 0.2], abs=1e-4)


def test_the_weight_is_multiplied_with_the_one_given(pull):
    assert pull([0.1, 0.1], [1, 1], counted=[0.5, 1]) == pytest.approx([0.1, 0.2], abs=1e-4)


def test_a_soft_label_is_a_bit_of_both_classes(settled):
    logits = row(logit(0.6))
    loss = settled(logits, row(0.7), weights([1], [0]))
    present, absent = 0.7, 0.6  # 1 - |0.6 - 0.9|, 1 - |0.4 - 0.8|
    cross_entropy = -(0.7 * present * math.log(0.6) + 0.3 * absent * math.log(0.4))
    weight = 0.7 * present + 0.3 * absent
    dice = (2 * weight * 0.42 + 1) / (weight * (0.36 + 0.49) + 1)
    assert float(loss) == pytest.approx(cross_entropy + 1 - dice, abs=1e-5)


def test_the_means_move_towards_the_confidence_of_their_class():
    loss = RectifiedLoss(1, decay=0.5)
    loss(row(*map(logit, (0.9, 0.7, 0.2))), row(1, 0.6, 0), weights([1, 1, 1], [0, 0, 0]))
    assert loss.confidence.flatten().tolist() == pytest.approx([0.5 + 0.5 * 0.8, 0.5 + 0.5 * 0.8])
    loss(row(*map(logit, (0.4, 0.2))), row(1, 1), weights([1, 0], [0, 0]))
    assert loss.confidence.flatten().tolist() == pytest.approx([0.45 + 0.5 * 0.4, 0.9]), "no pixel was absent"


def test_each_channel_has_its_own_means():
    loss = RectifiedLoss(2, decay=0.0)
    both = torch.cat([row(logit(0.9)), row(logit(0.3))], dim=1)
    loss(both, torch.ones_like(both), weights([1], [0]))
    assert loss.confidence.flatten().tolist() == pytest.approx([0.9, 0.3, 1, 1])


def test_the_means_begin_at_1_and_move_slowly():
    loss = RectifiedLoss(1)
    for _ in range(3):
        loss(row(0.0), row(1), weights([1], [0]))
    assert loss.confidence.flatten().tolist() == pytest.approx([0.5 + 0.5 * 0.9999**3, 1])


def test_in_eval_mode_the_means_stay():
    loss = RectifiedLoss(1).eval()
    loss(row(logit(0.3)), row(1), weights([1], [0]))
    assert (loss.confidence == 1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_where_all_is_painted_it_is_the_plain_loss(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, 4, 4, generator=generator)
    target, counted = torch.rand(2, 2, 4, 4, generator=generator), torch.rand(2, 1, 4, 4, generator=generator)
    loss = RectifiedLoss()(logits, target, torch.cat([counted, torch.ones_like(counted)], dim=1))
    torch.testing.assert_close(loss, weighted_bce_and_dice(logits, target, counted))


def test_pixels_of_weight_0_pass_no_gradient_and_a_batch_of_them_has_a_finite_loss():
    logits = row(1.0, -1.0).requires_grad_()
    loss = RectifiedLoss(1)(logits, row(0, 1), weights([0, 0], [0, 0]))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_no_gradient_flows_through_the_weights(settled):
    """Else the network could lower its loss by disagreeing with its labels."""
    probability = torch.tensor(0.1)
    logits = row(logit(0.1), logit(0.1)).requires_grad_()
    settled(logits, row(1, 1), weights([1, 1], [0, 0])).backward()
    assert (logits.grad < 0).all(), "both are pulled towards their label"
    weight, sum_of_squares = 0.2, 0.01 + 1
    total = 2 * weight * sum_of_squares + 1
    overlap = 4 * weight * probability + 1
    dice_pull = -(2 * weight * total - overlap * 2 * weight * probability) / total**2
    expected = weight * (probability - 1) / 2 + dice_pull * probability * (1 - probability)
    torch.testing.assert_close(logits.grad, torch.full_like(logits, float(expected)), atol=1e-5, rtol=0)
