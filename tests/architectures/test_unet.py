"""The U-Net: a tile with its halo equals the whole, and the halo is as large as it says."""

import pytest
import torch
from torch import nn

from s2d_zoo.architectures.unet import UNet


def settle(model, seed=0):
    """Random weights, and statistics of some batches, as after training."""
    torch.manual_seed(seed)
    for _ in range(3):
        model.train()(torch.rand(2, model.encoder[0][0].in_channels, 32, 32))
    return model.eval()


def see_through(depth):
    """A U-Net in which no signal is lost, so that the gradient shows all that an output pixel depends on."""
    model = UNet(features=1, depth=depth, norm="none").double().eval()
    model.pool = nn.AvgPool2d(2)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return model


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_receptive_radius_is_what_gradients_show_over_all_phases(depth):
    model = see_through(depth)
    middle = -(-(model.receptive_radius + 1) // model.step) * model.step
    size = 2 * middle + model.step
    found = []
    for phase in range(model.step):
        image = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        model.logits(image)[0, 0, middle + phase, middle + phase].backward()
        seen = image.grad[0, 0].nonzero()
        found.append(int((seen - middle - phase).abs().max()))
        assert found[-1] == model._reach(phase)
    assert max(found) == model.receptive_radius


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_tile_with_its_halo_equals_the_whole(depth):
    model = settle(UNet(in_channels=2, features=3, depth=depth))
    halo = -(-model.receptive_radius // model.step) * model.step
    size = 2 * halo + 4 * model.step
    image = torch.rand(1, 2, size, size)
    start, stop = halo + model.step, halo + 2 * model.step
    with torch.inference_mode():
        whole = model(image)[..., start:stop, start:stop]
        tile = model(image[..., start - halo : stop + halo, start - halo : stop + halo])
    assert torch.allclose(tile[..., halo:-halo, halo:-halo], whole, atol=1e-5, rtol=0)


def test_one_step_less_halo_is_not_enough():
    model = settle(UNet(features=3, depth=1, norm="none"))
    for parameter in model.parameters():
        parameter.data.abs_()
    size, start = 64, 32
    image = torch.rand(1, 1, size, size)
    less = (model.receptive_radius // model.step - 1) * model.step
    with torch.inference_mode():
        whole = model.logits(image)[..., start : start + 2, start : start + 2]
        tile = model.logits(image[..., start - less : start + 2 + less, start - less : start + 2 + less])
    assert not torch.allclose(tile[..., less:-less, less:-less], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("channels", [(1, 2), (3, 1)])
def test_the_output_has_the_inputs_size_and_lies_between_0_and_1(norm, channels):
    model = settle(UNet(in_channels=channels[0], out_channels=channels[1], features=2, depth=2, norm=norm))
    with torch.inference_mode():
        output = model(torch.randn(2, channels[0], 12, 20) * 100)
    assert output.shape == (2, channels[1], 12, 20)
    assert 0 <= output.min() <= output.max() <= 1


def test_at_inference_an_image_does_not_depend_on_its_batch():
    model = settle(UNet(features=2, depth=1))
    images = torch.rand(3, 1, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-6)


def test_training_learns_statistics_and_inference_leaves_them_alone():
    model = UNet(features=2, depth=1)
    name = "encoder.0.1.running_mean"
    before = model.state_dict()[name].clone()
    settle(model)
    learnt = model.state_dict()[name].clone()
    assert not torch.equal(before, learnt)
    with torch.inference_mode():
        model(torch.rand(1, 1, 8, 8))
    assert torch.equal(model.state_dict()[name], learnt)


@pytest.mark.parametrize(("offset", "scale"), [((5.0,), (2.0,)), ((5.0, 7.0), (2.0, 4.0))])
def test_the_input_is_normalised_with_the_stored_constants(offset, scale):
    plain = settle(UNet(in_channels=2, features=2, depth=1))
    normalising = UNet(in_channels=2, features=2, depth=1, input_offset=offset, input_scale=scale)
    constants = {name: values for name, values in normalising.state_dict().items() if name.startswith("input")}
    normalising.load_state_dict({**plain.state_dict(), **constants})
    image = torch.rand(1, 2, 8, 8)
    raw = image * normalising.input_scale + normalising.input_offset
    with torch.inference_mode():
        assert torch.allclose(normalising.eval()(raw), plain(image), atol=1e-5)


def test_forward_is_the_sigmoid_of_the_logits():
    model = settle(UNet(features=2, depth=1))
    image = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(model(image), torch.sigmoid(model.logits(image)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": "instance"}, "depend on the tile"),
        ({"in_channels": 0}, "at least 1"),
        ({"out_channels": 0}, "at least 1"),
        ({"features": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"in_channels": 3, "input_offset": (1.0, 2.0)}, "1 or 3 values"),
        ({"in_channels": 2, "input_scale": (1.0, 2.0, 3.0)}, "1 or 2 values"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UNet(**wrong)


def test_no_level_is_wider_than_the_limit_and_none_is_narrower_than_the_first():
    def widths(**kwargs):
        return [block[0].out_channels for block in UNet(features=4, depth=3, **kwargs).encoder]

    assert widths() == widths(max_features=32) == [4, 8, 16, 32]
    assert widths(max_features=10) == [4, 8, 10, 10]
    assert widths(max_features=2) == [4, 4, 4, 4]
    image = torch.rand(1, 1, 16, 24)
    assert UNet(features=4, depth=3, max_features=10).eval()(image).shape == (1, 2, 16, 24)
