"""One figure over several seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A figure over all seeds."""

    mean: float
    spread: float | None  #: standard deviation; None for a single seed
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of one value for each seed."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(mean=statistics.fmean(values), spread=spread, n=len(values))

    def __str__(self) -> str:
        """To three digits."""
        return f"{self.mean:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")
