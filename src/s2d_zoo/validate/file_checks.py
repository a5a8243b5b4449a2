"""F04, F05 and S03: names and places of files, test tensors, and what would be fetched from the network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from bioimageio.spec.model.v0_5 import TensorDescr, TensorId, validate_tensors

from s2d_zoo.data.package_contents import is_remote
from s2d_zoo.data.written_description import local_file, source_of, tensor_files, value_at
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import Finding, fails, limits, to_results
from s2d_zoo.validate.opened_model import OpenedModel
from s2d_zoo.validate.report import CheckResult

_CORE, _FIJI, _QUPATH, _ILASTIK = Consumer.core, Consumer.deepimagej, Consumer.qupath, Consumer.ilastik

Arrays: TypeAlias = dict[TensorId, tuple[TensorDescr, np.ndarray[Any, Any] | None]]

#: element types of .npy files that deepImageJ's and QuPath's own readers know
_FIJI_READS: Final = frozenset({"f4", "f8", "u1", "u2", "u4", "i1", "i2", "i4", "i8"})
_QUPATH_READS: Final = frozenset({"f4", "f8", "u1", "u2", "i1", "i2", "i4"})
#: test tensors are a few tiles; the values of larger ones are not looked at
MOST_VALUES: Final = 256 * 1024**2
#: GitHub users that bioimageio.spec knows without asking the network
KNOWN_GITHUB_USERS: Final = frozenset(
    {
        "aaitorg",
        "anwai98",
        "bioimageiobot",
        "carlosuc3m",
        "cfusterbarcelo",
        "clementcaporal",
        "constantinpape",
        "ctr26",
        "danifranco",
        "donglaiw",
        "esgomezm",
        "fynnbe",
        "iarganda",
        "ilastik",
        "ivanhcenalmor",
        "jansanrom",
        "k-dominik",
        "lenkaback",
        "oeway",
        "pedgomgal1",
    }
)


def check_names(model: OpenedModel) -> Iterator[CheckResult]:
    """F04: the description's own name; and names and folders of weights and test tensors."""
    contents = model.contents
    findings: list[Finding] = []
    if contents.rdf_name != "rdf.yaml":
        programs = (_FIJI,) if contents.rdf_name.startswith(("rdf", "model")) else (_FIJI, _QUPATH)
        findings.append(fails(f"the description is called {contents.rdf_name}, expected rdf.yaml", *programs))
    weights = {name: source_of(contents.rdf["weights"][name]) or "" for name in model.formats}
    for name, source in weights.items():
        if "/" in source and not is_remote(source):
            # only the last part of the name is looked for, at the top
            findings.append(fails(f"the {name} weights lie in a folder ({source}), expected them at the top", _FIJI))
    script = weights.get("torchscript", "").rpartition("/")[2]
    if script and script.partition(".pt")[0] + ".pt" != script:
        # the name is cut at the first ".pt", and looked up with .pt behind it
        findings.append(fails(f"the TorchScript file is called {script}, expected a name such as weights.pt", _FIJI))
    files = [*weights.values(), *(source for _, source in tensor_files(contents.rdf) if source)]
    spaced = [source for source in files if any(character.isspace() for character in source)]
    # names are resolved as parts of an address
    findings += [fails(f"there is a space in the name {source!r}; rename the file", _QUPATH) for source in spaced]
    yield from to_results(Check.F04, findings, good=f"{contents.rdf_name} and {len(files)} files at the top")


def check_test_tensors(model: OpenedModel) -> Iterator[CheckResult]:
    """F05: each test tensor by itself, and their sizes together."""
    tensors: list[TensorDescr] = [*model.description.inputs, *model.description.outputs]
    findings: list[Finding] = []
    arrays: Arrays = {}
    for tensor, (where, source) in zip(tensors, tensor_files(model.contents.rdf), strict=True):
        path = local_file(model.contents, source)
        arrays[tensor.id] = (tensor, None)
        if source is None:
            # ilastik never looks at it; with the others, users only cannot try the model
            message = f"{where} has no test tensor, so that the model cannot be tried out"
            findings.append(limits(message, _CORE, _FIJI, _QUPATH))
        if path is None:  # F02 tells of files that are missing
            continue
        try:
            array = open_array(path)
        except PackageError as error:
            findings.append(fails(f"{where}: {error}", *Consumer))
            continue
        arrays[tensor.id] = (tensor, array)
        findings += _layout(where, array.dtype.str[1:], array, len(tensor.axes))
    if not any(finding.status == "failed" for finding in findings):
        findings += _sizes(arrays)
    shown = ", ".join(f"{array.dtype} {array.shape}" for _, array in arrays.values() if array is not None)
    if not shown and not findings:
        yield CheckResult(check=Check.F05, status="skipped", message="the test tensors are not in the package")
        return
    yield from to_results(Check.F05, findings, good=shown)


def open_array(path: Path) -> np.ndarray[Any, Any]:
    """An array of real numbers that stays in its ``.npy`` file, so that it may claim any size.

    Raises:
        PackageError: if there is none in the file.
    """
    try:
        # reads this one format, whereas `numpy.load` takes zips and pickles, too
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises many kinds on a damaged file
        msg = f"expected an array of numbers (.npy) in {path.name}, which cannot be read: {error}"
        raise PackageError(msg) from error
    if array.dtype.kind not in "fiub":
        msg = f"expected an array of numbers (.npy) in {path.name}, found the type {array.dtype}"
        raise PackageError(msg)
    return array


def as_float(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An opened array, loaded; what float32 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32)


def _layout(where: str, kind: str, array: np.ndarray[Any, Any], ndim: int) -> Iterator[Finding]:
    """What the readers of deepImageJ and QuPath take; they read these files only when the user tries a model."""
    if array.ndim != ndim:
        message = f"{where}: expected a test tensor of {ndim} axes, found the shape {array.shape}"
        yield fails(message, _CORE, _ILASTIK)
        yield limits(f"{message}, so that 'Run on test' fails", _FIJI)
    if kind not in _FIJI_READS:
        yield limits(f"{where}: test tensors of type {array.dtype} are not read; save it as float32", _FIJI)
    if kind not in _QUPATH_READS:
        yield limits(f"{where}: test tensors of type {array.dtype} are not read; save it as float32", _QUPATH)
    if not array.flags.c_contiguous:
        message = f"{where}: test tensors in Fortran order are not read; save it with numpy.ascontiguousarray"
        yield limits(message, _QUPATH)


def _sizes(arrays: Arrays) -> Iterator[Finding]:
    """What bioimageio.spec says of shapes and types, which core and ilastik ask it when they open a package."""
    if sum(array.size for _, array in arrays.values() if array is not None) > MOST_VALUES:
        yield limits("the test tensors are too large to be looked at here")
        return
    try:
        validate_tensors(arrays, "test_tensor", pad_inputs="allow", crop_outputs="allow")
    except (ValueError, AssertionError) as error:
        yield fails(f"the test tensors do not fit the description: {error}", _CORE, _ILASTIK)
    except RuntimeError:  # what the library raises, without a reason, if no multiple of the step fits
        message = "the test tensors do not fit the description: a size is not the smallest plus multiples of the step"
        yield fails(message, _CORE, _ILASTIK)


def check_network_use(model: OpenedModel) -> Iterator[CheckResult]:
    """S03: addresses in place of files, and GitHub users, which bioimageio.spec asks the network for."""
    rdf = model.contents.rdf
    findings: list[Finding] = []
    for reference in model.contents.references():
        if is_remote(reference.name):
            message = f"{reference.where} names {reference.name}; without the network it cannot be opened"
            findings.append(limits(f"{message}. Put the file into the package", _CORE, _ILASTIK))
    users = {str(user) for user in _github_users({key: value for key, value in rdf.items() if key != "config"})}
    for user in sorted(users):
        if user.lower() not in KNOWN_GITHUB_USERS:
            message = f"the GitHub user {user} is looked up on the network, without which the model cannot be opened"
            findings.append(limits(f"{message}. Write it into the model card instead", _CORE, _ILASTIK))
    remote_weights = [name for name in model.formats if is_remote(str(value_at(rdf["weights"][name], "source")))]
    if remote_weights:
        findings.append(fails(f"the weights {', '.join(remote_weights)} are not in the package", _FIJI, _QUPATH))
    yield from to_results(Check.S03, findings, good="all files are in the package, and nothing is looked up")


def _github_users(value: object) -> Iterator[object]:
    """What stands under ``github_user``, however deep."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key == "github_user" and entry is not None:
                yield entry
            else:
                yield from _github_users(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _github_users(entry)
