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
name = click.option("--name", help="Name of the model, 5 to 128 characters; of a package only.")
training_data = click.option("--training-data", help="What it was trained on, in words; without, the number of images.")
training_data_license = click.option(
    "--training-data-license", default="not stated; that of the images", show_default=True, help="Licence of that."
)
license_ = click.option("--license", "license_", metavar="SPDX", help="Licence of the model, e.g. CC-BY-4.0.")
#: what numpy, torch and scikit-learn all take, with room for the seeds that are counted on from it
_SEEDS = click.IntRange(0, 2**31 - 1)
seed = click.option(
    "--seed", default=0, show_default=True, type=_SEEDS, help="Same seed, same files: same results, bit by bit."
)
foreground = click.option(
    "--foreground",
    type=int,
    metavar="LABEL",
    help="Label of the objects in the strokes; 2, unless the names of a project's labels say otherwise.",
)
ilastik_project = click.option(
    "--ilastik-project", type=FILE, metavar="FILE.ilp", help="Project with strokes, features and a trained forest."
)
trust_code = click.option(
    "--trust-code", is_flag=True, help="Run Python code of a model's package, if its network needs that."
)
base_model = click.option(
    "--base-model",
    metavar="ID|PATH",
    help="Model to train further: a downloaded one, or a package; without, a fresh network.",
)
layers = click.option(
    "--layers",
    type=click.Choice(["all", "head", "first-block", "norm"]),
    default="all",
    show_default=True,
    help="What is trained; the rest stays as it is.",
)
learning_rate = click.option(
    "--learning-rate", type=float, help="Of the training; without, 0.002 for a fresh network and 0.0002 for others."
)
ema_decay = click.option(
    "--ema-decay",
    default=0.97,
    show_default=True,
    help="Decay of the running mean of the weights, which becomes the model; 0 keeps the last weights.",
)
l2_to_start = click.option(
    "--l2-to-start", default=0.0, show_default=True, help="Pull to the starting weights, e.g. 0.001."
)
freeze_batch_norm = click.option(
    "--freeze-batch-norm", is_flag=True, help="Keep the statistics of batch normalisation as they are."
)
precision = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the training; bfloat16 takes half the time on processors and GPUs made for it, and longer on others.",
)
allow_worse = click.option(
    "--allow-worse", is_flag=True, help="Give out a model that is worse than its start on held-out strokes."
)
retrain = click.option("--retrain", is_flag=True, help="Fit a new forest on the project's labels; its own is not used.")


def _read_channel(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """``foreground=2`` as 2."""
    if value is None:
        return None
    role, _, number = value.partition("=")
    if role.strip() != "foreground" or not number.strip().isdecimal():
        msg = f"expected foreground=NUMBER, counted from 1, e.g. foreground=2; got {value!r}."
        raise click.BadParameter(msg)
    return int(number)


channel = click.option(
    "--channel",
    metavar="foreground=N",
    callback=_read_channel,
    help="Which channel of --probabilities is the foreground, counted from 1.",
)


def chosen_foreground(foreground: int | None, channel: int | None) -> int | None:
    """The label of --foreground, or the channel of --channel, which is the same.

    Raises:
        click.UsageError: if both are given and differ.
    """
    if foreground is not None and channel is not None and foreground != channel:
        msg = f"--foreground {foreground} and --channel foreground={channel} contradict each other: give one of them."
        raise click.UsageError(msg)
    return channel if foreground is None else foreground


class_names = click.option("--class-names", metavar="A,B,…", help="Name of label 1, 2, …; for the RF contract.")
axes = click.option("--axes", metavar="LETTERS", help="Axes of the image, e.g. zyxc, where the file does not tell.")
quiet = click.option("--quiet", is_flag=True, help="No progress bars.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
steps = click.option("--steps", default=1000, show_default=True, help="Training steps of the segmentor.")
weighting = click.option(
    "--weighting",
    type=click.Choice(["consensus", "rectified", "both", "none"]),
    default="consensus",
    show_default=True,
    help="How much each pseudo-label counts.",
)
mean_teacher = click.option("--mean-teacher", is_flag=True, help="Learn to agree with the network's own running mean.")
segmentor_features = click.option(
    "--segmentor-features", default=8, show_default=True, help="Channels of the segmentor's first level."
)
fused_trees = click.option("--fused-trees", type=int, metavar="N", help="Only the first trees go into the fused model.")
max_depth = click.option(
    "--max-depth", type=int, metavar="D", help="Trees of the fused model are cut off below this depth."
)
trees = click.option("--trees", default=100, show_default=True, help="Trees of each forest.")


def one_classifier(classifier: Path | None, project: Path | None) -> Path:
    """The file of --classifier or --ilastik-project.

    Raises:
        click.UsageError: unless exactly one is given.
    """
    if (classifier is None) == (project is None):
        msg = "Give either --classifier (a saved forest) or --ilastik-project (a trained one)."
        raise click.UsageError(msg)
    return classifier or project  # type: ignore[return-value] # one of them is there


def split_names(text: str | None) -> tuple[str, ...] | None:
    """``"a,b"`` as ``("a", "b")``."""
    return tuple(name.strip() for name in text.split(",")) if text else None
