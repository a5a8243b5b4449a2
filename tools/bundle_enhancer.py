"""Put an enhancer that `s2d-zoo pretrain` made among the bundled models, and its card into model_cards/.

python tools/bundle_enhancer.py PRETRAIN_OUTPUT [QUALITY_OUTPUT]

With the output of `s2d-zoo evaluate quality`, what was measured goes into the card, too.
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

from bioimageio.spec.utils import read_yaml

from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.validate.validation import validate_package

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "src" / "s2d_zoo" / "zoo" / "bundled"
MOST_BYTES = 8_000_000
HEADING = "## Measured worth"


def bundle(output: Path, quality: Path | None) -> str:
    """Copy package and card; returns the model's id."""
    package = next(output.glob("*.zip"))
    with zipfile.ZipFile(package) as archive, archive.open("rdf.yaml") as file:
        rdf = read_yaml(file)
    if package.stat().st_size > MOST_BYTES or not validate_package(package).passed:
        msg = f"{package} is above {MOST_BYTES} bytes, or fails a check: see s2d-zoo validate."
        raise SystemExit(msg)
    shutil.copyfile(package, BUNDLED / package.name)
    card = ROOT / "model_cards" / rdf["id"]
    shutil.copytree(output / "card", card, dirs_exist_ok=True)
    if quality is not None:
        _add_quality(card, quality, package)
    path = BUNDLED / "collection.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["collection"] if path.exists() else []
    entry = {key: rdf[key] for key in ("id", "type", "name", "description", "tags", "license")}
    entry["source"] = package.name
    others = [item for item in listed if item["id"] != rdf["id"]]
    collection = {"collection": sorted([*others, entry], key=lambda item: item["id"])}
    path.write_text(json.dumps(collection, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return str(rdf["id"])


def _add_quality(card: Path, quality: Path, package: Path) -> None:
    """Tables into the README, figures into evaluation.json, and the plot beside them."""
    facts = json.loads((quality / "quality.json").read_text(encoding="utf-8"))
    if facts["enhancer"]["sha256"] != hash_path(package):
        msg = f"{quality} is about another {facts['enhancer']['id']} than {package}: measure this one."
        raise SystemExit(msg)
    evaluation = json.loads((card / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["quality"] = facts
    (card / "evaluation.json").write_text(json.dumps(evaluation, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for kind in ("svg", "png"):
        shutil.copyfile(quality / f"quality.{kind}", card / f"quality.{kind}")
    table = (quality / "quality.md").read_text(encoding="utf-8")
    _, _, body = table.partition("\n")  # its own title
    readme = card / "README.md"
    text = readme.read_text(encoding="utf-8").partition(f"\n{HEADING}")[0]
    body = body.replace("\n## ", "\n### ")
    readme.write_text(f"{text}\n{HEADING}\n{body}", encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(f"bundled {bundle(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)}\n")
