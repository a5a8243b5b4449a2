"""An ONNX file with the weights of a network that was trained further."""

import copy
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from s2d_zoo.export.onnx_weights import replace_weights


def weights_of(network):
    return {name: values.numpy().copy() for name, values in network.state_dict().items()}


def export(network, path):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.rand(1, 1, 8, 8),), str(path), dynamo=False, input_names=["image"])


def train_on(network, *, parts=None):
    """The same network with other weights, all of them or those of some parts."""
    trained = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if parts is None or name in parts:
                parameter.add_(torch.rand_like(parameter))
    return trained


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Sigmoid())


@pytest.mark.parametrize("parts", [None, {"2.bias"}], ids=["all", "one"])
def test_the_new_file_gives_what_the_trained_network_gives(network, tmp_path, parts):
    export(network, tmp_path / "old.onnx")
    trained = train_on(network, parts=parts)
    assert replace_weights(
        tmp_path / "old.onnx", tmp_path / "new.onnx", before=weights_of(network), after=weights_of(trained)
    )
    image = torch.rand(1, 1, 8, 8)
    session = onnxruntime.InferenceSession(tmp_path / "new.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], trained(image), atol=1e-5)
        assert not torch.allclose(trained(image), network(image))


def test_weights_that_were_joined_with_others_are_not_guessed(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    with torch.no_grad():
        network(torch.rand(4, 1, 8, 8))
        network[1].weight.mul_(3)
    export(network, tmp_path / "old.onnx")  # folds the normalisation into the convolution
    trained = train_on(network)
    found = replace_weights(
        tmp_path / "old.onnx", tmp_path / "new.onnx", before=weights_of(network), after=weights_of(trained)
    )
    assert not found
    assert not (tmp_path / "new.onnx").exists()


def test_weights_that_cannot_be_told_apart_are_not_guessed(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1))
    network.load_state_dict({name: torch.ones_like(values) for name, values in network.state_dict().items()})
    export(network, tmp_path / "old.onnx")
    before = weights_of(network)
    after = weights_of(train_on(network, parts={"0.weight"}))
    assert not replace_weights(tmp_path / "old.onnx", tmp_path / "new.onnx", before=before, after=after)


def test_weights_outside_of_the_file_are_not_read(network, tmp_path):
    export(network, tmp_path / "old.onnx")
    model = onnx.load(tmp_path / "old.onnx")
    onnx.save(model, tmp_path / "out.onnx", save_as_external_data=True, location="out.data", size_threshold=0)
    before = weights_of(network)
    after = weights_of(train_on(network))
    assert not replace_weights(tmp_path / "out.onnx", tmp_path / "new.onnx", before=before, after=after)


@pytest.mark.realdata
def test_every_weight_of_a_real_model_is_found(realdata_dir, tmp_path):
    folder = realdata_dir / "zoo" / "unet2d_nuclei_broad"
    before = {name: values.numpy() for name, values in torch.load(folder / "state_dict.pt", weights_only=True).items()}
    after = {name: values + 1 for name, values in before.items()}
    assert replace_weights(folder / "weights.onnx", tmp_path / "new.onnx", before=before, after=after)
