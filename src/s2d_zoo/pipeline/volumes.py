"""Volumes for networks that see planes: cut along z for training, and put together again from what is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.finetune.finetuning import apply_segmentor
from s2d_zoo.finetune.pseudo_labels import PseudoLabels

_Z = "z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planes:
    """What a 2D segmentor is trained on: images that were planes already, and planes of volumes."""

    images: tuple[xr.DataArray, ...]  #: channel y x
    labels: tuple[PseudoLabels, ...]  #: y x, one for each image
    held_out: tuple[xr.DataArray, ...]  #: y x, strokes, one for each image


def planes_to_train_on(
    images: Sequence[xr.DataArray], labels: Sequence[PseudoLabels], held_out: Sequence[xr.DataArray] = ()
) -> Planes:
    """Images as planes, with their labels and held-out strokes.

    Args:
        images: channel (z) y x.
        labels: one for each image.
        held_out: (z) y x, 0 = unlabelled, one for each image, or none at all.

    Returns:
        Planes as they are; of volumes, from first to last, those planes on which a label counts or a stroke was held
        out: on the others there is nothing to learn, nor to test.
    """
    chosen, trusted, tested = [], [], []
    strokes = tuple(held_out) or (None,) * len(images)
    for image, label, stroke in zip(images, labels, strokes, strict=True):
        wanted = label.weights > 0
        if stroke is not None:
            wanted = wanted | (stroke > 0)
        for number in range(image.sizes[_Z]) if _Z in image.dims else (None,):
            if number is None or bool(_plane(wanted, number).any()):
                chosen.append(_plane(image, number))
                trusted.append(_plane_of_labels(label, number))
                tested += [] if stroke is None else [_plane(stroke, number)]
    return Planes(images=tuple(chosen), labels=tuple(trusted), held_out=tuple(tested))


def segment(model: UNet | PackagedModel, image: xr.DataArray) -> xr.DataArray:
    """What a 2D network says of an image (channel (z) y x), of a volume plane by plane: channel (z) y x, float32."""
    if _Z not in image.dims:
        return apply_segmentor(model, image)
    planes = [apply_segmentor(model, _plane(image, number)) for number in range(image.sizes[_Z])]
    return xr.concat(planes, dim=_Z).transpose(*image.dims).assign_attrs(image.attrs)


def middle_number(array: xr.DataArray) -> int | None:
    """Which plane of a volume lies in its middle, counted from 0; None for a plane."""
    return array.sizes[_Z] // 2 if _Z in array.dims else None


def middle_plane(array: xr.DataArray) -> xr.DataArray:
    """The plane in the middle of a volume ((channel) z y x); a plane as it is."""
    return _plane(array, middle_number(array))


def _plane(array: xr.DataArray, number: int | None) -> xr.DataArray:
    return array if number is None else array.isel({_Z: number}, drop=True)


def _plane_of_labels(labels: PseudoLabels, number: int | None) -> PseudoLabels:
    if number is None:
        return labels
    return PseudoLabels(
        labels=_plane(labels.labels, number),
        weights=_plane(labels.weights, number),
        painted=None if labels.painted is None else _plane(labels.painted, number),
        strokes_only=labels.strokes_only,
    )
