"""What has changed in the weights is told tensor by tensor."""

import copy
import json

import pytest
import torch
from torch import nn

from s2d_zoo.errors import PackageError
from s2d_zoo.export.weights_difference import compare_weights


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=True), nn.BatchNorm2d(2))


def changed(network, **values):
    other = copy.deepcopy(network)
    with torch.no_grad():
        for name, change in values.items():
            other.state_dict()[name.replace("_", ".", 1)].add_(change)
    return other


def test_nothing_has_changed_in_a_copy(network):
    found = compare_weights(network, copy.deepcopy(network))
    assert found.changed == ()
    assert (found.largest_absolute, found.relative) == (0, 0)


def test_changes_are_measured(network):
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([3.0, 4.0]))
    found = compare_weights(network, changed(network, **{"0_bias": torch.tensor([0.0, -0.5])}))
    assert [tensor.name for tensor in found.changed] == ["0.bias"]
    (tensor,) = found.changed
    assert (tensor.shape, tensor.largest_absolute, tensor.relative) == ((2,), 0.5, pytest.approx(0.1))
    assert found.largest_absolute == 0.5
    squares = sum(float((values.double() ** 2).sum()) for values in network.state_dict().values())
    assert found.relative == pytest.approx(0.5 / squares**0.5)


def test_stored_statistics_count(network):
    found = compare_weights(network, changed(network, **{"1_running_mean": 1.0, "1_num_batches_tracked": 2}))
    # how many batches were seen is no weight, and would outweigh all of them
    assert [tensor.name for tensor in found.changed] == ["1.running_mean"]
    assert found.largest(1)[0].relative == float("inf"), "the mean was zero"


def test_the_table_begins_with_what_changed_most(network):
    found = compare_weights(network, changed(network, **{"0_weight": 0.001, "1_weight": 1.0}))
    sentence, head, first, second = found.table().splitlines()
    assert sentence.startswith("2 of 6 tensors have changed; largest change of a value 1,")
    assert head.split()[:2] == ["tensor", "shape"]
    assert first.split() == ["1.weight", "2", "1", "1"]
    assert second.startswith("0.weight  2 x 1 x 3 x 3")
    assert len(found.table(most=1).splitlines()) == 3


def test_the_totals_are_plain_json(network):
    found = compare_weights(network, changed(network, **{"1_running_mean": 1.0})).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["tensors"], found["changed"], found["values"], found["largest_absolute"]) == (6, 1, 28, 1)
    zeros = nn.Conv2d(1, 1, 1)
    zeros.load_state_dict({name: torch.zeros_like(values) for name, values in zeros.state_dict().items()})
    ones = nn.Conv2d(1, 1, 1)
    ones.load_state_dict({name: torch.ones_like(values) for name, values in zeros.state_dict().items()})
    assert compare_weights(zeros, ones).to_json()["relative_l2"] is None


def test_another_network_is_refused(network):
    with pytest.raises(PackageError, match=r"0\.bias differ in name or shape"):
        compare_weights(network, nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2)))


def test_weights_that_are_not_finite_are_refused(network):
    with pytest.raises(PackageError, match=r"NaN or infinity in 0\.bias"):
        compare_weights(network, changed(network, **{"0_bias": float("nan")}))


def test_an_empty_tensor_has_not_changed():
    network = nn.Module()
    network.register_buffer("nothing", torch.zeros(0))
    assert compare_weights(network, copy.deepcopy(network)).changed == ()
