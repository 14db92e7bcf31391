"""How a trial ended by its own account, where its process died before that was on record."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from pipeline.study.ledger.ends import COUNTED_FAILURES, RETRIED, End
from pipeline.tracking.journal import JOURNAL, Event, read_events

VALUES = "pipeline.values"
"""The tag of a trial's journal that holds what it came to, as a JSON list."""


def has_begun(folder: Path) -> bool:
    """Tell whether a trial's journal tells of its begin; on a full disk it may be empty."""
    return next(read_events(folder / JOURNAL), None) is not None


def end_in_journal(folder: Path) -> End | None:
    """Return the end that a trial's journal tells of; `None` where it tells of none."""
    try:
        return _end(list(read_events(folder / JOURNAL)))
    except OSError:
        return None


def _end(events: list[Event]) -> End | None:
    ends = [event for event in events if event["event"] in ("begin", "end")]
    if not ends or ends[-1]["event"] != "end":
        return None
    status, reason = ends[-1].get("status"), ends[-1].get("reason")
    attributes = _attributes(events)
    if status == "FINISHED" and reason == "pruned":
        return End(state="pruned", reason="pruned", attributes=attributes)
    if status == "FINISHED" and reason is None:
        values = _values(events)
        if values is not None:
            return End(state="complete", values=values, attributes=attributes)
    if reason in (*COUNTED_FAILURES, *RETRIED):
        return End(state="failed", reason=reason, attributes=attributes)
    return None


def _values(events: Iterable[Event]) -> tuple[float, ...] | None:
    tags = [e for e in events if e["event"] == "tag" and e.get("key") == VALUES]
    try:
        values = tuple(map(float, json.loads(tags[-1]["value"])))
    except (IndexError, ValueError, TypeError):
        return None
    return values if values and all(map(math.isfinite, values)) else None


def _attributes(events: list[Event]) -> dict[str, object]:
    """Return how long the trial took, by its own clock, and how many epochs it has."""
    times = [event["time"] for event in events if event["event"] in ("begin", "end")]
    epochs = {event["epoch"] for event in events if event["event"] == "epoch"}
    return {"seconds": (times[-1] - times[0]) / 1000, "epochs": len(epochs)}
