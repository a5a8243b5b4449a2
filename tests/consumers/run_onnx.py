"""Run in a side environment, on numpy and onnxruntime alone: WEIGHTS INPUTS.npz OUTPUTS.npz."""

import sys

import numpy as np
import onnxruntime

weights, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
with np.load(source) as inputs:
    outputs = {key: session.run(None, {name: inputs[key]})[0] for key in inputs}
np.savez(target, version=onnxruntime.__version__, **outputs)
