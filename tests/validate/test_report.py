import pytest

from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.report import CheckResult, ValidationReport, judge

RAN = CheckResult(check=Check.W01, status="passed", message="reproduces the test output", part="onnx")


def result(status, *consumers, check=Check.A03, **changes):
    return CheckResult(check=check, status=status, message="found", consumers=frozenset(consumers), **changes)


@pytest.mark.parametrize(("status", "exit_code"), [("passed", 0), ("limited", 0), ("skipped", 0), ("failed", 1)])
def test_only_a_failed_check_is_exit_code_1(status, exit_code):
    report = ValidationReport(package="model.zip", results=(RAN, result(status)))
    assert report.exit_code == exit_code
    assert report.passed == (exit_code == 0)


def test_a_failure_makes_those_refuse_whom_it_concerns():
    results = [RAN, result("failed", Consumer.qupath)]
    assert judge(Consumer.qupath, results).word == "refused"
    assert judge(Consumer.qupath, results).reasons == ("A03: found",)
    assert judge(Consumer.core, results).word == "runs"


def test_a_failure_outweighs_limits_and_their_reasons_are_left_out():
    verdict = judge(Consumer.qupath, [RAN, result("limited", Consumer.qupath), result("failed", Consumer.qupath)])
    assert (verdict.word, len(verdict.reasons)) == ("refused", 1)


def test_a_failure_that_does_not_hinder_is_a_limit():
    measured = result("failed", Consumer.ilastik, check=Check.T02, hinders=False)
    verdict = judge(Consumer.ilastik, [RAN, measured])
    assert (verdict.word, verdict.reasons) == ("runs with limits", ("T02: found",))


def test_a_tile_that_does_not_run_is_a_refusal():
    assert judge(Consumer.ilastik, [RAN, result("failed", Consumer.ilastik, check=Check.T02)]).word == "refused"


def test_a_weights_format_that_was_skipped_beside_one_that_passed_is_a_limit():
    skipped = result("skipped", Consumer.core, check=Check.W01, part="pytorch_state_dict")
    verdict = judge(Consumer.core, [RAN, skipped])
    assert verdict.word == "runs with limits"
    assert verdict.reasons == ("W01: pytorch_state_dict was not tried: found",)
    assert judge(Consumer.qupath, [RAN, skipped]).word == "runs"


def test_tiles_that_were_not_measured_are_a_limit():
    verdict = judge(Consumer.qupath, [RAN, result("skipped", Consumer.qupath, check=Check.T04)])
    assert (verdict.word, verdict.reasons) == ("runs with limits", ("T04: tiles were not measured: found",))


def test_other_checks_that_were_skipped_are_no_limit():
    assert judge(Consumer.core, [RAN, result("skipped", Consumer.core, check=Check.W06)]).word == "runs"


def test_limits_are_told_to_those_whom_they_concern():
    results = [RAN, result("limited", Consumer.deepimagej)]
    assert judge(Consumer.deepimagej, results).word == "runs with limits"
    assert judge(Consumer.ilastik, results).reasons == ()


@pytest.mark.parametrize("status", ["failed", "limited"])
def test_advice_changes_no_verdict(status):
    assert {judge(one, [RAN, result(status)]).word for one in Consumer} == {"runs"}


def test_what_was_not_run_was_not_tried():
    skipped = CheckResult(check=Check.W01, status="skipped", message="code of others", part="keras_hdf5")
    assert judge(Consumer.core, [skipped]).word == "not tried"
    assert judge(Consumer.core, [skipped]).reasons == ("W01: code of others",)
    assert judge(Consumer.core, []).reasons == ("W01: was not run",)
