"""The mean teacher: a network learns to agree, on a patch made harder, with its own running mean on the easy patch.

After Tarvainen and Valpola 2017 (arXiv:1703.01780), in the form of the code of Shallow2Deep (Matskevych et al. 2022,
doi:10.3389/fcomp.2022.805166): the cross-entropy to the teacher's probabilities, over all pixels, joins the loss with
weight 1.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from s2d_zoo.data.patches import IMAGE, Sample

#: what the teacher sees of a patch
TEACHER_IMAGE: Final = "teacher_image"
#: of the teacher's weights
_DECAY: Final = 0.999

#: last change to a sample, as `s2d_zoo.data.patches.PatchDataset` takes it
View: TypeAlias = Callable[[Sample, np.random.Generator], Sample]


class TwoViews:
    """The ``finish`` of patches for a mean teacher: one view for the student, another for the teacher.

    Flips, rotations and zooms come before and are the same for both, so pixels correspond.

    Args:
        strong: what the student sees; drawn first, so that it sees the same as without a teacher.
        weak: what the teacher sees; the patch as it is where ``None``.
    """

    def __init__(self, strong: View, weak: View | None = None) -> None:
        self._strong = strong
        self._weak = weak

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """The student's sample, with the teacher's image in it."""
        student = self._strong(dict(sample), generator)
        teacher = sample if self._weak is None else self._weak(dict(sample), generator)
        return {**student, TEACHER_IMAGE: teacher[IMAGE]}


def new_teacher(network: nn.Module) -> AveragedModel:
    """A copy of a network to which ``update_parameters`` adds the network as it then is."""
    teacher = AveragedModel(network, avg_fn=_running_mean, use_buffers=True)
    return teacher.requires_grad_(False).eval()


def disagreement(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between a student and what its teacher believes; both batch channel y x."""
    return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher_logits).detach())


def _running_mean(averaged: torch.Tensor, current: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """The plain mean, until the exponential one has seen enough (as in the code of the 2017 paper)."""
    decay = min(1 - 1 / (int(count) + 1), _DECAY)
    return averaged * decay + current * (1 - decay)
