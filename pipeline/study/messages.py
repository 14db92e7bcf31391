"""Messages between driver and worker about a trial, and the end in the trial's journal."""

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter

from pipeline.base.ends import End, TrialEnd, end_on_record
from pipeline.base.errors import EnvironmentFaultError
from pipeline.tracking.fields import final_prefixes
from pipeline.tracking.journal import Journal
from pipeline.tracking.run_record import RunRecord

#: Name of the file with a trial's kept weights, in its folder of checkpoints.
KEPT = "kept.ckpt"
#: Tag in a trial's journal of an older version that holds its values, as a JSON list.
VALUES = "pipeline.values"
REMEDY = (
    "restore it, start a new study with sweep.name=NAME, or continue anyway with "
    "sweep.allow_change=true"
)
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to train.

    Args:
        number: Number of the trial in its study.
        folder: Folder of the run, which exists.
        name: Name of the run.
        config: Configuration of the run as plain values, with unresolved references.
        trust: Packages whose classes the config may name, from the command line.
        objectives: Names of the objectives: `val/f1`, `model/parameters`, …
        parent_folder: The study's folder, whose MLflow run is the parent; `None` = no parent.
        key: Key by which the MLflow run is found again.
        tags: Tags of the run beside those of every run.
        rungs: Rung by epoch; at these epochs the trial asks whether to go on.
        data: Hash of the data that the trial has to train on; `None` = not known yet.
        test: Whether the model is tested at the end.
        keep: Whether the kept weights are written to `checkpoints/kept.ckpt`.
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
    """The kept weights of an ended trial, to test once and to save as a model.

    `folder` is the trial's run folder; `config`, `trust` and `data` are those of its `Job`. The
    tables (config, predictions, classes, history) are written to `tables_folder`, and the model to
    `model_folder`; `None` = no test, or no model.
    """

    __test__ = False  # tells pytest that this is not a test class

    folder: str
    tables_folder: str | None
    config: dict[str, Any]
    trust: list[str]
    model_folder: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A trial that waits for a verdict at rung `step`; `value` is its first objective so far."""

    step: int
    epoch: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Result of a `TestJob`.

    Args:
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …; empty if nothing was tested.
        baselines: What each baseline is, by name, or why it was not fitted.
        comparison: Whether the network or the best baseline is better, in a sentence.
        intervals: 95 % intervals of the network's metrics: `f1`, …
        rows: The tested rows in words: `1,000 rows, mean over 10 classes`; empty = none.
        figure: What the saved model is compared by; `None` = no model was saved.
        problem: Why the job failed, in one line; `None` = it succeeded.
        exit_code: Exit code of a single run that fails like this.
    """

    __test__ = False  # tells pytest that this is not a test class

    metrics: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    comparison: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rows: str = ""
    figure: Mapping[str, Any] | None = None
    problem: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """The worker's process has died, and sends no more answers.

    `message` says how it died. If `final`, no other worker can run there either, and `message` is
    a complete error message.
    """

    message: str
    final: bool = False


Answer = Rung | TrialEnd | TestResult | WorkerDied
_ANSWERS: Mapping[str, type[Answer]] = {kind.__name__: kind for kind in get_args(Answer)}


def encode(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain values, including its kind."""
    return {"say": type(answer).__name__, **asdict(answer)}


def decode(message: Mapping[str, Any]) -> Answer:
    """Return the answer from the plain values that `encode` returned, also after they were JSON."""
    values = dict(message)
    kind = values.pop("say")
    return read(_ANSWERS[kind], values)


def read(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """Return a record of class `kind` from plain values, whose types JSON may have changed."""
    return TypeAdapter(kind).validate_python(values)


# ── what the journal of a trial says of its end ─────────────────────────────────────────────


def end_in_journal(folder: Path) -> TrialEnd | None:
    """Return the end that a trial's journal records; `None` = it records none."""
    try:
        record = RunRecord.read(folder)
    except OSError:
        return None
    if record.end is None:
        return None
    return record.end.details or _end_of_older_version(record)


def _end_of_older_version(record: RunRecord) -> TrialEnd | None:
    """Return the end in a journal of a version that wrote only its status and reason.

    The values are a tag. The attributes are those with which a worker would have reported it.
    """
    if record.begin is None or record.end is None:
        return None
    end = end_on_record(record.end.status, record.end.reason)
    if end is None:
        return None
    first_begin = record.begins[0]
    attributes: dict[str, Any] = {
        "seconds": (record.end.time - first_begin.time) / 1000,
        "epochs": len(record.epochs),
    }
    threads = first_begin.params.get("trainer.threads")
    if isinstance(threads, int):
        attributes["threads"] = threads
    prefixes = final_prefixes()
    for values in record.epochs.values():
        for key, value in values.items():
            if key.startswith(prefixes):
                attributes[key] = value
    if end is not End.COMPLETE:
        return TrialEnd(end=end, attributes=attributes)
    try:
        objectives = tuple(map(float, json.loads(record.tags[VALUES])))
    except (KeyError, ValueError, TypeError):
        return None
    if not objectives or not all(map(math.isfinite, objectives)):
        return None
    return TrialEnd(end=end, values=objectives, attributes=attributes)


def end_journal(folder: Path, ended: TrialEnd) -> bool:
    """Make a trial's journal, if it has begun, end as the study says; return whether it does.

    The journal of another run is left alone.
    """
    recorded_end = end_in_journal(folder)
    is_ended = recorded_end is not None and recorded_end.end is ended.end
    if is_ended or not RunRecord.read(folder).is_trial:
        return True
    try:
        with closing(Journal(folder)) as journal:
            journal.end(ended)
    except EnvironmentFaultError:
        return False
    return True


def changed_data_line(config: Mapping[str, Any], before: str, now: str) -> str:
    """Return an error line for a run whose data had the hash `before` and have `now`."""
    path = config["data"].get("path")
    subject = "the data" if path is None else f"data.path={path}: the data"
    return f"{subject} had the hash {before[:12]} in this study and now have {now[:12]}; {REMEDY}"
