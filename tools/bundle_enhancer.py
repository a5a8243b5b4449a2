"""Put an enhancer that `s2d-zoo pretrain` made among the bundled models, and its card into model_cards/.

python tools/bundle_enhancer.py PRETRAIN_OUTPUT
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

from bioimageio.spec.utils import read_yaml

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "src" / "s2d_zoo" / "zoo" / "bundled"


def bundle(output: Path) -> str:
    """Copy package and card; returns the model's id."""
    package = next(output.glob("*.zip"))
    with zipfile.ZipFile(package) as archive, archive.open("rdf.yaml") as file:
        rdf = read_yaml(file)
    shutil.copyfile(package, BUNDLED / package.name)
    shutil.copytree(output / "card", ROOT / "model_cards" / rdf["id"], dirs_exist_ok=True)
    path = BUNDLED / "collection.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["collection"] if path.exists() else []
    entry = {key: rdf[key] for key in ("id", "type", "name", "description", "tags", "license")}
    entry["source"] = package.name
    others = [item for item in listed if item["id"] != rdf["id"]]
    collection = {"collection": sorted([*others, entry], key=lambda item: item["id"])}
    path.write_text(json.dumps(collection, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return str(rdf["id"])


if __name__ == "__main__":
    sys.stdout.write(f"bundled {bundle(Path(sys.argv[1]))}\n")
