"""`s2d-zoo pretrain`: train an enhancer on labelled source images."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click
from click.core import ParameterSource
from click.globals import get_current_context

from s2d_zoo.cli import options
from s2d_zoo.cli.long_runs import command_line, told_how_to_go_on

if TYPE_CHECKING:  # heavy
    from s2d_zoo.pipeline.pretrain import PretrainSettings

#: images, where there is nothing else to learn from
_SIMULATED: Final = 60
#: without a recipe
_NEEDED: Final = {"--output": "output", "--id": "identifier", "--name": "name"}
_BESIDE_A_RECIPE: Final = ("recipe", "output", "data_dir", "quiet")


@click.command()
@click.option("--recipe", type=options.FILE, help="TOML file with everything that follows, as in recipes/.")
@click.option("--dataset", "datasets", multiple=True, metavar="NAME[:LABEL]", help="Public dataset, once for each.")
@click.option("--simulated", type=int, help="Number of simulated images of nuclei; 60 if no dataset is named, else 0.")
@click.option("--data-dir", type=options.FILE, help="Folder with local copies of datasets.")
@click.option(
    "--output",
    type=options.FILE,
    help="Folder; an interrupted training there goes on. With --recipe, build/ID unless given.",
)
@click.option("--id", "identifier", help="Lower-case letters, digits and _-/. but these not first.")
@click.option("--name", help="Name of the model, 5 to 128 characters.")
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
    from s2d_zoo.pipeline.pretrain import pretrain as pretrain_enhancer  # noqa: PLC0415 - heavy

    if chosen["recipe"] is not None:
        settings = _read_recipe(chosen["recipe"])
        output = chosen["output"] or Path("build") / settings.id
    else:
        missing = [name for name, key in _NEEDED.items() if not chosen[key]]
        if missing:
            msg = f"Missing {', '.join(missing)}: they are needed unless a --recipe says everything."
            raise click.UsageError(msg)
        settings, output = _from_options(chosen), chosen["output"]
    with told_how_to_go_on():
        result = pretrain_enhancer(
            settings, output, command=command_line(), data_dir=chosen["data_dir"], progress=not chosen["quiet"]
        )
    click.echo(f"{result.training.steps} steps, best loss on validation images {result.training.validation_loss:.4f}")
    for one in result.comparisons:
        click.echo(f"IoU, {one.name}: RF {one.forest.iou:.3f}, enhanced {one.enhanced.iou:.3f}")
        if one.loss:
            click.echo(f"WARNING: {one.loss} More source images, forests or steps may help.", err=True)
    click.echo(f"package: {result.package}")
    click.echo(f"model card: {result.card}")


def _read_recipe(path: Path) -> "PretrainSettings":
    from s2d_zoo.pipeline.recipes import read_recipe  # noqa: PLC0415 - heavy

    context = get_current_context()
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in _BESIDE_A_RECIPE
        and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        msg = f"A recipe says everything: leave out {', '.join(given)}, or change the recipe."
        raise click.UsageError(msg)
    return read_recipe(path).pretrain


def _from_options(chosen: dict[str, Any]) -> "PretrainSettings":
    from s2d_zoo.cli.settings import attribution  # noqa: PLC0415 - heavy
    from s2d_zoo.enhancer.training import EnhancerSettings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.pretrain import PretrainSettings  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.pretrain_sources import SourceDataset, SourceSettings  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.source_forests import SourceForestSettings  # noqa: PLC0415 - heavy

    simulated = chosen["simulated"]
    if simulated is None:
        simulated = 0 if chosen["datasets"] else _SIMULATED
    enhancer = EnhancerSettings(features=chosen["features"])
    steps_per_epoch = min(enhancer.training.steps_per_epoch, chosen["steps"])
    training = replace(enhancer.training, steps=chosen["steps"], steps_per_epoch=steps_per_epoch)
    return PretrainSettings(
        id=chosen["identifier"],
        name=chosen["name"],
        description=chosen["description"],
        attribution=attribution(chosen),
        tags=chosen["tags"],
        source=SourceSettings(
            datasets=tuple(map(SourceDataset.parse, chosen["datasets"])),
            n_simulated=simulated,
        ),
        forests=SourceForestSettings(
            n_forests=chosen["forests"], n_stages=chosen["stages"], n_estimators=chosen["trees"]
        ),
        enhancer=replace(enhancer, training=training),
        seed=chosen["seed"],
    )
