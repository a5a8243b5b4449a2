"""Training a network further, or anew, on strokes or pseudo-labels; and the guard on its worth.

A segmentor takes the raw image, an enhancer the probabilities of a forest; both learn foreground and boundary.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Generic, cast

import numpy as np
import torch
import xarray as xr
from typing_extensions import TypeVar

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.axes import space_dims
from s2d_zoo.data.network import apply_network, channels_of
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.packaged_network import PackagedNetwork
from s2d_zoo.data.patches import PatchDataset, PatchSettings, PatchSource
from s2d_zoo.data.scores import calibration_error, score_strokes
from s2d_zoo.errors import AxesError, NotImprovedError, UserInputError
from s2d_zoo.finetune.pseudo_labels import PseudoLabels
from s2d_zoo.finetune.variation import Inputs, vary_patches
from s2d_zoo.finetune.weighting import Weighting, check_weighting, pixel_weights, weighted_loss
from s2d_zoo.trainer import TrainingSettings, TwoViews, check_network_size, train
from s2d_zoo.types import CHANNEL, OUTPUT_CHANNELS

#: what training begins from
BaseT = TypeVar("BaseT", bound=UNet | PackagedModel, default=UNet)
NetworkT = TypeVar("NetworkT", bound=UNet | PackagedNetwork)

#: grey-value percentiles that the network's input normalisation maps to 0 and 1
_LOW, _HIGH = 5.0, 99.0
#: learning rate for weights that were trained already: a tenth of that of a fresh network
FINETUNING_RATE: Final = 2e-4
#: held out are few strokes, on which the calibration error changes by less without meaning
_CALIBRATION_MARGIN: Final = 0.01
#: of an image of one value, after preprocessing
_SMALLEST: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentorSettings:
    """Network and training of a segmentor.

    Raises:
        ConfigError: if the network would have no channels or no depth, patches do not fit its depth, or the weighting
            is unknown.
    """

    features: int = 8  #: channels of the network's first level
    depth: int = 3
    weighting: Weighting = "consensus"  #: of the pseudo-labels (see `s2d_zoo.finetune.weighting`)
    patches: PatchSettings = field(default_factory=lambda: PatchSettings(size=256, zoom=(0.8, 1.25), soft_target=True))
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(steps=1000, steps_per_epoch=100, batch_size=4)
    )

    def __post_init__(self) -> None:
        check_network_size(self.features, self.depth, patch=self.patches.size)
        check_weighting(self.weighting)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutScore:
    """How a model does on strokes that it never saw."""

    iou: float  #: of the foreground at 0.5, on painted pixels
    calibration_error: float  #: of its probability there (see `s2d_zoo.data.scores.calibration_error`)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentorTraining(Generic[BaseT]):
    """A trained network, and how it does on strokes that it never saw."""

    model: BaseT
    steps: int
    start: HeldOutScore | None = None  #: of the base model; None where no strokes were held out
    end: HeldOutScore | None = None  #: of the trained model on the same
    worse: str = ""  #: in what it is worse than its start, in words; empty where in nothing


def new_segmentor(images: Sequence[xr.DataArray], settings: SegmentorSettings) -> UNet:
    """A fresh network whose input normalisation fits these images.

    Args:
        images: channel y x, any number type, all with the same channels.
        settings: size of the network, and the seed of its weights.

    Raises:
        UserInputError: if the images are constant.
        AxesError: if they have different channels.
    """
    channels = {image.sizes[CHANNEL] for image in images}
    if len(channels) != 1:
        msg = f"All images must have the same number of channels, found {sorted(channels)}."
        raise AxesError(msg)
    values = np.concatenate([image.values.reshape(image.sizes[CHANNEL], -1) for image in images], axis=1)
    low, high = np.percentile(values, (_LOW, _HIGH), axis=1)
    constant = np.flatnonzero(values.min(axis=1) == values.max(axis=1))
    if len(constant):
        msg = f"Channel {int(constant[0])} of the images has the same value everywhere; there is nothing to segment."
        raise UserInputError(msg)
    spread = np.where(high > low, high - low, values.max(axis=1) - values.min(axis=1))
    torch.manual_seed(settings.training.seed)
    return UNet(
        in_channels=channels.pop(),
        out_channels=len(OUTPUT_CHANNELS),
        features=settings.features,
        depth=settings.depth,
        input_offset=[float(value) for value in low],
        input_scale=[float(value) for value in spread],
    )


def train_segmentor(
    base_model: BaseT,
    images: Sequence[xr.DataArray],
    labels: Sequence[PseudoLabels],
    settings: SegmentorSettings,
    *,
    folder: Path,
    held_out: Sequence[xr.DataArray] = (),
    foreground: int = 2,
    inputs: Inputs = "raw",
    untrained: bool = False,
    allow_worse: bool = False,
    progress: str | None = None,
) -> SegmentorTraining[BaseT]:
    """Train a network, or go on with an interrupted training; give it back only if it got no worse.

    Args:
        base_model: to start from, and not changed: one of our networks, or a model of anybody's package. The latter
            gets the images preprocessed as its description says, its normalisation layers stay as they are, and it
            learns the foreground alone if it has one channel.
        images: channel y x: raw, any number type, or probabilities in [0, 1].
        labels: one for each image.
        settings: training and patches.
        folder: for checkpoints.
        held_out: y x, uint8, strokes that are in no label, one for each image: the trained model must do on them at
            least as well as the base model, in IoU (to three digits) and in calibration error (within 0.01). Not
            checked unless both foreground and another class are held out.
        foreground: label of the foreground in the strokes.
        inputs: what the images are, which decides how patches are varied.
        untrained: the base model has random weights, so that its calibration means nothing and is not compared.
        allow_worse: give it back in any case, and say what is worse.
        progress: label of the progress bar on stderr.

    Raises:
        NotImprovedError: if the model ends worse than it began, unless that is allowed.
        UserInputError: if all weights are 0.
        AxesError: if the model or an image is not 2D, or they differ in channels.
    """
    check_trainable(base_model, images)
    if not any(bool((one.weights > 0).any()) for one in labels):
        msg = "All pseudo-labels have weight 0: the forests agree nowhere. Paint more strokes, or ask less confidence."
        raise UserInputError(msg)
    start = _held_out_score(base_model, images, held_out, foreground)
    result = fit_segmentor(base_model, images, labels, settings, folder=folder, inputs=inputs, progress=progress)
    end = _held_out_score(result.model, images, held_out, foreground)
    worse = "" if start is None or end is None else _compare(start, end, untrained=untrained)
    if worse and not allow_worse:
        raise NotImprovedError(not_improved(worse))
    return replace(result, start=start, end=end, worse=worse)


def not_improved(worse: str) -> str:
    """Why a model is not given out, and what to try."""
    return (
        f"On the held-out strokes the trained model is worse than its start: {worse}. It is not given out. Look at the "
        "pseudo-labels; paint more strokes, train longer, or train less of it at a lower rate. --allow-worse gives it "
        "out all the same."
    )


def fit_segmentor(
    base_model: BaseT,
    images: Sequence[xr.DataArray],
    labels: Sequence[PseudoLabels],
    settings: SegmentorSettings,
    *,
    folder: Path,
    inputs: Inputs = "raw",
    progress: str | None = None,
) -> SegmentorTraining[BaseT]:
    """Train without the guard (for baselines); see `train_segmentor`."""
    network: UNet | PackagedNetwork = base_model.network if isinstance(base_model, PackagedModel) else base_model
    given = channels_of(network)[1]
    prepared = [base_model.preprocess(one) if isinstance(base_model, PackagedModel) else one for one in images]
    sources = []
    for image, one in zip(prepared, labels, strict=True):
        weight = pixel_weights(one, settings.weighting)
        focus = np.flatnonzero((one.labels.values[0] >= 0.5) & (weight[0] > 0))
        sources.append(PatchSource(image=image.values, target=one.labels.values[:given], weight=weight, focus=focus))
    vary = vary_patches(inputs if network is base_model else "preprocessed", _spread(network, prepared))
    finish = TwoViews(vary) if settings.training.mean_teacher else vary
    patches = replace(settings.patches, size=_patch_size(network, settings.patches.size))
    result = train(
        _copied(network),
        PatchDataset(sources, patches, finish=finish, seed=settings.training.seed),
        settings.training,
        folder=folder,
        loss=weighted_loss(settings.weighting, channels=given),
        progress=progress,
    )
    trained: UNet | PackagedModel | PackagedNetwork = result.model
    if isinstance(base_model, PackagedModel) and isinstance(trained, PackagedNetwork):
        trained = replace(base_model, network=trained)
    return SegmentorTraining(model=cast("BaseT", trained), steps=result.steps)


def apply_segmentor(model: UNet | PackagedModel, image: xr.DataArray) -> xr.DataArray:
    """What a segmentor says of a raw image.

    Args:
        model: one of our networks, or a model of anybody's package.
        image: channel y x, any number type.

    Returns:
        channel y x, float32 in [0, 1].

    Raises:
        AxesError: if the image is not 2D, or has other channels than the model takes.
    """
    return model.predict(image) if isinstance(model, PackagedModel) else apply_network(model, image)


def _copied(network: NetworkT) -> NetworkT:
    """A copy whose weights can be trained; those of TorchScript would else be results of the copying."""
    with torch.no_grad():
        copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return copied


def _spread(network: UNet | PackagedNetwork, images: Sequence[xr.DataArray]) -> torch.Tensor:
    """How far values of each channel lie apart: channel 1 1, float32."""
    if isinstance(network, UNet):
        return network.input_scale[0].clone()
    values = np.concatenate([image.values.reshape(image.sizes[CHANNEL], -1) for image in images], axis=1)
    low, high = np.percentile(values, (_LOW, _HIGH), axis=1)
    return torch.tensor(np.maximum(high - low, _SMALLEST), dtype=torch.float32).reshape(-1, 1, 1)


def _patch_size(network: UNet | PackagedNetwork, wanted: int) -> int:
    """Px of the patches to train on: networks of one size often take others, where nothing in them is fixed."""
    if isinstance(network, UNet) or network.tiles.at_least(wanted) == wanted:
        return wanted
    patch = torch.zeros(1, network.channels[0], wanted, wanted)
    try:
        with torch.no_grad():
            takes = network(patch).shape[2:] == patch.shape[2:]
    except RuntimeError:
        takes = False
    return wanted if takes else network.tiles.at_least(wanted)


def check_trainable(base_model: UNet | PackagedModel, images: Sequence[xr.DataArray]) -> None:
    """Refuse what cannot be trained.

    Args:
        base_model: to begin from.
        images: channel y x, as it takes them.

    Raises:
        AxesError: if the model or an image is not 2D, or they differ in channels.
    """
    if isinstance(base_model, PackagedModel) and base_model.ndim == 3:
        msg = (
            f"{base_model.id} is a 3D network; only 2D networks can be trained here. It can be used as it is: s2d-zoo "
            "adapt, s2d-zoo enhance."
        )
        raise AxesError(msg)
    channels, given = channels_of(base_model.network if isinstance(base_model, PackagedModel) else base_model)
    if given > len(OUTPUT_CHANNELS):
        msg = f"Expected a network that gives foreground, or foreground and boundary; this gives {given} channels."
        raise AxesError(msg)
    for image in images:
        if len(space_dims(image)) != 2 or image.sizes[CHANNEL] != channels:
            msg = f"This network takes 2D images with {channels} channel(s), found an image with {dict(image.sizes)}."
            raise AxesError(msg)


def _held_out_score(
    model: UNet | PackagedModel, images: Sequence[xr.DataArray], held_out: Sequence[xr.DataArray], foreground: int
) -> HeldOutScore | None:
    """On painted pixels; None where they cannot tell."""
    if not any(bool((strokes > 0).any()) for strokes in held_out):
        return None
    tested = [(image, one) for image, one in zip(images, held_out, strict=True) if bool((one > 0).any())]
    foregrounds, strokes = [apply_segmentor(model, image)[0] for image, _ in tested], [one for _, one in tested]
    score = score_strokes(foregrounds, strokes, foreground=foreground)
    if score is None:
        return None
    error = calibration_error(foregrounds, strokes, foreground=foreground)
    return HeldOutScore(iou=score.iou, calibration_error=error)


def _compare(start: HeldOutScore, end: HeldOutScore, *, untrained: bool) -> str:
    """In what a model got worse: IoU to the digits that are shown, calibration by more than single strokes decide."""
    found = []
    if round(end.iou, 3) < round(start.iou, 3):
        found.append(f"IoU {end.iou:.3f}, before {start.iou:.3f}")
    if not untrained and end.calibration_error > start.calibration_error + _CALIBRATION_MARGIN:
        found.append(f"calibration error {end.calibration_error:.3f}, before {start.calibration_error:.3f}")
    return "; ".join(found)
