"""How a trial ended: one record from its worker to the study's database and to MLflow."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.tracking.journal import JOURNAL, Event, Status, read_events

State = Literal["complete", "pruned", "failed"]

COUNTED_FAILURES = ("diverged", "oom", "error")
"""Reasons of failures that count towards the total."""
RETRIED = ("interrupted", "lost")
"""Reasons of failures that the trial did not cause; its point is tried again."""
KILLED = ("interrupted",)
"""Reasons of failures that MLflow has as KILLED; it has all others as FAILED."""
VALUES = "pipeline.values"
"""Tag in a trial's journal that holds its values, as a JSON list."""
REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How a trial ended.

    Args:
        state: What became of it.
        reason: pruned, diverged, oom, error, interrupted or lost; `None` where it completed.
        message: One line for people; `None` where there is nothing to say.
        values: One value per objective; empty where it did not complete.
        attributes: `seconds`, `epochs`, `threads`, and final values such as `test/f1`.
        exit_code: What a single run would have ended with: 3 for a fault of the environment.
        data: Hash of the data that it trained on; `None` where it failed.
    """

    state: State
    reason: str | None = None
    message: str | None = None
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    data: str | None = None


def run_end(state: str, reason: str | None) -> tuple[Status, str | None] | None:
    """Return the status and `end_reason` of the MLflow run of a trial; `None` before its end."""
    if state == "complete":
        return "FINISHED", None
    if state == "pruned":
        return "FINISHED", "pruned"
    if state == "failed":
        reason = reason or "error"
        return "KILLED" if reason in KILLED else "FAILED", reason
    return None


def has_begun(folder: Path) -> bool:
    """Tell whether a trial's journal holds its begin; on a full disk it may be empty."""
    return next(read_events(folder / JOURNAL), None) is not None


def end_in_journal(folder: Path) -> TrialEnd | None:
    """Return the end that a trial's journal holds; `None` where it holds none."""
    try:
        events = list(read_events(folder / JOURNAL))
    except OSError:
        return None
    bounds = [event for event in events if event["event"] in ("begin", "end")]
    if not bounds or bounds[-1]["event"] != "end":
        return None
    status, reason = bounds[-1].get("status"), bounds[-1].get("reason")
    epochs = {event["epoch"] for event in events if event["event"] == "epoch"}
    seconds = (bounds[-1]["time"] - bounds[0]["time"]) / 1000
    attributes = {"seconds": seconds, "epochs": len(epochs)}
    if status == "FINISHED" and reason == "pruned":
        return TrialEnd(state="pruned", reason="pruned", attributes=attributes)
    if status == "FINISHED" and reason is None and (values := _values(events)):
        return TrialEnd(state="complete", values=values, attributes=attributes)
    if reason in (*COUNTED_FAILURES, *RETRIED):
        return TrialEnd(state="failed", reason=reason, attributes=attributes)
    return None


def _values(events: Sequence[Event]) -> tuple[float, ...]:
    """Return the values in a journal; empty where they are missing or not finite."""
    tags = [e for e in events if e["event"] == "tag" and e.get("key") == VALUES]
    try:
        values = tuple(map(float, json.loads(tags[-1]["value"])))
    except (IndexError, ValueError, TypeError):
        return ()
    return values if all(map(math.isfinite, values)) else ()


def changed_data_line(config: Mapping[str, Any], before: str, now: str) -> str:
    """Say that the data of a run are not those that its study has on record, and what to do.

    Args:
        config: The run as plain values.
        before: Hash of the data on record.
        now: Hash of those that were read.
    """
    path = config["data"].get("path")
    which = "the data" if path is None else f"data.path={path}: the data"
    return f"{which} had the hash {before[:12]} in this study and have {now[:12]} now; {REMEDY}"
