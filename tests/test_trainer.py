"""The training loop: repeatable, resumable, and fair to weights."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, default_collate

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer import TrainingSettings, check_network_size, train, weighted_bce_and_dice

SIZE = 16


@dataclass
class Patches(Dataset):
    """Endless (or ``count``) random patches to be thresholded; may fail at one of them."""

    seed: int = 0
    count: int = 0
    fail_at: int | None = None
    error: type[BaseException] = RuntimeError
    asked: list[int] = field(default_factory=list)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        if index == self.fail_at:
            raise self.error
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        image = torch.rand(1, SIZE, SIZE, generator=generator)
        target = torch.cat([(image > 0.5).float(), (image > 0.7).float()])
        return {IMAGE: image, TARGET: target, WEIGHT: torch.ones_like(image)}


def fresh_model():
    torch.manual_seed(0)
    return UNet(features=2, depth=1)


def short(**changes):
    return TrainingSettings(**{"steps": 7, "steps_per_epoch": 3, "batch_size": 2, "device": "cpu", **changes})


def validation_patches():
    return Patches(seed=5, count=3)


def weights_of(result):
    return {name: values.clone() for name, values in result.model.state_dict().items()}


def assert_same(first, second):
    torch.testing.assert_close(weights_of(first), weights_of(second), rtol=0, atol=0)
    assert first.steps == second.steps
    assert first.validation_loss == second.validation_loss


WAYS = pytest.mark.parametrize(
    ("ema_decay", "with_validation"),
    [(0.0, False), (0.0, True), (0.9, False), (0.9, True)],
    ids=["plain", "validated", "averaged", "averaged and validated"],
)


@WAYS
def test_the_same_seed_gives_the_same_weights(tmp_path, ema_decay, with_validation):
    results = [
        train(
            fresh_model(),
            Patches(),
            short(ema_decay=ema_decay),
            folder=tmp_path / name,
            validation=validation_patches() if with_validation else None,
        )
        for name in ("first", "second")
    ]
    assert_same(*results)
    assert (results[0].validation_loss is None) != with_validation


@WAYS
@pytest.mark.parametrize(
    ("error", "precision"), [(RuntimeError, "float32"), (KeyboardInterrupt, "float32"), (KeyboardInterrupt, "bfloat16")]
)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, ema_decay, with_validation, error, precision):
    settings = short(ema_decay=ema_decay, precision=precision)

    def run(folder, patches):
        validation = validation_patches() if with_validation else None
        return train(fresh_model(), patches, settings, folder=folder, validation=validation)

    whole = run(tmp_path / "whole", Patches())
    with pytest.raises(error):
        run(tmp_path / "parts", Patches(fail_at=8, error=error))
    rest = Patches()
    assert_same(whole, run(tmp_path / "parts", rest))
    assert min(rest.asked) == 6, "the first epoch of three steps with two patches each was not done again"


@WAYS
def test_a_finished_training_is_given_back_as_it_was(tmp_path, ema_decay, with_validation):
    def run(patches):
        validation = validation_patches() if with_validation else None
        return train(fresh_model(), patches, short(ema_decay=ema_decay), folder=tmp_path, validation=validation)

    finished = run(Patches())
    again = Patches()
    assert_same(finished, run(again))
    assert not again.asked


def test_a_failure_before_the_first_checkpoint_starts_anew(tmp_path):
    with pytest.raises(RuntimeError):
        train(fresh_model(), Patches(fail_at=0), short(), folder=tmp_path / "parts")
    resumed = train(fresh_model(), Patches(), short(), folder=tmp_path / "parts")
    assert_same(resumed, train(fresh_model(), Patches(), short(), folder=tmp_path / "whole"))


@pytest.mark.parametrize(("steps", "per_epoch"), [(1, 5), (5, 5), (7, 5), (8, 5)])
def test_exactly_the_steps_asked_for_are_made(tmp_path, steps, per_epoch):
    patches = Patches()
    result = train(fresh_model(), patches, short(steps=steps, steps_per_epoch=per_epoch), folder=tmp_path)
    assert result.steps == steps
    assert sorted(patches.asked) == list(range(2 * steps))


def test_training_learns(tmp_path):
    settings = short(steps=60, steps_per_epoch=30, learning_rate=0.02, ema_decay=0.5)
    patches = validation_patches()
    before = fresh_model()
    after = train(fresh_model(), Patches(), settings, folder=tmp_path).model
    sample = patches[0]
    losses = [
        weighted_bce_and_dice(model.eval().logits(sample[IMAGE][None]), sample[TARGET][None], sample[WEIGHT][None])
        for model in (before, after)
    ]
    assert losses[1] < 0.8 * losses[0]


def test_training_stops_early_and_keeps_the_best_weights(tmp_path):
    settings = short(steps=60, patience=2, learning_rate=0.5)
    result = train(fresh_model(), Patches(), settings, folder=tmp_path, validation=validation_patches())
    assert result.steps < 60
    patches = validation_patches()
    batches = [default_collate([patches[0], patches[1]]), default_collate([patches[2]])]
    with torch.no_grad():
        losses = [
            float(weighted_bce_and_dice(result.model.logits(batch[IMAGE]), batch[TARGET], batch[WEIGHT]))
            for batch in batches
        ]
    assert result.validation_loss == pytest.approx((2 * losses[0] + losses[1]) / 3)


def test_a_training_whose_folder_was_moved_remembers_its_best_weights(tmp_path):
    settings = short(steps=30, patience=100, learning_rate=0.5)  # too fast: the best weights come early

    def run(folder, patches):
        return train(fresh_model(), patches, settings, folder=folder, validation=validation_patches())

    whole = run(tmp_path / "whole", Patches())
    with pytest.raises(RuntimeError):
        run(tmp_path / "before", Patches(fail_at=50))
    (tmp_path / "before").rename(tmp_path / "after")
    assert_same(whole, run(tmp_path / "after", Patches()))


def test_a_training_that_stopped_early_is_given_back_as_it_was(tmp_path):
    settings = short(steps=60, patience=2, learning_rate=0.5)
    results = [
        train(fresh_model(), Patches(), settings, folder=tmp_path, validation=validation_patches()) for _ in range(4)
    ]
    for later in results[1:]:
        assert_same(results[0], later)


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 8}, {"learning_rate": 0.1}, {"batch_size": 1}])
def test_a_folder_with_another_training_is_refused(tmp_path, change):
    train(fresh_model(), Patches(), short(steps=1), folder=tmp_path)
    with pytest.raises(ConfigError, match=f"other {next(iter(change))}"):
        train(fresh_model(), Patches(), short(**{"steps": 1, **change}), folder=tmp_path)


def test_a_folder_with_another_network_is_refused(tmp_path):
    train(fresh_model(), Patches(), short(steps=1), folder=tmp_path)
    with pytest.raises(ConfigError, match="other network"):
        train(UNet(features=3, depth=1), Patches(), short(steps=1), folder=tmp_path)


def test_a_folder_of_an_earlier_version_is_gone_on_with(tmp_path):
    """It names fewer settings; those that it lacks had no effect then."""
    first = train(fresh_model(), Patches(), short(), folder=tmp_path)
    path = tmp_path / "settings.json"
    newer = {"layers", "l2_to_start", "freeze_batch_norm", "mean_teacher"}
    named = {key: value for key, value in json.loads(path.read_text()).items() if key not in newer}
    path.write_text(json.dumps(named))
    assert_same(first, train(fresh_model(), Patches(), short(), folder=tmp_path))
    path.write_text(json.dumps(named))
    with pytest.raises(ConfigError, match="other layers"):
        train(fresh_model(), Patches(), short(layers="head"), folder=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"steps_per_epoch": 0},
        {"patience": 0},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"seed": -1},
        {"device": "abacus"},
        {"layers": "tail"},
        {"l2_to_start": -0.1},
        {"l2_to_start": float("inf")},
        {"l2_to_start": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        TrainingSettings(**wrong)


@pytest.mark.parametrize(("features", "depth", "patch"), [(0, 2, 32), (2, 0, 32), (2, 3, 36), (2, 2, 0)])
def test_a_network_that_cannot_be_built_is_refused(features, depth, patch):
    with pytest.raises(ConfigError, match="multiple of"):
        check_network_size(features, depth, patch=patch)


def test_progress_goes_to_stderr_only(tmp_path, capfd):
    train(fresh_model(), Patches(), short(), folder=tmp_path, validation=validation_patches(), progress="the label")
    out, err = capfd.readouterr()
    assert out == ""
    assert "the label" in err
    assert "7/7" in err
    assert "validation loss" in err


def test_without_a_label_nothing_is_written(tmp_path, capfd):
    train(fresh_model(), Patches(), short(), folder=tmp_path)
    assert capfd.readouterr() == ("", "")


def random_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, 4, 4, generator=generator)
    target = torch.rand(2, 2, 4, 4, generator=generator)
    weight = (torch.rand(2, 1, 4, 4, generator=generator) > 0.5).float()
    return logits, target, weight


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_loss_ignores_pixels_of_weight_0_and_counts_the_others(seed):
    logits, target, weight = random_batch(seed)
    loss = weighted_bce_and_dice(logits, target, weight)
    ignored = (weight == 0).expand_as(target)
    assert weighted_bce_and_dice(logits, torch.where(ignored, 1 - target, target), weight) == loss
    assert weighted_bce_and_dice(torch.where(ignored, -logits, logits), target, weight) == loss
    if (~ignored).any():
        assert weighted_bce_and_dice(logits, torch.where(ignored, target, 1 - target), weight) != loss


def test_pixels_of_weight_0_pass_no_gradient():
    logits, target, weight = random_batch(3)
    logits.requires_grad_()
    weighted_bce_and_dice(logits, target, weight).backward()
    counted = weight.expand_as(target) > 0
    assert (logits.grad[~counted] == 0).all()
    assert (logits.grad[counted] != 0).any()


def test_half_the_weight_pulls_half_as_much_in_the_cross_entropy():
    target = torch.ones(1, 1, 1, 2)
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    weighted_bce_and_dice(logits, target, torch.tensor([[[[1.0, 0.5]]]])).backward()
    full, half = logits.grad.flatten().tolist()
    assert half == pytest.approx(full / 2)


def test_a_batch_without_any_weight_has_a_finite_loss():
    logits, target, weight = random_batch(0)
    assert weighted_bce_and_dice(logits, target, torch.zeros_like(weight)) == 0


def test_a_perfect_and_sure_prediction_has_hardly_any_loss():
    target = torch.tensor([[[[0.0, 1.0]]]])
    assert weighted_bce_and_dice(40 * target - 20, target, torch.ones_like(target)) < 1e-6
