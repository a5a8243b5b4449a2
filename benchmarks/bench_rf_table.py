"""What `bench_rf.py` found, as tables."""

from typing import Any, Final

from s2d_zoo._version import __version__

COMMAND: Final = "python benchmarks/bench_rf.py --data-dir ../shared/data"
DATASET = "nuclei_gowt1"
ENHANCER = "nuclei-fluo-2d"
OURS = "s2d-zoo"
THEIRS = "torch_em"
THEIRS_THREADED = "torch_em, forest on all cores"


def to_markdown(figures: dict[str, Any]) -> str:
    """One table of stages and one of ways to run a forest."""
    first = next(iter(figures["forests"].values()))
    versions = ", ".join(f"{name} {number}" for name, number in first["versions"].items())
    y, x = figures["shape"]
    lines = [
        "# Features, forest and enhancer: seconds",
        "",
        f"Made by `{COMMAND} --runs {figures['runs']}` with s2d-zoo {__version__}; {versions};",
        f"{figures['cores']} cores. One image of {y} x {x} px ({DATASET}), forests of 100 trees, enhancer",
        f"`{ENHANCER}`;",
        f"medians of {figures['runs']} runs that alternate, in one run of the script.",
        "",
        "| forest | way | features | forest | features + forest | this project is faster by | enhancer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in figures["forests"].items():
        stage = entry["seconds"]
        for way in (OURS, THEIRS, THEIRS_THREADED, "scikit-image and sklearn"):
            faster = stage[way]["features + forest"] / stage[OURS]["features + forest"]
            cells = [stage[way]["features"], stage[way]["forest"], stage[way]["features + forest"]]
            enhancer = f"{stage[way]['enhancer']:.2f}" if "enhancer" in stage[way] else "–"
            ratio = "" if way == OURS else f"{faster:.1f} x"
            lines.append(f"| {name} | {way} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {ratio} | {enhancer} |")
    lines += [
        "",
        "torch_em: the three steps of `Shallow2DeepModel`, timed one by one (together they give what it gives). By",
        "default its features are the same 28 by name and scale, from the same bioimage-cpp (no fastfilters nor vigra",
        "since version 0.10), one after another on one core, with kernels of the full scale; ours are smoothed",
        "first, as ilastik's are, so the same forest sees slightly different values. torch_em fits its forests with",
        "sklearn's defaults, hence one core; the second line gives it all. The network is the same package.",
        "scikit-image has other features: 7 scales of its 4, also 28, and a forest fitted on them, on all cores.",
        "",
        "## What runs the forest",
        "",
        "The forest alone, on the same float32 rows, seconds for all pixels, and the largest difference from sklearn's",
        "`predict_proba`. “Walks” and “masks” are numba's: from node to node, or all nodes of a tree at once for trees",
        "of up to 64 leaves. The first call of numba's includes compiling, in every process that has no cache of it;",
        "importing numba is not counted.",
        "",
        "| forest | nodes | depth | nodes per walk | way | seconds | first call | ns per node walked | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in figures["forests"].items():
        size = f"{entry['nodes']} | {entry['depth']} | {entry['steps']}"
        for way, stage in entry["seconds"].items():
            if set(stage) == {"forest"}:
                each = 1e9 * stage["forest"] / (y * x * 100 * entry["steps"])
                begin = entry["forest_at_first_call"][way]
                apart = entry["largest_difference_from_sklearn"][way]
                lines.append(
                    f"| {name} | {size} | {way} | {stage['forest']:.2f} | {begin:.2f} | {each:.2f} | {apart:.0e} |"
                )
    return "\n".join([*lines, ""])
