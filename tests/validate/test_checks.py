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
        (("R", "F01"), (), {Check.R01, Check.R02, Check.F01}),
        (("R",), ("R02",), {Check.R01}),
        ((), ("W", "A", "T", "R", "S", "F0", "L"), {Check.C01, Check.C02}),
    ],
)
def test_checks_are_chosen_by_id_or_prefix(select, ignore, expected):
    assert select_checks(select, ignore) == expected


@pytest.mark.parametrize("entry", ["X99", "", "W011"])
def test_an_unknown_id_is_misuse(entry):
    with pytest.raises(UserInputError, match=f"{entry!r}. Known: A01, A02,.* W06;"):
        select_checks(ignore=(entry,))
