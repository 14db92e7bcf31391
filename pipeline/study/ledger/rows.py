"""A trial as a plain record, whatever keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

RowState = Literal["complete", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of a study.

    Args:
        number: Counted from 0.
        state: How far it is, or how it ended.
        reason: Why it ended early: diverged, oom, error, interrupted, lost, pruned; else `None`.
        values: What it came to, a value an objective; empty where it did not complete.
        params: Optuna's values by Optuna's names.
        overrides: What was varied: Hydra's texts by config key or group; `null` is off.
        attributes: What else is on record: `test/f1`, `seconds`, `epochs`, …
        started: Seconds since 1970; `None` where it has not begun.
        ended: Seconds since 1970; `None` where it has not ended.
    """

    number: int
    state: RowState
    reason: str | None = None
    values: tuple[float, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
