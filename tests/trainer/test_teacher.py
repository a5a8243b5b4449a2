"""The mean teacher: what it sees, how it follows, and that students heed it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer import TEACHER_IMAGE, TrainingSettings, TwoViews, train
from s2d_zoo.trainer.teacher import disagreement, new_teacher

SIZE = 8


class Twice(Dataset):
    """Bright and dark pixels, which students see darker than their teacher; no label counts."""

    def __init__(self, *, darker=0.8, fail_at=None, with_view=True):
        self.darker = darker
        self.fail_at = fail_at
        self.with_view = with_view

    def __getitem__(self, index):
        if index == self.fail_at:
            raise OSError
        image = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(index)).round()
        sample = {IMAGE: image - self.darker, TARGET: torch.cat([image, image]), WEIGHT: torch.zeros_like(image)}
        return {**sample, TEACHER_IMAGE: image} if self.with_view else sample


class Threshold(nn.Module):
    """Sure of what is brighter than a half."""

    def __init__(self):
        super().__init__()
        self.line = nn.Conv2d(1, 2, kernel_size=1)
        nn.init.constant_(self.line.weight, 10.0)
        nn.init.constant_(self.line.bias, -5.0)

    def logits(self, image):
        return self.line(image)


def short(**changes):
    return TrainingSettings(
        **{"steps": 7, "steps_per_epoch": 3, "batch_size": 2, "device": "cpu", "mean_teacher": True, **changes}
    )


def unet():
    torch.manual_seed(0)
    return UNet(features=2, depth=1)


def brightest(model, darker):
    """What a network says of a bright pixel, as a student sees it."""
    with torch.no_grad():
        return float(torch.sigmoid(model.logits(torch.full((1, 1, 1, 1), 1.0 - darker)))[0, 0])


@pytest.mark.parametrize("taught", [True, False])
def test_students_learn_from_their_teacher_what_no_label_tells_them(tmp_path, taught):
    settings = short(steps=60, steps_per_epoch=60, learning_rate=0.2, ema_decay=0.0, mean_teacher=taught)
    assert brightest(Threshold(), darker=0.8) < 0.1
    model = train(Threshold(), Twice(), settings, folder=tmp_path).model
    assert brightest(model, darker=0.8) > 0.8 if taught else brightest(model, darker=0.8) < 0.1


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("make", [unet, Threshold])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, make, ema_decay):
    settings = short(ema_decay=ema_decay)
    whole = train(make(), Twice(), settings, folder=tmp_path / "whole").model.state_dict()
    with pytest.raises(OSError):
        train(make(), Twice(fail_at=8), settings, folder=tmp_path / "parts")
    resumed = train(make(), Twice(), settings, folder=tmp_path / "parts").model.state_dict()
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    start = make().state_dict()
    assert any(not torch.equal(start[name], whole[name]) for name in start)


def test_the_teacher_uses_stored_statistics_and_takes_no_gradient(tmp_path, monkeypatch):
    modes = []

    class Watched(UNet):
        def logits(self, image):
            modes.append((self.training, self.encoder[0][1].training, torch.is_grad_enabled()))
            return super().logits(image)

    train(Watched(features=2, depth=1), Twice(), short(steps=2, steps_per_epoch=1), folder=tmp_path)
    assert modes == [(True, True, True), (False, False, False)] * 2


def test_the_teacher_is_the_mean_of_what_the_network_was_and_later_the_exponential_one():
    network = Threshold()
    teacher = new_teacher(network)
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(network.line.bias, value)
        teacher.update_parameters(network)
    assert teacher.module.line.bias.tolist() == pytest.approx([3, 3]), "as long as there is little to average"
    teacher.n_averaged.fill_(100_000)
    nn.init.constant_(network.line.bias, 1003.0)
    teacher.update_parameters(network)
    assert teacher.module.line.bias.tolist() == pytest.approx([4, 4]), "then a thousandth of each step"


def test_in_training_the_teacher_follows_the_network(tmp_path, monkeypatch):
    class Same(Twice):
        def __getitem__(self, index):
            return super().__getitem__(0)

    asked = []

    def note(logits, teacher_logits):
        asked.append((float(logits.detach().mean()), float(teacher_logits.mean())))
        return logits.mean()

    monkeypatch.setattr("s2d_zoo.trainer.task.disagreement", note)
    train(Threshold(), Same(darker=0), short(steps=5, batch_size=1, learning_rate=0.1), folder=tmp_path)
    students, teachers = np.transpose(asked)
    assert teachers[0] == students[0], "it begins as the network does"
    means = [students[1 : step + 1].mean() for step in range(1, 5)]
    assert teachers[1:] == pytest.approx(means, abs=1e-5)
    assert np.ptp(students) > 0.01


def test_the_teacher_is_a_copy():
    network = unet()
    teacher = new_teacher(network)
    assert not teacher.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_students_are_pulled_towards_the_teachers_probability_not_the_teacher_to_them():
    student = torch.zeros(1, 1, 1, 2, requires_grad=True)
    teacher = torch.tensor([[[[20.0, 0.0]]]], requires_grad=True)
    disagreement(student, teacher).backward()
    assert student.grad.flatten().tolist() == pytest.approx([-0.25, 0])
    assert teacher.grad is None


def test_patches_without_a_view_for_the_teacher_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"its own view .* finish=TwoViews"):
        train(unet(), Twice(with_view=False), short(), folder=tmp_path)


def add_noise(sample, generator):
    sample[IMAGE] = sample[IMAGE] + float(generator.normal())
    return sample


@pytest.mark.parametrize("weak", [None, add_noise])
def test_two_views_differ_in_the_image_only_and_the_students_is_as_without_a_teacher(weak):
    sample = {IMAGE: torch.ones(1, 2, 2), TARGET: torch.zeros(1, 2, 2), WEIGHT: torch.ones(1, 2, 2)}
    both = TwoViews(strong=add_noise, weak=weak)(copy.copy(sample), np.random.default_rng(0))
    alone = add_noise(copy.copy(sample), np.random.default_rng(0))
    assert torch.equal(both[IMAGE], alone[IMAGE])
    assert torch.equal(both[TEACHER_IMAGE], sample[IMAGE]) == (weak is None)
    assert not torch.equal(both[TEACHER_IMAGE], both[IMAGE])
    assert both[TARGET] is sample[TARGET]
