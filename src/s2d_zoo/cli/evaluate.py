"""`s2d-zoo evaluate`: what a model or a method is worth."""

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from s2d_zoo.cli import options
from s2d_zoo.cli.evaluate_quality import quality, read_strokes
from s2d_zoo.cli.long_runs import command_line, told_how_to_go_on


@click.group()
def evaluate() -> None:
    """Measure an enhancer, or what pretraining buys."""


evaluate.add_command(quality)


@evaluate.command()
@click.option("--image", "images", multiple=True, type=options.FILE, help="Labelled image, once for each.")
@click.option("--ground-truth", multiple=True, type=options.FILE, help="Labels of each image, 0 = background.")
@click.option(
    "--test-image",
    "test_images",
    multiple=True,
    type=options.FILE,
    help="Image to score on; without any, the last third of the images is held out.",
)
@click.option("--test-ground-truth", multiple=True, type=options.FILE, help="Labels of each test image.")
@click.option("--dataset", help="Public dataset in place of files: strokes on its train split, scores on test.")
@click.option("--data-dir", type=options.FILE, help="Folder with local copies of datasets.")
@options.axes
@click.option(
    "--budgets", default="1,2,5,10,20", show_default=True, metavar="N,N,…", help="Strokes per class and image."
)
@click.option(
    "--starts",
    metavar="A,B,…",
    help="Of random, pretrained, enhancer; without it all of them, pretrained only with --base-model.",
)
@click.option("--seeds", default=3, show_default=True, help="How often, each time with other strokes.")
@click.option(
    "--enhancer", default="nuclei-fluo-2d", show_default=True, metavar="ID|PATH", help="Enhancer, or a package."
)
@click.option("--base-model", metavar="ID|PATH", help="Model of raw images for the start pretrained.")
@options.trust_code
@click.option("--steps", default=300, show_default=True, help="Training steps of each network.")
@options.trees
@click.option("--output", required=True, type=options.FILE, help="Folder; finished cells in it are not run again.")
@click.option("--overwrite", is_flag=True, help="Run cells again that were made from other files or options.")
@options.quiet
def transfer(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Score against number of strokes, for a random start, a pretrained model, and an enhancer."""
    from s2d_zoo.pipeline.transfer import evaluate_transfer  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.transfer_inputs import TransferInputs, TransferSettings, with_steps  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.transfer_report import to_table, write_transfer_report  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.classifier import ForestSettings  # noqa: PLC0415 - heavy

    names = ("images", "ground_truth", "test_images", "test_ground_truth", "dataset", "data_dir", "axes")
    inputs = TransferInputs(**{name: chosen[name] for name in (*names, "enhancer", "base_model", "trust_code")})
    usual = ("random", "pretrained", "enhancer") if inputs.base_model else ("random", "enhancer")
    settings = TransferSettings(
        budgets=read_strokes(chosen["budgets"], option="--budgets"),
        starts=options.split_names(chosen["starts"]) or usual,  # type: ignore[arg-type] # it checks them itself
        n_seeds=chosen["seeds"],
        forest=ForestSettings(n_estimators=chosen["trees"]),
        segmentor=with_steps(chosen["steps"]),
    )
    output: Path = chosen["output"]
    with told_how_to_go_on():
        result = evaluate_transfer(
            inputs,
            settings,
            output,
            overwrite=chosen["overwrite"],
            tell=None if chosen["quiet"] else partial(click.echo, err=True),
            progress=not chosen["quiet"],
        )
    report = write_transfer_report(result, output, command=command_line())
    if result.n_kept:
        click.echo(f"{result.n_kept} of {len(result.cells)} cells were there already.", err=True)
    click.echo(to_table(result))
    click.echo(f"report: {report}", err=True)
