"""`s2d-zoo enhance`: apply an enhancer to probabilities."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option(
    "--probabilities", required=True, type=options.FILE, help="All channels, or the foreground's, values 0 to 1."
)
@click.option(
    "--classifier",
    type=options.FILE,
    help="The forest that made them (.safetensors or .ilp), to check its features too.",
)
@click.option("--enhancer", required=True, metavar="ID|PATH", help="Enhancer (s2d-zoo list), or a package.")
@options.trust_code
@click.option("--output", required=True, type=options.FILE, help="Foreground and boundary: .tif, .h5 or .zarr.")
@options.axes
@options.foreground
@options.channel
@click.option("--rescale", default="1", show_default=True, metavar="FACTOR|auto", help="Resize probabilities first.")
@options.overwrite
@options.quiet
def enhance(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Apply an enhancer to the probabilities of a forest."""
    from s2d_zoo.cli.settings import rescale  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.single_steps import enhance_file  # noqa: PLC0415 - heavy

    output = enhance_file(
        chosen["probabilities"],
        chosen["output"],
        enhancer=chosen["enhancer"],
        classifier=chosen["classifier"],
        trust_code=chosen["trust_code"],
        axes=chosen["axes"],
        foreground=options.chosen_foreground(chosen["foreground"], chosen["channel"]),
        rescale=rescale(chosen["rescale"]),
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    click.echo(f"enhanced: {output}")
