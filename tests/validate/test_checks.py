import pytest

from s2d_zoo.errors import UserInputError
from s2d_zoo.validate.checks import Check, select_checks


def test_every_check_is_one_sentence():
    assert all(check.value.endswith(".") and "\n" not in check.value for check in Check)


def test_all_are_chosen_unless_told_otherwise():
    assert select_checks() == frozenset(Check)


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (("T01",), (), {Check.T01}),
        (("W", "F01"), (), {Check.W01, Check.W02, Check.F01}),
        (("W",), ("W02",), {Check.W01}),
        ((), ("W", "A", "T"), {Check.F01, Check.F02, Check.C01}),
    ],
)
def test_checks_are_chosen_by_id_or_prefix(select, ignore, expected):
    assert select_checks(select, ignore) == expected


@pytest.mark.parametrize("entry", ["X99", "", "W011"])
def test_an_unknown_id_is_misuse(entry):
    with pytest.raises(UserInputError, match="Known: F01, F02, C01, W01, W02, A01, T01"):
        select_checks(ignore=(entry,))
