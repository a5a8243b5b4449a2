"""`s2d-zoo validate`: check a package."""

from pathlib import Path
from typing import Any, Final

import rich_click as click

from s2d_zoo.cli import options
from s2d_zoo.validate.checks import Consumer

_SUFFIXES: Final = {".html": "html", ".htm": "html", ".json": "json", ".md": "markdown"}


@click.command()
@click.argument("package", type=options.FILE)
@click.option(
    "--consumer",
    multiple=True,
    type=click.Choice(["all", *(consumer.name for consumer in Consumer), "fiji"], case_sensitive=False),
    default=["all"],
    show_default=True,
    help="Program that the package is for, once for each; what concerns no other is left out.",
)
@click.option("--select", multiple=True, metavar="IDS", help="Run these checks only: T01, or T for all of a group.")
@click.option("--ignore", multiple=True, metavar="IDS", help="Leave these checks out.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown", "json", "html"]),
    help="How the report is written; without it as the suffix of --output says (.html, .json, .md), else as text.",
)
@click.option(
    "--output",
    type=options.FILE,
    help="File for the report; the differences between weights formats go into STEM-tensors beside it. "
    "Without it the report goes to stdout, and the differences are not kept.",
)
@click.option(
    "--time-limit", default=120.0, show_default=True, type=click.FloatRange(min=1), help="Seconds for each test or run."
)
@click.option(
    "--memory-limit", default=8.0, show_default=True, type=click.FloatRange(min=0.1), help="GiB for each test or run."
)
@options.overwrite
@options.quiet
@click.pass_context
def validate(ctx: click.RichContext, /, package: Path, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Check a bioimage.io package, and say which programs can run it, and why not."""
    from s2d_zoo.validate.rendering import RENDERINGS, report_file  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.sandbox import Limits  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.validation import validate_package  # noqa: PLC0415 - heavy
    from s2d_zoo.zoo.collection import find_at_hand  # noqa: PLC0415 - heavy

    with report_file(chosen["output"], package, overwrite=chosen["overwrite"]) as (file, tensors):
        report = validate_package(
            package,
            select=_ids(chosen["select"]),
            ignore=_ids(chosen["ignore"]),
            consumers=_consumers(chosen["consumer"]),
            limits=Limits(seconds=chosen["time_limit"], memory_gib=chosen["memory_limit"]),
            tensors=tensors,
            find_base=find_at_hand,
            progress=not chosen["quiet"],
        )
        output = chosen["output"]
        suffix = output.suffix.lower() if output else ""
        text = RENDERINGS[chosen["format_"] or _SUFFIXES.get(suffix, "text")](report)
        if file is None:
            click.echo(text, nl=False)
        else:
            file.write_text(text, encoding="utf-8", newline="\n")
    if output is not None:
        click.echo(f"{'passed' if report.passed else 'FAILED'}; report: {output}")
    ctx.exit(report.exit_code)


def _consumers(names: tuple[str, ...]) -> tuple[Consumer, ...]:
    wanted = {"deepimagej" if name.lower() == "fiji" else name.lower() for name in names}
    return tuple(one for one in Consumer if {one.name, "all"} & wanted)


def _ids(entries: tuple[str, ...]) -> tuple[str, ...]:
    """``("f, C02", "T")`` as ``("F", "C02", "T")``."""
    return tuple(name.strip().upper() for entry in entries for name in entry.split(","))
