"""Every model that comes along is valid, and `bioimageio test` passes."""

import pytest

from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo.collection import bundled_models


@pytest.mark.parametrize("model", bundled_models(), ids=lambda model: model.id)
def test_a_bundled_model_is_valid(model):
    report = validate_package(model.path)
    assert [f"{one.check.name} {one.message}" for one in report.results if one.status == "failed"] == []
    assert report.passed
    assert {one.status for one in report.results if one.check is Check.W01} == {"passed"}
