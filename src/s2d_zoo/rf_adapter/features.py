"""ilastik's features, computed by ilastik's recipe.

Source: ilastik's ``opPixelFeaturesPresmoothed.py`` and vigra's kernels. At scale s (sigma, px) the image is
first smoothed with ``sqrt(s² - 1)`` px (with s itself where s ≤ 1) and then filtered at ``min(s, 1)`` px, so
that large scales need no large derivative kernels. Kernels reach ``int(window * sigma + 0.5)`` px, at least 1;
borders are mirrored without repeating the edge. The filters themselves come from bioimage-cpp.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
from bioimage_cpp import filters

from s2d_zoo.contract import FeatureContract, FilterName, FilterSelection
from s2d_zoo.data.axes import as_image, space_dims
from s2d_zoo.errors import ConfigError, UserInputError
from s2d_zoo.types import CHANNEL, FEATURE

Float32Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

#: ilastik's filters, in the order of ilastik's feature image
FILTERS: Final[tuple[FilterName, ...]] = (
    "GaussianSmoothing",
    "LaplacianOfGaussian",
    "GaussianGradientMagnitude",
    "DifferenceOfGaussians",
    "StructureTensorEigenvalues",
    "HessianOfGaussianEigenvalues",
)
#: ilastik's scales, sigma in px
SCALES: Final = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
#: the filters that need derivatives are not defined below this scale
_SMALLEST_DERIVATIVE_SCALE: Final = 0.7
_EIGENVALUE_FILTERS: Final = ("StructureTensorEigenvalues", "HessianOfGaussianEigenvalues")

_PRESMOOTHING_WINDOW: Final = 3.5
_FILTER_WINDOW: Final = 2.0
#: ilastik smooths the structure tensor with half of the scale
_OUTER_SCALE_RATIO: Final = 0.5
_DOG_RATIO: Final = 0.66


def _default_scales() -> dict[FilterName, tuple[float, ...]]:
    return {name: SCALES if name == "GaussianSmoothing" else SCALES[1:] for name in FILTERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSelection:
    """Which filters to compute at which scales, in ilastik's words. The default is all that ilastik offers.

    Attributes:
        scales: for each filter its scales (sigma, px). Any positive scale can be computed; ilastik offers `SCALES`.
        compute_in_2d: filter a volume slice by slice instead of in 3D.

    Raises:
        ConfigError: for an unknown filter, no filter, or a scale at which a filter is not defined.
    """

    scales: Mapping[FilterName, tuple[float, ...]]
    compute_in_2d: bool

    def __init__(
        self, scales: Mapping[FilterName, tuple[float, ...]] | None = None, *, compute_in_2d: bool = True
    ) -> None:
        chosen = _default_scales() if scales is None else scales
        unknown = sorted(set(chosen) - set(FILTERS))
        if unknown:
            msg = f"Unknown filters {unknown}. Available: {', '.join(FILTERS)}."
            raise ConfigError(msg)
        ordered = {name: tuple(sorted(set(map(float, chosen[name])))) for name in FILTERS if chosen.get(name)}
        if not ordered:
            msg = "No features are selected. Choose at least one filter at one scale, e.g. GaussianSmoothing at 1.0."
            raise ConfigError(msg)
        for name, values in ordered.items():
            smallest = min(SCALES) if name == "GaussianSmoothing" else _SMALLEST_DERIVATIVE_SCALE
            wrong = [scale for scale in values if not smallest <= scale < np.inf]
            if wrong:
                msg = f"{name} is defined from scale {smallest} px upwards, got {wrong[0]:g}. Leave that scale out."
                raise ConfigError(msg)
        object.__setattr__(self, "scales", ordered)
        object.__setattr__(self, "compute_in_2d", compute_in_2d)

    @classmethod
    def from_contract(cls, contract: FeatureContract) -> "FeatureSelection":
        """The selection that a contract describes."""
        return cls({entry.name: entry.scales for entry in contract.filters}, compute_in_2d=contract.compute_in_2d)

    def to_contract(self) -> FeatureContract:
        """The selection in the contract's words, outer scales written out."""
        return FeatureContract(
            filters=tuple(
                FilterSelection(name=name, scales=scales, outer_scales=_outer_scales(name, scales))
                for name, scales in self.scales.items()
            ),
            compute_in_2d=self.compute_in_2d,
        )

    @property
    def support(self) -> int:
        """How far, in px, the widest filter looks: a block with this halo gives the same features as the whole."""
        return max(_support(name, scale) for name, scales in self.scales.items() for scale in scales)

    def names(self, *, ndim: int, channels: int = 1) -> tuple[str, ...]:
        """Name of each feature in order, e.g. ``HessianOfGaussianEigenvalues@3.5[0]``."""
        return tuple(name for name, _, _ in self.layout(ndim=ndim, channels=channels))

    def layout(self, *, ndim: int, channels: int = 1) -> Iterator[tuple[str, FilterName, float]]:
        """Name, filter and scale of each feature, in ilastik's order: filter, scale, input channel, eigenvalue."""
        for name, scales in self.scales.items():
            for scale in scales:
                for channel in range(channels):
                    suffix = f"#{channel}" if channels > 1 else ""
                    for part in range(_planes(name, ndim)):
                        eigenvalue = f"[{part}]" if name in _EIGENVALUE_FILTERS else ""
                        yield f"{name}@{scale:g}{suffix}{eigenvalue}", name, scale

    def compute(self, image: xr.DataArray, *, n_threads: int | None = None) -> xr.DataArray:
        """Compute the features of an image.

        Args:
            image: channel (z) y x, any number type.
            n_threads: threads to use; all cores when ``None``.

        Returns:
            feature (z) y x, float32, with the features' names as coordinate.

        Raises:
            UserInputError: if the image is too small for the largest scale.
        """
        image = as_image(image)
        dims = space_dims(image)
        _check_size(image, dims, self)
        in_3d = len(dims) == 3 and not self.compute_in_2d
        names = self.names(ndim=3 if in_3d else 2, channels=image.sizes[CHANNEL])
        features = np.empty((len(names), *image.shape[1:]), dtype=np.float32)
        by_scale = sorted({scale for scales in self.scales.values() for scale in scales}, reverse=True)
        tasks = [(channel, scale) for scale in by_scale for channel in range(image.sizes[CHANNEL])]

        def compute_scale(task: tuple[int, float]) -> None:
            channel, scale = task
            plane = np.ascontiguousarray(image.values[channel], dtype=np.float32)
            slices = [(plane, ())] if in_3d or plane.ndim == 2 else [(plane[z], (z,)) for z in range(len(plane))]
            for part, index in slices:
                for start, values in self._filtered(part, channel, scale, image.sizes[CHANNEL]):
                    for offset, value in enumerate(values):
                        features[(start + offset, *index)] = value

        with ThreadPoolExecutor(n_threads or os.cpu_count()) as executor:
            list(executor.map(compute_scale, tasks))
        return xr.DataArray(features, dims=(FEATURE, *dims), coords={FEATURE: list(names)})

    def _filtered(
        self, plane: Float32Array, channel: int, scale: float, channels: int
    ) -> Iterator[tuple[int, list[Float32Array]]]:
        """Every filter selected at one scale: index of its first feature, and its planes."""
        smoothed = _smooth(plane, _presmoothing_sigma(scale), _PRESMOOTHING_WINDOW)
        index = 0
        for name, scales in self.scales.items():
            planes = _planes(name, plane.ndim)
            if scale in scales:
                start = index + (scales.index(scale) * channels + channel) * planes
                result = _FUNCTIONS[name](smoothed, min(scale, 1.0))
                yield start, [result] if planes == 1 else [result[..., part] for part in range(planes)]
            index += len(scales) * channels * planes


def _planes(name: FilterName, ndim: int) -> int:
    return ndim if name in _EIGENVALUE_FILTERS else 1


def _presmoothing_sigma(scale: float) -> float:
    return float(np.sqrt(scale**2 - 1.0)) if scale > 1.0 else scale


def _radius(sigma: float, window: float) -> int:
    """Vigra's kernel radius, in px."""
    return max(1, int(window * sigma + 0.5))


def _outer_scales(name: FilterName, scales: tuple[float, ...]) -> tuple[float, ...] | None:
    if name != "StructureTensorEigenvalues":
        return None
    return tuple(_OUTER_SCALE_RATIO * min(scale, 1.0) for scale in scales)


def _support(name: FilterName, scale: float) -> int:
    sigma = min(scale, 1.0)
    support = _radius(_presmoothing_sigma(scale), _PRESMOOTHING_WINDOW) + _radius(sigma, _FILTER_WINDOW)
    if name == "StructureTensorEigenvalues":
        support += _radius(sigma * _OUTER_SCALE_RATIO, _FILTER_WINDOW)
    return support


def _window(*sigmas: float, window: float = _FILTER_WINDOW) -> float:
    """The ``window_size`` with which bioimage-cpp gives every one of these kernels vigra's radius.

    bioimage-cpp rounds ``window_size * sigma`` up, vigra to the nearest.
    """
    upper = min(_radius(sigma, window) / sigma for sigma in sigmas)
    lower = max((_radius(sigma, window) - 1) / sigma for sigma in sigmas)
    return (lower + upper) / 2


def _smooth(plane: Float32Array, sigma: float, window: float = _FILTER_WINDOW) -> Float32Array:
    smoothed: Float32Array = filters.gaussian_smoothing(plane, sigma, window_size=_window(sigma, window=window))
    return smoothed


def _structure_tensor(plane: Float32Array, sigma: float) -> Float32Array:
    outer = sigma * _OUTER_SCALE_RATIO
    eigenvalues: Float32Array = filters.structure_tensor_eigenvalues(
        plane, sigma, outer, window_size=_window(sigma, outer)
    )
    return eigenvalues


_FUNCTIONS: Final[Mapping[FilterName, Callable[[Float32Array, float], Float32Array]]] = {
    "GaussianSmoothing": _smooth,
    "LaplacianOfGaussian": lambda plane, sigma: filters.laplacian_of_gaussian(plane, sigma, window_size=_window(sigma)),
    "GaussianGradientMagnitude": lambda plane, sigma: filters.gaussian_gradient_magnitude(
        plane, sigma, window_size=_window(sigma)
    ),
    "DifferenceOfGaussians": lambda plane, sigma: _smooth(plane, sigma) - _smooth(plane, _DOG_RATIO * sigma),
    "StructureTensorEigenvalues": _structure_tensor,
    "HessianOfGaussianEigenvalues": lambda plane, sigma: filters.hessian_of_gaussian_eigenvalues(
        plane, sigma, window_size=_window(sigma)
    ),
}


def _check_size(image: xr.DataArray, dims: tuple[str, ...], selection: FeatureSelection) -> None:
    """Mirroring a border needs more pixels than the kernel reaches; ilastik has the same rule."""
    scales = {scale for scales in selection.scales.values() for scale in scales}
    # just above 1 px the kernels are smaller than at 1 px
    reach, widest = max((_radius(_presmoothing_sigma(scale), _PRESMOOTHING_WINDOW), scale) for scale in scales)
    needed = reach + 1
    filtered = dims if not selection.compute_in_2d else dims[-2:]
    for dim in filtered:
        if image.sizes[dim] < needed:
            hint = ", or filter slice by slice (compute_in_2d=True)" if dim == "z" else ""
            msg = (
                f"Scale {widest:g} px needs at least {needed} px along {dim}; the image has {image.sizes[dim]}. "
                f"Leave out the largest scales{hint}."
            )
            raise UserInputError(msg)
