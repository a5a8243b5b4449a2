"""Write the bundled enhancers anew with the exporter of this version: same network, same facts, nothing retrained.

python tools/reexport_bundled.py
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from s2d_zoo.data.network import read_packaged_network
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.export.description import RESERVED_CONFIG_KEYS, Attribution, Author, Citation, ModelDetails
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline.validated import write_validated
from s2d_zoo.types import CHANNEL, ENHANCER_TAG
from s2d_zoo.validate.rendering import to_text

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "src" / "s2d_zoo" / "zoo" / "bundled"


def reexport(package: Path) -> bool:
    """Replace one package and the card beside it; whether it passed validation."""
    contract = load_enhancer(package).contract
    with open_package(package) as contents:
        rdf = contents.rdf
        model = read_packaged_network(rdf, contents.folder)
        test_input = np.load(contents.folder / rdf["inputs"][0]["test_tensor"]["source"])
        card = (contents.folder / "README.md").read_text(encoding="utf-8")
    details = ModelDetails(
        id=rdf["id"],
        name=rdf["name"],
        description=rdf["description"],
        attribution=Attribution(
            authors=tuple(Author(**entry) for entry in rdf["authors"]),
            license=rdf["license"],
            cite=tuple(Citation(text=entry["text"], doi=entry["doi"]) for entry in rdf["cite"]),
        ),
        kind="enhancer",
        contract=contract,
        tags=tuple(tag for tag in rdf["tags"] if tag != ENHANCER_TAG),
        config={key: value for key, value in rdf["config"]["s2d_zoo"].items() if key not in RESERVED_CONFIG_KEYS},
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / package.name
        example = xr.DataArray(test_input[0], dims=(CHANNEL, "y", "x"))
        report = write_validated(model, details, example, target, facts=read_facts(card))
        package.write_bytes(target.read_bytes())
        with open_package(package) as contents:
            text = (contents.folder / "README.md").read_text(encoding="utf-8")
    beside = ROOT / "model_cards" / details.id / "README.md"
    made = beside.read_text(encoding="utf-8").partition("\n## How it was made\n")
    beside.write_text(f"{text}{made[1]}{made[2]}", encoding="utf-8")
    sys.stdout.write(to_text(report))
    return report.passed


def read_facts(card: str) -> CardFacts:
    """What the card of a package says about training and quality."""

    def line(name: str) -> str:
        return re.search(rf"^- {name}: (.*)$", card, re.MULTILINE)[1]  # type: ignore[index]

    validation = card.partition("## Validation\n\n")[2].partition("\nAll weights formats")[0]
    figures: dict[str, Any] = dict(re.findall(r"^\| (?!figure)(.+) \| ([\d.]+) \|$", validation, re.MULTILINE))
    return CardFacts(
        training_data=line("Data"),
        training_data_license=line("Licence of the data"),
        strokes=line("Strokes"),
        seed=int(line("Seed")),
        evaluation=validation.partition("\n")[0],
        figures=figures,
        lineage=tuple(re.findall(r"^1\. (.*)$", card.partition("## Lineage\n")[2], re.MULTILINE)),
    )


if __name__ == "__main__":
    sys.exit(0 if all(list(map(reexport, sorted(BUNDLED.glob("*.zip"))))) else 1)
