"""The report of a run: one HTML page that stands alone, and the same facts as JSON."""

import base64
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from scipy import ndimage

from s2d_zoo._version import __version__
from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.data.scores import score_strokes
from s2d_zoo.pipeline.adapt import AdaptResult
from s2d_zoo.pipeline.packages import classifier_in_words
from s2d_zoo.pipeline.prediction import Prediction
from s2d_zoo.pipeline.volumes import middle_number, middle_plane
from s2d_zoo.types import CHANNEL

_TEMPLATE: Final = "report.html.jinja"
FORMAT: Final = "s2d-zoo/report"
FORMAT_VERSION: Final = 1
#: px; larger images are shown smaller
_SHOWN: Final = 700
#: strokes are drawn at least this part of an image wide, or nobody sees them
_VISIBLE: Final = 120
_PANEL_INCHES: Final = 3.2
_COLUMNS: Final = 4
#: colours of the classes in the stroke panel, from the second on for the foreground
_STROKE_COLOURS: Final = "Set1"


def write_report(result: AdaptResult) -> Path:
    """Write ``report.html`` and ``report.json`` into the run's folder.

    Returns:
        The path of ``report.html``.
    """
    output = result.job.output
    facts = summarise(result)
    write_json(output / "report.json", facts)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = (resources.files("s2d_zoo.pipeline") / _TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        facts=facts,
        images=[
            {"name": name, "picture": _as_data(_draw_training_image(result, index))}
            for index, name in enumerate(result.job.data.names)
        ],
        test_images=[
            {"name": path.name, "picture": _as_data(_draw_test_image(result, index))}
            for index, path in enumerate(result.job.inputs.test_images)
        ],
    )
    with atomic_write(output / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    result.job.forget_checkpoints()  # only now is nothing left that an interrupted run would need them for
    return output / "report.html"


def summarise(result: AdaptResult) -> dict[str, Any]:
    """All figures of a run, as plain JSON."""
    training = result.segmentors.training
    difference = result.segmentors.difference
    job = result.job
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "s2d_zoo_version": __version__,
        "good": result.good,
        "enhancer": job.enhancer.id,
        "source": classifier_in_words(job),
        "foreground": f"label {job.foreground}: {job.classes[job.foreground - 1].name}",
        "contract_notes": [str(misfit) for misfit in result.misfits],
        "strokes": {"training": job.split.n_training, "held_out": job.split.n_held_out},
        "painted_px": [int(np.count_nonzero(one)) for one in job.data.scribbles],
        "kept_fraction": round(result.kept, 4),
        "forests": job.settings.pseudo_labels.n_forests if job.data.painted else 0,
        "held_out_iou": {
            "start": None if training.start is None else training.start.iou,
            "pseudo_labels": _pseudo_label_iou(result),
            "segmentor": None if training.end is None else training.end.iou,
        },
        "held_out_calibration_error": {
            "start": None if training.start is None else training.start.calibration_error,
            "segmentor": None if training.end is None else training.end.calibration_error,
        },
        "base_model": None if job.base is None else job.base.lineage.to_json(),
        "weights_difference": None if difference is None else {"words": str(difference), **difference.to_json()},
        "worse": training.worse,
        "problem": result.segmentors.problem,
        "not_fused": result.not_fused,
        "fused_loss": None if result.loss is None else str(result.loss),
        "scores": {
            subset: {
                method: {"iou": round(score.iou, 4), "dice": round(score.dice, 4)} for method, score in methods.items()
            }
            for subset, methods in result.scores.items()
        },
        "packages": [
            {
                "path": str(path.relative_to(job.output)),
                "bytes": path.stat().st_size,
                "passed": report.passed,
                "verdicts": [
                    {"program": one.consumer.value, "verdict": one.word, "reasons": list(one.reasons)}
                    for one in report.verdicts
                ],
                "checks": [
                    {
                        "id": check.check.name,
                        "part": check.part,
                        "status": check.status,
                        "sentence": check.check.value,
                        "message": check.message,
                    }
                    for check in report.results
                ],
            }
            for path, report in zip(result.packages, result.validation, strict=True)
        ],
        "seconds": dict(result.seconds),
        "seed": job.settings.seed,
    }


def _pseudo_label_iou(result: AdaptResult) -> float | None:
    """IoU, on the held-out strokes, of the labels that the segmentor learnt from."""
    foregrounds = [prediction.labels.labels[0] for prediction in result.predictions if prediction.labels is not None]
    score = score_strokes(foregrounds, result.job.split.held_out, foreground=result.job.foreground)
    return None if score is None else score.iou


def draw_stages(
    image: xr.DataArray,
    prediction: Prediction,
    *,
    scribbles: xr.DataArray | None = None,
    truth: xr.DataArray | None = None,
) -> Figure:
    """All stages on one image, side by side; of a volume, on the plane in its middle.

    Args:
        image: channel (z) y x.
        prediction: what each stage says of it; stages that were not run are left out.
        scribbles: (z) y x, 0 = unlabelled.
        truth: (z) y x, integers, 0 = background.
    """
    number = middle_number(image)
    raw = _as_grey(middle_plane(image))
    name = "raw" if number is None else f"raw, plane {number + 1} of {image.sizes['z']}"
    panels: dict[str, tuple[np.ndarray[Any, Any], str | None]] = {name: (raw, "gray")}
    if scribbles is not None:
        panels["strokes"] = (_with_strokes(raw, middle_plane(scribbles).values), None)
    labels = prediction.labels
    maps = {
        "Random Forest": prediction.foreground,
        "enhanced": prediction.enhanced[0],
        "fused": None if prediction.fused is None else prediction.fused[0],
        "pseudo-labels": None if labels is None else labels.labels[0],
        "pseudo-label weights": None if labels is None else labels.weights,
        "base model, untouched": None if prediction.base is None else prediction.base[0],
        "segmentor": None if prediction.segmentation is None else prediction.segmentation[0],
        "segmentor, strokes only": None if prediction.strokes_only is None else prediction.strokes_only[0],
        "ground truth": None if truth is None else (truth > 0).astype(np.float32),
    }
    for title, values in maps.items():
        if values is not None:
            colours = "viridis" if title == "pseudo-label weights" else "gray"
            panels[title] = (middle_plane(values).values, colours)
    return _draw(panels)


def _draw_training_image(result: AdaptResult, index: int) -> Figure:
    data = result.job.data
    truth = data.ground_truth[index] if data.ground_truth else None
    return draw_stages(data.images[index], result.predictions[index], scribbles=data.scribbles[index], truth=truth)


def _draw_test_image(result: AdaptResult, index: int) -> Figure:
    data = result.job.data
    truth = data.test_ground_truth[index] if data.test_ground_truth else None
    return draw_stages(data.test_images[index], result.test_predictions[index], truth=truth)


def _as_grey(image: xr.DataArray) -> np.ndarray[Any, Any]:
    """First channel (or the mean of up to three), stretched between its 0.5 and 99.5 percentiles."""
    plane = image.isel({CHANNEL: slice(0, 3)}).mean(CHANNEL).values
    low, high = np.percentile(plane, (0.5, 99.5))
    grey: np.ndarray[Any, Any] = np.clip((plane - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)
    return grey


def _with_strokes(raw: np.ndarray[Any, Any], scribbles: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    colours = mpl.colormaps[_STROKE_COLOURS]
    shown = np.repeat(raw[..., np.newaxis], 3, axis=2) * 0.7
    scribbles = ndimage.maximum_filter(scribbles, size=max(1, max(raw.shape) // _VISIBLE))
    for label in np.unique(scribbles[scribbles > 0]):
        shown[scribbles == label] = colours((int(label) - 1) % colours.N)[:3]
    return shown


def _draw(panels: Mapping[str, tuple[np.ndarray[Any, Any], str | None]]) -> Figure:
    """Panels in rows of four."""
    first = next(iter(panels.values()))[0]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    height = _PANEL_INCHES * first.shape[0] / first.shape[1] + 0.35
    figure = Figure(figsize=(columns * _PANEL_INCHES, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    step = -(-max(first.shape[:2]) // _SHOWN)
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, (values, colours)) in zip(axes, panels.items(), strict=False):
        axis.imshow(values[::step, ::step], cmap=colours, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    return figure


def _as_data(figure: Figure) -> str:
    """A figure as the address of an image inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
