"""`s2d-zoo download`: a model of the zoo, as a folder package."""

from pathlib import Path

import rich_click as click

from s2d_zoo.cli import options


@click.command(name="download")
@click.argument("model")
@click.option("--output", type=options.FILE, help="Folder for a copy; without it the model stays in the cache only.")
@click.option("--offline", is_flag=True, help="Take what is in the cache; never use the network.")
@options.overwrite
@options.quiet
def download(model: str, output: Path | None, *, offline: bool, overwrite: bool, quiet: bool) -> None:
    """Fetch a model: its id in the zoo, a DOI, an address, or a local zip or folder.

    Prints the folder of the package.
    """
    from s2d_zoo.zoo.download import check_free, copy_package, download_model  # noqa: PLC0415 - heavy

    if output is not None:
        check_free(output, overwrite=overwrite)
    found = download_model(model, offline=offline, progress=not quiet)
    click.echo(found.folder if output is None else copy_package(found, output, overwrite=overwrite))
