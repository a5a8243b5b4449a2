import dataclasses
import re

import pytest

from s2d_zoo.contract import PixelSize
from s2d_zoo.export.description import Citation
from s2d_zoo.export.geometry import TileGeometry
from s2d_zoo.export.lineage import BaseModel
from s2d_zoo.export.model_card import CardFacts, Finding, known_limits, render_card

GEOMETRY = TileGeometry(min_size=64, step=4, halo=24, receptive_radius=23)


def test_an_enhancers_card_tells_what_it_takes_and_how_it_was_made(enhancer, facts):
    card = render_card(enhancer, facts, GEOMETRY, channels=1)
    for text in (
        "# Tiny enhancer",
        "64 px plus any multiple of 4 px",
        "Halo: 24 px. An output pixel looks 23 px far",
        "the probability of nuclei (foreground), between 0 and 1",
        "GaussianSmoothing at 0.7, 1.6 px",
        "8 simulated images",
        "Seed: 7",
        "| IoU of the enhancer | 0.8765 |",
        "Touching nuclei are not split.",
        "*Trainable Domain Adaptation*",
        "1. 12 forests\n1. an enhancer\n",
        "Ada Lovelace, Analytical Engine, London, ORCID iD 0000-0002-1825-0097, GitHub user ada",
        "doi:10.3389/fcomp.2022.805166",
    ):
        assert text in card, text


def test_a_segmentors_card_speaks_of_the_raw_image(segmentor, facts):
    card = render_card(segmentor, facts, GEOMETRY, channels=1)
    assert "*Neural Network Classification (Local)*" in card
    assert "forests it takes" not in card
    assert "shallow2deep" not in card.lower().replace("from shallow to deep", "")


@pytest.mark.parametrize("kind", ["enhancer", "segmentor"])
def test_the_card_has_the_section_that_bioimageio_wants(kind, request, facts):
    card = render_card(request.getfixturevalue(kind), facts, GEOMETRY, channels=1)
    assert re.search(r"^## Validation$", card, re.MULTILINE)
    assert re.search(r"#.*[vV]alidation", card)
    assert "\n\n\n" not in card
    assert card.endswith("\n")


def test_without_figures_and_lineage_the_card_says_so(segmentor):
    facts = CardFacts(training_data="a", training_data_license="b", strokes="c", seed=0)
    card = render_card(segmentor, facts, GEOMETRY, channels=1)
    assert "No figures were given" in card
    assert "Not recorded." in card
    figures_only = render_card(segmentor, dataclasses.replace(facts, figures={"n": 1}), GEOMETRY, channels=1)
    assert "| n | 1 |" in figures_only


def test_no_entry_can_break_the_page(segmentor, facts):
    facts = dataclasses.replace(facts, training_data="<script>\n# Heading", figures={"a|b": "c\nd"})
    card = render_card(segmentor, facts, GEOMETRY, channels=1)
    assert "- Data: &lt;script&gt; # Heading\n" in card
    assert "| a\\|b | c d |" in card


def test_a_contract_is_told_in_words_known_or_not(enhancer, contract, facts):
    told = contract.model_copy(
        update={"features": None, "pixel_size": PixelSize(y=0.5, x=0.25), "raw_channels": None, "channels": (0, 1)}
    )
    card = render_card(dataclasses.replace(enhancer, contract=told), facts, GEOMETRY, channels=2)
    for text in (
        "Features: unknown.",
        "0.5 x 0.25 micrometer (y x)",
        "any number of channel(s)",
        "100 trees of unlimited depth",
        "with exactly these channels",
        "takes several, cannot be used there",
    ):
        assert text in card, text


def test_the_limits_of_the_consumers_are_stated(enhancer, segmentor):
    general = known_limits(segmentor, GEOMETRY)
    assert any("smaller than 22 px" in limit for limit in general)
    assert any("50.3 million" in limit for limit in general)
    assert any("QuPath ignores the halo" in limit for limit in general)
    assert len(known_limits(enhancer, GEOMETRY)) > len(general)


def test_a_fused_models_card_tells_what_is_in_it(fused, facts):
    card = render_card(fused, facts, GEOMETRY, channels=3)
    for text in (
        "the enhancer\ntiny-enhancer behind it",
        "| input | batch channel y x | 3 | float32, raw values as in the file |",
        "## The forest in it",
        "Features: GaussianSmoothing at 0.7 px; StructureTensorEigenvalues at 1 px, computed as",
        "5 trees of unlimited depth",
        "`config.s2d_zoo.fused.forest`",
        "*Neural Network Classification (Local)*",
        "for other images make another package",
    ):
        assert text in card, text
    assert "Trainable Domain Adaptation" not in card
    assert "\n\n\n" not in card


FINDINGS = (
    Finding(program="QuPath", verdict="runs with limits", reasons=("T04: seams", "W03: only <TorchScript>")),
    Finding(program="ilastik", verdict="runs"),
)


@pytest.mark.parametrize("kind", ["enhancer", "segmentor", "fused"])
def test_what_validation_found_and_what_it_costs_is_told(kind, request, facts):
    facts = dataclasses.replace(facts, findings=FINDINGS, costs=("512 x 512 px take 3 s.", "5 MB."))
    card = render_card(request.getfixturevalue(kind), facts, GEOMETRY, channels=1)
    assert (
        "It found:\n\n- **QuPath**: runs with limits\n  - T04: seams\n  - W03: only &lt;TorchScript&gt;\n"
        "- **ilastik**: runs.\n\n## Time and size\n\n- 512 x 512 px take 3 s.\n- 5 MB.\n\n## Limits\n"
    ) in card
    assert "\n\n\n" not in card


def test_without_findings_and_costs_nothing_is_said_of_them(segmentor, facts):
    card = render_card(segmentor, facts, GEOMETRY, channels=1)
    assert "It found" not in card
    assert "Time and size" not in card


# ---- finetuned

BASE = BaseModel(id="affable-shark", version=None, published=False)


def test_a_finetuned_model_of_ours_names_its_base(enhancer, facts):
    card = render_card(dataclasses.replace(enhancer, base_model=BASE), facts, GEOMETRY, channels=1)
    for text in (
        "It was *finetuned*: its training began from the weights of affable-shark (see below).",
        "## The model it was made from\n\n- affable-shark (affable-shark)\n",
        "1. Base model: affable-shark, not published\n1. 12 forests\n",
    ):
        assert text in card, text
    assert "\n\n\n" not in card


def test_a_base_that_the_lineage_names_is_not_named_twice(enhancer, facts):
    facts = dataclasses.replace(facts, lineage=("12 forests", "Enhancer: affable-shark"))
    card = render_card(dataclasses.replace(enhancer, base_model=BASE), facts, GEOMETRY, channels=1)
    assert "## Lineage\n\n1. 12 forests\n1. Enhancer: affable-shark\n" in card


def test_details_of_the_training_are_told(segmentor, facts):
    facts = dataclasses.replace(facts, training_details={"training_epochs": 6, "initial_learning_rate": 2e-4})
    card = render_card(segmentor, facts, GEOMETRY, channels=1)
    assert "- Seed: 7\n- Training epochs: 6\n- Initial learning rate: 0.0002\n\n## Validation" in card


def test_a_page_is_cited_by_its_address(segmentor, facts):
    cite = (Citation(text="A page", url="https://example.com/"), Citation(text="A paper", doi="10.1234/5"))
    details = dataclasses.replace(segmentor, attribution=dataclasses.replace(segmentor.attribution, cite=cite))
    card = render_card(details, facts, GEOMETRY, channels=1)
    assert card.endswith("- A page https://example.com/\n- A paper doi:10.1234/5\n")
