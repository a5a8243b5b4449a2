"""`s2d-zoo check-fit`: whether a classifier delivers what an enhancer takes."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command(name="check-fit")
@click.option("--enhancer", required=True, metavar="ID|PATH", help="Enhancer (s2d-zoo list), or a package.")
@options.trust_code
@options.ilastik_project
@click.option("--classifier", type=options.FILE, help="Saved forest, *.safetensors.")
@click.option("--probabilities", type=options.FILE, help="What another classifier says of an image.")
@click.option("--image", type=options.FILE, help="An image that is to be classified: channels, axes, pixel size.")
@options.foreground
@options.channel
@options.axes
@click.pass_context
def check_fit(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Say whether a classifier fits an enhancer, and if not, what to change.

    Exit codes: 0 it fits, 1 it does not or a file cannot be read, 2 options contradict each other.
    """
    from s2d_zoo.pipeline.fit_check import check_fit_files  # noqa: PLC0415 - heavy

    given = [chosen[name] for name in ("ilastik_project", "classifier", "probabilities") if chosen[name] is not None]
    if len(given) != 1:
        msg = "Give one of --ilastik-project, --classifier and --probabilities."
        raise click.UsageError(msg)
    report = check_fit_files(
        chosen["enhancer"],
        classifier=chosen["ilastik_project"] or chosen["classifier"],
        probabilities=chosen["probabilities"],
        image=chosen["image"],
        trust_code=chosen["trust_code"],
        foreground=options.chosen_foreground(chosen["foreground"], chosen["channel"]),
        axes=chosen["axes"],
    )
    click.echo(report.to_text())
    ctx.exit(0 if report.fits else 1)
