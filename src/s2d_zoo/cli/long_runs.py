"""What long commands say of themselves: how they were called, and how to go on."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click


@contextmanager
def told_how_to_go_on() -> Iterator[None]:
    """Say, to whom interrupts the work, that it need not begin anew."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command goes on from the last checkpoint.", err=True)
        raise


def command_line(*program: str) -> str:
    """As it was given, to s2d-zoo if no program is named; the number of threads changes results in their last bits."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join([*(program or ("s2d-zoo",)), *sys.argv[1:]])
