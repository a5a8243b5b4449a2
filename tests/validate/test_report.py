import json

import pytest

from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport, to_json, to_markdown, to_text


@pytest.fixture
def report():
    return ValidationReport(
        package="model.zip",
        results=(
            CheckResult(check=Check.F01, status="passed", message="format 0.5.9"),
            CheckResult(check=Check.W01, status="failed", message="a | b\nc", part="onnx"),
            CheckResult(check=Check.T01, status="skipped", message="W01 failed"),
        ),
    )


def test_a_failed_check_is_exit_code_1(report):
    assert report.exit_code == 1
    assert not report.passed


def test_a_skipped_check_has_not_failed(report):
    good = ValidationReport(package="model.zip", results=(report.results[0], report.results[2]))
    assert good.exit_code == 0


def test_text_has_one_line_for_each_result(report):
    assert to_text(report).splitlines() == [
        "passed   F01: format 0.5.9",
        "failed   W01 onnx: a | b c",
        "skipped  T01: W01 failed",
        "model.zip: 1 passed, 1 failed, 1 skipped",
    ]


def test_markdown_is_a_table(report):
    text = to_markdown(report)
    assert text.startswith("# Validation of model.zip\n\n| check | part |")
    assert f"| W01 | onnx | failed | {Check.W01.value} | a \\| b c |" in text
    assert text.endswith("1 passed, 1 failed, 1 skipped.\n")


def test_json_is_for_programs(report):
    content = json.loads(to_json(report))
    assert (content["format"], content["format_version"]) == ("s2d-zoo validation report", 1)
    assert content["passed"] is False
    assert content["results"][1] == {
        "check": "W01",
        "title": Check.W01.value,
        "part": "onnx",
        "status": "failed",
        "message": "a | b\nc",
    }
