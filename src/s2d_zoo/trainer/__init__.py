"""The one training loop: seeds, device, checkpoints, resume, early stop, progress; and what of a network it changes."""

from s2d_zoo.trainer.layers import LAYERS, Layers
from s2d_zoo.trainer.losses import Loss, soft_dice, weighted_bce_and_dice
from s2d_zoo.trainer.settings import TrainingSettings, check_network_size
from s2d_zoo.trainer.task import NetworkT, Trainable
from s2d_zoo.trainer.teacher import TEACHER_IMAGE, TwoViews, View
from s2d_zoo.trainer.training import TrainingResult, train

__all__ = [
    "LAYERS",
    "TEACHER_IMAGE",
    "Layers",
    "Loss",
    "NetworkT",
    "Trainable",
    "TrainingResult",
    "TrainingSettings",
    "TwoViews",
    "View",
    "check_network_size",
    "soft_dice",
    "train",
    "weighted_bce_and_dice",
]
