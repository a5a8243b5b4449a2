"""The catalogue of checks: an ID and one sentence each, and the programs that they are about.

To add one: a line here, one in docs/reference/checks.md, a function in the module of its group, a package that
passes and one that fails it in the tests.
"""

from collections.abc import Sequence
from enum import Enum

from s2d_zoo.errors import UserInputError


class Check(Enum):
    """What is checked; the value is the sentence that holds for a good package."""

    S01 = "The archive unpacks safely: nothing outside of its folder, no links, no bomb."
    F00 = "The package opens: a zip or a folder with one readable description at its top."
    F01 = "The description is a valid bioimage.io model description."
    F02 = "Every file that the description names is in the package, with the hash that it states."
    F03 = "The description is written so that every program's reader takes it."
    F04 = "Files lie at the top of the package, under plain names."
    F05 = "The test tensors are float32 arrays in C order, of the axes and sizes that the description states."
    A02 = "There is one input and one output, with the axes batch channel y x in the same order."
    A03 = "Sizes are a smallest size and a step that every tiler can meet, and outputs have the size of the input."
    A04 = "The halo leaves something of the smallest tile."
    A05 = "Input and output are float32."
    A06 = "Nothing is left to pre- and postprocessing, which every program does in its own way."
    C01 = "An enhancer says which forests it takes: a valid RF contract that fits its input."
    C02 = "The model card says what to feed the model, how to run it and what its limits are."
    L01 = "Authors, an SPDX licence and a citation are named."
    L02 = "It is recorded what the model was made from."
    L03 = "The weights are not those of the model that it was made from, and that model is the one that is named."
    S02 = "Nothing needs Python code from the package."
    S03 = "Nothing needs the network, neither to validate nor to run."
    S04 = "The TorchScript file does not touch files, and holds what it declares."
    W03 = "Every program finds a weights format that it runs."
    W04 = "The ONNX file is of versions that every program's runtime reads, and as the description says."
    W05 = "The TorchScript file holds operations that older versions of torch know, and was saved from the CPU."
    W01 = "Each weights format passes bioimageio.core's test."
    W02 = "The weights formats agree with each other."
    W06 = "A fused network gives what its filters, forest and enhancer give one after another."
    A01 = "The network runs on other sizes that the description allows, a non-square one among them."
    R01 = "Outputs agree within the tolerance that is stated, across formats, sizes and threads."
    R02 = "The same input gives the same output twice."
    T01 = "A tile with the stated halo gives the same values as the whole image."
    T02 = "ilastik's tiles give the same values as the whole image."
    T03 = "deepImageJ's tiles give the same values as the whole image."
    T04 = "QuPath's tiles give the same values as the whole image, away from their seams."


class Consumer(Enum):
    """A program that runs packages; the value is its name for people."""

    core = "bioimageio.core"
    ilastik = "ilastik"
    deepimagej = "Fiji (deepImageJ)"
    qupath = "QuPath"


ALL_CONSUMERS = frozenset(Consumer)


def select_checks(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> frozenset[Check]:
    """The checks that begin with one of the IDs or prefixes in ``select`` (all if empty), less those in ``ignore``.

    Raises:
        UserInputError: if an entry matches no check.
    """
    for entry in (*select, *ignore):
        if not entry or not any(check.name.startswith(entry) for check in Check):
            known = ", ".join(sorted(check.name for check in Check))
            msg = f"There is no check {entry!r}. Known: {known}; the first letter stands for all that begin with it."
            raise UserInputError(msg)
    chosen = {check for check in Check if not select or check.name.startswith(tuple(select))}
    return frozenset(check for check in chosen if not (ignore and check.name.startswith(tuple(ignore))))
