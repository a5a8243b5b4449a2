"""Put an enhancer that `s2d-zoo pretrain` made among the bundled models, and its card into model_cards/.

python tools/bundle_enhancer.py PRETRAIN_OUTPUT

What `s2d-zoo evaluate quality` measured of a bundled enhancer goes into its card with

python tools/bundle_enhancer.py ID QUALITY_OUTPUT
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

from bioimageio.spec.utils import read_yaml

from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.validate.validation import validate_package

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "src" / "s2d_zoo" / "zoo" / "bundled"
MOST_BYTES = 8_000_000
HEADING = "## Measured worth"


def bundle(output: Path) -> str:
    """Copy package and card, once all is checked; returns the model's id."""
    packages = list(output.glob("*.zip"))
    if len(packages) != 1:
        msg = f"{output} must hold one package, found {len(packages)}: give the output of s2d-zoo pretrain."
        raise SystemExit(msg)
    (package,) = packages
    with zipfile.ZipFile(package) as archive, archive.open("rdf.yaml") as file:
        rdf = read_yaml(file)
    if (size := package.stat().st_size) > MOST_BYTES:
        msg = f"{package} has {size} bytes, at most {MOST_BYTES} can come along: give the recipe fewer features."
        raise SystemExit(msg)
    if not validate_package(package).passed:
        msg = f"{package} fails a check: s2d-zoo validate {package} says which, and what to do."
        raise SystemExit(msg)
    with atomic_write(ROOT / "model_cards" / rdf["id"]) as card:  # figures of another package do not stay
        shutil.copytree(output / "card", card)
    with atomic_write(BUNDLED / package.name) as copied:
        shutil.copyfile(package, copied)
    path = BUNDLED / "collection.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["items"] if path.exists() else []
    manifest = {key: rdf[key] for key in ("name", "description", "tags", "license")}
    versions = [{"version": "v0", "source": package.name, "sha256": hash_path(package)}]
    entry = {"id": rdf["id"], "type": rdf["type"], "manifest": manifest, "versions": versions}
    others = [item for item in listed if item["id"] != rdf["id"]]
    collection = {"items": sorted([*others, entry], key=lambda item: item["id"])}
    write_json(path, collection)
    return str(rdf["id"])


def add_quality(identifier: str, quality: Path) -> None:
    """Tables into the card's README, figures into its evaluation.json, the plot beside them; all or nothing."""
    facts = json.loads((quality / "quality.json").read_text(encoding="utf-8"))
    package, before = BUNDLED / f"{identifier}.zip", ROOT / "model_cards" / identifier
    if not (package.is_file() and before.is_dir()):
        msg = f"There is no bundled {identifier} with a card: bundle it first."
        raise SystemExit(msg)
    if facts["enhancer"]["sha256"] != hash_path(package):
        msg = f"{quality} is about another {facts['enhancer']['id']} than {package}: measure this one."
        raise SystemExit(msg)
    if facts["targets_not_finished"] or facts["doubt"]:
        msg = f"{quality} is not what a card should show: {facts['doubt'] or facts['targets_not_finished']}."
        raise SystemExit(msg)
    with atomic_write(before) as card:
        shutil.copytree(before, card)
        evaluation = json.loads((card / "evaluation.json").read_text(encoding="utf-8"))
        write_json(card / "evaluation.json", {**evaluation, "quality": facts})
        for kind in ("svg", "png"):
            shutil.copyfile(quality / f"quality.{kind}", card / f"quality.{kind}")
        _, _, body = (quality / "quality.md").read_text(encoding="utf-8").partition("\n")  # without its own title
        body = body.replace("\n## ", "\n### ")
        readme = card / "README.md"
        text = readme.read_text(encoding="utf-8").partition(f"\n{HEADING}")[0]
        readme.write_text(f"{text}\n{HEADING}\n{body}", encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) == 1:
        sys.stdout.write(f"bundled {bundle(Path(given[0]))}\n")
    elif len(given) == 2:
        add_quality(given[0], Path(given[1]))
        sys.stdout.write(f"added to the card of {given[0]}\n")
    else:
        raise SystemExit(__doc__)
