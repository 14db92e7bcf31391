"""A trial between driver and worker: orders, answers, its end, and what its journal says of it."""

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import TypeAdapter

from pipeline.errors import EnvironmentFaultError
from pipeline.tracking.journal import JOURNAL, Journal, Status, has_begun, read_events

#: File of the weights that a trial keeps, among its checkpoints.
KEPT = "kept.ckpt"
#: Reasons of failures that count towards the total.
COUNTED_FAILURES = ("diverged", "oom", "error")
#: Reasons of failures that the trial did not cause; its point is tried again.
RETRIED = ("interrupted", "lost")
#: Tag in a trial's journal that holds its values, as a JSON list.
VALUES = "pipeline.values"
REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to train, of a number in its study, in a run folder, which exists.

    Args:
        config: The run's configuration as plain values, references unresolved.
        trust: Packages whose classes it may name, from the command line.
        objectives: Names of the values that the trial comes to: `val/f1`, `model/parameters`, …
        parent_folder: The study's folder, whose MLflow run is the parent; `None` = it has none.
        key: Name by which MLflow's run is found again.
        tags: Tags of the run beside those of every run.
        rungs: Epochs at which it asks whether to go on, with the number of the rung.
        data: Hash of the data that it is to train on; `None` = not known yet.
        test: Touch the test rows at its end.
        keep: Write the weights it keeps to `checkpoints/kept.ckpt`.
    """

    number: int
    folder: str
    name: str
    config: dict[str, Any]
    trust: list[str]
    objectives: list[str]
    parent_folder: str | None = None
    key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    rungs: dict[int, int] = field(default_factory=dict)
    data: str | None = None
    test: bool = False
    keep: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TestJob:
    """The kept weights of an ended trial, in its run folder, to test once and leave as a model.

    `config`, `trust` and `data` are those of its `Job`. The folder `into` takes the tables (config,
    predictions, classes, history), `leave` the model; `None` = there are none.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    folder: str
    into: str | None
    config: dict[str, Any]
    trust: list[str]
    leave: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A trial waits for a verdict at a rung, with the first objective of the kept weights."""

    step: int
    epoch: int
    value: float


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

    state: Literal["complete", "pruned", "failed"]
    reason: str | None = None
    message: str | None = None
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The kept weights of a trial were tested, or could not be, for a `problem` in one line.

    Args:
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …; empty where it failed.
        baselines: Names of the naive and the linear baseline.
        figure: What the model that was left is compared by; `None` = none was left.
        exit_code: What a single run would have ended with.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    metrics: Mapping[str, float] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    figure: Mapping[str, Any] | None = None
    problem: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Its process has died; nothing more will come.

    `message` says how; where it is `final`, no other worker can live there, and it is a whole line.
    """

    message: str
    final: bool = False


Answer = Rung | TrialEnd | Tested | Gone
_ANSWERS: Mapping[str, type[Answer]] = {kind.__name__: kind for kind in get_args(Answer)}


def encode(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain values, its kind among them."""
    return {"say": type(answer).__name__, **asdict(answer)}


def decode(said: Mapping[str, Any]) -> Answer:
    """Return the answer of which `encode` gave the plain values, also after a way as JSON."""
    values = {key: value for key, value in said.items() if key != "say"}
    return read(_ANSWERS[said["say"]], values)


def read(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """Return a record of a kind from plain values, to which JSON has made lists and texts."""
    return TypeAdapter(kind).validate_python(values)


# ── what the journal of a trial says of its end ─────────────────────────────────────────────


def run_end(state: str, reason: str | None) -> tuple[Status, str | None] | None:
    """Return the status and `end_reason` of the MLflow run of a trial; `None` before its end."""
    if state == "failed":
        return "KILLED" if reason == "interrupted" else "FAILED", reason or "error"
    ends: dict[str, tuple[Status, str | None]] = {
        "complete": ("FINISHED", None),
        "pruned": ("FINISHED", "pruned"),
    }
    return ends.get(state)


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
    if reason in (*COUNTED_FAILURES, *RETRIED):
        return TrialEnd(state="failed", reason=reason, attributes=attributes)
    tags = [e["value"] for e in events if e["event"] == "tag" and e.get("key") == VALUES]
    try:
        values = tuple(map(float, json.loads(tags[-1])))
    except (IndexError, ValueError, TypeError):
        return None
    is_whole = (
        status == "FINISHED" and reason is None and values and all(map(math.isfinite, values))
    )
    return TrialEnd(state="complete", values=values, attributes=attributes) if is_whole else None


def end_journal(folder: Path, state: str, reason: str | None) -> bool:
    """Let a trial's journal, where it has begun, end as the study says; tell whether it does."""
    known, wanted = end_in_journal(folder), run_end(state, reason)
    if not has_begun(folder) or wanted is None:
        return True
    if known is not None and run_end(known.state, known.reason) == wanted:
        return True
    try:
        with closing(Journal(folder)) as journal:
            journal.end(*wanted)
    except EnvironmentFaultError:
        return False
    return True


def changed_data_line(config: Mapping[str, Any], before: str, now: str) -> str:
    """Say that the data of a run, by their hash now, are not those on record, and what to do."""
    path = config["data"].get("path")
    which = "the data" if path is None else f"data.path={path}: the data"
    return f"{which} had the hash {before[:12]} in this study and have {now[:12]} now; {REMEDY}"
