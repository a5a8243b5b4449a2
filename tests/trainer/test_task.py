"""What joins the loss, and what is remembered from step to step."""

import pytest
import torch
from tests.test_trainer import Patches, assert_same, fresh_model, short, validation_patches
from torch import nn

from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer import train, weighted_bce_and_dice


def test_the_pull_to_the_start_needs_the_same_start(tmp_path):
    settings = short(steps=1, l2_to_start=0.1)
    train(fresh_model(), Patches(), settings, folder=tmp_path)
    train(fresh_model(), Patches(), settings, folder=tmp_path)
    other = fresh_model()
    other.head.bias.data += 1
    with pytest.raises(ConfigError, match="other starting weights"):
        train(other, Patches(), settings, folder=tmp_path)


def distance(result, start):
    pairs = zip(result.model.parameters(), start.parameters(), strict=True)
    return sum(float((after - before).detach().square().sum()) for after, before in pairs)


def test_the_stronger_the_pull_the_closer_the_weights_stay_to_the_start(tmp_path):
    distances = [
        distance(
            train(
                fresh_model(), Patches(), short(steps=30, l2_to_start=pull, ema_decay=0.0), folder=tmp_path / str(pull)
            ),
            fresh_model(),
        )
        for pull in (0.0, 1.0, 100.0)
    ]
    assert distances[0] > 1.5 * distances[1] > 3 * distances[2] > 0


class OneWeight(nn.Module):
    """Its only weight is its answer; it may drop it."""

    def __init__(self, *, drop=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))
        self.drop = nn.Dropout(drop)

    def logits(self, image):
        return self.drop(torch.cat([image, image], dim=1) * 0 + self.weight)


def test_the_pull_to_the_start_is_half_the_squared_distance_and_nothing_pulls_to_0(tmp_path):
    """Where the loss's pull away is 1, the balance is at a distance of 1 / l2_to_start."""
    settings = short(steps=300, steps_per_epoch=300, learning_rate=0.05, ema_decay=0.0, l2_to_start=2.0)
    model = train(
        OneWeight(), Patches(), settings, folder=tmp_path, loss=lambda logits, target, weight: -logits.mean()
    ).model
    assert float(model.weight.detach()) == pytest.approx(3.5, abs=0.01)


def test_without_losses_the_start_is_kept_exactly(tmp_path):
    settings = short(l2_to_start=0.5, ema_decay=0.0)
    model = train(
        OneWeight(), Patches(), settings, folder=tmp_path, loss=lambda logits, target, weight: 0 * logits.sum()
    ).model
    assert float(model.weight.detach()) == 3


def test_a_resumed_training_pulls_to_the_same_start(tmp_path):
    settings = short(l2_to_start=1.0)
    whole = train(fresh_model(), Patches(), settings, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError):
        train(fresh_model(), Patches(fail_at=8), settings, folder=tmp_path / "parts")
    assert_same(whole, train(fresh_model(), Patches(), settings, folder=tmp_path / "parts"))


class Counting(nn.Module):
    """A loss with a memory: it rises with the batches that it has seen in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.modes = []

    def forward(self, logits, target, weight):
        self.modes.append(self.training)
        if self.training:
            self.seen += 1
        return weighted_bce_and_dice(logits, target, weight) * self.seen


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_what_a_loss_remembers_is_resumed_and_validation_adds_nothing(tmp_path, ema_decay):
    def run(folder, patches):
        loss = Counting()
        settings = short(ema_decay=ema_decay, learning_rate=0.01)
        validation = validation_patches()
        return train(fresh_model(), patches, settings, folder=folder, validation=validation, loss=loss), loss

    whole, loss = run(tmp_path / "whole", Patches())
    with pytest.raises(RuntimeError):
        run(tmp_path / "parts", Patches(fail_at=8))
    assert_same(whole, run(tmp_path / "parts", Patches())[0])
    assert (loss.modes.count(True), loss.modes.count(False)) == (7, 6), "7 steps, and 3 times 2 batches of validation"


def test_a_network_with_dropout_is_resumed_with_the_same_draws(tmp_path):
    settings = short(ema_decay=0.0, learning_rate=0.1)
    whole = train(OneWeight(drop=0.5), Patches(), settings, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError):
        train(OneWeight(drop=0.5), Patches(fail_at=8), settings, folder=tmp_path / "parts")
    torch.rand(5)
    assert_same(whole, train(OneWeight(drop=0.5), Patches(), settings, folder=tmp_path / "parts"))
