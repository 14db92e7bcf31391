"""One thing that is wrong with a run: its name, how one sees it, what would help."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Name = Literal[
    "exploding_gradient",
    "vanishing_gradient",
    "dead_relu",
    "saturated",
    "lr_too_high",
    "clipping_always",
    "lr_too_low",
    "leakage",
    "class_collapse",
    "no_better_than_naive",
    "overfitting",
    "stopped_early",
    "underfitting",
    "no_better_than_linear",
    "noisy_metrics",
    "clipping_never",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that is wrong with a run.

    Args:
        name: What it is called.
        evidence: How one sees it, with numbers, as the rest of a sentence.
        numbers: These numbers by name.
        cures: Overrides that would help this very run, the likeliest first; empty = none would.
        advice: What would help where no override does.
    """

    name: Name
    evidence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    cures: tuple[str, ...] = ()
    advice: str = ""

    @property
    def line(self) -> str:
        """The verdict as one line."""
        tried = f"try {' or '.join(self.cures[:2])}" if self.cures else self.advice
        return f"{self.name}: {self.evidence}" + (f"; {tried}" if tried else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a number that is none is left out."""
        return {
            "name": self.name,
            "evidence": self.evidence,
            "numbers": {k: float(v) for k, v in self.numbers.items() if abs(v) < float("inf")},
            "cures": list(self.cures),
            "advice": self.advice,
        }
