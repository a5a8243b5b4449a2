"""`s2d-zoo adapt`: strokes, an ilastik project or probabilities in, validated packages out."""

from pathlib import Path
from typing import Any, Literal

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--image", "images", multiple=True, type=options.FILE, help="Image, once for each.")
@click.option("--scribbles", multiple=True, type=options.FILE, help="Strokes on it: a label image, 0 = unlabelled.")
@options.ilastik_project
@options.retrain
@click.option(
    "--probabilities",
    multiple=True,
    type=options.FILE,
    help="What another classifier says of the image, once for each.",
)
@options.channel
@click.option("--enhancer", required=True, metavar="ID|PATH", help="Enhancer (s2d-zoo list), or a package.")
@options.base_model
@options.trust_code
@click.option("--output", required=True, type=options.FILE, help="Folder for everything that is made.")
@click.option("--ground-truth", multiple=True, type=options.FILE, help="Labels of each image, for scores only.")
@click.option("--test-image", "test_images", multiple=True, type=options.FILE, help="Further image to score on.")
@click.option("--test-ground-truth", multiple=True, type=options.FILE, help="Labels of each test image.")
@options.axes
@options.authors
@options.license_
@options.cite
@click.option("--name", default="Segmentor adapted with s2d-zoo", show_default=True, help="Name of the model.")
@options.foreground
@options.class_names
@click.option("--forests", default=5, show_default=True, help="Forests that vote on the pseudo-labels.")
@click.option(
    "--confidence",
    default=0.8,
    show_default=True,
    help="A forest votes on a pixel if its enhanced foreground is at least this, or at most 1 minus this.",
)
@click.option("--rescale", default="1", show_default=True, metavar="FACTOR|auto", help="Resize probabilities first.")
@options.trees
@options.fused_trees
@options.max_depth
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
@options.seed
@options.overwrite
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same files and options.")
@options.quiet
@click.pass_context
def adapt(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Strokes in, validated packages out: forest, enhancer, pseudo-labels, segmentor, report.

    Give images with strokes (--image, --scribbles), an ilastik project with both, or images with probabilities of
    another classifier (--image, --probabilities).
    """
    from s2d_zoo.pipeline.inputs import AdaptInputs  # noqa: PLC0415 - heavy

    inputs = AdaptInputs(
        images=chosen["images"],
        scribbles=chosen["scribbles"],
        ilastik_project=chosen["ilastik_project"],
        retrain=chosen["retrain"],
        base_model=chosen["base_model"],
        trust_code=chosen["trust_code"],
        probabilities=chosen["probabilities"],
        enhancer=chosen["enhancer"],
        ground_truth=chosen["ground_truth"],
        test_images=chosen["test_images"],
        test_ground_truth=chosen["test_ground_truth"],
        axes=chosen["axes"],
    )
    run_adapt(ctx, inputs, chosen["output"], chosen)


def run_adapt(ctx: click.RichContext, inputs: Any, output: Path, chosen: dict[str, Any]) -> None:  # noqa: ANN401 - heavy
    """Adapt, write the report, say where everything lies; ends with exit code 1 if a result is not good."""
    from s2d_zoo.cli.settings import adapt_settings  # noqa: PLC0415 - heavy
    from s2d_zoo.errors import ConfigError  # noqa: PLC0415 - beside its use
    from s2d_zoo.pipeline.adapt import adapt as adapt_files  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.report import write_report  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.rendering import in_words  # noqa: PLC0415 - heavy

    if chosen["overwrite"] and chosen["resume"]:
        msg = "Choose one of --overwrite (begin anew) and --resume (go on)."
        raise ConfigError(msg)
    existing: Literal["refuse", "overwrite", "resume"] = (
        "overwrite" if chosen["overwrite"] else "resume" if chosen["resume"] else "refuse"
    )
    try:
        result = adapt_files(inputs, adapt_settings(chosen), output, existing=existing, progress=not chosen["quiet"])
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command with --resume goes on from the last checkpoint.", err=True)
        raise
    report = write_report(result)
    for subset, methods in result.scores.items():
        for method, score in methods.items():
            # rounded as in the report, whose figures have four digits
            click.echo(f"IoU, {subset} images, {method}: {round(score.iou, 4):.3f}")
    click.echo(f"pseudo-labels kept: {100 * result.kept:.1f} %")
    _echo_segmentor(result.segmentors)
    for package, validation in zip(result.packages, result.validation, strict=True):
        click.echo(f"package: {package} ({in_words(validation)})")
    click.echo(f"report: {report}")
    if result.loss is not None:
        click.echo(f"The forest in the fused package was {result.loss}.")
    if result.not_fused:
        click.echo(f"No fused package: {result.not_fused}.", err=True)
    ctx.exit(0 if result.good else 1)


def _echo_segmentor(segmentors: Any) -> None:  # noqa: ANN401 - heavy
    """How it does on strokes that it never saw, or why there is none."""
    from s2d_zoo.pipeline.finetuning import POOR_IOU  # noqa: PLC0415 - heavy

    if segmentors.problem:
        click.echo(f"No segmentor: {segmentors.problem}", err=True)
    training = segmentors.training
    if training.end is None:
        click.echo("segmentor not tested: of three or more strokes of each class, one would be held out", err=True)
        return
    click.echo(f"IoU, held-out strokes, segmentor: {training.end.iou:.3f} (its start: {training.start.iou:.3f})")
    if segmentors.difference is not None:
        errors = (training.end.calibration_error, training.start.calibration_error)
        click.echo(f"calibration error there: {errors[0]:.3f} (its start: {errors[1]:.3f})")
        click.echo(f"weights: {segmentors.difference}")
    if training.worse and not segmentors.problem:
        click.echo(f"Worse than its start ({training.worse}), and given out because of --allow-worse.", err=True)
    if training.end.iou < POOR_IOU:
        click.echo(
            "The segmentor finds hardly any of the held-out strokes: look at the pictures in the report before you use "
            "it. More --steps, or more strokes, may help.",
            err=True,
        )
