"""Journal of a run: the events that a training process writes and MLflow is filled from."""

import json
import math
import os
import shlex
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from pipeline.errors import EnvironmentFaultError, text_override
from pipeline.paths import lack_in_output
from pipeline.processes.lease import Lease, own_lease
from pipeline.redaction import redact, redact_value
from pipeline.regular_files import open_regular, read_regular
from pipeline.tracking.uri import uri_words

JOURNAL = "journal.jsonl"
#: Holds the command line with which a single run is resumed.
COMMAND = "command.json"
#: Bytes of a journal, far more than any run writes.
LARGEST_JOURNAL = 1 << 30

Scalar = str | int | float | bool | None
Status = Literal["FINISHED", "FAILED", "KILLED"]
Event = dict[str, Any]
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
class Figure:
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
class _Begin(Header):
    """What `Journal.begin` writes; older versions wrote all that has no default here."""

    __pydantic_config__ = _CONFIG

    event: Literal["begin"]
    time: Count
    lease: Annotated[Lease, BeforeValidator(partial(_without_other_keys, Lease))]
    params: Mapping[str, Scalar]
    tags: Mapping[str, str]
    parent: str | None


class _Epoch(_Line):
    event: Literal["epoch"]
    epoch: Count
    values: dict[str, float]


class _Tag(_Line):
    event: Literal["tag"]
    key: str
    value: str


class _Model(_Line):
    event: Literal["model"]
    figure: Annotated[Figure, BeforeValidator(partial(_without_other_keys, Figure))]


class _End(_Line):
    event: Literal["end"]
    status: Status
    reason: str | None


_EVENT: TypeAdapter[object] = TypeAdapter(
    Annotated[_Begin | _Epoch | _Tag | _Model | _End, Field(discriminator="event")],
    config=ConfigDict(defer_build=True),
)


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
        self._lease: dict[str, object] | None = None
        self._times: dict[int, int] = {}
        self._keys: dict[int, set[str]] = {}
        self._last_ms = 0
        self._clock = (time.time_ns(), time.monotonic_ns())

    def begin(self, header: Header, *, at: int | None = None) -> None:
        """Record that this process starts the run; secrets are masked, `at` is in ms since 1970."""
        content = asdict(header)
        content["uri"] = redact(header.uri)
        # JSON has no NaN and no infinity; they are written as texts.
        finite = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in header.params.items()
        }
        content["params"] = {key: redact_value(key, value) for key, value in finite.items()}
        content["tags"] = {key: redact_value(key, value) for key, value in header.tags.items()}
        if header.parent_folder is not None:
            content["parent_folder"] = str(Path(header.parent_folder).absolute())
        lease = asdict(own_lease())
        self._append("begin", at=at, lease=lease, **content)
        self._lease = lease

    def epoch(self, epoch: int, values: Mapping[str, float], *, at: int | None = None) -> None:
        """Record values of an epoch, counted from 1; each name keeps its first value in an epoch.

        NaN and infinity are left out and counted as `nonfinite`: MLflow would store other numbers.
        """
        self._open()
        known = self._keys.get(epoch, set())
        new = {key: float(value) for key, value in values.items() if key not in known}
        finite = {key: value for key, value in new.items() if math.isfinite(value)}
        if len(finite) < len(new) and "nonfinite" not in known:
            finite["nonfinite"] = float(len(new) - len(finite))
        if finite:
            self._append("epoch", at=self._times.get(epoch, at), epoch=epoch, values=finite)

    def tag(self, key: str, value: str) -> None:
        """Record a tag of the run; a later value of the same key replaces it."""
        self._append("tag", key=key, value=redact_value(key, value))

    def model(self, figure: Figure) -> None:
        """Record that the folder holds the run's complete model, and how the model is judged."""
        self._append("model", figure=asdict(figure))

    def end(self, status: Status, reason: str | None = None, *, at: int | None = None) -> None:
        """Record how the run ended; `reason` becomes the tag `end_reason`. Only tags may follow."""
        self._append("end", at=at, status=status, reason=reason)

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def events(self) -> Iterator[Event]:
        """Yield all events; an incomplete last line, left by a kill, is skipped."""
        yield from read_events(self.path)

    @property
    def is_begun(self) -> bool:
        """Whether this process has begun the run."""
        return self._lease is not None

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended on record; another process may have resumed it since."""
        last = last_bound(self.events())
        return last is not None and last.get("lease") != self._lease

    def epochs(self) -> dict[int, dict[str, float]]:
        """Return the recorded values of each epoch, in the order of the epochs."""
        return epochs_of(self.events())

    def latest_epoch(self) -> int:
        """Return the highest epoch on record; 0 before the first."""
        self._open()
        return max(self._times, default=0)

    def _append(self, kind: str, *, at: int | None = None, **content: object) -> None:
        descriptor = self._open()
        wall, monotonic = self._clock
        # Never steps back, whatever the clock does.
        now = max(self._last_ms, (wall + time.monotonic_ns() - monotonic) // 1_000_000)
        event = {"event": kind, "time": now if at is None else at, **content}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                os.write(descriptor, line[written:])
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise self._write_fault(error) from error
        self._note(event)

    def _write_fault(self, error: OSError) -> EnvironmentFaultError:
        state, remedy = lack_in_output(self.folder, error.errno)
        is_single = (self.folder / COMMAND).exists()  # not a trial of a study
        again = resume_words(self.folder) if is_single else "the same command"
        return EnvironmentFaultError(
            f"{str(self.path)!r} can't be written ({error.strerror}; {state}); {remedy}, then "
            f"continue with {again}"
        )

    def _open(self) -> int:
        """Open the file for appending, after reading its events and cutting off a torn line."""
        if self._descriptor is None:
            for event in self.events():
                self._note(event)
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
                self._descriptor = open_regular(self.path, flags)
            except OSError as error:
                raise self._write_fault(error) from error
            os.ftruncate(self._descriptor, read_regular(self.path).rfind(b"\n") + 1)
        return self._descriptor

    def _note(self, event: Event) -> None:
        self._last_ms = max(self._last_ms, event["time"])
        if event["event"] == "epoch":
            self._times.setdefault(event["epoch"], event["time"])
            self._keys.setdefault(event["epoch"], set()).update(event["values"])


def resume_words(folder: Path) -> str:
    """Return the words that resume a run: `resume=`, its store, and its `--config-dir`."""
    words = [text_override("resume", str(folder)), *uri_words(recorded_uri(folder))]
    with suppress(OSError, ValueError, KeyError, TypeError):
        if config_dir := json.loads((folder / COMMAND).read_text(encoding="utf-8"))["config_dir"]:
            words = ["--config-dir", str(config_dir), *words]
    return shlex.join(words)


def is_journal(path: Path) -> bool:
    """Return whether a path may be a journal: a regular file, no link, of a possible size."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_JOURNAL


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a journal's complete lines; what is not a journal, or gone, has none."""
    if not is_journal(path):
        return
    try:
        content = read_regular(path)
    except FileNotFoundError:  # removed meanwhile
        return
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        yield parse_line(line)


def last_bound(events: Iterable[Event]) -> Event | None:
    """Return the last beginning or end of a run; `None` if it has not begun."""
    bounds = [event for event in events if event["event"] in ("begin", "end")]
    return bounds[-1] if bounds else None


def has_begun(folder: Path) -> bool:
    """Tell whether a run's journal has its first event; a full disk can leave it empty."""
    return next(read_events(folder / JOURNAL), None) is not None


def recorded_uri(folder: Path) -> str:
    """Return the store that a run last named, without a password; '' if it named none."""
    begins = [one for one in read_events(folder / JOURNAL) if one["event"] == "begin"]
    return str(begins[-1].get("uri", "")) if begins else ""


def parse_line(line: bytes) -> Event:
    """Parse one line; a damaged one becomes an event of the kind `damaged`.

    A line counts as damaged if it is not JSON, or if a key of its event is missing or has a value
    of another type, so that readers can rely on all of them.
    """
    try:
        _EVENT.validate_json(line, strict=True)
    except ValueError:  # pydantic's error is one
        return {"event": "damaged", "time": 0}
    event: Event = json.loads(line)
    return event


def count_values(events: Iterable[Event]) -> int:
    """Count the values in events; an event without values counts as 1."""
    return sum(max(1, len(event.get("values", ()))) for event in events)


def epochs_of(events: Iterable[Event]) -> dict[int, dict[str, float]]:
    """Merge the values of each epoch; a name keeps its first value."""
    merged: dict[int, dict[str, float]] = {}
    for event in events:
        if event["event"] == "epoch":
            known = merged.setdefault(event["epoch"], {})
            merged[event["epoch"]] = {**event["values"], **known}
    return dict(sorted(merged.items()))
