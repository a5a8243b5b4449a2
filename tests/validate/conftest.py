"""Checks that run nothing, asked about a package that was changed."""

import pytest

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.validate.static_checks import check_basis, open_model


@pytest.fixture
def judged(folder):
    """Run one check on `folder`, or another path: for each program, or "advice", status and message of its result.

    A result that concerns all programs is under "all".
    """

    def run(check, path=None):
        with open_package(path or folder.save()) as contents:
            model = open_model(contents)
            assert model is not None, check_basis(contents)
            results = tuple(check(model))
        found = {}
        for result in results:
            names = [consumer.name for consumer in result.consumers] if len(result.consumers) < 4 else ["all"]
            for name in names or ["advice"]:
                assert name not in found, results
                found[name] = (result.status, result.message)
        return found

    return run


@pytest.fixture
def old_format(folder):
    """The same package in format 0.4, with TorchScript weights."""
    weights = folder.rdf["weights"]["torchscript"]
    folder.rdf = {
        "type": "model",
        "format_version": "0.4.10",
        "name": "Tiny enhancer",
        "description": "Enhances.",
        "authors": [{"name": "Ada"}],
        "cite": [{"text": "a paper", "doi": "10.3389/fcomp.2022.805166"}],
        "license": "MIT",
        "tags": ["shallow2deep"],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "timestamp": "2022-07-08T17:02:28",
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 1, 64, 64], "step": [0, 0, 4, 4]},
            }
        ],
        "outputs": [
            {
                "name": "enhanced",
                "axes": "bcyx",
                "data_type": "float32",
                "halo": [0, 0, 24, 24],
                "shape": {"reference_tensor": "raw", "scale": [1, 2, 1, 1], "offset": [0, 0, 0, 0]},
            }
        ],
        "test_inputs": ["test_input.npy"],
        "test_outputs": ["test_output.npy"],
        "weights": {"torchscript": {"source": weights["source"], "sha256": weights["sha256"]}},
    }
    return folder
