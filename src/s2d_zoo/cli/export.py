"""`s2d-zoo export`: write a trained network as a bioimage.io package."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--network", required=True, type=options.FILE, help="Trained segmentor, *.safetensors.")
@click.option("--image", required=True, type=options.FILE, help="A raw image, for the test tensors and the cover.")
@click.option("--output", required=True, type=options.FILE, help="Package, *.zip.")
@click.option("--id", "identifier", required=True, help="Lower-case letters, digits and _-/. but these not first.")
@click.option("--name", required=True, help="Name of the model, 5 to 128 characters.")
@click.option("--description", default="Segments foreground and boundary in raw images.", help="One or two sentences.")
@click.option("--training-data", required=True, help="What it was trained on, in words.")
@click.option("--training-data-license", default="not stated", show_default=True, help="Licence of that.")
@options.authors
@options.license_
@options.cite
@options.axes
@options.seed
@options.overwrite
@click.pass_context
def export(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Write a trained segmentor as a bioimage.io package, and validate it."""
    from s2d_zoo.cli.settings import attribution  # noqa: PLC0415 - heavy
    from s2d_zoo.export.description import ModelDetails  # noqa: PLC0415 - heavy
    from s2d_zoo.export.model_card import CardFacts  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.single_steps import export_file  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.rendering import to_text  # noqa: PLC0415 - heavy

    details = ModelDetails(
        id=chosen["identifier"],
        name=chosen["name"],
        description=chosen["description"],
        attribution=attribution(chosen),
        kind="segmentor",
    )
    facts = CardFacts(
        training_data=chosen["training_data"],
        training_data_license=chosen["training_data_license"],
        strokes="not stated",
        seed=chosen["seed"],
    )
    validation = export_file(
        chosen["network"],
        chosen["image"],
        chosen["output"],
        details=details,
        facts=facts,
        axes=chosen["axes"],
        overwrite=chosen["overwrite"],
    )
    click.echo(to_text(validation), nl=False)
    ctx.exit(validation.exit_code)
