"""A pixel classifier and the enhancer behind it as one network: feature filters, Random Forest, U-Net.

So programs that know nothing of forests run it on raw images.
This file needs torch and the standard library only. Into packages it goes together with ``unet.py``, as one file.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from s2d_zoo.architectures.unet import UNet


class FilterBank(nn.Module):
    """Ilastik's features of an image.

    At scale s (sigma, px) the image is first smoothed with ``sqrt(s² - 1)`` px (with s itself where s ≤ 1), then
    filtered at ``min(s, 1)`` px. Kernels have vigra's size and normalisation; borders are mirrored without
    repeating the edge. Source: ilastik's ``opPixelFeaturesPresmoothed.py`` and vigra's ``Kernel1D``.

    Input: ``(batch, channel, y, x)`` float32, y and x larger than the largest kernel's reach.
    Output: ``(batch, feature, y, x)`` float32, in ilastik's order: filter, scale, channel, eigenvalue.

    Args:
        filters: ilastik's names of the filters, in order, each with its scales.
        channels: of the image.
    """

    FILTERS = (
        "GaussianSmoothing",
        "LaplacianOfGaussian",
        "GaussianGradientMagnitude",
        "DifferenceOfGaussians",
        "StructureTensorEigenvalues",
        "HessianOfGaussianEigenvalues",
    )

    smoothing: torch.Tensor

    def __init__(self, filters: Mapping[str, Sequence[float]], channels: int = 1) -> None:
        super().__init__()
        unknown = sorted(set(filters) - set(self.FILTERS))
        if unknown or not any(filters.values()):
            msg = f"Expected some of the filters {', '.join(self.FILTERS)}, each with scales; found {dict(filters)}."
            raise ValueError(msg)
        self.filters = {name: [float(scale) for scale in scales] for name, scales in filters.items() if scales}
        self.channels = channels
        self.scales = sorted({scale for scales in self.filters.values() for scale in scales})
        reach = max(_presmoothing_radius(scale) for scale in self.scales)
        kernels = [_gaussian(_presmoothing_sigma(scale), _presmoothing_radius(scale)) for scale in self.scales]
        self.register_buffer("smoothing", torch.stack([_widened(kernel, reach) for kernel in kernels]).float())
        #: scales that are filtered with the same kernels; all from 1 px on are
        self.sigmas = sorted({min(scale, 1.0) for scale in self.scales})
        for index, sigma in enumerate(self.sigmas):
            self.register_buffer(f"kernels{index}", _filter_kernels(sigma))
            self.register_buffer(f"outer{index}", _outer_kernel(sigma))

    @property
    def support(self) -> int:
        """How far, in px, the widest filter looks."""
        return max(_support(name, scale) for name, scales in self.filters.items() for scale in scales)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.channels * sum(len(scales) * _planes(name) for name, scales in self.filters.items())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features."""
        height, width = image.shape[-2], image.shape[-1]
        smoothed = self._smooth(image.reshape(-1, 1, height, width))
        found: dict[tuple[str, float], torch.Tensor] = {}
        for index, sigma in enumerate(self.sigmas):
            members = [number for number, scale in enumerate(self.scales) if min(scale, 1.0) == sigma]
            scales = [self.scales[number] for number in members]
            wanted = [name for name, chosen in self.filters.items() if set(chosen) & set(scales)]
            planes = smoothed[:, members[0] : members[-1] + 1].reshape(-1, 1, height, width)
            kernels = getattr(self, f"kernels{index}")
            filtered = functional.conv2d(_mirrored(planes, kernels.shape[-1] // 2), kernels)
            for name in wanted:
                values = _FUNCTIONS[name](filtered, getattr(self, f"outer{index}"))
                values = values.reshape(-1, len(scales), _planes(name), height, width)
                for number, scale in enumerate(scales):
                    found[name, scale] = values[:, number]
        return torch.cat(
            [
                found[name, scale].reshape(-1, self.channels * _planes(name), height, width)
                for name, scales in self.filters.items()
                for scale in scales
            ],
            dim=1,
        )

    def _smooth(self, planes: torch.Tensor) -> torch.Tensor:
        """``(n, 1, y, x)`` to ``(n, scale, y, x)``."""
        reach = self.smoothing.shape[-1] // 2
        padded = functional.pad(planes, (0, 0, reach, reach), mode="reflect")
        along_y = functional.conv2d(padded, self.smoothing[:, None, :, None])
        padded = functional.pad(along_y, (reach, reach, 0, 0), mode="reflect")
        return functional.conv2d(padded, self.smoothing[:, None, None, :], groups=len(self.scales))


class Forest(nn.Module):
    """A Random Forest as tables, walked by tensor operations.

    Siblings lie side by side; a leaf is its own left child. A pixel goes right where its feature exceeds the threshold.

    Input: ``(batch, feature, y, x)`` float32.
    Output: ``(batch, channel, y, x)`` float32, mean over the trees of what their leaves say.

    Args:
        nodes: of all trees together.
        trees: number of trees.
        channels: of the output.
    """

    feature: torch.Tensor
    threshold: torch.Tensor
    left: torch.Tensor
    value: torch.Tensor
    roots: torch.Tensor

    def __init__(self, nodes: int, trees: int, channels: int = 1) -> None:
        super().__init__()
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int16))
        self.register_buffer("threshold", torch.full((nodes,), math.inf))
        self.register_buffer("left", torch.arange(nodes, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(nodes, channels))
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Mean of the leaves."""
        batch, height, width = features.shape[0], features.shape[-2], features.shape[-1]
        columns = features.permute(1, 0, 2, 3).reshape(features.shape[1], -1)
        # A trace would fix the number of steps; the walk is kept as the loop that it is.
        walk = torch.jit.script(_walk) if torch.jit.is_tracing() else _walk  # type: ignore[attr-defined, no-untyped-call]
        values = walk(
            columns, self.feature.long(), self.threshold, self.left.long(), self.value.double(), self.roots.long()
        )
        return values.reshape(batch, height, width, self.value.shape[1]).permute(0, 3, 1, 2)


class PixelForest(nn.Module):
    """Filters, forest and enhancer, one after another.

    Input: ``(batch, channel, y, x)`` float32, raw values; y and x multiples of `step`.
    Output: the same size, float32 in [0, 1], the channels of the enhancer.

    Args:
        filters: as in `FilterBank`.
        raw_channels: of the image.
        nodes, trees: of the forest.
        enhancer: arguments of the `UNet`; its ``in_channels`` are the channels of the forest.
    """

    def __init__(
        self,
        filters: Mapping[str, Sequence[float]],
        raw_channels: int,
        nodes: int,
        trees: int,
        enhancer: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.filter_bank = FilterBank(filters, raw_channels)
        self.forest = Forest(nodes, trees, enhancer["in_channels"])
        self.enhancer = UNet(**enhancer)

    @property
    def step(self) -> int:
        """Sizes, and the origins of tiles, must be multiples of this many px."""
        return self.enhancer.step

    @property
    def receptive_radius(self) -> int:
        """How far, in px, an output pixel looks."""
        return self.filter_bank.support + self.enhancer.receptive_radius

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the enhancer's channels."""
        output: torch.Tensor = self.enhancer(self.forest(self.filter_bank(image)))
        return output


def _walk(
    columns: torch.Tensor,
    feature: torch.Tensor,
    threshold: torch.Tensor,
    left: torch.Tensor,
    value: torch.Tensor,
    roots: torch.Tensor,
    pixels_at_once: int = 16384,
    trees_at_once: int = 10,
) -> torch.Tensor:
    """From ``(feature, pixel)`` to ``(pixel, channel)``: every pixel down every tree.

    Pixels that have reached a leaf are set aside, so that the time is that of the paths, not of the deepest tree;
    and only so many pixels and trees are looked at together as the processor's cache holds.
    """
    done: list[torch.Tensor] = []
    for start in range(0, columns.size(1), pixels_at_once):
        part = columns[:, start : start + pixels_at_once].contiguous()
        pixels = part.size(1)
        flat = part.reshape(-1)
        offset = feature * pixels
        total = [torch.zeros([pixels], dtype=value.dtype, device=value.device) for _ in range(value.size(1))]
        for tree in range(0, roots.size(0), trees_at_once):
            some = roots[tree : tree + trees_at_once]
            node = some.unsqueeze(1).expand(some.size(0), pixels).reshape(-1)
            pixel = torch.arange(pixels, device=value.device).unsqueeze(0).expand(some.size(0), pixels).reshape(-1)
            while node.size(0) > 0:
                for _ in range(2):
                    seen = flat.index_select(0, offset.index_select(0, node) + pixel)
                    right = (seen > threshold.index_select(0, node)).to(torch.int64)
                    node = left.index_select(0, node) + right
                at_leaf = left.index_select(0, node) == node
                ended = at_leaf.nonzero().squeeze(1)
                going = (~at_leaf).nonzero().squeeze(1)
                leaves = value.index_select(0, node.index_select(0, ended))
                for channel, sums in enumerate(total):  # older versions are slow at adding rows
                    sums.index_add_(0, pixel.index_select(0, ended), leaves[:, channel])
                node, pixel = node.index_select(0, going), pixel.index_select(0, going)
        done.append((torch.stack(total, dim=1) / roots.size(0)).to(columns.dtype))
    return torch.cat(done)


def _structure_tensor(filtered: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    along_y, along_x = filtered[:, 2:3], filtered[:, 3:4]
    products = torch.cat([along_y * along_y, along_x * along_x, along_y * along_x], dim=1)
    tensor = functional.conv2d(_mirrored(products, outer.shape[-1] // 2), outer.expand(3, 1, -1, -1), groups=3)
    return _eigenvalues(tensor[:, 0:1], tensor[:, 1:2], tensor[:, 2:3])


def _eigenvalues(yy: torch.Tensor, xx: torch.Tensor, yx: torch.Tensor) -> torch.Tensor:
    """Of symmetric 2 x 2 matrices, the larger first."""
    mean, half = (yy + xx) / 2, (yy - xx) / 2
    root = torch.sqrt(half * half + yx * yx)
    return torch.cat([mean + root, mean - root], dim=1)


#: filter → from the derivatives of the smoothed image, ``(n, 7, y, x)`` as `_filter_kernels` has them, and the kernel
#: of the outer smoothing, to ``(n, planes, y, x)``
_FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "GaussianSmoothing": lambda filtered, _: filtered[:, 0:1],
    "LaplacianOfGaussian": lambda filtered, _: filtered[:, 4:5] + filtered[:, 5:6],
    "GaussianGradientMagnitude": lambda filtered, _: torch.sqrt(filtered[:, 2:3] ** 2 + filtered[:, 3:4] ** 2),
    "DifferenceOfGaussians": lambda filtered, _: filtered[:, 1:2],
    "StructureTensorEigenvalues": _structure_tensor,
    "HessianOfGaussianEigenvalues": lambda filtered, _: _eigenvalues(
        filtered[:, 4:5], filtered[:, 5:6], filtered[:, 6:7]
    ),
}


def _planes(name: str) -> int:
    return 2 if name in ("StructureTensorEigenvalues", "HessianOfGaussianEigenvalues") else 1


def _presmoothing_sigma(scale: float) -> float:
    return math.sqrt(scale**2 - 1.0) if scale > 1.0 else scale


def _presmoothing_radius(scale: float) -> int:
    return _radius(_presmoothing_sigma(scale), 3.5)


def _radius(sigma: float, window: float = 2.0) -> int:
    return max(1, int(window * sigma + 0.5))


def _support(name: str, scale: float) -> int:
    sigma = min(scale, 1.0)
    outer = _radius(sigma / 2) if name == "StructureTensorEigenvalues" else 0
    return _presmoothing_radius(scale) + _radius(sigma) + outer


def _filter_kernels(sigma: float) -> torch.Tensor:
    """``(7, 1, k, k)``: smoothed, difference of Gaussians, d/dy, d/dx, d²/dy², d²/dx², d²/dydx."""
    radius = _radius(sigma)
    smooth, first, second = (_derivative(sigma, radius, order) for order in range(3))
    less = _widened(_gaussian(0.66 * sigma, _radius(0.66 * sigma)), radius)
    along_y = torch.stack([smooth, less, first, smooth, second, smooth, first])
    along_x = torch.stack([smooth, less, smooth, first, smooth, second, first])
    kernels = along_y[:, None, :, None] * along_x[:, None, None, :]
    kernels[1] = kernels[0] - kernels[1]  # one kernel: the difference of two sums would be rounding, mostly
    return kernels.float()


def _outer_kernel(sigma: float) -> torch.Tensor:
    """``(1, 1, k, k)``, smoothing of the structure tensor with half of the scale."""
    kernel = _gaussian(sigma / 2, _radius(sigma / 2))
    return torch.outer(kernel, kernel)[None, None].float()


def _gaussian(sigma: float, radius: int) -> torch.Tensor:
    return _derivative(sigma, radius, 0)


def _derivative(sigma: float, radius: int, order: int) -> torch.Tensor:
    """Vigra's sampled derivative of a Gaussian: without constant part, exact for the polynomial of its order."""
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    if order == 0:
        return kernel / kernel.sum()
    kernel = kernel * (-x if order == 1 else x**2 / sigma**2 - 1)
    kernel = kernel - kernel.mean()
    return kernel / (kernel * (-x) ** order / math.factorial(order)).sum()


def _widened(kernel: torch.Tensor, radius: int) -> torch.Tensor:
    missing = radius - len(kernel) // 2
    return functional.pad(kernel, (missing, missing))


def _mirrored(planes: torch.Tensor, width: int) -> torch.Tensor:
    return functional.pad(planes, (width, width, width, width), mode="reflect")
