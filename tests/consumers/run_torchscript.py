"""Run in a side environment, on numpy and torch alone: WEIGHTS INPUTS.npz OUTPUTS.npz."""

import sys

import numpy as np
import torch

weights, source, target = sys.argv[1:]
network = torch.jit.load(weights, map_location="cpu").eval()
with np.load(source) as inputs, torch.no_grad():
    outputs = {key: network(torch.from_numpy(inputs[key])).numpy() for key in inputs}
np.savez(target, version=str(torch.__version__), **outputs)
