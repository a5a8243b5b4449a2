"""What a benchmark found, and the command that found it: one table for people, one JSON for programs."""

import sys
from pathlib import Path

from s2d_zoo.cli.long_runs import command_line
from s2d_zoo.data.atomic import atomic_write, write_json

RESULTS = Path(__file__).parent / "results"


def command_of(script: str) -> str:
    """The command that is running, to stand in its table; with the number of threads, which changes trainings."""
    return command_line("python", f"benchmarks/{Path(script).name}")


def write_outcome(name: str, table: str, figures: object) -> None:
    """Write results/name.md and .json, and show the table."""
    write_json(RESULTS / f"{name}.json", figures)
    write_table(name, table)


def write_table(name: str, table: str) -> None:
    """Write results/name.md, and show it."""
    with atomic_write(RESULTS / f"{name}.md") as written:
        written.write_text(table, encoding="utf-8")
    sys.stdout.write(table)
