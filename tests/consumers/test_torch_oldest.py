"""TorchScript weights, traced here, in the oldest torch that there is for this Python."""

import torch


def test_a_traced_file_gives_what_the_network_gives_at_two_sizes(model_package, oldest_torch, tmp_path):
    inputs = model_package.inputs
    outputs, version = oldest_torch.run(model_package.weights("torchscript"), inputs, tmp_path)
    assert version != torch.__version__
    for output, values in zip(outputs, inputs, strict=True):
        model_package.assert_close(output, model_package.expected(values))
