from s2d_zoo.validate.checks import Check, Consumer
from s2d_zoo.validate.findings import fails, limits, to_results


def gathered(*findings):
    results = to_results(Check.F03, findings, good="well")
    return [(result.status, result.part, result.message, len(result.consumers)) for result in results]


def test_without_findings_there_is_one_good_result():
    assert gathered() == [("passed", "", "well", 4)]


def test_findings_about_the_same_programs_are_one_result_the_worst_first():
    found = gathered(limits("slow", Consumer.qupath), fails("broken", Consumer.qupath), limits("slow", Consumer.qupath))
    assert found == [("failed", "qupath", "broken; slow", 1)]


def test_what_concerns_all_programs_is_said_once():
    assert gathered(fails("broken", *Consumer)) == [("failed", "", "broken", 4)]


def test_programs_with_other_reasons_have_results_of_their_own():
    found = gathered(
        limits("slow", Consumer.ilastik, Consumer.qupath), fails("broken", Consumer.qupath), limits("be kind")
    )
    assert found == [
        ("limited", "ilastik", "slow", 1),
        ("failed", "qupath", "broken; slow", 1),
        ("limited", "", "be kind", 0),
    ]
