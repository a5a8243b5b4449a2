"""`s2d-zoo list`: the models that come along, or those of the online zoo."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import rich_click as click


@click.command(name="list")
@click.option(
    "--source",
    type=click.Choice(["bundled", "zoo"]),
    default="bundled",
    show_default=True,
    help="Models that come with s2d-zoo, or those of the BioImage Model Zoo.",
)
@click.option("--tag", help="Only models with this tag, e.g. shallow2deep.")
@click.option("--search", metavar="WORDS", help="Only models that have all these words in id, name, text or tags.")
@click.option("--offline", is_flag=True, help="Show the zoo's list as it was fetched last; never use the network.")
def list_models(source: str, tag: str | None, search: str | None, *, offline: bool) -> None:
    """List models: id, name, licence, version or size, tags.

    The zoo's list is fetched once a day; its age is told on stderr.
    """
    from s2d_zoo.zoo.catalog import read_catalog  # noqa: PLC0415 - heavy
    from s2d_zoo.zoo.collection import bundled_models  # noqa: PLC0415 - heavy

    if source == "bundled":
        listed = [(one.entry, f"{one.path.stat().st_size / 1e6:.1f} MB") for one in bundled_models()]
    else:
        catalog = read_catalog(offline=offline)
        click.echo(f"The zoo's list, {catalog.age()} old: {len(catalog.entries)} models.", err=True)
        listed = [(entry, entry.newest) for entry in catalog.entries]
    found = 0
    words = (search or "").casefold().split()
    for entry, detail in listed:
        text = " ".join((entry.id, entry.name, entry.description, *entry.tags)).casefold()
        has_tag = tag is None or tag.lower() in map(str.lower, entry.tags)
        if has_tag and all(word in text for word in words):
            click.echo(f"{entry.id}\t{entry.name}\t{entry.license}\t{detail}\t{', '.join(entry.tags)}")
            found += 1
    if not found:
        known = {one.lower() for entry, _ in listed for one in entry.tags}
        click.echo(f"None of the {len(listed)} models has {_sought(tag, words, known)}.", err=True)


def _sought(tag: str | None, words: Sequence[str], known: Iterable[str]) -> str:
    """What nothing has, with the tags that may have been meant if there is none such."""
    parts = ["all of these words"] if words else []
    if tag is not None:
        known = sorted(known)
        similar = get_close_matches(tag.lower(), known) or [one for one in known if tag.lower() in one]
        meant = f" (similar: {', '.join(similar)})" if similar and tag.lower() not in known else ""
        parts.insert(0, f"the tag {tag!r}{meant}")
    return " and ".join(parts)
