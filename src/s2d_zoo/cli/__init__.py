"""The command line: `s2d-zoo COMMAND`. One file per command; torch and the like are imported inside commands only."""

from s2d_zoo.cli.main import cli

__all__ = ["cli"]
