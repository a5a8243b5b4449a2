"""A transfer curve as figures (JSON), as tables (Markdown) and as a plot (SVG and PNG)."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.pipeline.record import distinct_environments, environments_in_words, to_plain
from s2d_zoo.pipeline.summary import Summary
from s2d_zoo.pipeline.transfer import TransferResult
from s2d_zoo.pipeline.transfer_cells import METHODS, Kind
from s2d_zoo.pipeline.transfer_plot import Curve, Point, draw_curves

FORMAT: Final = "s2d-zoo/transfer"
FORMAT_VERSION: Final = 2
Measure: TypeAlias = Literal["iou", "dice"]
_IN_WORDS: Final[Mapping[Measure, str]] = {"iou": "IoU", "dice": "Dice"}
#: in which order they are told; the first three are trained, the others are what they are compared with
_ORDER: Final[tuple[Kind, ...]] = ("pretrained", "enhancer", "random", "forest", "base-model")
_UNTRAINED: Final[tuple[Kind, ...]] = ("forest", "base-model")


def write_transfer_report(result: TransferResult, output: Path, *, command: str | None = None) -> Path:
    """Write ``transfer.json``, ``transfer.md``, ``transfer.svg`` and ``transfer.png``.

    Args:
        result: all cells.
        output: folder.
        command: as it was given, for who wants to do it again.

    Returns:
        The path of ``transfer.md``.
    """
    write_json(output / "transfer.json", to_facts(result, command=command))
    for kind in ("svg", "png"):
        with atomic_write(output / f"transfer.{kind}") as written:
            draw_curves(curves(result, "iou"), written, measure="foreground IoU on the test images")
    report = output / "transfer.md"
    with atomic_write(report) as written:
        written.write_text(to_markdown(result, command=command), encoding="utf-8", newline="\n")
    return report


def curves(result: TransferResult, measure: Measure) -> tuple[Curve, ...]:
    """Mean and spread over seeds of each method at each budget; the base model as it is has one point, at budget 0."""
    found = []
    for kind in _ORDER:
        for method in METHODS[kind]:
            scores: dict[int, list[float]] = {}
            for one in result.cells:
                if method in one.scores:
                    scores.setdefault(one.cell.budget, []).append(getattr(one.scores[method], measure))
            points = tuple(
                Point(budget=budget, **asdict(Summary.of(values))) for budget, values in sorted(scores.items())
            )
            if points:
                found.append(Curve(method=method, points=points, trained=kind not in _UNTRAINED))
    return tuple(found)


def to_facts(result: TransferResult, *, command: str | None = None) -> dict[str, Any]:
    """All figures, as plain JSON."""
    models = result.models
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "s2d_zoo_version": __version__,
        "command": command,
        "images": [entry.name for entry in result.data.training],
        "test_images": [entry.name for entry in result.data.test],
        "test_images_are": result.data.split,
        "enhancer": {"id": models.enhancer.id, "sha256": models.enhancer_sha256},
        "base_model": None if models.base is None else {"id": models.base.id, "sha256": models.base_sha256},
        "settings": to_plain(result.settings),
        "curves": {measure: [to_plain(one) for one in curves(result, measure)] for measure in _IN_WORDS},
        "cells": [
            {
                "start": one.cell.start,
                "budget": one.cell.budget,
                "seed": one.cell.seed,
                "scores": to_plain(one.scores),
                "strokes": list(one.strokes),
                "painted_px": list(one.painted_px),
                "seconds": one.seconds,
            }
            for one in result.cells
        ],
        "made_with": distinct_environments(one.made_with for one in result.cells),
    }


def to_markdown(result: TransferResult, *, command: str | None = None) -> str:
    """Tables of methods by budgets, with what they were made from and the plot."""
    settings, models = result.settings, result.models
    base = f", base model `{models.base.id}`" if models.base else ""
    lines = [
        "# What pretraining buys for a number of strokes",
        "",
        *([f"Made by `{command}` with s2d-zoo {__version__}.", ""] if command else [f"s2d-zoo {__version__}.", ""]),
        f"- Enhancer `{models.enhancer.id}`{base}; {settings.segmentor.training.steps} training steps.",
        f"- Strokes on {_names([entry.name for entry in result.data.training])}, simulated from the ground truth.",
        f"- Scores on {_names([entry.name for entry in result.data.test])} ({result.data.split}), on which nothing was",
        "  trained here: foreground at 0.5 against the ground truth, all test images taken together.",
        f"- {_seeds_in_words(settings.n_seeds)}",
        "",
        *environments_in_words(distinct_environments(one.made_with for one in result.cells)),
        "![Score against strokes](transfer.svg)",
        "",
    ]
    for measure, word in _IN_WORDS.items():
        lines += [f"## {word}", "", to_table(result, measure), ""]
    return "\n".join(lines)


def to_table(result: TransferResult, measure: Measure = "iou") -> str:
    """Methods down, strokes per class and image across: mean ± standard deviation over the seeds."""
    budgets = sorted(result.settings.budgets)
    lines = [
        f"| {_IN_WORDS[measure]}, strokes per class and image | " + " | ".join(str(one) for one in budgets) + " |",
        "|---|" + "---|" * len(budgets),
    ]
    for curve in curves(result, measure):
        # what saw no strokes is as good at every number of them
        cells = [str(curve.at(budget) or curve.points[0]) for budget in budgets]
        lines.append(f"| {curve.method} | " + " | ".join(cells) + " |")
    painted = {budget: [sum(one.painted_px) for one in result.cells if one.cell.budget == budget] for budget in budgets}
    lines.append("| painted px, all images | " + " | ".join(f"{statistics.fmean(painted[one]):.0f}" for one in budgets))
    return "\n".join(lines) + " |"


def _names(names: list[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:4])
    count = "1 image" if len(names) == 1 else f"{len(names)} images"
    return f"{count}: {shown}" + (", …" if len(names) > 4 else "")


def _seeds_in_words(n_seeds: int) -> str:
    if n_seeds == 1:
        return "One seed, so that nothing is known of the spread."
    return f"Mean ± standard deviation over {n_seeds} seeds of strokes, forests and trainings."
