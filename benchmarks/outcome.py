"""What a benchmark found, and the command that found it: one table for people, one JSON for programs."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def command_of(script: str) -> str:
    """The command that is running, to stand in its table; with the number of threads, which changes trainings."""
    threads = os.environ.get("OMP_NUM_THREADS")
    command = shlex.join(["python", f"benchmarks/{Path(script).name}", *sys.argv[1:]])
    return f"OMP_NUM_THREADS={threads} {command}" if threads else command


def write_outcome(name: str, table: str, figures: Mapping[str, Any]) -> None:
    """Write results/name.md and .json, and show the table."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table)
