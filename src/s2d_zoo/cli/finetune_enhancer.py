"""`s2d-zoo finetune-enhancer`: train an enhancer further on strokes."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options
from s2d_zoo.cli.finetune import echo_finetuned


@click.command()
@click.option("--image", "images", multiple=True, type=options.FILE, help="Image, once for each.")
@click.option("--scribbles", multiple=True, type=options.FILE, help="Strokes on it: a label image, 0 = unlabelled.")
@options.ilastik_project
@click.option("--dense-labels", multiple=True, type=options.FILE, help="Labels of all pixels of each image, if any.")
@click.option("--enhancer", required=True, metavar="ID|PATH", help="Enhancer to train further (s2d-zoo list).")
@options.trust_code
@click.option("--output", required=True, type=options.FILE, help="Package, *.zip.")
@options.axes
@options.foreground
@click.option("--forests", default=5, show_default=True, help="Forests, each fitted on other strokes.")
@options.trees
@click.option("--steps", default=300, show_default=True, help="Training steps.")
@options.layers
@options.learning_rate
@options.ema_decay
@options.l2_to_start
@options.precision
@click.option("--held-out", default=0.2, show_default=True, help="Share of the strokes to be tested on.")
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
def finetune_enhancer(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Train an enhancer further on strokes (and dense labels); refuse one that ends worse than it began."""
    from s2d_zoo.cli.settings import enhancer_finetuning, model_words  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.enhancer_files import finetune_enhancer_files  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.inputs import AdaptInputs  # noqa: PLC0415 - heavy

    inputs = AdaptInputs(
        images=chosen["images"],
        scribbles=chosen["scribbles"],
        ilastik_project=chosen["ilastik_project"],
        ground_truth=chosen["dense_labels"],
        enhancer=chosen["enhancer"],
        trust_code=chosen["trust_code"],
        axes=chosen["axes"],
    )
    done = finetune_enhancer_files(
        inputs,
        chosen["output"],
        settings=enhancer_finetuning(chosen),
        words=model_words(chosen, "Corrects the probabilities of a Random Forest. An enhancer, trained further."),
        foreground=chosen["foreground"],
        held_out=chosen["held_out"],
        allow_worse=chosen["allow_worse"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    ctx.exit(echo_finetuned(done, chosen["output"]))
