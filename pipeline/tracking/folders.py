"""Run folders below `output`: their state in MLflow; finding, listing and removing them."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from pipeline.errors import ConfigError, did_you_mean, some
from pipeline.metrics import direction, ranked
from pipeline.paths import TRIALS, entries, files_below, replace_file
from pipeline.processes.lease import Lease, alive
from pipeline.redaction import redact
from pipeline.regular_files import (
    is_in_one_line,
    open_regular,
    read_regular,
    require_plain_folder,
)
from pipeline.terminal import ago, number
from pipeline.tracking.fields import STUDY_TAG, TRIAL_TAG
from pipeline.tracking.journal import (
    JOURNAL,
    Count,
    Event,
    count_values,
    epochs_of,
    is_journal,
    last_bound,
    parse_line,
    read_events,
)
from pipeline.tracking.ownership import is_own

STATE = "mlflow.json"
#: Marks a folder that is to be removed once MLflow has all of it.
FORGET = ".forget"

LAST = "last"
COMMAND_TAG = "pipeline.command"
#: Value of `COMMAND_TAG` for a study.
SWEEP = "sweep"
#: Value of `COMMAND_TAG` for an evaluation.
EVALUATE = "evaluate"
#: Value of `COMMAND_TAG` for a range test of the learning rate.
FIND_LR = "find_lr"
SHOWN = 5
#: Word for runs that this user has not begun here.
FOREIGN = "foreign"

#: Stages of a list that can be sorted by, with the prefixes of their metrics.
STAGES = {"validation": ("best/val", "val"), "test": ("test",)}
DAY = 86_400.0
MIB = 1 << 20
ENDED = ("FINISHED", "FAILED", "KILLED")


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
    return count_values(list(read_events(folder / JOURNAL))[read_state(folder).sent :])


def is_finished(folder: Path) -> bool:
    """Tell whether the store has the whole journal of a folder and the run's end.

    The journal is read only if its size has changed since its last line was sent.
    """
    state, path = read_state(folder), folder / JOURNAL
    try:
        return state.done and (
            path.lstat().st_size == state.journal_bytes
            or read_regular(path).count(b"\n") == state.sent
        )
    except FileNotFoundError:  # removed meanwhile
        return True


# ── which folders there are ─────────────────────────────────────────────────────────────────────


def run_folders(output: Path) -> list[Path]:
    """Return the run folders below `output`, in the order in which they began."""
    return list(_begun(entries(output)))


def damaged_folders(output: Path) -> list[Path]:
    """Return the folders below `output` whose journal does not begin with that of a run."""
    begun = _begun(entries(output))
    return [folder for folder, first in begun.items() if first.get("event", "begin") != "begin"]


def trial_folder(study: Path, uid: str, number: int) -> Path:
    """Return the folder of a trial within that of its study, which has the unique id `uid`."""
    return study / TRIALS / f"{uid}-{number:04}"


def is_trial(folder: Path) -> bool:
    """Return whether the journal in a folder is that of the trial that the folder is named after.

    Names and numbers of folders may come from a database that anyone has written.
    """
    tags = [begin["tags"] for begin in _begins(folder)]
    names = {f"{tag.get(STUDY_TAG)}-{tag.get(TRIAL_TAG, ''):0>4}" for tag in tags}
    return names == {folder.name}


def is_study(folder: Path, uid: str) -> bool:
    """Return whether the journal in a folder, if there is one, is that of a study with this id.

    A database that anyone has written may name its studies like folders of runs.
    """
    begins = _begins(folder)
    if not begins:
        return not (folder / JOURNAL).exists()
    return not is_run(folder) and begins[-1]["tags"].get(STUDY_TAG) == uid


def is_run(folder: Path) -> bool:
    """Return whether the journal in a folder is that of a run that is not a study."""
    return any(command_of(begin) != SWEEP for begin in _begins(folder))


def trainer_of(folder: Path) -> Lease | None:
    """Return the lease of the process that trains a run; `None` if the run has ended."""
    last = last_bound(read_events(folder / JOURNAL))
    return Lease(**last["lease"]) if last is not None and last["event"] == "begin" else None


def _begins(folder: Path) -> list[Event]:
    return [event for event in read_events(folder / JOURNAL) if event["event"] == "begin"]


def unfinished(output: Path) -> list[Path]:
    """Return folders of which the store lacks values or the end: runs by age, then trials."""
    runs = entries(output)
    trials = [trial for run in runs for trial in entries(run / TRIALS)]
    begun_runs = _begun(run for run in runs if not is_finished(run))
    begun_trials = _begun(trial for trial in trials if not is_finished(trial))
    return [*begun_runs, *sorted(begun_trials)]


def with_trials(folder: Path) -> list[Path]:
    """Return the folder of a run, or that of a study and those of its trials."""
    return [folder, *sorted(_begun(entries(folder / TRIALS)))]


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
    begun = dict(reversed(_begun(entries(output)).items()))
    if reference == LAST:
        for folder, first in begun.items():
            if command_of(first) == "train":
                return folder
        raise ConfigError(f"no runs below {key}={str(output)!r}; train one first")
    begun |= _begun_trials(output)
    names = {one: str(first.get("name", one.name)) for one, first in begun.items()}
    found = [one for one, name in names.items() if reference in (name, one.name)] or [
        one for one in names if reference and read_state(one).run_id.startswith(reference)
    ]
    if not found:
        known = [names[run] for run in names if command_of(begun[run]) != SWEEP]
        shown = some(list(dict.fromkeys(known)), most=SHOWN)
        raise ConfigError(
            f"run {reference!r} is unknown below {key}={str(output)!r}; expected a run's folder or "
            f"name, the start of an MLflow run id, or {LAST}; "
            f"{f'the newest are {shown}' if shown else 'there are none'}."
            f"{did_you_mean(reference, [*known, *(one.name for one in names)])}"
        )
    for fits in (lambda folder: command_of(begun[folder]) != FIND_LR, preferred):
        found = [one for one in found if fits(one)] or found
    newest = max(found, key=lambda folder: _order_of(begun[folder]))
    if len(found) > 1:
        line = f"note: {len(found)} runs match {reference!r}; using the newest, {newest}"
        print(line, file=sys.stderr)
    return newest


def newest_study(output: Path) -> str | None:
    """Return the name of the study that began after all runs; `None` = a run is newer."""
    *_, newest = [None, *_begun(entries(output)).items()]
    return newest[0].name if newest and command_of(newest[1]) == SWEEP else None


def _begun_trials(output: Path) -> dict[Path, Event]:
    return _begun(trial for run in entries(output) for trial in entries(run / TRIALS))


def _begun(folders: Iterable[Path]) -> dict[Path, Event]:
    """Return the first event of each run by its folder, oldest first; empty if it is unreadable.

    Links to folders, folders with a line break in their names, and folders without a journal are
    left out.
    """
    first: dict[Path, Event] = {}
    for folder in folders:
        path = folder / JOURNAL
        if folder.is_symlink() or not is_journal(path):
            continue
        study = folder.parents[1].name if folder.parent.name == TRIALS else ""
        if not is_in_one_line(f"{study}{folder.name}"):
            continue
        first[folder] = {}
        with suppress(OSError), os.fdopen(open_regular(path), "rb") as file:
            first[folder] = parse_line(file.readline())
    return dict(sorted(first.items(), key=lambda one: (_order_of(one[1]), one[0].name)))


def command_of(begin: Event) -> str:
    """Return the command that a run belongs to, such as `train`, from its first event."""
    return str(begin.get("tags", {}).get(COMMAND_TAG, "train"))


def _order_of(begin: Event) -> int:
    """Return a run's place among others, by its first event; 0 if that is unknown."""
    return int(begin.get("order") or begin.get("time", 0))


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
            "validation": self._shown("validation"),
            "test": self._shown("test"),
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
        verdict, *more = self.doctor.split(", ")
        ended = verdict + f" +{len(more)}" * bool(more) if self.status == "FINISHED" else ""
        status = ended or self.end_reason or self.status.lower()
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
        metric, value = self._telling(order)
        names = _representing()
        kind = names.index(metric) if metric else len(names)
        return (kind, value if direction(metric) == "min" else -value, -self.order)

    def _shown(self, stage: str) -> str:
        metric, value = self._telling(stage)
        return f"{metric} {number(value)}" if metric else "-"

    def _telling(self, stage: str) -> tuple[str, float]:
        """Return name and value of the metric that represents a stage; '' if there is none."""
        for prefix in STAGES[stage]:
            for metric in _representing():
                if f"{prefix}/{metric}" in self.metrics:
                    return metric, self.metrics[f"{prefix}/{metric}"]
        return "", 0.0

    def is_recorded_in(self, uri: str) -> bool:
        """Tell whether the run is recorded in the store at an address, or in no store."""
        return not self.state.run_id or self.state.uri == redact(uri)

    def __str__(self) -> str:
        return f"{self.folder}: {self.age / DAY:.0f} days old, {self.size / MIB:.1f} MiB"


def _representing() -> list[str]:
    """Return the names of values that can represent a run, the preferred ones first."""
    return [*ranked(), "loss"]


def listed(output: Path) -> list[ListedRun]:
    """Return the runs below `output`, oldest first; folders whose run has not begun are skipped."""
    runs, now = [], time.time()
    for folder in run_folders(output):
        events = list(read_events(folder / JOURNAL))
        begins = [event for event in events if event["event"] == "begin"]
        if not begins:
            continue
        state = read_state(folder)
        status, reason = standing(events, state)
        tags = {event["key"]: event["value"] for event in events if event["event"] == "tag"}
        latest: dict[str, float] = {}
        for values in epochs_of(events).values():
            latest |= values
        run = ListedRun(
            name=begins[-1]["name"],
            status=status,
            end_reason=reason,
            doctor=str(tags.get("doctor", "")).replace("_", " "),
            metrics=latest,
            order=_order_of(events[0]),
            age=max(0.0, now - max(event["time"] for event in events) / 1000),
            state=state,
            folder=folder,
            unsent=unsent(folder) if begins[-1]["uri"] else 0,
            is_study=command_of(begins[-1]) == SWEEP,
            is_own=is_own(folder),
        )
        runs.append(run)
    return runs


def old_runs(output: Path, *, days: float) -> list[ListedRun]:
    """Return the runs, without studies, that ended `days` ago or earlier and are fully sent."""
    ended = (run for run in listed(output) if run.status in ENDED and not run.is_study)
    return [run for run in ended if run.unsent == 0 and run.age >= days * DAY]


def standing(events: Iterable[Event], state: State) -> tuple[str, str]:
    """Return the status of a begun run, as in `ListedRun`, and the reason of an early end or ''."""
    last = [event for event in events if event["event"] in ("begin", "end")][-1]
    if last["event"] == "end":
        return str(last["status"]), str(last["reason"] or "")
    if alive(Lease(**last["lease"])):
        return "RUNNING", ""
    return ("FAILED", "lost") if state.done else ("LOST", "")


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
