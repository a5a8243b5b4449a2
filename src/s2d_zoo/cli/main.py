"""The group of commands, loaded one by one, and the one place where errors become messages and exit codes."""

import importlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import rich_click as click

from s2d_zoo._version import __version__
from s2d_zoo.errors import S2DZooError, UserInputError

#: command → module that has it, under its own name with underscores
_COMMANDS: Final[Mapping[str, str]] = {
    "demo": "demo",
    "adapt": "adapt",
    "classify": "classify",
    "check-fit": "check_fit",
    "rank-enhancers": "rank_enhancers",
    "enhance": "enhance",
    "finetune": "finetune",
    "finetune-enhancer": "finetune_enhancer",
    "export": "export",
    "fuse": "fuse",
    "validate": "validate",
    "list": "list_models",
    "download": "download",
    "publish": "publish",
    "pretrain": "pretrain",
    "evaluate": "evaluate",
}


class Failed(click.ClickException):
    """Something went wrong that the call itself is not to blame for."""

    exit_code = 1


class Misused(click.ClickException):
    """Something that the user can mend in the call."""

    exit_code = 2


class Commands(click.RichGroup):
    """Commands that are imported when they are called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Names in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"s2d_zoo.cli.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click does
        """Run a command; errors on purpose, and those of disks, are told without a traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output has gone: click itself ends quietly
            raise
        except UserInputError as error:
            raise Misused(str(error)) from error
        except (S2DZooError, OSError) as error:
            raise Failed(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="s2d-zoo")
def cli() -> None:
    """From a few brush strokes to a validated BioImage Model Zoo model.

    Results go to stdout, progress and warnings to stderr. Exit codes: 0 good, 1 failed, 2 misuse.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
