"""The quality of an enhancer as figures (JSON), as tables with what they say (Markdown) and as a plot (SVG and PNG)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.data.datasets import describe_dataset
from s2d_zoo.data.quality_scores import MEASURES
from s2d_zoo.pipeline.quality import QualityResult, TargetResult
from s2d_zoo.pipeline.quality_plot import Panel, draw_quality
from s2d_zoo.pipeline.quality_summary import (
    CEILING,
    DIRECT,
    FOREST,
    SECONDS,
    comparisons,
    figures,
    overall,
    summaries,
    verdicts,
)
from s2d_zoo.pipeline.record import distinct_environments, environments_in_words, to_plain

FORMAT: Final = "s2d-zoo/quality"
FORMAT_VERSION: Final = 2
_IN_WORDS: Final[Mapping[str, str]] = {
    "iou": "IoU",
    "dice": "Dice",
    "soft_dice": "soft Dice",
    "average_precision": "AP of objects at IoU 0.5",
    "boundary_f1": "boundary F1",
    "calibration_error": "calibration error at borders",
    SECONDS: "seconds",
}
_OF_LABELS: Final[Mapping[str, str]] = {"labels_iou": "IoU", "kept": "share kept"}
_NOTHING: Final = "–"


def write_quality_report(result: QualityResult, output: Path, *, command: str | None = None) -> Path:
    """Write ``quality.json``, ``quality.md``, ``quality.svg`` and ``quality.png``.

    Args:
        result: at least one target.
        output: folder.
        command: as it was given, for who wants to do it again.

    Returns:
        The path of ``quality.md``.
    """
    write_json(output / "quality.json", to_facts(result, command=command))
    panels = [_panel(target) for target in result.targets]
    for kind in ("svg", "png"):
        with atomic_write(output / f"quality.{kind}") as written:
            draw_quality(panels, written, measure="foreground IoU, test images")
    report = output / "quality.md"
    with atomic_write(report) as written:
        written.write_text(to_markdown(result, command=command), encoding="utf-8", newline="\n")
    return report


def to_facts(result: QualityResult, *, command: str | None = None) -> dict[str, Any]:
    """All figures, as plain JSON."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "s2d_zoo_version": __version__,
        "command": command,
        "enhancer": {"id": result.measured.enhancer.id, "sha256": result.measured.sha256},
        "network": dict(result.measured.size),
        "sources": list(result.sources),
        "doubt": result.doubt or None,
        "settings": to_plain(result.settings),
        "targets": [_target_facts(target) for target in result.targets],
        "targets_not_finished": list(result.missing),
        "made_with": _environments(result),
    }


def _target_facts(target: TargetResult) -> dict[str, Any]:
    data = target.data
    return {
        "name": data.target.name,
        **to_plain(data.target),
        "trained_on_by_enhancer": target.is_source,
        "objects": data.instances if data.target.structure == "objects" else None,
        "rim_left_out": describe_dataset(data.target.dataset).unlabelled_rim,
        "training_images": [one.name for one in data.training],
        "painted_images": [data.training[number].name for number in data.painted],
        "test_images": [one.name for one in data.test],
        "summaries": to_plain(summaries(target)),
        "comparisons": to_plain(comparisons(target)),
        "cells": [to_plain(replace(one, made_with={})) for one in target.cells],
    }


def to_markdown(result: QualityResult, *, command: str | None = None) -> str:
    """Tables of every target, with what they were made from, what they say, and the plot."""
    settings = result.settings
    lines = [
        f"# Quality of {result.measured.enhancer.id}",
        "",
        *([f"Made by `{command}` with s2d-zoo {__version__}.", ""] if command else [f"s2d-zoo {__version__}.", ""]),
        *([f"**{result.doubt}**", ""] if result.doubt else []),
        f"The enhancer was trained on {', '.join(result.sources)}. Targets are scored on their test split, which",
        "nothing was trained on; strokes are simulated on images of their train split. Foreground at 0.5, all test",
        f"images taken together; mean ± standard deviation over seeds ({_seeds(result)}). A case is a target at a",
        "number of strokes; a difference below the larger of the two standard deviations is less than the spread.",
        "",
        *[f"- {line}" for line in overall(result)],
        *([f"- Not finished, and not in here: {', '.join(result.missing)}."] if result.missing else []),
        "",
        "![IoU against strokes](quality.svg)",
        "",
    ]
    for target in result.targets:
        lines += _section(target, settings.training_strokes)
    lines += [
        *environments_in_words(_environments(result)),
        "Seconds: wall time for features, fitting, pseudo-labels and training where there are such,",
        "and prediction on all test images; without the training of the enhancer, with that of the direct network.",
        "What the measures are: docs/how-to/measure-an-enhancer.md.",
        "",
    ]
    return "\n".join(lines)


def _environments(result: QualityResult) -> list[Mapping[str, Any]]:
    return distinct_environments(one.made_with for target in result.targets for one in target.cells)


def _seeds(result: QualityResult) -> str:
    words = f"{result.settings.n_seeds} of strokes and forests"
    trained = any(target.data.target.trainings for target in result.targets)
    return words + (f", {result.settings.n_training_seeds} of trained networks" if trained else "")


def _section(target: TargetResult, training_strokes: int) -> list[str]:
    data = target.data
    painted = ", ".join(data.training[number].name for number in data.painted)
    facts = [
        f"{len(data.test)} test images; strokes on {painted}; "
        + (f"networks learn from {len(data.training)} images." if data.target.trainings else "no network was trained."),
        f"Objects: {data.instances}." if data.target.structure == "objects" else "Membranes.",
    ]
    if data.target.factor != 1:
        facts.append(f"Rescaled by {data.target.factor:g} for enhancer and direct network.")
    if target.is_source:
        facts.append("The enhancer was trained on the train split of this dataset: this is no transfer.")
    facts += describe_dataset(data.target.dataset).remarks
    return [
        f"## {data.target.name}",
        "",
        " ".join(facts),
        "",
        to_table(target),
        "",
        *[f"- {line}" for line in verdicts(target)],
        "",
        f"At {training_strokes} strokes, or without any:",
        "",
        _measures_table(target, training_strokes),
        "",
        *_labels_line(target),
    ]


def _labels_line(target: TargetResult) -> list[str]:
    if not target.data.target.trainings:
        return []
    labels = [f"{words} {figures(target, name)}" for name, words in _OF_LABELS.items()]
    return [f"Pseudo-labels themselves, on their training images: {', '.join(labels)}.", ""]


def to_table(target: TargetResult) -> str:
    """IoU: methods down, strokes per class and painted image across."""
    told = summaries(target)
    found = {one for scores in told.values() for one in scores}
    strokes = [*sorted(found - {0}), *(found & {0})]  # what sees none comes last
    lines = [
        "| IoU, strokes per class and image | " + " | ".join(str(one or "none") for one in strokes) + " |",
        "|---|" + "---|" * len(strokes),
    ]
    for method in told:
        cells = [str(told[method][one]["iou"]) if one in told[method] else _NOTHING for one in strokes]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measures_table(target: TargetResult, strokes: int) -> str:
    """Methods down, measures across, at one number of strokes."""
    told = {
        method: scores[0 if method in {DIRECT, CEILING} else strokes] for method, scores in summaries(target).items()
    }
    measures = [measure for measure in (*MEASURES, SECONDS) if measure in told[FOREST]]
    lines = [
        "| method | " + " | ".join(_IN_WORDS[measure] for measure in measures) + " |",
        "|---|" + "---|" * len(measures),
    ]
    for method, scores in told.items():
        cells = [f"{scores[one].mean:.0f}" if one == SECONDS else str(scores[one]) for one in measures]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _panel(target: TargetResult) -> Panel:
    scores = {
        method: {strokes: measures["iou"] for strokes, measures in by_strokes.items()}
        for method, by_strokes in summaries(target).items()
    }
    return Panel(title=target.data.target.name + (" (also a source)" if target.is_source else ""), scores=scores)
