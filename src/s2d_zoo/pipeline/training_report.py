"""The report of one training: how the model does on held-out strokes before and after, and what changed in it.

It lies beside the output, and is written also where the model is not given out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.export.weights_difference import WeightsDifference
from s2d_zoo.finetune.finetuning import SegmentorTraining

FORMAT: Final = "s2d-zoo/training-report"
FORMAT_VERSION: Final = 1


def report_path(output: Path) -> Path:
    """Where the report on ``output`` lies, as Markdown; the same as JSON is beside it."""
    return output.with_name(f"{output.stem}.report.md")


def write_training_report(
    output: Path,
    provenance: Mapping[str, Any],
    *,
    training: SegmentorTraining[Any],
    difference: WeightsDifference | None = None,
    allow_worse: bool = False,
) -> Path:
    """Write the report as Markdown and as JSON.

    Args:
        output: of the model.
        provenance: what it was made from and how, plain JSON.
        training: what came out.
        difference: what training has changed in the weights.
        allow_worse: it is given out even if it is worse than its start.

    Returns:
        The path of the Markdown file.
    """
    start, end = training.start, training.end
    figures = {
        name: {"before": round(before, 4), "after": round(after, 4)}
        for name, before, after in (
            ()
            if start is None or end is None
            else (
                ("IoU", start.iou, end.iou),
                ("calibration error", start.calibration_error, end.calibration_error),
            )
        )
    }
    unchanged = difference is not None and not difference.changed
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "s2d_zoo_version": __version__,
        "output": output.name,
        "given_out": not unchanged and (allow_worse or not training.worse),
        "worse": training.worse,
        "held_out_strokes": figures,
        "weights_difference": None if difference is None else difference.to_json(),
        "provenance": dict(provenance),
    }
    path = report_path(output)
    write_json(path.with_suffix(".json"), facts)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(_to_markdown(facts, difference), encoding="utf-8", newline="\n")
    return path


def _to_markdown(facts: Mapping[str, Any], difference: WeightsDifference | None) -> str:
    lines = [f"# Training of {facts['output']}", ""]
    if not facts["given_out"]:
        unchanged = difference is not None and not difference.changed
        reason = "its weights are those of its start" if unchanged else f"it is worse than its start: {facts['worse']}"
        lines += [
            f"**No model was written**, because {reason}. A file of that name, if there is one, is of an earlier run.",
            "",
        ]
    elif facts["worse"]:
        lines += [f"**Worse than its start** ({facts['worse']}); it was given out because that was asked for.", ""]
    if facts["held_out_strokes"]:
        lines += ["| on the held-out strokes | before | after |", "|---|---|---|"]
        lines += [
            f"| {name} | {one['before']:.3f} | {one['after']:.3f} |" for name, one in facts["held_out_strokes"].items()
        ]
        lines.append("")
    else:
        lines += ["Not tested on held-out strokes: there were none of both foreground and background.", ""]
    if difference is not None:
        lines += ["## What changed in the weights", "", "```", difference.table(), "```", ""]
    lines += ["## What it was made from", ""]
    lines += [f"- {name}: SHA-256 {sha256}" for name, sha256 in facts["provenance"].get("inputs", {}).items()]
    base = facts["provenance"].get("base_model")
    if base:
        version = f", version {base['version']}" if base["version"] else ""
        lines.append(f"- base model {base['id']}{version}")
    lines += [f"- seed {facts['provenance'].get('seed')}", ""]
    return "\n".join(lines)
