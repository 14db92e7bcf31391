"""How outputs become an answer: by a threshold, or with an interval, of the validation rows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

TAIL = 0.05
"""Share of the answers whose truth lies below an interval, at most, and above it."""
FEWEST = 19
"""Independent residuals from which on the smallest and the largest hold nine of ten new ones."""


def conformal(residuals: NDArray[np.float64], independent: float) -> Interval | None:
    """Return between which values a new residual lies with a probability of at least 90 %.

    Args:
        residuals: Truth - prediction of validation rows, (rows,).
        independent: As how many independent residuals they count.

    Returns:
        The ends; `None` = there are too few for any, fewer than `FEWEST`.

    Source: Vovk, Gammerman and Shafer 2005: of n residuals that are equally likely in any order,
    the new one is at most the ceil((n + 1) q)-th smallest with a probability of at least q. Lee,
    Barber and Willett 2023 for groups.
    """
    rows = len(residuals)
    if independent < FEWEST or not np.isfinite(residuals).all():
        return None
    held = (1 - TAIL) * (independent + 1) / independent  # share of the residuals below an end
    cut = math.floor(rows * (1 - held) + 1e-9)
    ordered = np.sort(residuals)
    return float(ordered[cut]), float(ordered[rows - 1 - cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was learned on the validation rows after training.

    Args:
        threshold: Probability above which a row of a binary task counts as positive.
        rule: How the threshold was found: a number, `best_f1`, `recall_at_0.9`.
        intervals: For each output of a regression the residuals (truth - prediction, in units)
            that at least nine of ten new ones lie between; empty = not known.
        found: What the rule came to on the validation rows, in words; empty = no rule was applied.
    """

    threshold: float = 0.5
    rule: str = "0.5"
    intervals: tuple[Interval, ...] = ()
    found: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "intervals": [list(pair) for pair in self.intervals]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Decision":
        """Read what `to_dict` wrote."""
        pairs = tuple((float(low), float(high)) for low, high in plain["intervals"])
        return cls(
            threshold=plain["threshold"],
            rule=plain["rule"],
            intervals=pairs,
            found=plain.get("found", ""),
        )
