"""`s2d-zoo finetune`: train a segmentor on pseudo-labels."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--image", "images", multiple=True, required=True, type=options.FILE, help="Raw image, once for each.")
@click.option(
    "--pseudo-labels", multiple=True, required=True, type=options.FILE, help="Foreground and boundary of each, 0 to 1."
)
@click.option("--weights", multiple=True, type=options.FILE, help="Weight of each pixel, 0 to 1; all 1 without.")
@click.option("--held-out", multiple=True, type=options.FILE, help="Strokes of each image to be tested on.")
@click.option("--base-model", type=options.FILE, help="Network to start from (*.safetensors); a fresh one without.")
@click.option("--output", required=True, type=options.FILE, help="Trained network, *.safetensors.")
@options.axes
@options.foreground
@options.steps
@options.segmentor_features
@options.weighting
@options.mean_teacher
@click.option(
    "--layers",
    type=click.Choice(["all", "head", "first-block", "norm"]),
    default="all",
    show_default=True,
    help="What is trained; the rest stays as it is.",
)
@click.option("--learning-rate", type=float, help="Of the training; 0.002 without.")
@click.option("--l2-to-start", default=0.0, show_default=True, help="Pull to the starting weights, e.g. 0.001.")
@click.option("--freeze-batch-norm", is_flag=True, help="Keep the statistics of batch normalisation as they are.")
@options.seed
@options.overwrite
@options.quiet
def finetune(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Train a segmentor on pseudo-labels; refuse one that ends worse than it began."""
    from s2d_zoo.cli.settings import segmentor  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.single_steps import FinetuneFiles, finetune_files  # noqa: PLC0415 - heavy

    files = FinetuneFiles(
        images=chosen["images"],
        pseudo_labels=chosen["pseudo_labels"],
        weights=chosen["weights"],
        held_out=chosen["held_out"],
        base_model=chosen["base_model"],
        axes=chosen["axes"],
    )
    training = finetune_files(
        files,
        chosen["output"],
        settings=segmentor(chosen),
        foreground=2 if chosen["foreground"] is None else chosen["foreground"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    if training.end is not None and training.start is not None:
        click.echo(f"IoU on held-out strokes: {training.end.iou:.3f}, before training {training.start.iou:.3f}")
    else:
        click.echo("not tested on held-out strokes: give --held-out, with strokes of foreground and background")
    click.echo(f"network: {chosen['output']}")
