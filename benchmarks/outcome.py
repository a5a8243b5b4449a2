"""What a benchmark found, and the command that found it: one table for people, one JSON for programs."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2d_zoo.cli.long_runs import command_line

RESULTS = Path(__file__).parent / "results"


def command_of(script: str) -> str:
    """The command that is running, to stand in its table; with the number of threads, which changes trainings."""
    return command_line("python", f"benchmarks/{Path(script).name}")


def write_outcome(name: str, table: str, figures: Mapping[str, Any]) -> None:
    """Write results/name.md and .json, and show the table."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_table(name, table)


def write_table(name: str, table: str) -> None:
    """Write results/name.md, and show it."""
    (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
