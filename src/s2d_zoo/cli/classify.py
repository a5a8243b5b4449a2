"""`s2d-zoo classify`: fit a forest on strokes, or use one that there is, and write its probabilities."""

from typing import Any

import rich_click as click

from s2d_zoo.cli import options


@click.command()
@click.option("--image", required=True, type=options.FILE, help="Image to classify.")
@click.option("--scribbles", type=options.FILE, help="Strokes on it, to fit a forest.")
@click.option("--classifier", type=options.FILE, help="Saved forest, to use instead of strokes.")
@options.ilastik_project
@options.retrain
@click.option("--save-classifier", type=options.FILE, help="Where to keep the fitted forest, *.safetensors.")
@click.option("--output", required=True, type=options.FILE, help="Probabilities: .tif, .h5 or .zarr.")
@options.axes
@options.foreground
@options.class_names
@options.trees
@options.seed
@options.overwrite
@options.quiet
def classify(**chosen: Any) -> None:  # noqa: ANN401 - the options above
    """Fit a Random Forest on strokes, or take one from a file or an ilastik project, and write class probabilities."""
    from s2d_zoo.pipeline.classification import classify_file  # noqa: PLC0415 - heavy
    from s2d_zoo.rf_adapter.classifier import ForestSettings  # noqa: PLC0415 - heavy

    output = classify_file(
        chosen["image"],
        chosen["output"],
        scribbles=chosen["scribbles"],
        classifier=chosen["classifier"],
        ilastik_project=chosen["ilastik_project"],
        retrain=chosen["retrain"],
        save_to=chosen["save_classifier"],
        axes=chosen["axes"],
        foreground=chosen["foreground"],
        class_names=options.split_names(chosen["class_names"]),
        forest=ForestSettings(n_estimators=chosen["trees"]),
        seed=chosen["seed"],
        overwrite=chosen["overwrite"],
        progress=not chosen["quiet"],
    )
    click.echo(f"probabilities: {output}")
