"""Make docs/images/demo.png, the picture in the README, from a finished demo.

make demo && .venv/bin/python benchmarks/readme_picture.py
"""

import sys
from pathlib import Path

from s2d_zoo.data.images import read_image, read_labels
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.report import draw_stages

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo-output"
PICTURE = ROOT / "docs" / "images" / "demo.png"


def main() -> None:
    """Draw the maps that the demo wrote."""
    maps = DEMO / "adapted" / "images" / "01-train"
    inputs = DEMO / "inputs"
    prediction = Prediction(
        foreground=read_image(maps / "forest_foreground.tif")[0],
        enhanced=read_image(maps / "enhanced.tif"),
        labels=PseudoLabels(
            labels=read_image(maps / "pseudo_labels.tif"), weights=read_image(maps / "pseudo_label_weights.tif")[0]
        ),
        segmentation=read_image(maps / "segmentation.tif"),
    )
    image, strokes, truth = (
        read_image(inputs / "train.tif"),
        read_labels(inputs / "train-strokes.tif"),
        read_labels(inputs / "train-truth.tif"),
    )
    PICTURE.parent.mkdir(exist_ok=True)
    draw_stages(image, prediction, scribbles=strokes, truth=truth).savefig(PICTURE, dpi=80, metadata={"Software": None})
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
