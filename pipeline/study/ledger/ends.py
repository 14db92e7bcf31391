"""How a trial ends, in the words that both stores use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed"]

COUNTED_FAILURES = ("diverged", "oom", "error")
"""Why a trial may fail of its own, which counts towards the total."""
RETRIED = ("interrupted", "lost")
"""Why a trial may fail through no fault of its own; its point is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a trial ended.

    Args:
        state: What became of it.
        values: A value an objective; empty where it did not complete.
        reason: diverged, oom, error, interrupted, lost or pruned; `None` where it completed.
        message: One line for people.
        attributes: What else is to be on record: `test/f1`, `seconds`, `epochs`, …
    """

    state: State
    values: tuple[float, ...] = ()
    reason: str | None = None
    message: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
