"""How outputs become an answer: by a threshold, or with an interval, of the validation rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]

COVERED = (0.05, 0.95)
"""Quantiles of the residuals that an interval lies between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was learned on the validation rows after training.

    Args:
        threshold: Probability above which a row of a binary task counts as positive.
        rule: How the threshold was found: a number, `best_f1`, `recall_at_0.9`.
        intervals: For each output of a regression the residuals (truth - prediction, in units)
            that nine of ten lie between; empty = not known.
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
