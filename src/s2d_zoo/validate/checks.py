"""The catalogue of checks: an ID and one sentence each.

To add one: a line here, a function in `static_checks` (which only read the description and files) or
`network_checks` (which run the network), a package that passes and one that fails it in the tests.
"""

from collections.abc import Sequence
from enum import Enum

from s2d_zoo.errors import UserInputError


class Check(Enum):
    """What is checked; the value is the sentence that holds for a good package."""

    F01 = "The description is a valid bioimage.io model description of format 0.5."
    F02 = "Every file that the description names is in the package, with the hash that it states."
    C01 = "An enhancer says which forests it takes: a valid RF contract that fits its input."
    W01 = "Each weights format passes bioimageio.core's test."
    W02 = "The weights formats agree with each other."
    A01 = "The network runs on other sizes that the description allows, a non-square one among them."
    T01 = "A tile with the stated halo gives the same values as the whole image."


def select_checks(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> frozenset[Check]:
    """The checks that begin with one of the IDs or prefixes in ``select`` (all if empty), less those in ``ignore``.

    Raises:
        UserInputError: if an entry matches no check.
    """
    for entry in (*select, *ignore):
        if not entry or not any(check.name.startswith(entry) for check in Check):
            known = ", ".join(check.name for check in Check)
            msg = f"There is no check {entry!r}. Known: {known}; the first letter stands for all that begin with it."
            raise UserInputError(msg)
    chosen = {check for check in Check if not select or check.name.startswith(tuple(select))}
    return frozenset(check for check in chosen if not (ignore and check.name.startswith(tuple(ignore))))
