"""Inputs for the demo: a simulated image with strokes, and another one to test on."""

from pathlib import Path
from typing import Final

import xarray as xr

from s2d_zoo.data.images import write_image
from s2d_zoo.data.simulated_scribbles import simulate_scribbles
from s2d_zoo.data.synthetic import NucleiSimulation, simulate_nuclei
from s2d_zoo.data.targets import binary_classes
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.inputs import AdaptInputs

#: of those that come with s2d-zoo
DEMO_ENHANCER: Final = "nuclei-fluo-2d"
#: no training image has a seed near these
_SEEDS: Final = {"train": 9_000_001, "test": 9_000_002}


def write_demo_inputs(output: Path, *, size: int, n_strokes: int, seed: int, overwrite: bool) -> AdaptInputs:
    """Simulate two noisy images of one sample, and paint strokes on the first.

    Args:
        output: folder; the files go into ``inputs`` below it.
        size: px, side of the images.
        n_strokes: per class.
        seed: decides images and strokes.
        overwrite: replace an earlier demo.

    Raises:
        ConfigError: if the folder is not empty, the size too small, or there are no strokes; nothing is written then.
    """
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not overwrite)):
        msg = f"The output folder {output} is not empty. Give another one, or --overwrite to replace its results."
        raise ConfigError(msg)
    simulation = NucleiSimulation.high_noise(size=size)
    files: dict[str, xr.DataArray] = {}
    for name, offset in _SEEDS.items():
        image, instances = simulate_nuclei(simulation, seed=offset + 10 * seed, light_seed=seed)
        files |= {f"{name}.tif": image, f"{name}-truth.tif": instances}
        if name == "train":
            files["train-strokes.tif"] = simulate_scribbles(binary_classes(instances), n_strokes=n_strokes, seed=seed)
    folder = output / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in files.items():
        write_image(folder / name, values, overwrite=True)
    return AdaptInputs(
        images=(folder / "train.tif",),
        scribbles=(folder / "train-strokes.tif",),
        enhancer=DEMO_ENHANCER,
        ground_truth=(folder / "train-truth.tif",),
        test_images=(folder / "test.tif",),
        test_ground_truth=(folder / "test-truth.tif",),
    )
