import re

import numpy as np
import pytest
import torch

from s2d_zoo.export import cost, weights


@pytest.fixture(scope="module")
def folder(fused_parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    weights.write_weights(
        weights.for_export(fused_parts.model),
        path,
        example=torch.rand(1, 1, 32, 32),
        input_name="raw",
        output_name="enhanced",
    )
    return path


@pytest.mark.parametrize("size", [(32, 40), (90, 100)])
def test_time_and_size_are_told_in_words(folder, monkeypatch, size):
    monkeypatch.setattr(cost, "_SIZE", 64)
    times, sizes = cost.describe_costs(folder, np.random.default_rng(0).random((1, 1, *size), dtype=np.float32))
    assert re.fullmatch(
        r"64 x 64 px take at most \S+ s with ONNX and at most \S+ s with TorchScript, on \d+ cores .*", times
    )
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert f"{megabytes:.1f} MB" in sizes


def test_images_of_512_px_are_measured():
    assert cost._SIZE == 512


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "at most 0.5 s"), (0.5, "at most 0.5 s"), (3.9, "at most 5 s"), (99, "at most 100 s"), (101, "more than")],
)
def test_seconds_are_rounded_up_coarsely(seconds, words):
    assert cost._at_most(seconds).startswith(words)


def test_the_first_calls_are_not_measured():
    calls = []
    cost._seconds(lambda: calls.append(1))
    assert len(calls) == 3
