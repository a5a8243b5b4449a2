"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path

import rich_click as click

#: not click's own checks: our readers say what is wrong with a file
FILE = click.Path(path_type=Path)

authors = click.option(
    "--authors",
    multiple=True,
    metavar="'NAME; AFFILIATION; ORCID'",
    help="Author of the model, once for each; affiliation, ORCID iD and @github-user may follow the name.",
)
cite = click.option(
    "--cite",
    multiple=True,
    metavar="'TEXT; DOI'",
    help="Publication to cite, once for each; Shallow2Deep and U-Net are always cited.",
)
license_ = click.option("--license", "license_", metavar="SPDX", help="Licence of the model, e.g. CC-BY-4.0.")
#: what numpy, torch and scikit-learn all take, with room for the seeds that are counted on from it
_SEEDS = click.IntRange(0, 2**31 - 1)
seed = click.option(
    "--seed", default=0, show_default=True, type=_SEEDS, help="Same seed, same files: same results, bit by bit."
)
foreground = click.option(
    "--foreground", default=2, show_default=True, metavar="LABEL", help="Label of the objects in the strokes."
)
class_names = click.option("--class-names", metavar="A,B,…", help="Name of label 1, 2, …; for the RF contract.")
axes = click.option("--axes", metavar="LETTERS", help="Axes of the image, e.g. zyxc, where the file does not tell.")
quiet = click.option("--quiet", is_flag=True, help="No progress bars.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
steps = click.option("--steps", default=600, show_default=True, help="Training steps of the segmentor.")
segmentor_features = click.option(
    "--segmentor-features", default=8, show_default=True, help="Channels of the segmentor's first level."
)
fused_trees = click.option("--fused-trees", type=int, metavar="N", help="Only the first trees go into the fused model.")
max_depth = click.option("--max-depth", type=int, metavar="D", help="Trees of the fused model are cut off below it.")
trees = click.option("--trees", default=100, show_default=True, help="Trees of each forest.")


def split_names(text: str | None) -> tuple[str, ...] | None:
    """``"a,b"`` as ``("a", "b")``."""
    return tuple(name.strip() for name in text.split(",")) if text else None
