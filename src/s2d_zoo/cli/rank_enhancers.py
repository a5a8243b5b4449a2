"""`s2d-zoo rank-enhancers`: which enhancer suits an image best."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command(name="rank-enhancers")
@click.option("--image", "images", multiple=True, type=options.FILE, help="Image, once for each.")
@click.option("--scribbles", multiple=True, type=options.FILE, help="Strokes on it: a label image, 0 = unlabelled.")
@options.ilastik_project
@click.option(
    "--enhancer",
    "enhancers",
    multiple=True,
    metavar="ID|PATH",
    help="Further enhancer, once for each; the bundled and the downloaded ones are ranked in any case.",
)
@click.option("--tag", help="Of the bundled and the downloaded ones only those with this tag, e.g. nuclei.")
@options.trust_code
@click.option(
    "--rescale",
    "factors",
    multiple=True,
    type=float,
    metavar="FACTOR",
    help="Further scale to try, once for each, beside 1 and the one that follows from the pixel sizes.",
)
@options.axes
@options.foreground
@options.trees
@click.option("--json", "json_", type=options.FILE, help="File for the ranking as JSON.")
@options.seed
@options.overwrite
@options.quiet
@click.pass_context
def rank_enhancers(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Order enhancers for images without ground truth, by held-out strokes, stability and contract, and say why.

    Exit codes: 0 there is one to use, 1 there is none or a file cannot be read, 2 options or inputs have to be changed.
    """
    from s2d_zoo.data.atomic import write_json  # noqa: PLC0415 - beside its use
    from s2d_zoo.pipeline import ranking  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.classification import refuse_existing  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.ranking_report import to_dict, to_text  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.classifier import ForestSettings  # noqa: PLC0415 - heavy

    names = ("images", "scribbles", "ilastik_project", "axes")
    inputs = ranking.RankInputs(**{name: chosen[name] for name in names})
    settings = ranking.RankSettings(
        forest=ForestSettings(n_estimators=chosen["trees"]),
        **{name: chosen[name] for name in ("enhancers", "tag", "factors", "trust_code", "foreground", "seed")},
    )
    if chosen["json_"] is not None:
        project = () if inputs.ilastik_project is None else (inputs.ilastik_project,)
        given = (*inputs.images, *inputs.scribbles, *project)
        refuse_existing(chosen["json_"], overwrite=chosen["overwrite"], inputs=given)
    ranked = ranking.rank_enhancers(inputs, settings, progress=not chosen["quiet"])
    if chosen["json_"] is not None:
        write_json(chosen["json_"], to_dict(ranked))
    click.echo(to_text(ranked))
    ctx.exit(0 if ranked.best is not None else 1)
