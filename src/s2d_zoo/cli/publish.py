"""`s2d-zoo publish`: a package goes to the zoo, for a review."""

from pathlib import Path
from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.argument("package", type=options.FILE)
@click.option("--dry-run", is_flag=True, help="Only tell what would be sent; never use the network.")
@click.option("--server", metavar="zoo|URL", help="Upload service: that of the zoo, or an address.")
@click.option(
    "--token-env",
    metavar="NAME",
    default="BIOIMAGEIO_HYPHA_UPLOAD_TOKEN",
    show_default=True,
    help="Environment variable that holds the token.",
)
@click.option("--output", type=options.FILE, help="With --dry-run: folder for manifest, description and list of files.")
@options.overwrite
@options.quiet
def publish(package: Path, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Validate a package, send it to the BioImage Model Zoo and ask for a review.

    Nothing is sent without --server. What was interrupted goes on where it broke off.
    """
    if chosen["server"] is None and not chosen["dry_run"]:
        msg = "Give --dry-run to see what would be sent, or --server zoo to send it."
        raise click.UsageError(msg)
    if chosen["output"] is not None and not chosen["dry_run"]:
        msg = "--output is for --dry-run only: what is sent is not written."
        raise click.UsageError(msg)
    (_show if chosen["dry_run"] else _send)(package, **chosen)


def _show(package: Path, **chosen: Any) -> None:  # noqa: ANN401 - as they were given
    from s2d_zoo.pipeline.publish import plan_publication  # noqa: PLC0415 - heavy

    plan = plan_publication(
        package,
        server=chosen["server"] or "zoo",
        output=chosen["output"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    for number, request in enumerate(plan.requests, 1):
        click.echo(f"{number}. {request}", err=True)
    for note in plan.notes:
        click.echo(note, err=True)
    for file in plan.files:
        click.echo(f"{file.name}\t{file.size}\t{file.sha256}")
    click.echo("Nothing was sent.", err=True)


def _send(package: Path, **chosen: Any) -> None:  # noqa: ANN401 - as they were given
    from s2d_zoo.pipeline.publish import publish_package  # noqa: PLC0415 - heavy
    from s2d_zoo.zoo.upload_access import Token  # noqa: PLC0415 - heavy

    token = Token.from_environment(chosen["token_env"])
    staged = publish_package(package, server=chosen["server"], token=token, progress=not chosen["quiet"])
    for note in staged.notes:
        click.echo(note, err=True)
    click.echo(f"staged: {staged.id}\nreview: {staged.page}")
