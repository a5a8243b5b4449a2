"""`s2d-zoo fuse`: a forest and an enhancer as one model that runs on raw images."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--classifier", type=options.FILE, help="Saved forest, *.safetensors.")
@options.ilastik_project
@options.foreground
@click.option("--enhancer", required=True, metavar="ID|PATH", help="Enhancer (s2d-zoo list), or a package.")
@click.option("--image", required=True, type=options.FILE, help="A raw image, for the test tensors and the cover.")
@click.option("--output", required=True, type=options.FILE, help="Package, *.zip.")
@click.option("--id", "identifier", required=True, help="Lower-case letters, digits and _-/. but these not first.")
@click.option("--name", required=True, help="Name of the model, 5 to 128 characters.")
@options.fused_trees
@options.max_depth
@options.authors
@options.license_
@options.cite
@options.axes
@options.overwrite
@options.quiet
@click.pass_context
def fuse(ctx: click.RichContext, /, **chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Write filters, forest and enhancer as one model for programs that know nothing of forests, and validate it."""
    from s2d_zoo.cli.settings import attribution  # noqa: PLC0415 - heavy
    from s2d_zoo.pipeline.fusion import FusedWords, FusionSettings, fuse_files  # noqa: PLC0415 - heavy
    from s2d_zoo.validate.rendering import to_text  # noqa: PLC0415 - heavy

    validation, loss = fuse_files(
        options.one_classifier(chosen["classifier"], chosen["ilastik_project"]),
        chosen["image"],
        chosen["output"],
        enhancer=chosen["enhancer"],
        words=FusedWords(id=chosen["identifier"], name=chosen["name"], attribution=attribution(chosen)),
        settings=FusionSettings(trees=chosen["fused_trees"], max_depth=chosen["max_depth"]),
        foreground=chosen["foreground"],
        axes=chosen["axes"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    click.echo(to_text(validation), nl=False)
    if loss is not None:
        click.echo(f"The forest was {loss}.")
    ctx.exit(validation.exit_code)
