"""Which layers are trained, in networks of ours and in what came as TorchScript; the rest stays bit by bit."""

import io
import warnings
from fnmatch import fnmatch

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.patches import IMAGE, TARGET, WEIGHT
from s2d_zoo.errors import ConfigError
from s2d_zoo.trainer import LAYERS, TrainingSettings, train
from s2d_zoo.trainer.layers import choose_layers, kind_of

#: patterns of the parameters and statistics that each choice changes in a U-Net of depth 1
CHANGED = {
    "all": ["*"],
    "head": ["head.*"],
    "first-block": ["encoder.0.*"],
    "norm": ["*coder.*.1.*", "*coder.*.4.*"],
}


class Patches(Dataset):
    def __getitem__(self, index):
        image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(index))
        return {IMAGE: image, TARGET: torch.cat([image, image]).round(), WEIGHT: torch.ones_like(image)}


class Scripted(nn.Module):
    """A network of which only the TorchScript is left."""

    def __init__(self, network):
        super().__init__()
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            torch.jit.save(torch.jit.trace(network.eval(), torch.rand(1, 1, 16, 16)), file)
            file.seek(0)
            self.network = torch.jit.load(file)

    def logits(self, image):
        return torch.logit(self.network(image), eps=1e-6)


#: that rounding would change in a running mean
CONSTANTS = {"input_offset": (0.1,), "input_scale": (0.7,)}


class KeptInEval(UNet):
    """A network that does not let its layers change their mode."""

    def train(self, mode=True):
        super().train(mode=False)
        self.training = mode
        return self


def unet(kind=UNet, **changes):
    """A network whose statistics are not those of a new one."""
    torch.manual_seed(0)
    network = kind(**{"features": 2, "depth": 1, **changes})
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
            layer.num_batches_tracked.fill_(100)
    return network


def kept_in_eval():
    return unet(KeptInEval, **CONSTANTS)


def traced():
    return Scripted(unet(**CONSTANTS))


NETWORKS = pytest.mark.parametrize("make", [unet, kept_in_eval, traced], ids=["of ours", "kept in eval", "TorchScript"])


def state(network):
    return {name.removeprefix("network."): values.clone() for name, values in network.state_dict().items()}


def short(**changes):
    return TrainingSettings(**{"steps": 6, "steps_per_epoch": 3, "batch_size": 2, "device": "cpu", **changes})


def changed_by(network, folder, **settings):
    before = state(network)
    after = state(train(network, Patches(), short(**settings), folder=folder).model)
    return {name for name in before if not torch.equal(before[name], after[name])}


def is_statistic(name):
    return name.rpartition(".")[2] in {"running_mean", "running_var", "num_batches_tracked"}


@NETWORKS
@pytest.mark.parametrize("ema_decay", [0.0, 0.97])
@pytest.mark.parametrize("layers", LAYERS)
def test_the_chosen_layers_change_and_the_others_stay_bit_by_bit(tmp_path, make, layers, ema_decay):
    wanted = {
        name
        for name in state(make())
        if any(fnmatch(name, pattern) for pattern in CHANGED[layers])
        and not name.startswith("input_")
        # what was traced in eval mode has its statistics for good
        and (make is unet or not is_statistic(name))
    }
    assert changed_by(make(), tmp_path, layers=layers, ema_decay=ema_decay, learning_rate=0.01) == wanted


@pytest.mark.parametrize("ema_decay", [0.0, 0.97])
@pytest.mark.parametrize("layers", ["all", "norm"])
def test_frozen_statistics_stay_bit_by_bit_while_weights_change(tmp_path, layers, ema_decay):
    changed = changed_by(unet(), tmp_path, layers=layers, freeze_batch_norm=True, ema_decay=ema_decay)
    assert "encoder.0.1.weight" in changed
    assert not any(is_statistic(name) for name in changed)


def test_frozen_statistics_are_those_that_training_uses(tmp_path):
    """The batch's own would give a mean of 0."""
    network = unet(features=2)
    used = []
    network.encoder[0][1].register_forward_hook(lambda module, _, output: used.append((module.training, output)))
    train(network, Patches(), short(steps=1, freeze_batch_norm=True), folder=tmp_path)
    assert not used[0][0]
    assert used[0][1].mean().abs() > 1e-3


def test_a_network_in_eval_mode_is_trained_like_one_in_training_mode(tmp_path):
    modes = [unet().eval(), unet().train()]
    first, second = (
        state(train(model, Patches(), short(), folder=tmp_path / str(number)).model)
        for number, model in enumerate(modes)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["encoder.0.1.num_batches_tracked"] > 100, "statistics were gathered"


@NETWORKS
def test_after_the_training_gradients_are_asked_for_as_before(tmp_path, make):
    network = make()
    frozen = next(iter(network.parameters()))
    frozen.requires_grad_(False)
    train(network, Patches(), short(layers="norm"), folder=tmp_path)
    assert [parameter.requires_grad for parameter in network.parameters()][:3] == [False, True, True]


def test_what_asks_for_no_gradient_is_not_trained(tmp_path):
    network = unet()
    network.head.weight.requires_grad_(False)
    changed = changed_by(network, tmp_path, layers="head")
    assert changed == {"head.bias"}


def test_the_first_block_is_two_convolutions_with_the_normalisation_after_each():
    network = nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.InstanceNorm2d(4, affine=True)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    )
    part = choose_layers(network, "first-block")
    assert sorted(part.parameters) == [
        f"{name}.{kind}" for name in ("1.0", "1.2", "2.0", "2.1") for kind in ("bias", "weight")
    ]
    assert set(part.still) == {network[0], network[3][1]}


def test_the_head_is_the_last_convolution_whatever_follows_it():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Sigmoid())
    assert sorted(choose_layers(network, "head").parameters) == ["1.bias", "1.weight"]


@pytest.mark.parametrize("layers", ["head", "first-block"])
def test_one_convolution_is_head_and_first_block(layers):
    assert sorted(choose_layers(nn.Sequential(nn.Conv2d(1, 2, 1)), layers).parameters) == ["0.bias", "0.weight"]


def test_parameters_beside_the_layers_are_trained_with_all_only():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    network.gain = nn.Parameter(torch.ones(1))
    assert choose_layers(network, "all").parameters == {"gain", "0.weight"}
    assert choose_layers(network, "head").parameters == {"0.weight"}


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        (unet(norm="none"), "norm", "takes normalisation layers .* layers are Conv2d, MaxPool2d, ReLU, Upsample"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(1)), "norm", "normalisation layers with weights"),
        (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm2d(1)), "head", "takes a convolution"),
        (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm2d(1)), "first-block", "takes convolutions"),
        (unet().requires_grad_(False), "all", "weights that can be trained"),
    ],
    ids=["no norm", "norm without weights", "no head", "no block", "frozen"],
)
def test_where_there_is_nothing_to_train_the_error_says_what_there_is(tmp_path, network, layers, message):
    with pytest.raises(ConfigError, match=f"nothing to train with layers '{layers}'.*{message}"):
        train(network, Patches(), short(layers=layers), folder=tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_kinds_are_told_of_torchscript_too():
    kinds = {name: kind_of(module) for name, module in traced().network.named_modules()}
    assert kinds["head"] == "Conv2d"
    assert kinds["encoder.0.1"] == "BatchNorm2d"


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_resumed_training_of_torchscript_equals_an_uninterrupted_one(tmp_path, ema_decay):
    class Failing(Patches):
        def __getitem__(self, index):
            if index == 8:
                raise OSError
            return super().__getitem__(index)

    settings = short(steps=12, ema_decay=ema_decay)
    whole = train(traced(), Patches(), settings, folder=tmp_path / "whole").model
    with pytest.raises(OSError):
        train(traced(), Failing(), settings, folder=tmp_path / "parts")
    parts = train(traced(), Patches(), settings, folder=tmp_path / "parts").model
    torch.testing.assert_close(state(parts), state(whole), rtol=0, atol=0)
