"""What training has changed in the weights of a network, tensor by tensor."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from s2d_zoo.errors import PackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """One tensor, before and after."""

    name: str
    shape: tuple[int, ...]
    largest_absolute: float  #: largest change of a value
    squared: float  #: sum of the squared changes
    squared_before: float  #: sum of the squared values as they were

    def __str__(self) -> str:
        """Its shape in words."""
        return " x ".join(map(str, self.shape)) or "1"

    @property
    def changed(self) -> bool:
        """Whether any value is another."""
        return self.largest_absolute > 0

    @property
    def relative(self) -> float:
        """Euclidean length of the change, as a share of that of the tensor; infinite if that was zero."""
        return _share(self.squared, self.squared_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsDifference:
    """Every tensor of two networks of one architecture."""

    tensors: tuple[TensorDifference, ...]  #: parameters and stored statistics, in the order of the network

    @property
    def changed(self) -> tuple[TensorDifference, ...]:
        """Those with another value."""
        return tuple(tensor for tensor in self.tensors if tensor.changed)

    @property
    def largest_absolute(self) -> float:
        """Largest change of a value in all of them."""
        return max((tensor.largest_absolute for tensor in self.tensors), default=0.0)

    @property
    def relative(self) -> float:
        """Euclidean length of the change of all values, as a share of that of all values."""
        return _share(sum(one.squared for one in self.tensors), sum(one.squared_before for one in self.tensors))

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"{len(self.changed)} of {len(self.tensors)} tensors have changed; largest change of a value "
            f"{self.largest_absolute:.3g}, relative change of all (L2) {self.relative:.3g}"
        )

    def largest(self, most: int = 8) -> tuple[TensorDifference, ...]:
        """Those that changed most in relation to their size, the first the most.

        Args:
            most: how many.
        """
        return tuple(sorted(self.changed, key=lambda tensor: (-tensor.relative, tensor.name))[:most])

    def table(self, *, most: int = 8) -> str:
        """The sentence, and a table of those that changed most, for the terminal.

        Args:
            most: how many rows.
        """
        head = ("tensor", "shape", "largest change", "relative change (L2)")
        rows = [head]
        rows += [
            (one.name, str(one), f"{one.largest_absolute:.3g}", f"{one.relative:.3g}") for one in self.largest(most)
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join((f"{self}.", *lines))

    def to_json(self) -> dict[str, Any]:
        """The totals, plain JSON."""
        return {
            "tensors": len(self.tensors),
            "changed": len(self.changed),
            "values": sum(math.prod(tensor.shape) for tensor in self.tensors),
            "largest_absolute": float(f"{self.largest_absolute:.6g}"),
            "relative_l2": float(f"{self.relative:.6g}") if math.isfinite(self.relative) else None,
        }


def compare_weights(before: nn.Module, after: nn.Module) -> WeightsDifference:
    """Compare two networks of one architecture, tensor by tensor.

    Args:
        before: as it was.
        after: the same network, trained; on any device.

    Raises:
        PackageError: if it is another network, or holds values that are not finite.
    """
    old, new = before.state_dict(), after.state_dict()
    shapes = [{name: tuple(values.shape) for name, values in one.items()} for one in (old, new)]
    if shapes[0] != shapes[1]:
        differing = sorted(name for name in {**old, **new} if shapes[0].get(name) != shapes[1].get(name))
        msg = f"Expected the same network with other weights, but {', '.join(differing[:3])} differ in name or shape."
        raise PackageError(msg)
    counted = {name: values for name, values in old.items() if values.is_floating_point()}  # not: batches seen
    return WeightsDifference(tensors=tuple(_compare(name, values, new[name]) for name, values in counted.items()))


def _compare(name: str, before: torch.Tensor, after: torch.Tensor) -> TensorDifference:
    old, new = (values.detach().cpu().double() for values in (before, after))
    if not bool(torch.isfinite(new).all()):
        msg = f"Expected finite weights, found NaN or infinity in {name}. Train again with a lower learning rate."
        raise PackageError(msg)
    change = new - old
    return TensorDifference(
        name=name,
        shape=tuple(old.shape),
        largest_absolute=float(change.abs().max()) if change.numel() else 0.0,
        squared=float((change**2).sum()),
        squared_before=float((old**2).sum()),
    )


def _share(squared: float, squared_before: float) -> float:
    if squared_before == 0:
        return 0.0 if squared == 0 else math.inf
    return math.sqrt(squared / squared_before)
