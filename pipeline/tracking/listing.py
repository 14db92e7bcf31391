"""What the run folders say about their runs, without asking MLflow."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.processes.lease import Lease, alive
from pipeline.terminal import duration, number
from pipeline.tracking.find import COMMAND_TAG
from pipeline.tracking.journal import JOURNAL, Event, epochs_of, read_events
from pipeline.tracking.state import State, read_state, run_folders, unsent

HEADINGS = ("name", "status", "end_reason", "validation", "test", "age", "run", "folder")
TELLING = ("f1", "rmse", "accuracy", "loss")
"""Metrics that stand for a run, the most telling first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One run as a person wants to see it among others.

    Args:
        name: Name of the run.
        status: RUNNING, FINISHED, FAILED, KILLED, or LOST where nobody has closed it yet.
        end_reason: Why it ended early; '' where it did not.
        metrics: The latest value of each metric.
        age: Seconds since its last event.
        run_id: MLflow's id; '' where it has none.
        folder: Where it lies.
        unsent: Values that MLflow lacks.
        is_study: It is a study's own run.
    """

    name: str
    status: str
    end_reason: str
    metrics: Mapping[str, float]
    age: float
    run_id: str
    folder: Path
    unsent: int
    is_study: bool

    def cells(self) -> list[str]:
        """Return what a person is told, as `HEADINGS` names it."""
        return [
            self.name,
            self.status,
            self.end_reason or "-",
            _words(self.telling("best/val") or self.telling("val")),
            _words(self.telling("test")),
            duration(self.age),
            self.run_id[:8] or "-",
            str(self.folder),
        ]

    def telling(self, stage: str) -> tuple[str, float] | None:
        """Return the metric that stands for a stage (`best/val`, `val`, `test`), with its name."""
        for metric in TELLING:
            if (key := f"{stage}/{metric}") in self.metrics:
                return metric, self.metrics[key]
        return None


def listed(output: Path) -> list[Listed]:
    """Return the runs below `output`, oldest first; folders without a begun run are left out."""
    runs = (_listed(folder) for folder in run_folders(output))
    return [run for run in runs if run is not None]


def _listed(folder: Path) -> Listed | None:
    events = list(read_events(folder / JOURNAL))
    begins = [event for event in events if event["event"] == "begin"]
    if not begins:
        return None
    state = read_state(folder)
    status, reason = standing(events, state)
    return Listed(
        name=begins[-1]["name"],
        status=status,
        end_reason=reason,
        metrics=_latest(events),
        age=max(0.0, time.time() - max(event["time"] for event in events) / 1000),
        run_id=state.run_id,
        folder=folder,
        unsent=unsent(folder) if begins[-1]["uri"] else 0,
        is_study=begins[-1]["tags"].get(COMMAND_TAG) == "sweep",
    )


def _words(metric: tuple[str, float] | None) -> str:
    return "-" if metric is None else f"{metric[0]} {number(metric[1])}"


def standing(events: Iterable[Event], state: State) -> tuple[str, str]:
    """Return a begun run's status, as in `Listed`, and why it ended early."""
    last = [event for event in events if event["event"] in ("begin", "end")][-1]
    if last["event"] == "end":
        return str(last["status"]), str(last["reason"] or "")
    if alive(Lease(**last["lease"])):
        return "RUNNING", ""
    return ("FAILED", "lost") if state.done else ("LOST", "")


def _latest(events: Iterable[Event]) -> dict[str, float]:
    latest: dict[str, float] = {}
    for values in epochs_of(iter(events)).values():
        latest |= values
    return latest
