"""Journal of a run: the events that a training process writes, and what they say of the run."""

import json
import math
import os
import shlex
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from pipeline.base.ends import End, Status, TrialEnd
from pipeline.base.errors import EnvironmentFaultError, text_override
from pipeline.base.paths import lack_in_output
from pipeline.base.processes.lease import Lease, alive, own_lease
from pipeline.base.redaction import redact, redact_value
from pipeline.base.regular_files import open_regular, read_regular
from pipeline.tracking.fields import COMMAND_TAG, STUDY_TAG, SWEEP, TRIAL_TAG
from pipeline.tracking.uri import uri_words

JOURNAL = "journal.jsonl"
#: Holds the command line with which a single run is resumed.
COMMAND = "command.json"
#: Bytes of a journal, far more than any run writes.
LARGEST_JOURNAL = 1 << 30
#: Bytes at the end of a journal in which its last beginning or end is looked for first.
LAST_BYTES = 1 << 14

Scalar = str | int | float | bool | None
#: A whole number that fits into the columns of a database.
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a run before its first epoch.

    `uri` is the address of the store, '' if there is none; `params` is the flattened configuration.
    `parent` is the MLflow id of the parent run; `parent_folder` is the parent's folder, for when
    that id is not known yet. `key` is a unique name that identifies the run in MLflow; `None` means
    the folder's name. `register` is the name under which the model is registered. `trust` lists
    packages whose classes the model may name. `rows` is the number of rows of each part of the
    data, empty if the run has none of its own. `order` is larger than that of each run that the
    same user began before; `None` means the time, as for trials and older runs.
    """

    name: str
    experiment: str
    uri: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    parent_folder: str | None = None
    key: str | None = None
    register: str | None = None
    trust: Sequence[str] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    order: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """The validation value by which a model is judged, and the hash of its training data.

    `monitor` is the metric, `None` if none was monitored; `value` is `None` if it is unknown.
    """

    data: str
    monitor: str | None
    value: float | None
    better: Literal["max", "min"]


def _without_other_keys(record: type, value: object) -> object:
    """Return a value, of which the keys are fields of a record. Raises ValueError for others."""
    names = {field.name for field in fields(record)}
    if isinstance(value, dict) and not names.issuperset(value):
        raise ValueError(f"expected no keys but {', '.join(sorted(names))}")
    return value


_CONFIG = ConfigDict(allow_inf_nan=False, defer_build=True)


class _Line(BaseModel):
    """What each line of a journal has."""

    model_config = _CONFIG

    event: str
    time: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginEvent(Header):
    """What `Journal.begin` writes; older versions wrote all that has no default here."""

    __pydantic_config__ = _CONFIG

    event: Literal["begin"]
    time: Count
    lease: Annotated[Lease, BeforeValidator(partial(_without_other_keys, Lease))]
    params: Mapping[str, Scalar]
    tags: Mapping[str, str]
    parent: str | None

    @property
    def command(self) -> str:
        """Command that the run belongs to, such as `train`."""
        return self.tags.get(COMMAND_TAG, "train")


class EpochEvent(_Line):
    """Values of an epoch, counted from 1."""

    event: Literal["epoch"]
    epoch: Count
    values: dict[str, float]


class TagEvent(_Line):
    """A tag of the run, which replaces an earlier one of the same key."""

    event: Literal["tag"]
    key: str
    value: str


class ModelEvent(_Line):
    """The folder holds the run's complete model."""

    event: Literal["model"]
    figure: Annotated[ModelScore, BeforeValidator(partial(_without_other_keys, ModelScore))]


class EndEvent(_Line):
    """How the run ended; `reason` tells why early, `None` if it did not."""

    event: Literal["end"]
    status: Status
    reason: str | None
    details: TrialEnd | None = None


RunEvent = BeginEvent | EpochEvent | TagEvent | ModelEvent | EndEvent
_EVENT: TypeAdapter[RunEvent] = TypeAdapter(
    Annotated[RunEvent, Field(discriminator="event")], config=ConfigDict(defer_build=True)
)


def parse_line(line: bytes) -> RunEvent | None:
    """Parse one line; `None` if it is damaged.

    A line counts as damaged if it is not JSON, or if a key of its event is missing or has a value
    of another type, so that readers can rely on all of them.
    """
    try:
        return _EVENT.validate_json(line, strict=True)
    except ValueError:  # pydantic's error is one
        return None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What the journal in a run's folder says, from one reading of it.

    Args:
        folder: The run's folder.
        lines: The events in order; `None` for a damaged line. There are none before the run begins
            (a full disk can leave its journal empty), and if the folder is gone.
    """

    folder: Path
    lines: Sequence[RunEvent | None] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the journal in a run's folder; an incomplete last line, left by a kill, is skipped.

        Raises:
            OSError: The journal can't be read, such as one of another user.
        """
        path = folder / JOURNAL
        content = b""
        if is_journal(path):
            with suppress(FileNotFoundError):  # removed meanwhile
                content = read_regular(path)
        complete = content[: content.rfind(b"\n") + 1]
        return cls(folder=folder, lines=[parse_line(line) for line in complete.splitlines()])

    @classmethod
    def read_first_line(cls, folder: Path) -> Self:
        """Read the first line only; a journal that can't be read has none."""
        with suppress(OSError), os.fdopen(open_regular(folder / JOURNAL), "rb") as file:
            return cls(folder=folder, lines=[parse_line(file.readline())])
        return cls(folder=folder)

    @classmethod
    def read_status(cls, folder: Path) -> Self:
        """Read what tells `status` and `lease`: if possible, some lines at the end only.

        Raises:
            OSError: The journal can't be read.
        """
        with suppress(OSError), os.fdopen(open_regular(folder / JOURNAL), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
            complete_lines = file.read().split(b"\n")[1:-1]
            record = cls(folder=folder, lines=[parse_line(line) for line in complete_lines])
            if record.begins or record.end:
                return record
        return cls.read(folder)

    # ── beginning and end ───────────────────────────────────────────────────────────────────

    @cached_property
    def begins(self) -> Sequence[BeginEvent]:
        """All beginnings: the first one, and that of each process that has resumed the run."""
        return [event for event in self.lines if isinstance(event, BeginEvent)]

    @property
    def begin(self) -> BeginEvent | None:
        """The last beginning; `None` if there is none."""
        return self.begins[-1] if self.begins else None

    @cached_property
    def end(self) -> EndEvent | None:
        """The end; `None` if there is none, or the run has begun again since."""
        for event in reversed(self.lines):
            if isinstance(event, EndEvent):
                return event
            if isinstance(event, BeginEvent):
                return None
        return None

    @property
    def has_begun(self) -> bool:
        """Whether there is a line."""
        return bool(self.lines)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended on record."""
        return self.end is not None

    @property
    def has_finished(self) -> bool:
        """Whether the run has ended as complete or pruned, which is FINISHED in MLflow."""
        return self.status == End.COMPLETE.status

    @property
    def lease(self) -> Lease | None:
        """Lease of the process that trains the run; `None` if it has ended, or not begun."""
        return None if self.begin is None or self.is_over else self.begin.lease

    @property
    def is_training(self) -> bool:
        """Whether the process that trains the run exists; one on another machine counts as such."""
        return self.lease is not None and alive(self.lease)

    @property
    def is_lost(self) -> bool:
        """Whether the run has no end on record, and its process is gone."""
        return self.lease is not None and not alive(self.lease)

    @property
    def status(self) -> str:
        """FINISHED, FAILED, KILLED, RUNNING, or LOST; that of MLflow but for the last."""
        if self.end is not None:
            return self.end.status
        return "LOST" if self.is_lost else "RUNNING"

    @property
    def end_reason(self) -> str:
        """Why the run ended early; empty if it did not."""
        return "" if self.end is None else self.end.reason or ""

    # ── what kind of run it is ──────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """Name of the run; without a beginning, that of its folder."""
        return self.folder.name if self.begin is None else self.begin.name

    @property
    def command(self) -> str:
        """Command that the run belongs to; without a beginning, `train`."""
        return "train" if self.begin is None else self.begin.command

    @property
    def uri(self) -> str:
        """Address of the store, without a password; empty if it named none."""
        return "" if self.begin is None else self.begin.uri

    @property
    def order(self) -> int:
        """Place among other runs, larger if the run began later; 0 if that is unknown."""
        event = self.lines[0] if self.lines else None
        if event is None:
            return 0
        if isinstance(event, BeginEvent) and event.order:
            return event.order
        return event.time

    @property
    def is_damaged(self) -> bool:
        """Whether the journal does not begin with the beginning of a run."""
        return bool(self.lines) and not isinstance(self.lines[0], BeginEvent)

    @property
    def is_run(self) -> bool:
        """Whether it is a run that is not a study."""
        return any(begin.command != SWEEP for begin in self.begins)

    @property
    def is_trial(self) -> bool:
        """Whether it is the trial that its folder is named after.

        Names and numbers of folders may come from a database that anyone has written.
        """
        if not self.begins:
            return False
        for begin in self.begins:
            study = begin.tags.get(STUDY_TAG)
            number = begin.tags.get(TRIAL_TAG, "")
            if self.folder.name != f"{study}-{number:0>4}":
                return False
        return True

    def is_study(self, uid: str) -> bool:
        """Return whether the journal, if there is one, is that of a study with this id.

        A database that anyone has written may name its studies like folders of runs.
        """
        if self.begin is None:
            return not (self.folder / JOURNAL).exists()
        return not self.is_run and self.begin.tags.get(STUDY_TAG) == uid

    # ── what it has recorded ────────────────────────────────────────────────────────────────

    @property
    def tags(self) -> dict[str, str]:
        """Tags that were recorded after a beginning."""
        return {event.key: event.value for event in self.lines if isinstance(event, TagEvent)}

    @property
    def model(self) -> ModelScore | None:
        """Score of the model that the folder holds; `None` if it holds none."""
        for event in reversed(self.lines):
            if isinstance(event, ModelEvent):
                return event.figure
        return None

    @cached_property
    def epochs(self) -> dict[int, dict[str, float]]:
        """Values of each epoch, in the order of the epochs; a name keeps its first value."""
        merged: dict[int, dict[str, float]] = {}
        for event in self._epoch_events:
            merged[event.epoch] = {**event.values, **merged.get(event.epoch, {})}
        return dict(sorted(merged.items()))

    @property
    def values(self) -> dict[str, float]:
        """Value of each name in its latest epoch."""
        latest: dict[str, float] = {}
        for values in self.epochs.values():
            latest |= values
        return latest

    @property
    def epoch_times(self) -> dict[int, int]:
        """Time of the first record of each epoch, in ms since 1970."""
        return {event.epoch: event.time for event in reversed(self._epoch_events)}

    @property
    def last_ms(self) -> int:
        """Time of the last event, in ms since 1970; 0 if there is none."""
        return max((event.time for event in self.lines if event is not None), default=0)

    @property
    def _epoch_events(self) -> list[EpochEvent]:
        return [event for event in self.lines if isinstance(event, EpochEvent)]

    def unsent(self, sent: int) -> int:
        """Count the values after the first `sent` lines; a line without values counts as 1."""
        unsent = 0
        for event in self.lines[sent:]:
            count = len(event.values) if isinstance(event, EpochEvent) else 1
            unsent += max(1, count)
        return unsent


class Journal:
    """Appends a run's events to `journal.jsonl` in its folder, each as one line in one write.

    No line is lost if the process is killed; a power cut may lose some, since nothing waits for the
    disk. An epoch keeps the time and the values of its first record, so sending the file again
    stores nothing twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self._descriptor: int | None = None
        self._lease: Lease | None = None
        self._times: dict[int, int] = {}
        self._keys: dict[int, set[str]] = {}
        self._last_ms = 0
        self._clock = (time.time_ns(), time.monotonic_ns())

    def begin(self, header: Header, *, at: int | None = None) -> None:
        """Record that this process starts the run; secrets are masked, `at` is in ms since 1970."""
        content = asdict(header)
        content["uri"] = redact(header.uri)
        params = {}
        for key, value in header.params.items():
            # JSON has no NaN and no infinity; they are written as texts.
            is_finite = not isinstance(value, float) or math.isfinite(value)
            params[key] = redact_value(key, value if is_finite else str(value))
        content["params"] = params
        content["tags"] = {key: redact_value(key, value) for key, value in header.tags.items()}
        if header.parent_folder is not None:
            content["parent_folder"] = str(Path(header.parent_folder).absolute())
        lease = own_lease()
        self._append("begin", at=at, lease=asdict(lease), **content)
        self._lease = lease

    def epoch(self, epoch: int, values: Mapping[str, float], *, at: int | None = None) -> None:
        """Record values of an epoch, counted from 1; each name keeps its first value in an epoch.

        NaN and infinity are left out and counted as `nonfinite`: MLflow would store other numbers.
        """
        self._open()
        recorded_keys = self._keys.get(epoch, set())
        new = {key: float(value) for key, value in values.items() if key not in recorded_keys}
        finite = {key: value for key, value in new.items() if math.isfinite(value)}
        if len(finite) < len(new) and "nonfinite" not in recorded_keys:
            finite["nonfinite"] = float(len(new) - len(finite))
        if finite:
            first_ms = self._append(
                "epoch", at=self._times.get(epoch, at), epoch=epoch, values=finite
            )
            self._times.setdefault(epoch, first_ms)
            self._keys.setdefault(epoch, set()).update(finite)

    def tag(self, key: str, value: str) -> None:
        """Record a tag of the run; a later value of the same key replaces it."""
        self._append("tag", key=key, value=redact_value(key, value))

    def model(self, figure: ModelScore) -> None:
        """Record that the folder holds the run's complete model, and how the model is judged."""
        self._append("model", figure=asdict(figure))

    def end(self, ended: End | TrialEnd, *, at: int | None = None) -> None:
        """Record how the run ended; its reason becomes the tag `end_reason`. Only tags follow."""
        details = None
        if isinstance(ended, TrialEnd):
            details = asdict(ended)
            ended = ended.end
        self._append("end", at=at, status=ended.status, reason=ended.reason, details=details)

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        descriptor = self._descriptor
        self._descriptor = None
        if descriptor is not None:
            os.close(descriptor)

    def read(self) -> RunRecord:
        """Return what is on record so far."""
        return RunRecord.read(self.folder)

    @property
    def is_begun(self) -> bool:
        """Whether this process has begun the run."""
        return self._lease is not None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended on record; another process may have resumed it since."""
        record = self.read()
        return bool(record.begins) and record.lease != self._lease

    def _append(self, kind: str, *, at: int | None = None, **content: object) -> int:
        """Write a line and return its time, in ms since 1970."""
        descriptor = self._open()
        wall, monotonic = self._clock
        # Never steps back, whatever the clock does.
        now = max(self._last_ms, (wall + time.monotonic_ns() - monotonic) // 1_000_000)
        event_time = now if at is None else at
        event = {"event": kind, "time": event_time, **content}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                os.write(descriptor, line[written:])
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise self._write_fault(error) from error
        self._last_ms = max(self._last_ms, event_time)
        return event_time

    def _write_fault(self, error: OSError) -> EnvironmentFaultError:
        state, remedy = lack_in_output(self.folder, error.errno)
        is_single = (self.folder / COMMAND).exists()  # not a trial of a study
        command = resume_words(self.folder) if is_single else "the same command"
        return EnvironmentFaultError(
            f"{str(self.path)!r} can't be written ({error.strerror}; {state}); {remedy}, then "
            f"continue with {command}"
        )

    def _open(self) -> int:
        """Open the file for appending, after reading its events and cutting off a torn line."""
        if self._descriptor is None:
            record = self.read()
            self._last_ms = max(self._last_ms, record.last_ms)
            self._times = record.epoch_times
            self._keys = {epoch: set(values) for epoch, values in record.epochs.items()}
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
                self._descriptor = open_regular(self.path, flags)
            except OSError as error:
                raise self._write_fault(error) from error
            os.ftruncate(self._descriptor, read_regular(self.path).rfind(b"\n") + 1)
        return self._descriptor


def resume_words(folder: Path) -> str:
    """Return the words that resume a run: `resume=`, its store, and its `--config-dir`."""
    words = [text_override("resume", str(folder)), *uri_words(RunRecord.read(folder).uri)]
    with suppress(OSError, ValueError, KeyError, TypeError):
        command = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
        if command["config_dir"]:
            words = ["--config-dir", str(command["config_dir"]), *words]
    return shlex.join(words)


def is_journal(path: Path) -> bool:
    """Return whether a path may be a journal: a regular file, no link, of a possible size."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_JOURNAL
