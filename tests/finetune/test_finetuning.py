"""Training a segmentor on pseudo-labels, and never giving out one that got worse."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from tests.validate.foreign import TwoLevels, put_network, seeded

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import apply_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.data.patches import PatchSettings
from s2d_zoo.errors import AxesError, ConfigError, NotImprovedError, UserInputError
from s2d_zoo.finetune import finetuning
from s2d_zoo.finetune.finetuning import (
    SegmentorSettings,
    SegmentorTraining,
    apply_segmentor,
    fit_segmentor,
    new_segmentor,
    train_segmentor,
)
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.finetune.variation import vary_patches
from s2d_zoo.trainer import TrainingSettings

SIZE = 48


def tiny(**changes):
    training = TrainingSettings(
        **{"steps": 2, "steps_per_epoch": 2, "batch_size": 2, "device": "cpu", "ema_decay": 0.5, **changes}
    )
    patches = PatchSettings(size=32, zoom=(0.8, 1.25), soft_target=True)
    return SegmentorSettings(features=4, depth=1, patches=patches, training=training)


@pytest.fixture
def bright():
    """A noisy image whose left half is bright, and that half as labels."""
    generator = np.random.default_rng(0)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, : SIZE // 2] = True
    values = np.where(mask, 200, 100) + generator.normal(0, 5, mask.shape)
    image = xr.DataArray(values[np.newaxis].astype(np.uint16), dims=("channel", "y", "x"))
    return image, mask


def labels_of(mask, weights=None):
    weights = np.ones(mask.shape) if weights is None else weights
    labels = np.stack([mask, np.zeros_like(mask)]).astype(np.float32)
    return PseudoLabels(
        labels=xr.DataArray(labels, dims=("channel", "y", "x")),
        weights=xr.DataArray(weights.astype(np.float32), dims=("y", "x")),
    )


def strokes_on(mask):
    painted = np.zeros(mask.shape, dtype=np.uint8)
    painted[4:8], painted[30:34] = 1, 1
    return xr.DataArray(np.where(painted & mask, 2, painted).astype(np.uint8), dims=("y", "x"))


def agreement(model, image, mask):
    return float(((apply_network(model, image).values[0] >= 0.5) == mask).mean())


LONG = {"steps": 40, "steps_per_epoch": 20, "learning_rate": 0.03}


def test_a_segmentor_learns_its_labels_and_is_tested_on_held_out_strokes(tmp_path, bright):
    image, mask = bright
    start = new_segmentor([image], tiny(**LONG))
    training = train_segmentor(
        start, [image], [labels_of(mask)], tiny(**LONG), folder=tmp_path, held_out=[strokes_on(mask)], untrained=True
    )
    assert training.steps == 40
    assert training.end.iou > 0.9
    assert training.end.iou >= training.start.iou
    assert agreement(training.model, image, mask) > 0.9


def test_weights_decide_what_is_learnt(tmp_path, bright):
    """Right on the upper half, wrong on the lower: only the half that counts is learnt."""
    image, mask = bright
    upper = np.zeros(mask.shape, dtype=bool)
    upper[: SIZE // 2] = True
    confused = np.where(upper, mask, ~mask)
    start = new_segmentor([image], tiny(**LONG))
    learnt = [
        fit_segmentor(start, [image], [labels_of(confused, counted)], tiny(**LONG), folder=tmp_path / name).model
        for name, counted in (("right", upper), ("wrong", ~upper))
    ]
    assert agreement(learnt[0], image, mask) > 0.85
    assert agreement(learnt[1], image, ~mask) > 0.85


def test_labels_of_weight_0_change_nothing_at_all(tmp_path, bright):
    image, mask = bright
    counted = np.zeros(mask.shape, dtype=bool)
    counted[8:40, 8:40] = True
    # cut without zooming or turning, because these interpolate between what counts and what does not
    settings = SegmentorSettings(
        features=2, depth=1, patches=PatchSettings(size=32, augment=False), training=tiny().training
    )
    start = new_segmentor([image], settings)
    models = [
        fit_segmentor(start, [image], [labels_of(wrong, counted)], settings, folder=tmp_path / name).model
        for name, wrong in (("a", mask), ("b", np.where(counted, mask, ~mask)))
    ]
    # the focus of the patches depends on labels that count only, too
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)


def test_a_segmentor_that_ends_worse_is_never_given_out(tmp_path, bright):
    image, mask = bright
    settings = tiny(**LONG)
    good = fit_segmentor(
        new_segmentor([image], settings), [image], [labels_of(mask)], settings, folder=tmp_path / "good"
    ).model
    with pytest.raises(NotImprovedError, match="not given out"):
        train_segmentor(
            good, [image], [labels_of(~mask)], settings, folder=tmp_path / "bad", held_out=[strokes_on(mask)]
        )


def worse(base_model):
    """Background everywhere."""
    model = copy.deepcopy(base_model)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(-20.0)
    return SegmentorTraining(model=model.eval(), steps=1)


def better(base_model):
    """Foreground everywhere: no worse than any start on foreground strokes."""
    result = worse(base_model)
    with torch.no_grad():
        result.model.head.bias.fill_(20.0)
    return result


def test_the_guard_compares_with_the_start(tmp_path, bright, monkeypatch):
    image, mask = bright
    start = better(new_segmentor([image], tiny())).model
    monkeypatch.setattr(finetuning, "fit_segmentor", lambda base_model, *_, **__: worse(base_model))
    strokes = [strokes_on(mask)]
    with pytest.raises(NotImprovedError, match=r"worse than its start: IoU 0\.000, before 0\.5.*--allow-worse"):
        train_segmentor(start, [image], [labels_of(mask)], tiny(), folder=tmp_path, held_out=strokes)
    monkeypatch.setattr(finetuning, "fit_segmentor", lambda base_model, *_, **__: better(base_model))
    training = train_segmentor(start, [image], [labels_of(mask)], tiny(), folder=tmp_path, held_out=strokes)
    assert training.end.iou == training.start.iou  # as good as the start is good enough


def test_the_foreground_of_held_out_strokes_may_have_another_label(tmp_path, bright, monkeypatch):
    image, mask = bright
    start = worse(new_segmentor([image], tiny())).model
    monkeypatch.setattr(finetuning, "fit_segmentor", lambda base_model, *_, **__: better(base_model))
    training = train_segmentor(
        start, [image], [labels_of(mask)], tiny(), folder=tmp_path, held_out=[strokes_on(mask)], foreground=1
    )
    assert training.end.iou == pytest.approx(0.5)


def sure(base_model, bias):
    """The same everywhere, more or less sure."""
    result = worse(base_model)
    with torch.no_grad():
        result.model.head.bias.fill_(bias)
    return result


def test_probabilities_must_not_mean_less_than_before(tmp_path, bright, monkeypatch):
    """Half of the strokes are foreground: at one IoU, 0.55 everywhere is better calibrated than 0.99 everywhere."""
    image, mask = bright
    start = sure(new_segmentor([image], tiny()), 0.2).model
    monkeypatch.setattr(finetuning, "fit_segmentor", lambda base_model, *_, **__: sure(base_model, 5.0))
    given = {"folder": tmp_path, "held_out": [strokes_on(mask)]}
    with pytest.raises(NotImprovedError, match=r"start: calibration error 0\.493, before 0\.050\. It is not"):
        train_segmentor(start, [image], [labels_of(mask)], tiny(), **given)
    allowed = train_segmentor(start, [image], [labels_of(mask)], tiny(), **given, allow_worse=True)
    assert allowed.worse == "calibration error 0.493, before 0.050"
    assert allowed.end.calibration_error == pytest.approx(0.4933, abs=1e-4)
    # random weights say 0.5 everywhere and are calibrated by chance
    untrained = train_segmentor(start, [image], [labels_of(mask)], tiny(), **given, untrained=True)
    assert (untrained.worse, untrained.start.iou, untrained.end.iou) == ("", 0.5, 0.5)


@pytest.mark.parametrize("empty", [True, False], ids=["none given", "none painted"])
def test_without_held_out_strokes_nothing_is_checked(tmp_path, bright, empty):
    image, mask = bright
    held_out = [] if empty else [xr.zeros_like(strokes_on(mask))]
    start = new_segmentor([image], tiny())
    training = train_segmentor(start, [image], [labels_of(mask)], tiny(), folder=tmp_path, held_out=held_out)
    assert training.start is None
    assert training.end is None


def test_labels_that_count_nowhere_are_refused(tmp_path, bright):
    image, mask = bright
    labels = [labels_of(mask, np.zeros(mask.shape))]
    with pytest.raises(UserInputError, match="All pseudo-labels have weight 0"):
        train_segmentor(new_segmentor([image], tiny()), [image], labels, tiny(), folder=tmp_path)


def test_the_base_model_is_not_changed(tmp_path, bright):
    image, mask = bright
    start = new_segmentor([image], tiny())
    before = copy.deepcopy(start.state_dict())
    training = train_segmentor(start, [image], [labels_of(mask)], tiny(), folder=tmp_path, held_out=[strokes_on(mask)])
    torch.testing.assert_close(start.state_dict(), before, rtol=0, atol=0)
    assert start.training
    assert not torch.equal(training.model.head.weight, start.head.weight)


def test_the_same_seed_gives_the_same_segmentor(tmp_path, bright):
    image, mask = bright
    start = new_segmentor([image], tiny())
    first, second = (
        fit_segmentor(start, [image], [labels_of(mask)], tiny(), folder=tmp_path / name).model for name in "ab"
    )
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_the_input_is_normalised_between_percentiles_of_each_channel():
    ramp = np.arange(10_000, dtype=np.float64).reshape(100, 100)
    image = xr.DataArray(np.stack([ramp, 10 * ramp + 7]), dims=("channel", "y", "x"))
    model = new_segmentor([image], tiny())
    low, high = np.percentile(ramp, (5, 99))
    np.testing.assert_allclose(model.input_offset.flatten(), [low, 10 * low + 7], rtol=1e-5)
    np.testing.assert_allclose(model.input_scale.flatten(), [high - low, 10 * (high - low)], rtol=1e-5)


def test_an_image_that_is_all_but_constant_is_normalised_by_its_extremes():
    values = np.zeros((1, SIZE, SIZE), dtype=np.uint8)
    values[0, 0, 0] = 200
    model = new_segmentor([xr.DataArray(values, dims=("channel", "y", "x"))], tiny())
    assert model.input_scale.flatten().tolist() == [200.0]


def test_the_seed_decides_on_the_first_weights(bright):
    image, _ = bright
    first, again, other = (new_segmentor([image], tiny(seed=seed)).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_constant_channel_is_refused(bright):
    image, _ = bright
    flat = xr.concat([image, xr.zeros_like(image)], "channel")
    with pytest.raises(UserInputError, match="Channel 1 of the images has the same value everywhere"):
        new_segmentor([flat], tiny())


def test_images_with_different_channels_are_refused(bright):
    image, _ = bright
    with pytest.raises(AxesError, match="same number of channels"):
        new_segmentor([image, xr.concat([image, image], "channel")], tiny())


@pytest.mark.parametrize("kind", ["channels", "volume"])
def test_images_that_the_base_model_cannot_take_are_refused(tmp_path, bright, kind):
    image, mask = bright
    wrong = image.expand_dims(z=3, axis=1) if kind == "volume" else xr.concat([image, image], "channel")
    with pytest.raises(AxesError, match="takes 2D images with 1 channel"):
        train_segmentor(UNet(features=2, depth=1), [wrong], [labels_of(mask)], tiny(), folder=tmp_path)


@pytest.mark.parametrize("wrong", [{"features": 0}, {"depth": 0}, {"depth": 3, "patches": PatchSettings(size=20)}])
def test_a_network_that_cannot_be_built_is_refused_at_once(wrong):
    with pytest.raises(ConfigError):
        SegmentorSettings(**wrong)


# ---- how labels count


@pytest.mark.parametrize("weighting", ["consensus", "none", "rectified", "both"])
def test_the_weighting_decides_what_is_learnt(tmp_path, bright, weighting):
    """Right on the upper quarter, wrong below, and the forests do not agree there."""
    image, mask = bright
    upper = np.zeros(mask.shape, dtype=bool)
    upper[: SIZE // 4] = True
    labels = labels_of(np.where(upper, mask, False), upper)  # below, all is said to be background
    settings = replace(tiny(**LONG), weighting=weighting)
    learnt = fit_segmentor(new_segmentor([image], settings), [image], [labels], settings, folder=tmp_path).model
    found = float((apply_network(learnt, image).values[0][mask] >= 0.5).mean())
    assert found > 0.9 if weighting in {"consensus", "both"} else found < 0.9


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ConfigError, match="one of consensus, rectified, both, none"):
        SegmentorSettings(weighting="all")


def test_a_mean_teacher_takes_part(tmp_path, bright):
    image, mask = bright
    models = []
    for mean_teacher in (True, False):
        settings = tiny(**LONG, mean_teacher=mean_teacher)
        start = new_segmentor([image], settings)
        models.append(
            fit_segmentor(start, [image], [labels_of(mask)], settings, folder=tmp_path / str(mean_teacher)).model
        )
    assert agreement(models[0], image, mask) > 0.9
    assert not torch.equal(models[0].head.weight, models[1].head.weight)


# ---- models of other packages


@pytest.fixture
def foreign(folder):
    """A model of another project: foreground and boundary, or the foreground alone."""

    def make(channels=2):
        class Network(TwoLevels):
            def forward(self, image):
                return super().forward(image)[:, :channels]

        put_network(folder, seeded(Network(features=8)), torch.rand(1, 1, 64, 64))
        for axis in folder.rdf["inputs"][0]["axes"][2:]:
            axis["size"] = {"min": 32, "step": 2}
        for axis in folder.rdf["outputs"][0]["axes"][2:]:
            axis["halo"] = 8
        folder.rdf["outputs"][0]["axes"][1]["channel_names"] = ["foreground", "boundary"][:channels]
        folder.rdf["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}]
        np.save(folder.path / "test_input.npy", np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32))
        with open_package(folder.save()) as contents:
            return load_packaged_model(contents)

    return make


@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_of_another_package_is_trained_with_its_preprocessing(tmp_path, bright, foreign, channels):
    image, mask = bright
    base = foreign(channels)
    before = {name: values.clone() for name, values in base.network.state_dict().items()}
    settings = tiny(**{**LONG, "steps": 80})
    training = train_segmentor(base, [image], [labels_of(mask)], settings, folder=tmp_path, held_out=[strokes_on(mask)])
    assert training.end.iou > 0.9
    assert training.model.id == base.id
    assert apply_segmentor(training.model, image).shape == (channels, SIZE, SIZE)
    torch.testing.assert_close(dict(base.network.state_dict()), before, rtol=0, atol=0)
    # twice as bright is the same to it: its preprocessing is applied
    np.testing.assert_allclose(
        apply_segmentor(training.model, image * 2), apply_segmentor(training.model, image), atol=1e-4
    )


def test_a_model_of_another_package_needs_its_channels(tmp_path, bright, foreign):
    image, mask = bright
    colour = xr.concat([image] * 3, dim="channel")
    with pytest.raises(AxesError, match=r"2D images with 1 channel\(s\)"):
        train_segmentor(foreign(), [colour], [labels_of(mask)], tiny(), folder=tmp_path)


def test_an_image_of_one_value_does_not_divide_by_nothing(tmp_path, bright, foreign):
    image, mask = bright
    training = fit_segmentor(foreign(), [image * 0], [labels_of(mask)], tiny(), folder=tmp_path)
    assert np.isfinite(apply_segmentor(training.model, image * 0).values).all()


class Fixed(TwoLevels):
    """Takes one size only, whatever is tried."""

    def forward(self, image):
        return super().forward(image.view(-1, 1, 64, 64))


@pytest.mark.parametrize("network", [TwoLevels, Fixed])
def test_a_network_of_one_size_is_trained_on_patches_that_it_takes(tmp_path, folder, bright, network, monkeypatch):
    image, mask = bright
    put_network(folder, seeded(network()), torch.rand(1, 1, 64, 64))
    for axis in (*folder.rdf["inputs"][0]["axes"][2:], *folder.rdf["outputs"][0]["axes"][2:]):
        axis["size"] = 64
        axis.pop("halo", None)
    np.save(folder.path / "test_input.npy", np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32))
    with open_package(folder.save()) as contents:
        base = load_packaged_model(contents)
    sizes = []
    monkeypatch.setattr(
        finetuning, "PatchDataset", lambda sources, settings, **_: sizes.append(settings.size) or _Stop.now()
    )
    with pytest.raises(_Stop):
        fit_segmentor(base, [image], [labels_of(mask)], tiny(), folder=tmp_path)
    assert sizes == [32 if network is TwoLevels else 64]


class _Stop(Exception):  # noqa: N818 - no error
    @classmethod
    def now(cls):
        raise cls


@pytest.mark.parametrize("inputs", ["raw", "probabilities"])
def test_patches_of_probabilities_stay_probabilities(inputs):
    patch = {"image": torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))}
    vary = vary_patches(inputs, torch.ones(1, 1, 1))
    varied = [vary(dict(patch), np.random.default_rng(seed))["image"] for seed in range(20)]
    assert not any(torch.equal(one, patch["image"]) for one in varied)
    inside = [bool(((one >= 0) & (one <= 1)).all()) for one in varied]
    assert all(inside) == (inputs == "probabilities")
    again = vary(dict(patch), np.random.default_rng(0))["image"]
    torch.testing.assert_close(again, varied[0], rtol=0, atol=0)
