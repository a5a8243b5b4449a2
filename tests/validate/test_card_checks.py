"""C01, C02 and L01: words."""

import pytest

from s2d_zoo.validate.card_checks import check_attribution, check_card, check_contract


@pytest.fixture
def card(folder):
    return folder.path / "README.md"


# ---- C01


def test_a_good_contract_passes(judged):
    assert judged(check_contract)["all"] == ("passed", "takes the roles foreground")


def test_other_models_need_no_contract(folder, judged):
    folder.rdf["tags"].remove("shallow2deep")
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    assert judged(check_contract)["all"] == ("skipped", "not an enhancer")


def no_tag(rdf):
    rdf["tags"].remove("shallow2deep")


def no_contract(rdf):
    del rdf["config"]["s2d_zoo"]["rf_contract"]


def invalid(rdf):
    rdf["config"]["s2d_zoo"]["rf_contract"]["classes"] = []


def more_channels(rdf):
    rdf["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_tag, "no tag 'shallow2deep'"),
        (no_contract, "no RF contract under config.s2d_zoo.rf_contract"),
        (invalid, "invalid RF contract: classes:"),
        (more_channels, "speaks of 1 channel(s) in 2D, the input has 2 in 2D"),
    ],
)
def test_a_contract_that_does_not_fit_fails_and_stops_no_program(folder, judged, change, message):
    change(folder.rdf)
    status, found = judged(check_contract)["advice"]
    assert status == "failed"
    assert message in found


def test_an_enhancer_of_others_has_no_contract(folder, judged):
    del folder.rdf["config"]["s2d_zoo"]
    status, message = judged(check_contract)["advice"]
    assert status == "limited"
    assert "ask its authors" in message


def test_a_fused_package_must_not_look_like_an_enhancer(folder, judged):
    folder.rdf["config"]["s2d_zoo"]["kind"] = "fused"
    found = judged(check_contract)
    assert set(found) == {"ilastik"}
    assert found["ilastik"][0] == "failed"
    folder.rdf["tags"].remove("shallow2deep")
    del folder.rdf["config"]["s2d_zoo"]["rf_contract"]
    assert judged(check_contract)["all"][0] == "skipped"


# ---- C02


def test_our_card_says_all(judged):
    assert judged(check_card)["all"] == ("passed", "README.md")


def test_a_card_without_how_to_run_it_fails_for_our_packages(card, judged):
    card.write_text("# A model\n\n## Validation\n\n## Limits\n\nRuns in Fiji and Python.\n")
    status, message = judged(check_card)["advice"]
    assert status == "failed"
    assert message == "the model card README.md lacks how to run it in ilastik, QuPath, command line"


def test_a_card_without_sections_fails_for_our_packages(card, judged):
    card.write_text("ilastik, Fiji, QuPath, Python, command line; validation; limits")
    assert (
        "lacks a section 'Validation': how good the model is, and on what and a section 'Limits'"
        in (judged(check_card)["advice"][1])
    )


def test_of_packages_of_others_only_figures_are_asked(folder, card, judged):
    del folder.rdf["config"]["s2d_zoo"]
    card.write_text("# A model\n")
    assert judged(check_card)["advice"][0] == "limited"
    card.write_text("# A model\n## Validation\n")
    assert judged(check_card)["all"][0] == "passed"


def test_a_package_without_a_card_is_told(folder, judged):
    del folder.rdf["documentation"]
    assert judged(check_card)["advice"] == ("failed", "there is no model card; write README.md")


def test_a_card_on_the_network_is_not_fetched(folder, judged):
    folder.rdf["documentation"] = "https://example.com/README.md"
    assert "is on the network" in judged(check_card, folder.save_as_is())["advice"][1]


def test_a_card_in_another_encoding_is_read_as_far_as_possible(card, judged):
    card.write_bytes(card.read_bytes() + b"\xff\xfe")
    assert judged(check_card)["all"][0] == "passed"


# ---- L01


def test_our_attribution_is_complete(judged):
    status, message = judged(check_attribution)["all"]
    assert status == "passed"
    assert message.startswith("Ada; MIT; 2 to cite")


def test_what_is_not_said_about_the_makers_is_told(folder, judged):
    folder.rdf["authors"] = []
    folder.rdf["cite"] = []
    folder.rdf["license"] = {"source": "README.md"}
    status, message = judged(check_attribution)["advice"]
    assert status == "limited"
    assert message == "lacks authors, an SPDX licence (found README.md), a citation with a DOI or an address"
