"""The file unet.py of the packages that published_enhancers.py makes: U-Nets of the published names and arguments.

They halve as often and in the same directions, so that they take the same sizes, but are 16 times thinner.
"""

import torch
from torch import nn

_THINNER = 16


class _UNet(nn.Module):
    """Halves by each of the factors, (z) y x; its last layer sees the input too."""

    def __init__(
        self,
        factors,
        *,
        in_channels,
        out_channels,
        initial_features,
        gain,
        final_activation,
        return_side_outputs,
        postprocessing,
        norm="InstanceNorm",
    ):
        super().__init__()
        if return_side_outputs or postprocessing is not None:
            raise ValueError("not in any of the published enhancers")
        ndim = len(factors[0])
        conv = getattr(nn, f"Conv{ndim}d")

        def block(before, after):
            normalise = getattr(nn, f"{norm}{ndim}d")
            return nn.Sequential(normalise(before), conv(before, after, 3, padding=1), nn.ReLU())

        widths = [initial_features // _THINNER * gain**level for level in range(len(factors) + 1)]
        self.encoder = nn.ModuleList(map(block, [in_channels, *widths], widths[:-1]))
        self.pools = nn.ModuleList(getattr(nn, f"MaxPool{ndim}d")(tuple(factor)) for factor in factors)
        self.base = block(widths[-2], widths[-1])
        self.ups = nn.ModuleList(nn.Upsample(scale_factor=tuple(map(float, factor))) for factor in reversed(factors))
        self.decoder = nn.ModuleList(
            block(below + width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = conv(widths[0] + in_channels, out_channels, 1)
        self.activation = getattr(nn, final_activation)()

    def forward(self, image):
        kept, features = [], image
        for encode, pool in zip(self.encoder, self.pools, strict=True):
            kept.append(encode(features))
            features = pool(kept[-1])
        features = self.base(features)
        for up, decode in zip(self.ups, self.decoder, strict=True):
            features = decode(torch.cat([up(features), kept.pop()], dim=1))
        return self.activation(self.head(torch.cat([features, image], dim=1)))


class UNet2d(_UNet):
    """Of images."""

    def __init__(self, depth, **kwargs):
        super().__init__([(2, 2)] * depth, **kwargs)


class UNet3d(_UNet):
    """Of volumes whose voxels are as deep as wide."""

    def __init__(self, depth, **kwargs):
        super().__init__([(2, 2, 2)] * depth, **kwargs)


class AnisotropicUNet(_UNet):
    """Of volumes whose voxels are deeper than wide."""

    def __init__(self, scale_factors, anisotropic_kernel, **kwargs):
        if anisotropic_kernel:
            raise ValueError("not in any of the published enhancers")
        super().__init__(scale_factors, **kwargs)
