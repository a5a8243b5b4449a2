"""What `contract_points.py` found, as changes and as tables."""

import statistics
from typing import Any, Final

from s2d_zoo._version import __version__

COMMAND: Final = "OMP_NUM_THREADS=1 python benchmarks/contract_points.py --data-dir ../shared/data"
#: the variant of each part that the others are compared with
REFERENCES: Final = {"features": "all", "forests": "all", "classifiers": "all", "known_size": "all", "pixel_size": "1"}
TITLES: Final = {
    "features": "Other features",
    "forests": "Smaller forests",
    "classifiers": "Other classifiers",
    "known_size": "The variants that lost most, at the object size that the enhancer knows",
    "pixel_size": "Another pixel size",
}
NOTES: Final = {
    "known_size": (
        "As above, but probabilities are rescaled before the enhancer until objects (60 px in GOWT1, 27 px in HeLa)",
        "are as large as those that it knows.",
        "",
    ),
    "pixel_size": (
        "Images are resampled by a factor; so are the strokes, of which at most as many pixels are kept as on the",
        "original, and the forest is fitted anew. Scored on 512 x 512 px (of the original) in the middle of each test",
        "image. In brackets: diameter of the objects in px, GOWT1 and HeLa. Two columns rescale the probabilities",
        "before the enhancer: to the original pixel size, or until objects are as large as those that it knows.",
        "",
    ),
}

#: IoU by what was thresholded: "RF", "enhanced", …; for another pixel size also the objects' diameter
Ious = dict[str, float]
#: of one part: by variant and target, one entry for each seed
Figures = dict[str, dict[str, list[Ious]]]


def changes(found: dict[str, Figures]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """By how much the enhanced IoU differs from the reference's with the same strokes, by part, way and variant."""
    return {
        part: {
            way: {variant: _change(figures, variant, REFERENCES[part], way) for variant in figures}
            for way in _ways(figures)
            if way != "RF"
        }
        for part, figures in found.items()
    }


def gains_by_size(figures: Figures, known: float) -> list[dict[str, Any]]:
    """What the enhancer adds to the forest, by how large objects are beside those that it knows, smallest first."""
    found = []
    for targets in figures.values():
        for name, scores in targets.items():
            row: dict[str, Any] = {"target": name, "size": round(scores[0]["diameter"] / known, 2)}
            for way, key in {"enhanced": "as they are", "to known objects": "rescaled"}.items():
                gains = [one[way] - one["RF"] for one in scores]
                row[key] = {"mean": round(statistics.mean(gains), 3), "worst": round(min(gains), 3)}
            found.append(row)
    return sorted(found, key=lambda row: row["size"])


def _change(figures: Figures, variant: str, reference: str, way: str) -> dict[str, float]:
    """Mean by target, and of all; the extremes."""
    by_target = {
        name: [one[way] - other["enhanced"] for one, other in zip(scores, figures[reference][name], strict=True)]
        for name, scores in figures[variant].items()
    }
    every = [value for values in by_target.values() for value in values]
    extremes = {"mean": statistics.mean(every), "worst": min(every), "best": max(every)}
    means = {name: statistics.mean(values) for name, values in by_target.items()}
    return {name: round(value, 3) for name, value in (extremes | means).items()}


def _ways(figures: Figures) -> list[str]:
    scores = next(iter(next(iter(figures.values())).values()))[0]
    return [way for way in scores if way != "diameter"]


def to_markdown(results: dict[str, Any]) -> str:
    """One table for each part."""
    lines = [
        "# What does a forest cost that is unlike those the enhancer knows?",
        "",
        f"Made by `{COMMAND}` with s2d-zoo {__version__} and the",
        f"bundled enhancer `{results['enhancer']}` (trained on forests of 100 trees with all of ilastik's features, on",
        f"objects of {results['object_diameter']} px). Strokes: ten per class on one training image, three seeds.",
        "Foreground IoU at 0.5 on the test split: mean ± standard deviation of the seeds (of strokes and forest).",
        "Change: enhanced IoU less that of the unchanged case with the same strokes; mean over targets and seeds, and",
        "in brackets the worst and the best of them.",
    ]
    for part, figures in results["iou"].items():
        lines += ["", f"## {TITLES[part]}", "", *NOTES.get(part, ()), *_table(part, figures, results["change"][part])]
    lines += [
        "",
        "## What the enhancer adds to the forest, by size of the objects",
        "",
        "Enhanced IoU less the forest's at the same pixel size: mean of the seeds, in brackets the worst.",
        "",
        f"| size, of {results['object_diameter']} px | target | as they are | rescaled to known objects |",
        "|---|---|---|---|",
    ]
    for row in results["rescaling"]:
        cells = [f"{row[key]['mean']:+.3f} ({row[key]['worst']:+.3f})" for key in ("as they are", "rescaled")]
        lines.append(f"| {row['size']:g} | {row['target']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _table(part: str, figures: Figures, change: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    ways, targets = _ways(figures), list(next(iter(figures.values())))
    columns = [(name, way) for name in targets for way in ways]
    heads = [f"{name.removeprefix('nuclei_')}: {way}" for name, way in columns] + [f"change, {way}" for way in change]
    lines = [f"| {part} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for variant, scores in figures.items():
        cells = [_spread([one[way] for one in scores[name]]) for name, way in columns]
        cells += [_show_change(change[way][variant]) for way in change]
        diameters = [f"{scores[name][0]['diameter']:.0f}" for name in targets if "diameter" in scores[name][0]]
        shown = f"{variant} ({', '.join(diameters)})" if diameters else variant
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return lines


def _show_change(change: dict[str, float]) -> str:
    return f"{change['mean']:+.3f} ({change['worst']:+.3f} … {change['best']:+.3f})"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
