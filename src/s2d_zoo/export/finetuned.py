"""A package of somebody's model with weights that were trained further."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from bioimageio.core.common import MemberId
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.core.sample import Sample
from bioimageio.core.tensor import Tensor
from bioimageio.spec.model.v0_5 import AxisId, ModelDescr

from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.export import rdf
from s2d_zoo.export.card_fields import count_parameters
from s2d_zoo.export.cover import write_cover
from s2d_zoo.export.description import FinetunedDetails
from s2d_zoo.export.finetuned_rdf import build_finetuned_rdf, channel_names
from s2d_zoo.export.finetuned_weights import (
    LARGEST_DIFFERENCE,
    check_torchscript,
    fold_network,
    write_onnx,
    write_torchscript,
)
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.inheritance import inherit_attribution
from s2d_zoo.export.lineage import describe_base
from s2d_zoo.export.model_card import BaseFacts, CardFacts, Finding, render_card
from s2d_zoo.export.package import check_output, write_judged
from s2d_zoo.export.processing import SplitProcessing
from s2d_zoo.export.reference_tensors import make_test_input, write_test_tensors
from s2d_zoo.export.tolerance import FloatArray, Tolerance, Tolerances, grow, measure_formats
from s2d_zoo.export.weights_difference import WeightsDifference, compare_weights


def write_finetuned(
    trained: PackagedModel,
    base: PackagedModel,
    contents: PackageContents,
    details: FinetunedDetails,
    example_input: xr.DataArray,
    output: Path,
    *,
    facts: CardFacts,
    overwrite: bool = False,
    judge: Callable[[Path], Sequence[Finding]] | None = None,
) -> Path:
    """Write a bioimage.io package of a finetuned model, which names its base.

    It takes and gives what the base does. Fixed steps of pre- and postprocessing go into the network, where every
    program does them alike; those that depend on the image stay in the description. Neither Python code nor state
    dict of the base is carried on. The same model, details, example and facts give the same bytes.

    Args:
        trained: the model with the weights that it has now; it is copied, and not moved.
        base: the same model as it was.
        contents: the base's package, opened.
        details: what the package says about the new model.
        example_input: a real input to make the test tensors from: axes channel (z) y x, values as before
            preprocessing.
        output: the file to write, ``*.zip``.
        facts: what the model card says about training and quality.
        overwrite: replace an existing file.
        judge: looks at the package before it is final, and says what the card is to tell about each program.

    Returns:
        The path of the package.

    Raises:
        ConfigError: if the file name does not end in .zip, the file exists, the id is that of the base, the licence
            is not allowed by the base's, or the RF contract does not fit the network.
        AxesError: if the example has other axes or channels than the network takes.
        UserInputError: if the example holds NaN or infinity.
        PackageError: if no weight has changed, one is not finite, or the package is not valid.
    """
    check_output(output, overwrite=overwrite)
    description = base.description
    details = _with_base(details, base, contents)
    difference = compare_weights(base.network.network, trained.network.network)
    if not difference.changed:
        msg = f"The weights are those of {base.id}, to the last bit: there is nothing new to export. Train it first."
        raise PackageError(msg)
    geometry = TileGeometry.of_packaged(base.network)
    test_input = make_test_input(example_input, channels=base.network.channels[0], shape=geometry.smallest)
    processing = SplitProcessing.of(description.inputs[0], description.outputs[0])
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        folder = Path(name)
        test_output = _run_whole(trained, test_input)
        write_test_tensors(folder, test_input, test_output)
        write_cover(folder, test_input, test_output)
        onnx_left_out, differences = _write_weights(
            trained, base, contents, processing, folder, (test_input, test_output)
        )
        tolerance = Tolerance.covering(differences, largest=float(np.abs(test_output).max()))
        changes = _describe_changes(description, difference, processing, onnx_left_out)

        def describe(facts: CardFacts) -> None:
            card = render_card(
                details,
                facts,
                geometry,
                channels=base.network.channels[0],
                outputs=channel_names(description.outputs[0]),
                tolerances=Tolerances(formats=tolerance),
                base=changes,
            )
            (folder / rdf.CARD_FILE).write_text(card, encoding="utf-8", newline="\n")
            built = build_finetuned_rdf(
                description,
                details,
                geometry,
                processing,
                folder,
                facts=facts,
                changes=changes,
                parameters=count_parameters(trained.network.network),
                tolerance=tolerance,
            )
            rdf.write_rdf(built, folder)

        write_judged(folder, output, describe, facts=facts, overwrite=overwrite, judge=judge)
    return output


def _with_base(details: FinetunedDetails, base: PackagedModel, contents: PackageContents) -> FinetunedDetails:
    """The details, with what the base adds to them."""
    contract = details.contract
    if contract is not None and (contract.ndim, len(contract.channels)) != (base.ndim, base.network.channels[0]):
        msg = (
            f"The RF contract feeds {len(contract.channels)} probability channel(s) in {contract.ndim}D, but {base.id} "
            f"takes {base.network.channels[0]} in {base.ndim}D. Give the contract that the network was trained with."
        )
        raise ConfigError(msg)
    return replace(
        details,
        attribution=inherit_attribution(base.description, details.attribution),
        base_model=describe_base(
            contents, began_from=base.weights_format, parent=details.parent, source=details.source
        ),
    )


def _write_weights(
    trained: PackagedModel,
    base: PackagedModel,
    contents: PackageContents,
    processing: SplitProcessing,
    folder: Path,
    tests: tuple[FloatArray, FloatArray],
) -> tuple[str, list[FloatArray]]:
    """Write all formats; why there is no ONNX, and how far the formats differ from the network and the test output."""
    network = fold_network(trained, processing)
    steps = TileGeometry.of_packaged(base.network).steps
    fed = _prepared(base.description, processing, tests[0])
    inputs = grow(fed, steps)
    folding = np.abs(_finished(base.description, processing, network, fed) - tests[1])
    if folding.max() > LARGEST_DIFFERENCE:
        msg = (
            f"With the fixed steps of {base.id} in its network, other values come out, by up to {folding.max():.2g}. "
            "Please report this with the model's id."
        )
        raise PackageError(msg)
    write_torchscript(network, processing, folder, example=fed)
    check_torchscript(network, folder, inputs=inputs)
    reason = write_onnx(network, base, contents, processing, folder, inputs=inputs)
    return reason, [folding, *measure_formats(network, folder, fed, steps=steps)]


def _prepared(description: ModelDescr, processing: SplitProcessing, values: FloatArray) -> FloatArray:
    """What the network is given: values after the steps that stay in the description."""
    sample = _sample(description, values)
    _run_steps(_with_left_steps(description, processing), sample, "pre")
    return _values(sample, description.inputs[0])


def _finished(
    description: ModelDescr, processing: SplitProcessing, network: torch.nn.Module, fed: FloatArray
) -> FloatArray:
    """What the new package gives: the network's output after the steps that stay in the description."""
    with torch.inference_mode():
        output = network(torch.from_numpy(fed)).numpy()
    sample = _sample(description, fed)
    sample.members[MemberId(description.outputs[0].id)] = _tensor(output, description.outputs[0])
    _run_steps(_with_left_steps(description, processing), sample, "post")
    return _values(sample, description.outputs[0])


def _with_left_steps(description: ModelDescr, processing: SplitProcessing) -> ModelDescr:
    (taken,), (given,) = description.inputs, description.outputs
    return description.model_copy(
        update={
            "inputs": [taken.model_copy(update={"preprocessing": list(processing.left_before)})],
            "outputs": [given.model_copy(update={"postprocessing": list(processing.left_after)})],
        }
    )


def _run_whole(model: PackagedModel, values: FloatArray) -> FloatArray:
    """Preprocessing, network and postprocessing as the base's description has them: ``(1, channel, (z), y, x)``."""
    description = model.description
    taken, given = description.inputs[0], description.outputs[0]
    sample = _sample(description, values)
    _run_steps(description, sample, "pre")
    with torch.inference_mode():
        network = fold_network(model, SplitProcessing())
        output = network(torch.from_numpy(_values(sample, taken))).numpy()
    sample.members[MemberId(given.id)] = _tensor(output, given)
    _run_steps(description, sample, "post")
    return _values(sample, given)


def _sample(description: ModelDescr, values: FloatArray) -> Sample:
    tensor = description.inputs[0]
    return Sample(members={MemberId(tensor.id): _tensor(values, tensor)}, stat={}, id=None)


def _run_steps(description: ModelDescr, sample: Sample, which: str) -> None:
    """By bioimageio.core; statistics of a data set, if any, are those of this image."""
    steps = setup_pre_and_postprocessing(description, dataset_for_initial_statistics=[sample])
    with np.errstate(over="ignore"):  # its sigmoid of what is far below zero
        for step in getattr(steps, which):
            step(sample)


def _tensor(values: FloatArray, tensor: Any) -> Tensor:  # noqa: ANN401 - input or output
    return Tensor.from_numpy(values, dims=[AxisId(str(axis.id)) for axis in tensor.axes])


def _values(sample: Sample, tensor: Any) -> FloatArray:  # noqa: ANN401 - input or output
    found = sample.members[MemberId(tensor.id)].data.transpose(*(str(axis.id) for axis in tensor.axes))
    return np.ascontiguousarray(found.values, dtype=np.float32)


def _describe_changes(
    description: ModelDescr, difference: WeightsDifference, processing: SplitProcessing, onnx_left_out: str
) -> BaseFacts:
    data = description.training_data
    name = getattr(data, "id", None) or getattr(data, "name", None)
    return BaseFacts(
        name=description.name,
        authors=tuple(str(author.name) for author in description.authors),
        license=str(description.license),
        training_data=f"{name}, as its package says" if name else "not stated by its package",
        difference=difference,
        left=tuple(str(step.id) for step in (*processing.left_before, *processing.left_after)),
        folded=processing.folded,
        onnx_left_out=onnx_left_out,
    )
