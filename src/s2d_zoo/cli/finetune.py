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
@click.option(
    "--held-out",
    multiple=True,
    type=options.FILE,
    help="Strokes of each image to be tested on, in no pseudo-label; adapt writes them.",
)
@options.base_model
@options.trust_code
@click.option(
    "--output",
    required=True,
    type=options.FILE,
    help="Network, *.safetensors; of a model in a package, a package, *.zip.",
)
@options.axes
@options.foreground
@options.steps
@options.segmentor_features
@options.weighting
@options.mean_teacher
@options.layers
@options.learning_rate
@options.ema_decay
@options.l2_to_start
@options.freeze_batch_norm
@options.precision
@options.allow_worse
@options.name
@options.authors
@options.license_
@options.cite
@options.training_data
@options.training_data_license
@options.seed
@options.overwrite
@options.quiet
@click.pass_context
def finetune(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Train a segmentor on pseudo-labels: a fresh one, or a model of the zoo; refuse one that ends worse than it began.

    A model out of a package becomes a package again, which names where it came from: give --authors and --license.
    """
    from s2d_zoo.cli.settings import segmentor, words_if_given  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.finetuning import FinetuneFiles, finetune_files  # noqa: PLC0415 - heavy

    files = FinetuneFiles(
        images=chosen["images"],
        pseudo_labels=chosen["pseudo_labels"],
        weights=chosen["weights"],
        held_out=chosen["held_out"],
        base_model=chosen["base_model"],
        trust_code=chosen["trust_code"],
        axes=chosen["axes"],
    )
    done = finetune_files(
        files,
        chosen["output"],
        settings=segmentor(chosen),
        words=words_if_given(chosen, "Segments raw images. A published model, trained further on pseudo-labels."),
        foreground=2 if chosen["foreground"] is None else chosen["foreground"],
        allow_worse=chosen["allow_worse"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    ctx.exit(echo_finetuned(done, chosen["output"]))


def echo_finetuned(done: Any, output: Any) -> int:  # noqa: ANN401 - heavy
    """Say what came out of a training, and where it lies; the exit code."""
    from s2d_zoo.validate.rendering import in_words  # noqa: PLC0415 - heavy

    training = done.training
    if training.start is not None and training.end is not None:
        click.echo(f"IoU on held-out strokes: {training.end.iou:.3f}, before training {training.start.iou:.3f}")
        errors = (training.end.calibration_error, training.start.calibration_error)
        click.echo(f"calibration error there: {errors[0]:.3f}, before training {errors[1]:.3f}")
    else:
        click.echo(
            "not tested on held-out strokes: three or more strokes of each class are needed, to hold one of each out"
        )
    if training.worse:
        click.echo(f"Worse than its start ({training.worse}), and written because of --allow-worse.", err=True)
    if done.difference is not None:
        click.echo(f"weights: {done.difference}")
    if done.validation is None:
        click.echo(f"network: {output}")
    else:
        click.echo(f"package: {output} ({in_words(done.validation)})")
    click.echo(f"report: {done.report}")
    return 0 if done.validation is None or done.validation.passed else 1
