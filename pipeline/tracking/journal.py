"""Journal of a run, written by its training process: `journal.jsonl` in the run's folder."""

import json
import math
import os
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import EnvironmentFaultError, text_override
from pipeline.base.paths import lack_in_output
from pipeline.base.processes.lease import Lease, own_lease
from pipeline.base.redaction import redact, redact_value
from pipeline.base.regular_files import open_regular, read_regular
from pipeline.tracking.journal_events import Header, ModelScore
from pipeline.tracking.run_record import JOURNAL, RunRecord
from pipeline.tracking.uri import uri_words

#: Holds the command line with which a single run is resumed.
COMMAND = "command.json"


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
