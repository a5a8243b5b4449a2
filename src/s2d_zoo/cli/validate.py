"""`s2d-zoo validate`: check a package."""

from pathlib import Path

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.argument("package", type=options.FILE)
@click.option("--select", multiple=True, metavar="ID", help="Run these checks only; T01, or T for all of a group.")
@click.option("--ignore", multiple=True, metavar="ID", help="Leave these checks out.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="How the results are written.",
)
@click.pass_context
def validate(
    ctx: click.RichContext, /, package: Path, select: tuple[str, ...], ignore: tuple[str, ...], format_: str
) -> None:
    """Check a bioimage.io package: format, weights, agreement, sizes, tiles."""
    from s2d_zoo.validate.report import to_json, to_markdown, to_text  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.validation import validate_package  # noqa: PLC0415 - heavy

    report = validate_package(package, select=select, ignore=ignore)
    click.echo({"text": to_text, "markdown": to_markdown, "json": to_json}[format_](report), nl=False)
    ctx.exit(report.exit_code)
