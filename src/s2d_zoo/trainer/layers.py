"""Which layers of a network are trained; all others stay as they are, bit by bit.

Layers are told by their names, because a network that comes as TorchScript has no Python classes any more, and by the
order in which they were registered, which is the order of the computation in the U-Nets that people publish.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from torch import nn

from s2d_zoo.errors import ConfigError

Layers: TypeAlias = Literal["all", "head", "first-block", "norm"]

LAYERS: Final[tuple[Layers, ...]] = get_args(Layers)
#: convolutions of the first block
_BLOCK: Final = 2


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """The part of a network that a training changes."""

    parameters: frozenset[str]  #: names
    still: tuple[nn.Module, ...]  #: layers whose running statistics stay; to be kept in eval mode
    whole: bool  #: nothing at all is frozen

    @contextmanager
    def only(self, network: nn.Module) -> Iterator[None]:
        """Within, gradients are asked for these parameters only; afterwards for those of before."""
        before = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        try:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name in self.parameters)
            yield
        finally:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(before[name])


def choose_layers(network: nn.Module, layers: Layers, *, freeze_batch_norm: bool = False) -> TrainedPart:
    """Choose what of a network is trained.

    Args:
        network: any, also one with TorchScript inside; parameters that ask for no gradient are never chosen.
        layers: ``"all"``; ``"head"``, the last convolution; ``"first-block"``, the first two convolutions, each with
            the normalisation between it and the next; ``"norm"``, every normalisation.
        freeze_batch_norm: keep all running statistics, also of layers that are trained.

    Raises:
        ConfigError: if nothing is left to train.
    """
    names = {name for name, _ in network.named_modules()} if layers == "all" else set(_names(network, layers))
    parameters = frozenset(
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and name.rpartition(".")[0] in names
    )
    if not parameters:
        raise ConfigError(_nothing_to_train(network, layers))
    still = tuple(
        module
        for name, module in network.named_modules()
        if _has_statistics(module) and (freeze_batch_norm or name not in names)
    )
    whole = not still and len(parameters) == len(list(network.parameters()))
    return TrainedPart(parameters, still, whole)


def _names(network: nn.Module, layers: Layers) -> list[str]:
    """Names of the chosen leaf modules."""
    leaves = [(name, kind_of(module)) for name, module in network.named_modules() if not list(module.children())]
    convolutions = [index for index, (_, kind) in enumerate(leaves) if "Conv" in kind]
    norms = [index for index, (_, kind) in enumerate(leaves) if "Norm" in kind]
    if layers == "norm":
        chosen = norms
    elif layers == "head":
        chosen = convolutions[-1:]
    else:
        first = convolutions[0] if convolutions else len(leaves)
        after = convolutions[_BLOCK] if len(convolutions) > _BLOCK else len(leaves)
        chosen = [index for index in (*convolutions, *norms) if first <= index < after]
    return [leaves[index][0] for index in chosen]


def kind_of(module: nn.Module) -> str:
    """Name of a module's class, also of what was a module before it became TorchScript."""
    return str(getattr(module, "original_name", type(module).__name__))


def _has_statistics(module: nn.Module) -> bool:
    return any(name == "running_mean" for name, _ in module.named_buffers(recurse=False))


def _nothing_to_train(network: nn.Module, layers: Layers) -> str:
    kinds = sorted({kind_of(module) for module in network.modules() if not list(module.children())})
    wanted = {
        "all": "weights that can be trained",
        "head": "a convolution with weights that can be trained",
        "first-block": "convolutions with weights that can be trained",
        "norm": "normalisation layers with weights that can be trained",
    }[layers]
    return (
        f"There is nothing to train with layers {layers!r}: that takes {wanted}, and the network has none. Its layers "
        f"are {', '.join(kinds)}. Choose another of {', '.join(LAYERS)}."
    )
