"""`s2d-zoo demo`: `adapt` on simulated nuclei with a bundled enhancer."""

from pathlib import Path
from typing import Any, Final

import rich_click as click

from s2d_zoo.cli import options

#: options of `adapt` that the demo does not offer
_FIXED: Final = {
    "authors": ("s2d-zoo demo",),
    "license_": "CC0-1.0",
    "cite": (),
    "name": "Demo segmentor of simulated nuclei",
    "class_names": None,
    "foreground": 2,
    "forests": 5,
    "confidence": 0.8,
    "rescale": "1",
    "segmentor_features": 8,
    "weighting": "consensus",
    "mean_teacher": False,
    "resume": False,
}


@click.command()
@click.option(
    "--output", default=Path("demo-output"), show_default=True, type=options.FILE, help="Folder for everything."
)
@click.option("--size", default=256, show_default=True, help="Side of the simulated images, px.")
@click.option("--strokes", default=10, show_default=True, help="Strokes per class.")
@options.trees
@click.option("--steps", default=200, show_default=True, help="Training steps of the segmentor.")
@options.seed
@options.overwrite
@options.quiet
@click.pass_context
def demo(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Run adapt on simulated, very noisy nuclei with a bundled enhancer."""
    from s2d_zoo.cli.adapt import run_adapt  # noqa: PLC0415 - heavy
    from s2d_zoo.cli.settings import adapt_settings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.demo import write_demo_inputs  # noqa: PLC0415 - heavy

    output = chosen["output"]
    everything = {**chosen, **_FIXED}
    adapt_settings(everything)  # what is wrong with them shall be said before anything is written
    inputs = write_demo_inputs(
        output, size=chosen["size"], n_strokes=chosen["strokes"], seed=chosen["seed"], overwrite=chosen["overwrite"]
    )
    run_adapt(ctx, inputs, output / "adapted", everything)
