"""A bioimage.io package: every file of it, checked, in one zip."""

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
import xarray as xr
from bioimageio.spec import load_description
from bioimageio.spec.common import InvalidDescr
from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.atomic import atomic_write
from s2d_zoo.data.network import Network, channels_of
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.export import rdf, weights
from s2d_zoo.export.cost import describe_costs
from s2d_zoo.export.cover import write_cover
from s2d_zoo.export.description import ModelDetails
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.model_card import CardFacts, Finding, render_card
from s2d_zoo.export.reference_tensors import (
    UNFUSED_OUTPUT_FILE,
    make_test_input,
    make_test_output,
    write_test_tensors,
)
from s2d_zoo.export.tolerance import FloatArray, Tolerance, Tolerances, measure_formats

#: the earliest that a zip can hold; the time of writing would make every package differ
_TIMESTAMP: Final = (1980, 1, 1, 0, 0, 0)


def write_package(
    model: Network,
    details: ModelDetails,
    example_input: xr.DataArray,
    output: Path,
    *,
    facts: CardFacts,
    overwrite: bool = False,
    unfused: Callable[[FloatArray], FloatArray] | None = None,
    judge: Callable[[Path], Sequence[Finding]] | None = None,
) -> Path:
    """Write a bioimage.io package that ilastik, Fiji, QuPath and bioimageio.core can run.

    The same network, details, example and facts give the same bytes; the card of a fused model, though, states a
    measured time.

    Args:
        model: a trained network; it is copied, and neither moved nor switched to evaluation mode.
        details: what the package says about it.
        example_input: a real input to make the test tensors from: axes channel y x, the values that the network
            takes (probabilities in [0, 1] for an enhancer, raw values for a segmentor).
        output: the file to write, ``*.zip``.
        facts: what the model card says about training and quality.
        overwrite: replace an existing file.
        unfused: of a fused model: what filters, forest and enhancer give one after another for an input
            ``(1, channel, y, x)``, without any padding; the difference is measured, and stated in the package.
        judge: looks at the package before it is final, and says what the card is to tell about each program.

    Returns:
        The path of the package.

    Raises:
        ConfigError: if the file name does not end in .zip, the file exists, details and network do not fit, or
            a fused model comes without its unfused counterpart.
        AxesError: if the example has other axes or channels than the network takes.
        UserInputError: if the example holds NaN or infinity.
        PackageError: if a weight is not finite, or the package is not valid.
    """
    check_output(output, overwrite=overwrite)
    geometry = TileGeometry.from_model(model)
    model = weights.for_export(model)
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        folder = Path(name)
        test_input, test_output = _write_files(model, details, geometry, example_input, folder)
        tolerances = Tolerances(
            formats=Tolerance.covering(
                measure_formats(model, folder, test_input, steps=geometry.steps),
                largest=float(np.abs(test_output).max()),
            ),
            unfused=_compare_unfused(details, unfused, test_input, test_output, folder),
        )

        if details.kind == "fused":
            facts = replace(facts, costs=(*facts.costs, *describe_costs(folder, test_input)))

        def describe(facts: CardFacts) -> None:
            card = render_card(details, facts, geometry, channels=channels_of(model)[0], tolerances=tolerances)
            (folder / rdf.CARD_FILE).write_text(card, encoding="utf-8", newline="\n")
            built = rdf.build_rdf(model, details, geometry, folder, facts=facts, tolerances=tolerances)
            rdf.write_rdf(built, folder)

        write_judged(folder, output, describe, facts=facts, overwrite=overwrite, judge=judge)
    return output


def write_judged(
    folder: Path,
    output: Path,
    describe: Callable[[CardFacts], None],
    *,
    facts: CardFacts,
    overwrite: bool,
    judge: Callable[[Path], Sequence[Finding]] | None,
) -> None:
    """Pack a folder as a package; if it is to be judged, write its card anew with what was found.

    Args:
        folder: holds all files but card and description.
        output: the file to write.
        describe: writes card and description into the folder.
        facts: what the card says.
        overwrite: replace an existing file.
        judge: looks at the package before it is final.

    Raises:
        PackageError: if bioimageio.spec does not accept the package.
    """
    describe(facts)
    with atomic_write(output, overwrite=overwrite) as temporary:
        _zip_folder(folder, temporary)
        _check_readable(temporary)
        if judge is not None:
            describe(replace(facts, findings=tuple(judge(temporary))))
            _zip_folder(folder, temporary)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a path that no package can be written to, before the work begins.

    Raises:
        ConfigError: if its name does not end in .zip, or there is a file.
    """
    if output.suffix != ".zip":
        msg = f"A package is a zip file, as ilastik and Fiji take it; expected a name ending in .zip, got {output}."
        raise ConfigError(msg)
    # Tracing takes long, so this is not left to the moment of writing.
    if output.exists() and not overwrite:
        msg = f"{output} exists already. Give another name, or --overwrite to replace it."
        raise ConfigError(msg)


def _write_files(
    model: Network,
    details: ModelDetails,
    geometry: TileGeometry,
    example_input: xr.DataArray,
    folder: Path,
) -> tuple[FloatArray, FloatArray]:
    """Write weights, test tensors and cover; test input and output."""
    test_input = make_test_input(example_input, channels=channels_of(model)[0], shape=geometry.smallest)
    test_output = make_test_output(model, test_input)
    write_test_tensors(folder, test_input, test_output)
    write_cover(folder, test_input, test_output)
    input_name, output_name = rdf.tensor_names(details)
    example = torch.from_numpy(test_input)
    weights.write_weights(model, folder, example=example, input_name=input_name, output_name=output_name)
    return test_input, test_output


def _compare_unfused(
    details: ModelDetails,
    unfused: Callable[[FloatArray], FloatArray] | None,
    test_input: FloatArray,
    test_output: FloatArray,
    folder: Path,
) -> Tolerance | None:
    """Write what the parts of a fused model give one after another, and measure how far the whole is from it."""
    if (details.kind == "fused") != (unfused is not None):
        msg = "A fused model, and no other, is compared with its parts one after another: give `unfused`."
        raise ConfigError(msg)
    if unfused is None:
        return None
    expected = np.ascontiguousarray(unfused(test_input), dtype=np.float32)
    np.save(folder / UNFUSED_OUTPUT_FILE, expected, allow_pickle=False)
    return Tolerance.covering([np.abs(expected - test_output)])


def _zip_folder(folder: Path, output: Path) -> None:
    """Pack the files, sorted, with one timestamp, uncompressed: weights hardly shrink, and zlibs differ."""
    with zipfile.ZipFile(output, "w") as archive:
        for path in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(path.name, date_time=_TIMESTAMP)
            member.external_attr = 0o644 << 16
            member.create_system = 3  # unix, wherever it is written
            archive.writestr(member, path.read_bytes())


def _check_readable(package: Path) -> None:
    """Let bioimageio.spec judge the zip, with the hash of every file and the shapes of the test tensors.

    Raises:
        PackageError: with the library's reasons.
    """
    with zipfile.ZipFile(package) as archive:
        description = load_description(archive, perform_io_checks=True)
    if not isinstance(description, ModelDescr):
        reason = description.get_reason() if isinstance(description, InvalidDescr) else f"it is a {description.type}"
        msg = f"Expected a package that bioimageio.spec accepts, but: {reason}. Correct the details of the model."
        raise PackageError(msg)
