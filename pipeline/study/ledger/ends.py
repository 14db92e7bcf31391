"""How a trial ends, in the words that both stores use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed"]

COUNTED_FAILURES = ("diverged", "oom", "error")
"""Why a trial may fail of its own, which counts towards the total."""
RETRIED = ("interrupted", "lost")
"""Why a trial may fail through no fault of its own; its point is tried again."""
REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)


def changed_data_line(config: Mapping[str, Any], before: str, now: str) -> str:
    """Say that the data of a run are others than its study has noted, and what to do.

    Args:
        config: The run as plain values.
        before: Hash of the data that are noted.
        now: Hash of those that were read.
    """
    path = config["data"].get("path")
    which = "the data" if path is None else f"data.path={path}: the data"
    return f"{which} had the hash {before[:12]} in this study and have {now[:12]} now; {REMEDY}"


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
