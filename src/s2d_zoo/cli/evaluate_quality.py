"""`s2d-zoo evaluate quality`: what an enhancer is worth on data that it never saw."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from s2d_zoo.cli import options
from s2d_zoo.cli.long_runs import command_line, told_how_to_go_on
from s2d_zoo.errors import ConfigError


@click.command()
@click.option("--recipe", required=True, type=options.FILE, metavar="FILE.toml", help="Of the enhancer, with targets.")
@click.option(
    "--enhancer",
    metavar="ID|PATH",
    help="Enhancer, or a package; without, what pretrain made of the recipe below build, or the bundled one.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Measure this target of the recipe only, once for each; without, all.",
)
@click.option("--data-dir", type=options.FILE, help="Folder with local copies of datasets.")
@click.option(
    "--strokes", default="5,15,40", show_default=True, metavar="N,N,…", help="Strokes per class and painted image."
)
@click.option("--seeds", default=5, show_default=True, help="How often, each time with other strokes.")
@click.option(
    "--training-strokes",
    type=int,
    help="Strokes that segmentors learn from, one of --strokes; without, 15, or the most if 15 is not among them.",
)
@click.option("--training-seeds", default=3, show_default=True, help="How often networks are trained.")
@click.option("--forests", default=5, show_default=True, help="Forests of a consensus.")
@options.trees
@options.weighting
@click.option("--steps", default=1000, show_default=True, help="Training steps of each segmentor.")
@click.option("--direct-steps", type=int, help="Training steps of the direct network; those of the enhancer without.")
@click.option("--output", required=True, type=options.FILE, help="Folder; finished cells in it are not run again.")
@click.option("--overwrite", is_flag=True, help="Run cells again that were made from other files or options.")
@options.quiet
def quality(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Forest, enhancer, segmentors and rivals on other datasets, with strokes simulated there."""
    from s2d_zoo.pipeline.quality import evaluate_quality  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.quality_inputs import QualitySettings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.quality_recipe import (  # noqa: PLC0415 - heavy
        direct_like,
        enhancer_of,
        segmentors_like,
        sources_of,
        stated_datasets,
        tell_if_made_otherwise,
    )
    from s2d_zoo.pipeline.quality_report import to_table, write_quality_report  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.recipes import read_recipe  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.classifier import ForestSettings  # noqa: PLC0415 - heavy

    recipe = read_recipe(chosen["recipe"])
    strokes = read_strokes(chosen["strokes"], option="--strokes")
    training_strokes = chosen["training_strokes"]
    if training_strokes is None:
        usual = QualitySettings().training_strokes
        training_strokes = usual if usual in strokes else max(strokes)
    settings = QualitySettings(
        strokes=strokes,
        n_seeds=chosen["seeds"],
        training_strokes=training_strokes,
        n_training_seeds=chosen["training_seeds"],
        n_forests=chosen["forests"],
        forest=ForestSettings(n_estimators=chosen["trees"]),
        segmentor=segmentors_like(recipe.pretrain, weighting=chosen["weighting"]),
        direct=direct_like(recipe.pretrain),
    ).with_steps(segmentor=chosen["steps"], direct=chosen["direct_steps"])
    output: Path = chosen["output"]
    package = enhancer_of(recipe, chosen["enhancer"])
    sources = sources_of(recipe, data_dir=chosen["data_dir"])
    click.echo(f"measured: {package}", err=True)
    if doubt := tell_if_made_otherwise(package, recipe, sources):
        click.echo(f"WARNING: {doubt}", err=True)
        sources = replace(sources, doubt=doubt, stated=stated_datasets(package))
    with told_how_to_go_on():
        result = evaluate_quality(
            package,
            recipe.targets,
            sources,
            settings,
            output,
            chosen=chosen["targets"],
            data_dir=chosen["data_dir"],
            overwrite=chosen["overwrite"],
            tell=None if chosen["quiet"] else partial(click.echo, err=True),
            progress=not chosen["quiet"],
        )
    report = write_quality_report(result, output, command=command_line())
    if result.n_kept:
        click.echo(f"{result.n_kept} cells were there already.", err=True)
    for target in result.targets:
        click.echo(f"{target.data.target.name}\n\n{to_table(target)}\n")
    click.echo(f"report: {report}", err=True)


def read_strokes(text: str, *, option: str) -> tuple[int, ...]:
    """``"1,5"`` as ``(1, 5)``.

    Raises:
        ConfigError: for anything but whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"{option} takes whole numbers of strokes, e.g. 5,15,40; got {text!r}."
        raise ConfigError(msg) from None
