"""A small 2D U-Net whose output on a tile equals its output on the whole image.

This file needs torch and the standard library only: it travels inside bioimage.io packages.

At inference nothing depends on the tile that is looked at: batch normalisation uses stored statistics and
the input is normalised with stored constants. A tile that begins at a multiple of `step` px and carries a
halo of `receptive_radius` px therefore gives the same values as the whole image.
After Ronneberger et al. 2015 (doi:10.1007/978-3-319-24574-4_28).
"""

from collections.abc import Sequence

import torch
from torch import nn


class UNet(nn.Module):
    """U-Net with nearest-neighbour upsampling and a sigmoid at its end.

    Input: ``(batch, channel, y, x)`` float32, y and x multiples of `step`.
    Output: the same size, ``out_channels`` channels, float32 in [0, 1].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        features: channels of the first level; each level below has twice as many.
        max_features: but no level has more than this; no limit where None.
        depth: how often the image is halved.
        norm: ``"batch"`` or ``"none"``.
        input_offset, input_scale: per input channel (or one for all), the input is normalised
            to ``(input - offset) / scale`` with these constants.
    """

    input_offset: torch.Tensor
    input_scale: torch.Tensor

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: int = 16,
        depth: int = 3,
        norm: str = "batch",
        input_offset: Sequence[float] = (0.0,),
        input_scale: Sequence[float] = (1.0,),
        max_features: int | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            msg = f"norm must be 'batch' or 'none' (others depend on the tile), got {norm!r}."
            raise ValueError(msg)
        if min(in_channels, out_channels, features, depth) < 1:
            found = (in_channels, out_channels, features, depth)
            msg = f"in_channels, out_channels, features and depth must be at least 1, got {found}."
            raise ValueError(msg)
        self.depth = depth
        self.register_buffer("input_offset", _per_channel(input_offset, in_channels))
        self.register_buffer("input_scale", _per_channel(input_scale, in_channels))
        widths = [features * 2**level for level in range(depth + 1)]
        if max_features is not None:
            widths = [min(width, max(features, max_features)) for width in widths]
        self.encoder = nn.ModuleList(
            _block(source, target, norm) for source, target in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            _block(widths[level] + widths[level + 1], widths[level], norm) for level in reversed(range(depth))
        )
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.head = nn.Conv2d(features, out_channels, kernel_size=1)

    @property
    def step(self) -> int:
        """Sizes, and the origins of tiles, must be multiples of this many px."""
        return int(2**self.depth)

    @property
    def receptive_radius(self) -> int:
        """How far, in px, an output pixel looks: the layers followed backwards, for each phase of the pooling."""
        return max(self._reach(position) for position in range(self.step))

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The output before the sigmoid, for losses."""
        x = (image - self.input_offset) / self.input_scale
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(x)
            if level < self.depth:
                skips.append(x)
                x = self.pool(x)
        for block in self.decoder:
            x = block(torch.cat([skips.pop(), self.upsample(x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the output channels."""
        return torch.sigmoid(self.logits(image))

    def _reach(self, position: int) -> int:
        """Largest distance from an output pixel to an input pixel that it depends on."""
        low, high = _seen_by_block(position, position)
        skip_low, skip_high = [], []
        for _ in range(self.depth):  # down the decoder: each level also looks across its skip
            skip_low.append(low)
            skip_high.append(high)
            low, high = _seen_by_block(low // 2, high // 2)
        for _ in range(self.depth):  # up the encoder, from the deepest level
            low, high = min(2 * low, skip_low.pop()), max(2 * high + 1, skip_high.pop())
            low, high = _seen_by_block(low, high)
        return max(position - low, high - position)


def _seen_by_block(low: int, high: int) -> tuple[int, int]:
    """Two 3 x 3 convolutions look 2 px further on either side."""
    return low - 2, high + 2


def _per_channel(values: Sequence[float], channels: int) -> torch.Tensor:
    if len(values) not in (1, channels):
        msg = f"Expected 1 or {channels} values, one for each channel, got {len(values)}."
        raise ValueError(msg)
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def _block(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (in_channels, out_channels):
        layers.append(nn.Conv2d(source, out_channels, kernel_size=3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
