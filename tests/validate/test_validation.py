"""Whole validations. What packages with one fault each are told is in test_foreign.py."""

import numpy as np
import onnx
import pytest

from s2d_zoo.errors import UserInputError
from s2d_zoo.validate import validation
from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.report import CheckResult
from s2d_zoo.validate.sandbox import Limits
from s2d_zoo.validate.validation import validate_package, verdicts_for


def statuses(report, status):
    return {result.check for result in report.results if result.status == status}


@pytest.fixture
def no_network(monkeypatch):
    """Networks must not be run."""
    monkeypatch.setattr(validation, "check_network", lambda *_, **__: pytest.fail("a network was run"))


@pytest.fixture
def pretend(monkeypatch):
    """The checks that run networks find what they are told, and tell what they were given."""
    given = {}

    def use(*results):
        def check_network(model, sandbox, *, tensors):
            given.update(model=model, sandbox=sandbox, tensors=tensors)
            yield from results

        monkeypatch.setattr(validation, "check_network", check_network)
        return given

    return use


RAN = CheckResult(check=Check.W01, status="passed", message="reproduces the test output", part="torchscript")


def test_a_good_package_runs_everywhere_and_is_checked_in_silence(package, capfd):
    report = validate_package(package)
    assert {result.check for result in report.results} == set(Check)
    assert statuses(report, "failed") == set(), report
    assert statuses(report, "skipped") == {Check.L03, Check.W06}
    assert {Check.W01, Check.W02, Check.A01, Check.R01, Check.R02, Check.T01} <= statuses(report, "passed")
    assert [verdict.consumer for verdict in report.verdicts] == list(Consumer)
    assert {verdict.word for verdict in report.verdicts} <= {"runs", "runs with limits"}
    assert report.exit_code == 0
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr(package, capfd, pretend):
    pretend(RAN)
    validate_package(package, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "after F01" in err
    assert "after W01 torchscript" in err


# ---- what depends on what


def test_without_a_valid_description_all_else_is_skipped(folder, no_network):
    folder.rdf["license"] = "mine"
    report = validate_package(folder.save())
    assert statuses(report, "failed") == {Check.F01}
    assert statuses(report, "passed") == {Check.S01, Check.F00, Check.F02}
    assert {one.message for one in report.results if one.status == "skipped" and one.check is not Check.F01} == {
        "F01 failed"
    }


def test_what_bioimageio_spec_refuses_was_not_tried_by_those_with_readers_of_their_own(folder, no_network):
    folder.rdf["license"] = "mine"
    report = validate_package(folder.save())
    words = {verdict.consumer.name: verdict.word for verdict in report.verdicts}
    assert words == {"core": "refused", "ilastik": "refused", "deepimagej": "not tried", "qupath": "not tried"}
    results = validate_package(folder.path, consumers=(Consumer.qupath,)).results
    ((status, message),) = {(one.status, one.message) for one in results if one.check is Check.F01}
    assert status == "skipped"
    assert "have readers of their own" in message


def test_without_its_files_a_network_is_not_run_but_the_description_is_read(folder, no_network):
    (folder.path / "test_input.npy").unlink()
    report = validate_package(folder.path)
    assert Check.F02 in statuses(report, "failed")
    skipped = {one.check for one in report.results if one.message == "F02 failed"}
    assert skipped == {check for check in Check if check.name in "W01 W02 W06 A01 R01 R02 T01 T02 T03 T04"}
    assert {Check.F03, Check.A03, Check.L01} <= {result.check for result in report.results} - skipped


@pytest.mark.parametrize(
    ("members", "failed"),
    [
        ([("../evil.txt", "x"), ("rdf.yaml", "type: model")], Check.S01),
        ([("rdf.yaml", "documentation: /etc/passwd")], Check.S01),
        ([("rdf.yaml", "a: [")], Check.F00),
        ([("rdf.yaml", "- a")], Check.F00),
        ([("rdf.yaml", "type: model\ntimestamp: 2022-99-99")], Check.F00),
        ([("rdf.yaml", "a: " + "[" * 5000)], Check.F00),
        ([("rdf.yaml", b"\xff\xfe\x00")], Check.F00),
        ([("README.md", "no description")], Check.F00),
        ([("rdf.yaml", "type: model\nformat_version: 0.5.9")], Check.F01),
        ([("rdf.yaml", "type: model\nformat_version: [1]\ninputs: 3\nweights: {a: 1}\n1: 2")], Check.F01),
    ],
)
def test_whatever_cannot_be_opened_or_read_is_a_failed_check(zipped, no_network, members, failed):
    path = zipped(members)
    report = validate_package(path)
    assert statuses(report, "failed") == {failed}, report
    assert report.exit_code == 1
    assert {result.check for result in report.results} == set(Check)
    words = {verdict.consumer: verdict.word for verdict in report.verdicts}
    assert words[Consumer.core] == words[Consumer.ilastik] == "refused"
    assert words[Consumer.deepimagej] == words[Consumer.qupath] == ("not tried" if failed is Check.F01 else "refused")
    assert not (path.parent / "evil.txt").exists()


# ---- what was asked for


def test_misuse_is_an_error(package, tmp_path):
    with pytest.raises(UserInputError, match="no check 'Q'"):
        validate_package(package, select=("Q",))
    with pytest.raises(UserInputError, match="no package"):
        validate_package(tmp_path / "none.zip")


def test_only_what_is_selected_is_reported_and_nothing_is_judged(package, no_network):
    report = validate_package(package, select=("F", "C01"), ignore=("F02", "F03", "F04", "F05"))
    assert [result.check for result in report.results] == [Check.F00, Check.F01, Check.C01]
    assert report.verdicts == ()


def test_what_a_selected_check_needs_is_run_in_silence(folder):
    folder.rdf["license"] = "mine"
    report = validate_package(folder.save(), select=("C01",))
    assert [(result.status, result.message) for result in report.results] == [("skipped", "F01 failed")]


@pytest.mark.parametrize("check", ["W06", "A01", "R02", "T03"])
def test_each_check_of_a_network_needs_it_to_be_run(package, pretend, check):
    given = pretend(CheckResult(check=Check[check], status="passed", message="good"), RAN)
    assert [one.check.name for one in validate_package(package, select=(check,)).results] == [check]
    assert given


def test_only_what_concerns_the_consumers_is_reported(package, pretend):
    def found(check, status, *consumers):
        return CheckResult(check=check, status=status, message=check.name, consumers=frozenset(consumers))

    pretend(
        RAN,
        found(Check.T02, "failed", Consumer.ilastik),
        found(Check.T04, "limited", Consumer.qupath, Consumer.core),
        found(Check.R01, "limited"),
    )
    report = validate_package(package, consumers=(Consumer.core,))
    assert report.exit_code == 0
    assert Check.T02 not in {result.check for result in report.results}
    assert {Check.T04, Check.R01} <= {result.check for result in report.results}
    (verdict,) = report.verdicts
    assert (verdict.consumer, verdict.word, verdict.reasons) == (Consumer.core, "runs with limits", ("T04: T04",))


def test_merged_results_are_judged_again():
    limit = CheckResult(check=Check.A03, status="limited", message="odd sizes", consumers=frozenset({Consumer.qupath}))
    verdicts = verdicts_for([RAN, limit], (Consumer.qupath, Consumer.core))
    assert [(one.consumer, one.word) for one in verdicts] == [
        (Consumer.core, "runs"),
        (Consumer.qupath, "runs with limits"),
    ]
    assert [one.consumer for one in verdicts_for([RAN])] == list(Consumer)


def test_limits_reach_the_sandbox(folder):
    report = validate_package(folder.keep_weights("onnx").save(), select=("W01",), limits=Limits(seconds=0.05))
    (result,) = report.results
    assert result.status == "failed"
    assert "0.05 s" in result.message


def test_differences_are_kept_where_asked_for(folder, tmp_path):
    folder.keep_weights("torchscript", "onnx").rdf["weights"]["onnx"].pop("parent")
    folder.rdf["config"]["bioimageio"].pop("reproducibility_tolerance", None)
    graph = onnx.load(folder.path / "weights.onnx")
    bias = next(one for one in graph.graph.initializer if one.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(3e-3), bias.name))
    onnx.save(graph, folder.path / "weights.onnx")
    report = validate_package(folder.save(), select=("W02",), tensors=tmp_path / "tensors")
    assert statuses(report, "failed") == {Check.W02}
    assert report.results[0].figures
    (kept,) = (tmp_path / "tensors").iterdir()
    with np.load(kept) as arrays:
        assert all(1e-4 < np.abs(values).max() < 1e-3 for values in arrays.values())


# ---- whole packages


@pytest.mark.realdata
def test_an_official_example_gets_a_useful_report(realdata_dir):
    path = realdata_dir / "zoo" / "unet2d_nuclei_broad"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    report = validate_package(path)
    words = {verdict.consumer: verdict.word for verdict in report.verdicts}
    assert words[Consumer.core] in {"runs", "runs with limits"}, report
    assert words[Consumer.deepimagej] == words[Consumer.qupath] == "refused"
    reasons = {verdict.consumer: " ".join(verdict.reasons) for verdict in report.verdicts}
    assert "F03" in reasons[Consumer.deepimagej]
    assert {"passed"} == {
        one.status for one in report.results if one.check is Check.W01 and one.part != "pytorch_state_dict"
    }
