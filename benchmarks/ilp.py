"""What is read from real ilastik projects, and whether their own forests predict their own labels.

A forest fits the strokes that it was trained on nearly perfectly; a lower accuracy would mean that features or trees
are read differently from how ilastik means them. For one project there are values of ilastik's own code to compare
with.

    python benchmarks/ilp.py --data-dir ../shared/data

Writes benchmarks/results/ilp.md and .json.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from outcome import write_outcome

from s2d_zoo import __version__
from s2d_zoo.errors import AxesError, ConfigError, ProjectFileError
from s2d_zoo.rf_adapter.autocontext import stored_classifier
from s2d_zoo.rf_adapter.ilastik_images import Frame, read_frames
from s2d_zoo.rf_adapter.ilastik_project import IlastikProject, read_project

COMMAND = "python benchmarks/ilp.py --data-dir ../shared/data"
#: where the images of projects are that do not find them by themselves
MOVED = {"ilastik_mitocheck": ["ilastik_mitocheck_small_2D+t.h5"]}
GOLDEN = "ilastik_pc"
#: folders of the people who made the projects
WHOSE = re.compile(r"/home/(\S*/)?")


def main() -> None:
    """Read all projects and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"), help="folder with the projects")
    data = parser.parse_args().data_dir
    found = [describe(path, data) for path in sorted((data / "ilp").glob("*.ilp"))]
    golden = compare_with_ilastik(read_project(data / "ilp" / f"{GOLDEN}.ilp"), data)
    results = {"s2d_zoo": __version__, "command": COMMAND, "projects": found, "golden": golden}
    write_outcome("ilp", to_markdown(results), results)


def describe(path: Path, data: Path) -> dict[str, Any]:
    """What a project holds, and the accuracy of each of its stages on its own labels, where its image is there."""
    project = read_project(path)
    images = [data / "ilp" / name for name in MOVED.get(path.stem, ())]
    accuracy: list[float] | str
    try:
        frames = [frame for frame in read_frames(project, images) if frame.painted]
        accuracy = [own_accuracy(project, frames, stage) for stage in range(len(project.stages))]
    except (AxesError, ConfigError, ProjectFileError) as error:
        accuracy = WHOSE.sub("…/", str(error).replace(f"{path.parent}/", ""))
    return {
        "project": path.name,
        "ilastik": project.ilastik_version,
        "workflow": project.workflow,
        "ndim": project.ndim,
        "images": ["embedded" if one.embedded else WHOSE.sub("…/", one.location) for one in project.raw],
        "axes": sorted({one.axes for one in project.raw}),
        "accuracy": accuracy,
        "stages": [
            {
                "classes": list(stage.class_names),
                "label_px": stage.count_labels(),
                "features": None if stage.forest is None else stage.forest.n_features,
                "forests": stage.n_forests,
                "trees": None if stage.forest is None else stage.forest.n_trees,
                "nodes": None if stage.forest is None else len(stage.forest.feature),
            }
            for stage in project.stages
        ],
    }


def own_accuracy(project: IlastikProject, frames: list[Frame], stage: int) -> float:
    """Share of the painted px whose most probable class is the painted one."""
    classifier = project.classifier(0, foreground=1) if stage == 0 else stored_classifier(project, foreground=1)
    right = painted = 0
    for frame in frames:
        labels = frame.scribbles[stage].values
        if labels.any():
            found = classifier.predict_proba(frame.image).values.argmax(axis=0) + 1
            right += int((found == labels)[labels > 0].sum())
            painted += int((labels > 0).sum())
    return right / painted


def compare_with_ilastik(project: IlastikProject, data: Path) -> dict[str, float]:
    """Differences from values that ilastik's own code gave."""
    golden = np.load(data / "golden" / f"{GOLDEN}.npz")
    (frame,) = read_frames(project)
    classifier = project.classifier(0, foreground=1)
    features = classifier.selection.compute(frame.image).values
    worst = 0.0
    largest = np.maximum(*(np.abs(golden[name]).max(axis=(0, 1)) for name in ("corner", "center")))
    for name, place in (("corner", np.s_[:, 0:60, 0:60]), ("center", np.s_[:, 340:420, 340:460])):
        difference = np.abs(np.moveaxis(features[place], 0, -1) - golden[name]).max(axis=(0, 1))
        worst = max(worst, float((difference / largest).max()))
    rows = golden["forest_x"].astype(np.float32)
    forest = float(np.abs(classifier.forest.predictor().predict_proba(rows) - golden["forest_p"]).max())
    crop = frame.image.isel(y=slice(200, 700), x=slice(200, 700))
    predicted: xr.DataArray = classifier.predict_proba(crop).isel(y=slice(0, 250), x=slice(0, 250))
    api = np.abs(np.moveaxis(predicted.values, 0, -1) - golden["api_probabilities"])
    return {
        "features, largest difference relative to the feature's largest value": worst,
        "forest on equal features, largest difference": forest,
        "prediction of a crop, mean difference": float(api.mean()),
        "prediction of a crop, largest difference": float(api.max()),
        "prediction of a crop, share of px that differ by more than 1e-4": float((api > 1e-4).mean()),
    }


def to_markdown(results: dict[str, Any]) -> str:
    """Both tables."""
    lines = [
        "# Real ilastik projects",
        "",
        f"Made by `{results['command']}` with s2d-zoo {results['s2d_zoo']}. One row for each stage of a project.",
        "",
        "| project | ilastik | workflow | axes | classes | label px | features | forests | trees | nodes | accuracy |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for project in results["projects"]:
        accuracy = project["accuracy"]
        for number, stage in enumerate(project["stages"]):
            counts = " + ".join(str(count) for count in stage["label_px"].values())
            row = [
                project["project"],
                project["ilastik"],
                project["workflow"],
                f"{', '.join(project['axes'])} ({project['ndim']}D)",
                ", ".join(stage["classes"]),
                f"{sum(stage['label_px'].values())} ({counts})",
                *(stage[name] for name in ("features", "forests", "trees", "nodes")),
                "no image" if isinstance(accuracy, str) else f"{accuracy[number]:.4f}",
            ]
            lines.append(f"| {' | '.join(map(str, row))} |")
        if isinstance(accuracy, str):
            notes.append(f"- {accuracy}")
    lines += ["", "Accuracy: of the stored forest, on the px that were painted.", ""]
    lines += ["Without their image, and what is said then:", "", *notes, ""]
    lines += [f"Compared with ilastik's own code, for {GOLDEN}.ilp:", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value:.2g} |" for name, value in results["golden"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
