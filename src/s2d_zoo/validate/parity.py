"""Running one weights format of a package as bioimageio.core does, on the CPU, and comparing the outcomes."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from bioimageio.core import Sample, Tensor, create_prediction_pipeline, test_model
from bioimageio.core.axis import AxisId
from bioimageio.spec import ValidationContext, build_description
from bioimageio.spec.common import InvalidDescr
from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.network import own_architectures
from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.errors import PackageError

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

#: the formats that run here without executing Python code from the package
RUNNABLE: Final = ("pytorch_state_dict", "torchscript", "onnx")

#: what a test needs; all else (authors, links, …) could only make bioimageio.core look things up on the network
_KEYS: Final = ("type", "format_version", "name", "inputs", "outputs", "weights")


def reason_not_to_run(contents: PackageContents, weights_format: str) -> str | None:
    """Why a weights format must not be run, or None.

    A package is a file from anywhere: of its Python code only an architecture that equals one of ours is run.
    """
    tensors = (*contents.rdf["inputs"], *contents.rdf["outputs"])
    steps = [step for tensor in tensors for key in ("preprocessing", "postprocessing") for step in tensor.get(key, ())]
    if any(step.get("id") == "custom" for step in steps):
        return "its pre- or postprocessing is Python code from the package, which is not run"
    if weights_format not in RUNNABLE:
        return f"s2d-zoo runs {', '.join(RUNNABLE)} only"
    if weights_format != "pytorch_state_dict":
        return None
    architecture = contents.rdf["weights"][weights_format]["architecture"]
    if "source" not in architecture:
        return "its architecture is code of another Python package, which is not run"
    digest = hashlib.sha256((contents.folder / architecture["source"]).read_bytes()).hexdigest()
    if digest not in own_architectures():
        return f"its architecture {architecture['source']} is not one of s2d-zoo, so this Python code is not run"
    return None


def load_runnable(contents: PackageContents) -> ModelDescr:
    """The part of a description that is needed to run the network, files checked.

    Raises:
        PackageError: with the reasons of bioimageio.spec, if it is not valid together with its files.
    """
    rdf: dict[str, Any] = {key: contents.rdf[key] for key in _KEYS}
    rdf["weights"] = {
        name: {key: value for key, value in entry.items() if key != "authors"}
        for name, entry in contents.rdf["weights"].items()
        if entry is not None
    }
    tolerance = _own_tolerance(contents.rdf)
    if tolerance is not None:
        rdf["config"] = {"bioimageio": {"reproducibility_tolerance": tolerance}}
    context = ValidationContext(root=contents.folder, file_name=contents.rdf_name, perform_io_checks=True)
    description = build_description(rdf, context=context)
    if not isinstance(description, ModelDescr):
        reason = description.get_reason() if isinstance(description, InvalidDescr) else f"it is a {description.type}"
        raise PackageError(reason)
    return description


def _own_tolerance(rdf: Mapping[str, Any]) -> object:
    value: object = rdf
    for key in ("config", "bioimageio", "reproducibility_tolerance"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def run_core_test(contents: PackageContents, weights_format: str) -> str | None:
    """bioimageio.core's test of one weights format: None if it passed, else what went wrong."""
    try:
        with _foreign_errors(weights_format):
            summary = test_model(load_runnable(contents), weight_format=weights_format, devices=["cpu"])  # type: ignore[arg-type]
    except PackageError as error:
        return str(error)
    if summary.status == "passed":
        return None
    failed = (detail for detail in summary.details if detail.status == "failed")
    return "; ".join(f"{detail.name}: {' '.join(entry.msg for entry in detail.errors)}" for detail in failed)


@contextmanager
def open_format(contents: PackageContents, weights_format: str) -> Iterator[Callable[[FloatArray], FloatArray]]:
    """A function from an input ``(batch, channel, y, x)`` to the whole output, without padding or cropping.

    Raises:
        PackageError: here or from that function, if the network cannot be loaded or run.
    """
    description = load_runnable(contents)
    source, target = description.inputs[0].id, description.outputs[0].id
    dims = tuple(AxisId(axis.id) for axis in description.inputs[0].axes)
    with ExitStack() as stack:
        with _foreign_errors(weights_format):
            pipeline = stack.enter_context(
                create_prediction_pipeline(
                    description,
                    weights_format=weights_format,  # type: ignore[arg-type]
                    devices=["cpu"],
                )
            )

        def run(values: FloatArray) -> FloatArray:
            sample = Sample(members={source: Tensor(values, dims=dims)}, stat={}, id="sample")
            with _foreign_errors(weights_format):
                outcome = pipeline.predict_sample_without_blocking(
                    sample, skip_input_padding=True, skip_output_cropping=True
                )
                return np.asarray(outcome.members[target].data.to_numpy(), dtype=np.float32)

        yield run


@contextmanager
def _foreign_errors(weights_format: str) -> Iterator[None]:
    try:
        yield
    except PackageError:
        raise
    except Exception as error:  # torch, onnxruntime and bioimageio.core raise anything on bad weights
        msg = f"{weights_format} cannot be run: {type(error).__name__}: {error}"
        raise PackageError(msg) from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the process as it was found: bioimageio.core seeds torch and numpy and sets torch's determinism.

    Warnings are put aside: torch deprecates TorchScript, which is what ilastik and Fiji run, and bioimageio.spec
    leaves the closing of files to the garbage collector.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global state is what is disturbed
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        np.random.set_state(numpy_state)  # noqa: NPY002 - see above
