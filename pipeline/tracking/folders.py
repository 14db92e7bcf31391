"""Run folders below `output`: their state in MLflow; finding, listing and removing them."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import get_args

from pydantic import ConfigDict, TypeAdapter

from pipeline.base.ends import End, Status
from pipeline.base.errors import ConfigError, did_you_mean, some
from pipeline.base.paths import TRIALS, entries, files_below, replace_file
from pipeline.base.redaction import redact
from pipeline.base.regular_files import (
    is_in_one_line,
    open_regular,
    read_regular,
    require_plain_folder,
)
from pipeline.base.terminal import ago, number
from pipeline.metrics import direction, ranked
from pipeline.tracking.fields import FIND_LR, SWEEP
from pipeline.tracking.journal_events import Count
from pipeline.tracking.ownership import is_own
from pipeline.tracking.run_record import JOURNAL, RunRecord, is_journal

STATE = "mlflow.json"
#: Marks a folder that is to be removed once MLflow has all of it.
FORGET = ".forget"

LAST = "last"
SHOWN = 5
#: Word for runs that this user has not begun here.
FOREIGN = "foreign"

#: Stages of a list that can be sorted by, with the prefixes of their metrics.
STAGES = {"validation": ("best/val", "val"), "test": ("test",)}
DAY = 86_400.0
MIB = 1 << 20
ENDED = get_args(Status)


# ── how much of a journal MLflow has ────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run is recorded and how much of it: the content of `mlflow.json` in its folder.

    `uri` has no password. `run_id` is '' before the run is created. `sent` is the number of journal
    lines that the store has. `done` says whether the run's end is on record; the journal then had
    `journal_bytes` bytes (0 = unknown, as in folders of older versions).
    """

    __pydantic_config__ = ConfigDict(defer_build=True)

    uri: str = ""
    run_id: str = ""
    experiment_id: str = ""
    sent: Count = 0
    done: bool = False
    journal_bytes: Count = 0


_STATE = TypeAdapter(State)


def read_state(folder: Path) -> State:
    """Read a folder's state; a file that is missing, damaged or has no id: nothing was sent."""
    try:
        # pydantic's error is a ValueError.
        state = _STATE.validate_json(read_regular(folder / STATE), strict=True)
    except (OSError, ValueError):
        return State()
    return state if state.run_id else State()


def write_state(folder: Path, state: State) -> None:
    """Replace a folder's state without `fsync`: if it is lost, the journal is sent again."""
    text = json.dumps(asdict(state)) + "\n"
    replace_file(folder / STATE, lambda file: file.write(text.encode()), synced=False)


def unsent(folder: Path) -> int:
    """Count the values of a journal that the store lacks; an event without values counts as 1."""
    return RunRecord.read(folder).unsent(read_state(folder).sent)


def is_finished(folder: Path) -> bool:
    """Tell whether the store has the whole journal of a folder and the run's end.

    The journal is read only if its size has changed since its last line was sent.
    """
    state = read_state(folder)
    path = folder / JOURNAL
    if not state.done:
        return False
    try:
        if path.lstat().st_size == state.journal_bytes:
            return True
        return read_regular(path).count(b"\n") == state.sent
    except FileNotFoundError:  # removed meanwhile
        return True


# ── which folders there are ─────────────────────────────────────────────────────────────────────


def run_folders(output: Path) -> list[Path]:
    """Return the run folders below `output`, in the order in which they began."""
    return [record.folder for record in _records_of(entries(output))]


def damaged_folders(output: Path) -> list[Path]:
    """Return the folders below `output` whose journal does not begin with that of a run."""
    return [record.folder for record in _records_of(entries(output)) if record.is_damaged]


def trial_folder(study: Path, uid: str, number: int) -> Path:
    """Return the folder of a trial within that of its study, which has the unique id `uid`."""
    return study / TRIALS / f"{uid}-{number:04}"


def unfinished(output: Path) -> list[Path]:
    """Return folders of which the store lacks values or the end: runs by age, then trials."""
    folders = entries(output)
    runs = [run for run in folders if not is_finished(run)]
    trials = [trial for trial in _trial_folders(folders) if not is_finished(trial)]
    return [
        *(record.folder for record in _records_of(runs)),
        *sorted(record.folder for record in _records_of(trials)),
    ]


def _trial_folders(runs: Iterable[Path]) -> Iterator[Path]:
    for run in runs:
        yield from entries(run / TRIALS)


def with_trials(folder: Path) -> list[Path]:
    """Return the folder of a run, or that of a study and those of its trials."""
    trials = _records_of(entries(folder / TRIALS))
    return [folder, *sorted(trial.folder for trial in trials)]


def find_run(
    reference: str,
    output: Path,
    *,
    key: str = "output",
    preferred: Callable[[Path], bool] = Path.is_dir,
) -> Path:
    """Return the folder of a run; of several that match, the newest, and say so.

    The reference is the path or the name of a folder, the name of a run, an MLflow run id or its
    beginning, or `last` for the newest training run. `key` is the command's name of the option
    `output`. Of several, range tests are left out, and folders that are not `preferred` unless none
    is. Raises ConfigError if no run matches, or if the folder holds a link or a pipe.
    """
    folder = _matching_folder(reference, output, key=key, preferred=preferred)
    require_plain_folder(folder)
    return folder


def _matching_folder(
    reference: str, output: Path, *, key: str, preferred: Callable[[Path], bool]
) -> Path:
    for folder in (Path(reference), output / reference):
        if reference and (folder / JOURNAL).exists():
            return folder
    records = _records_of(entries(output))[::-1]
    if reference == LAST:
        for record in records:
            if record.command == "train":
                return record.folder
        raise ConfigError(f"no runs below {key}={str(output)!r}; train one first")
    records += _records_of(_trial_folders(entries(output)))
    matching = _matching(records, reference)
    if not matching:
        raise _unknown_run(reference, records, f"{key}={str(output)!r}")
    trained = [record for record in matching if record.command != FIND_LR] or matching
    fitting = [record for record in trained if preferred(record.folder)] or trained
    newest = max(fitting, key=attrgetter("order")).folder
    if len(fitting) > 1:
        line = f"note: {len(fitting)} runs match {reference!r}; using the newest, {newest}"
        print(line, file=sys.stderr)
    return newest


def _matching(records: Sequence[RunRecord], reference: str) -> list[RunRecord]:
    """Return the records of this name or folder; if there are none, those of this MLflow id."""
    matching = [record for record in records if reference in (record.name, record.folder.name)]
    if matching or not reference:
        return matching
    for record in records:
        if read_state(record.folder).run_id.startswith(reference):
            matching.append(record)
    return matching


def _unknown_run(reference: str, records: Sequence[RunRecord], output: str) -> ConfigError:
    """Return the error for a reference that no run matches; `output` is written as an override."""
    names = [record.name for record in records if record.command != SWEEP]
    folders = [record.folder.name for record in records]
    newest = some(list(dict.fromkeys(names)), most=SHOWN)
    existing = f"the newest are {newest}" if newest else "there are none"
    return ConfigError(
        f"run {reference!r} is unknown below {output}; expected a run's folder or name, the start "
        f"of an MLflow run id, or {LAST}; {existing}.{did_you_mean(reference, [*names, *folders])}"
    )


def newest_study(output: Path) -> str | None:
    """Return the name of the study that began after all runs; `None` = a run is newer."""
    records = _records_of(entries(output))
    return records[-1].folder.name if records and records[-1].command == SWEEP else None


def _records_of(folders: Iterable[Path]) -> list[RunRecord]:
    """Return the records of the runs in folders, oldest first, with the first line alone.

    Links to folders, folders with a line break in their names, and folders without a journal are
    left out.
    """
    records: list[RunRecord] = []
    for folder in folders:
        study = folder.parents[1].name if folder.parent.name == TRIALS else ""
        is_listed = not folder.is_symlink() and is_in_one_line(f"{study}{folder.name}")
        if is_listed and is_journal(folder / JOURNAL):
            records.append(RunRecord.read_first_line(folder))
    return sorted(records, key=lambda record: (record.order, record.folder.name))


# ── listing the runs ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run as an entry of a list.

    `status` is MLflow's, or LOST if the run's process is gone and nobody has closed the run.
    `doctor` has the verdicts, `metrics` the latest values, `order` is larger for a run that began
    later, `age` is the time since the last event in seconds, and `unsent` is the number of values
    that MLflow lacks. `is_own` tells whether this user has begun the run here.
    """

    name: str
    status: str
    end_reason: str
    doctor: str
    metrics: Mapping[str, float]
    order: int
    age: float
    state: State
    folder: Path
    unsent: int
    is_study: bool
    is_own: bool

    @cached_property
    def size(self) -> int:
        """Size of the folder in bytes when it was first asked for."""
        return size_of(self.folder)

    def cells(self) -> dict[str, str]:
        """Return all cells of a table row by heading."""
        return {
            "name": self.name,
            "status": self.status if self.is_own else f"{self.status}, {FOREIGN}",
            "end_reason": self.end_reason or "-",
            "validation": self._metric_cell("validation"),
            "test": self._metric_cell("test"),
            "age": ago(self.age),
            "run": self.state.run_id[:8] or "-",
            "folder": str(self.folder),
            "doctor": self.doctor or "-",
        }

    def short_cells(self) -> dict[str, str]:
        """Return the cells of a row that fits into 80 columns, by heading.

        The status of a run that has finished is its first verdict.
        """
        cells = self.cells()
        status = self.end_reason or self.status.lower()
        if self.status == End.COMPLETE.status and self.doctor:
            status, *other_verdicts = self.doctor.split(", ")
            if other_verdicts:
                status += f" +{len(other_verdicts)}"
        return {
            "name": self.name,
            "status": status if self.is_own else FOREIGN,
            "val": cells["validation"],
            "test": cells["test"].rpartition(" ")[2],
            "age": cells["age"],
            "run": cells["run"],
        }

    def rank(self, order: str) -> tuple[object, ...]:
        """Return what the run is sorted by: `age`, `name`, or a stage, the best value first."""
        if order not in STAGES:
            return (self.name if order == "name" else "", -self.order)
        metric, value = self._main_metric(order)
        names = _main_metrics()
        kind = names.index(metric) if metric else len(names)
        return (kind, value if direction(metric) == "min" else -value, -self.order)

    def _metric_cell(self, stage: str) -> str:
        metric, value = self._main_metric(stage)
        return f"{metric} {number(value)}" if metric else "-"

    def _main_metric(self, stage: str) -> tuple[str, float]:
        """Return name and value of the metric that represents a stage; '' if there is none."""
        for prefix in STAGES[stage]:
            for metric in _main_metrics():
                if f"{prefix}/{metric}" in self.metrics:
                    return metric, self.metrics[f"{prefix}/{metric}"]
        return "", 0.0

    def is_recorded_in(self, uri: str) -> bool:
        """Tell whether the run is recorded in the store at an address, or in no store."""
        return not self.state.run_id or self.state.uri == redact(uri)

    def __str__(self) -> str:
        return f"{self.folder}: {self.age / DAY:.0f} days old, {self.size / MIB:.1f} MiB"


def _main_metrics() -> list[str]:
    """Return the names of values that can represent a run, the preferred ones first."""
    return [*ranked(), "loss"]


def read_runs(output: Path) -> list[ListedRun]:
    """Return the runs below `output`, oldest first; folders whose run has not begun are skipped."""
    runs = []
    now = time.time()
    for folder in run_folders(output):
        record = RunRecord.read(folder)
        if not record.begins:
            continue
        state = read_state(folder)
        status, reason = standing(record, state)
        run = ListedRun(
            name=record.name,
            status=status,
            end_reason=reason,
            doctor=record.tags.get("doctor", "").replace("_", " "),
            metrics=record.values,
            order=record.order,
            age=max(0.0, now - record.last_ms / 1000),
            state=state,
            folder=folder,
            unsent=record.unsent(state.sent) if record.uri else 0,
            is_study=record.command == SWEEP,
            is_own=is_own(folder),
        )
        runs.append(run)
    return runs


def old_runs(output: Path, *, days: float) -> list[ListedRun]:
    """Return the runs, without studies, that ended `days` ago or earlier and are fully sent."""
    runs = []
    for run in read_runs(output):
        has_ended = run.status in ENDED and run.age >= days * DAY
        if has_ended and run.unsent == 0 and not run.is_study:
            runs.append(run)
    return runs


def standing(record: RunRecord, state: State) -> tuple[str, str]:
    """Return the status of a begun run, as in `ListedRun`, and the reason of an early end or ''."""
    if record.is_lost and state.done:  # MLflow's run was closed
        return End.LOST.status, End.LOST.value
    return record.status, record.end_reason


# ── removing folders ────────────────────────────────────────────────────────────────────────────


def mark(folder: Path) -> None:
    """Mark a folder to be removed as soon as its journal has been sent."""
    with suppress(OSError):  # the folder is gone, or the disk is full and it stays
        os.close(open_regular(folder / FORGET, os.O_WRONLY | os.O_CREAT))


def remove_marked(folder: Path) -> None:
    """Remove a folder that `mark` has marked."""
    if (folder / FORGET).exists():
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder and its content; another process may be removing it, too."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    size = 0
    for file in files_below(folder):
        with suppress(OSError):  # removed meanwhile
            size += file.lstat().st_size
    return size
