"""`s2d-zoo pretrain`: train an enhancer on labelled source images."""

import os
import shlex
import sys
from dataclasses import replace
from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--dataset", "datasets", multiple=True, help="Public dataset with instance labels, once for each.")
@click.option("--simulated", default=60, show_default=True, help="Number of simulated images of nuclei.")
@click.option("--data-dir", type=options.FILE, help="Folder with local copies of datasets.")
@click.option("--output", required=True, type=options.FILE, help="Folder; an interrupted training there goes on.")
@click.option("--id", "identifier", required=True, help="Lower-case letters, digits and hyphens.")
@click.option("--name", required=True, help="Name of the model, 5 to 128 characters.")
@click.option(
    "--description",
    default="Corrects the probabilities of a Random Forest that was fitted on a few brush strokes.",
    help="One or two sentences.",
)
@click.option("--tag", "tags", multiple=True, help="What it is for, in the zoo's words, e.g. nuclei.")
@options.authors
@options.license_
@options.cite
@click.option("--forests", default=120, show_default=True, help="Number of source forests.")
@click.option("--stages", default=3, show_default=True, help="Stages; each adds tiles where the one before was wrong.")
@click.option("--features", default=12, show_default=True, help="Channels of the network's first level.")
@options.trees
@click.option("--steps", default=3000, show_default=True, help="Training steps, at most.")
@options.seed
@options.quiet
def pretrain(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Train an enhancer over many forests, and write its package and model card."""
    from s2d_zoo.cli.settings import attribution  # noqa: PLC0415 - heavy
    from s2d_zoo.enhancer.training import EnhancerSettings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.pretrain import PretrainSettings, SourceSettings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.pretrain import pretrain as pretrain_enhancer  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.source_forests import SourceForestSettings  # noqa: PLC0415 - heavy

    enhancer = EnhancerSettings(features=chosen["features"])
    steps_per_epoch = min(enhancer.training.steps_per_epoch, chosen["steps"])
    training = replace(enhancer.training, steps=chosen["steps"], steps_per_epoch=steps_per_epoch)
    settings = PretrainSettings(
        id=chosen["identifier"],
        name=chosen["name"],
        description=chosen["description"],
        attribution=attribution(chosen),
        tags=chosen["tags"],
        source=SourceSettings(datasets=chosen["datasets"], n_simulated=chosen["simulated"]),
        forests=SourceForestSettings(
            n_forests=chosen["forests"], n_stages=chosen["stages"], n_estimators=chosen["trees"]
        ),
        enhancer=replace(enhancer, training=training),
        seed=chosen["seed"],
    )
    threads = os.environ.get("OMP_NUM_THREADS")  # results depend on it in their last bits
    command = (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join(["s2d-zoo", *sys.argv[1:]])
    result = pretrain_enhancer(
        settings, chosen["output"], command=command, data_dir=chosen["data_dir"], progress=not chosen["quiet"]
    )
    for one in result.comparisons:
        click.echo(f"IoU, {one.name}: RF {one.forest.iou:.3f}, enhanced {one.enhanced.iou:.3f}")
    click.echo(f"package: {result.package}")
    click.echo(f"model card: {result.card}")
