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

from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.pipeline.inputs import hash_path
from s2d_zoo.validate.validation import validate_package

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "src" / "s2d_zoo" / "zoo" / "bundled"
MOST_BYTES = 8_000_000
HEADING = "## Measured worth"


def bundle(output: Path, quality: Path | None) -> str:
    """Copy package and card, once all is checked; returns the model's id."""
    packages = list(output.glob("*.zip"))
    if len(packages) != 1:
        msg = f"{output} must hold one package, found {len(packages)}: give the output of s2d-zoo pretrain."
        raise SystemExit(msg)
    (package,) = packages
    with zipfile.ZipFile(package) as archive, archive.open("rdf.yaml") as file:
        rdf = read_yaml(file)
    if package.stat().st_size > MOST_BYTES or not validate_package(package).passed:
        msg = f"{package} is above {MOST_BYTES} bytes, or fails a check: see s2d-zoo validate."
        raise SystemExit(msg)
    hashed = hash_path(package)
    if quality is not None:
        measured = json.loads((quality / "quality.json").read_text(encoding="utf-8"))["enhancer"]
        if measured["sha256"] != hashed:
            msg = f"{quality} is about another {measured['id']} than {package}: measure this one."
            raise SystemExit(msg)
    with atomic_write(ROOT / "model_cards" / rdf["id"]) as card:  # figures of another package do not stay
        shutil.copytree(output / "card", card)
        if quality is not None:
            _add_quality(card, quality)
    with atomic_write(BUNDLED / package.name) as copied:
        shutil.copyfile(package, copied)
    path = BUNDLED / "collection.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["items"] if path.exists() else []
    manifest = {key: rdf[key] for key in ("name", "description", "tags", "license")}
    versions = [{"version": "v0", "source": package.name, "sha256": hashed}]
    entry = {"id": rdf["id"], "type": rdf["type"], "manifest": manifest, "versions": versions}
    others = [item for item in listed if item["id"] != rdf["id"]]
    collection = {"items": sorted([*others, entry], key=lambda item: item["id"])}
    write_json(path, collection)
    return str(rdf["id"])


def _add_quality(card: Path, quality: Path) -> None:
    """Tables into the README, figures into evaluation.json, and the plot beside them."""
    facts = json.loads((quality / "quality.json").read_text(encoding="utf-8"))
    evaluation = json.loads((card / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["quality"] = facts
    write_json(card / "evaluation.json", evaluation)
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
