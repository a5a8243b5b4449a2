"""`s2d-zoo list`: the models that are there without a network."""

import rich_click as click


@click.command(name="list")
@click.option("--tag", help="Only models with this tag, e.g. shallow2deep.")
def list_models(tag: str | None) -> None:
    """List the bundled models."""
    from s2d_zoo.zoo.collection import bundled_models  # noqa: PLC0415 - beside its use

    for entry in bundled_models():
        if tag is None or tag in entry.tags:
            size = entry.path.stat().st_size / 1e6
            click.echo(f"{entry.id}\t{entry.name}\t{entry.license}\t{size:.1f} MB\t{', '.join(entry.tags)}")
