"""Leases: which process trains a run, and whether that process still works."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

#: MLflow's pages show no tag that begins with `mlflow.`, and nobody needs to read these.
PREFIX = "mlflow.pipeline.lease."

#: How often the counter of a live lease moves.
BEAT_SECONDS = 10.0
#: Fewest looks at an unchanged counter within the grace time.
LOOKS = 3
#: The status of a process that is gone, or that /proc hides.
UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The process that trains a run, and a counter that moves while the process works.

    `boot_id` identifies the boot of the machine and the namespace of process ids; `started` is the
    start of the process, which reveals a reused process id.
    """

    host: str
    boot_id: str
    pid: int
    started: str
    counter: int = 0

    def tags(self) -> dict[str, str]:
        """Return the lease as tags of an MLflow run."""
        return {f"{PREFIX}{field}": str(value) for field, value in asdict(self).items()}


def lease_of(tags: Mapping[str, str]) -> Lease | None:
    """Read a lease from the tags of a run; `None` if they contain no complete lease."""
    try:
        return Lease(
            host=tags[f"{PREFIX}host"],
            boot_id=tags[f"{PREFIX}boot_id"],
            pid=int(tags[f"{PREFIX}pid"]),
            started=tags[f"{PREFIX}started"],
            counter=int(tags[f"{PREFIX}counter"]),
        )
    except (KeyError, ValueError):
        return None


def own_lease() -> Lease:
    """Return the lease of this process, with its counter at 0."""
    return lease_of_process(os.getpid())


def lease_of_process(pid: int) -> Lease:
    """Return the lease of a process of this machine, with its counter at 0."""
    return Lease(host=socket.gethostname(), boot_id=boot_id(), pid=pid, started=started(pid) or "")


def is_local(lease: Lease) -> bool:
    """Tell whether the lease's process id is one of this machine and boot."""
    return lease.host == socket.gethostname() and lease.boot_id == boot_id()


def alive(lease: Lease) -> bool:
    """Tell whether the process of a lease exists; a zombie or a reused id does not count.

    A process of another machine counts as alive, and so does one that /proc hides; their counters
    show whether they work.
    """
    if not is_local(lease):
        return True
    start = started(lease.pid)
    if start is None:
        return exists(lease.pid)
    return start == lease.started and status(lease.pid) != "zombie"


def working(lease: Lease) -> bool:
    """Tell whether the process of a local lease is visible and not stopped by a signal."""
    return alive(lease) and status(lease.pid) not in ("stopped", "tracing-stop", UNSEEN)


class LeaseWatch:
    """Finds lost processes: on this machine by their process ids, elsewhere by their counters.

    A process is lost after `grace` seconds without a sign of life; `clock` is monotonic time in
    seconds.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._longest_step = min(2 * BEAT_SECONDS, grace / LOOKS)
        self._looks: dict[Hashable, tuple[int | None, float, float]] = {}
        """By key: the counter, the seconds since it last moved, the time of the last look."""

    def judge(self, key: Hashable, lease: Lease | None) -> bool | None:
        """Tell whether the process of a lease is lost; `None` if that is not known yet.

        `key` identifies the lease; a missing lease counts as one whose counter never moves. The
        time since the last look counts only up to the usual pause, since this process itself may
        have been stopped.
        """
        if lease is not None and is_local(lease):
            if not alive(lease):
                return True
            if working(lease):
                self._looks.pop(key, None)
                return False
        return self.judge_counter(key, None if lease is None else lease.counter)

    def judge_counter(self, key: Hashable, counter: int | None) -> bool | None:
        """Tell as `judge` does whether a process is lost whose counter is all that is known."""
        now = self._clock()
        last_counter, unchanged_seconds, looked_at = self._looks.get(key, (counter, 0.0, now))
        if last_counter != counter:
            self._looks[key] = counter, 0.0, now
            return False
        unchanged_seconds += min(now - looked_at, self._longest_step)
        self._looks[key] = counter, unchanged_seconds, now
        return True if unchanged_seconds >= self._grace else None


class StuckWatch:
    """Tells whether a process, or one that it has started, stands still; on Linux only.

    A process stands still if it is stopped, or stays in a wait that no signal interrupts, as one
    does whose disk or mount does not answer. The kernel finds hung tasks in the same way.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._standing: set[tuple[int, str]] = set()

    def is_stuck(self) -> bool:
        """Tell whether one of the processes has stood still since the last call."""
        before = self._standing
        self._standing = set()
        for pid in (self._pid, *descendants(self._pid)):
            switches = _switches_while_standing(pid)
            if switches is not None:
                self._standing.add((pid, switches))
        return not before.isdisjoint(self._standing)


def _switches_while_standing(pid: int) -> str | None:
    """Return how often a process was switched in and out; `None` unless it stands still now."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition(":\t")
        fields[name] = value
    if fields["State"][0] not in "DT":
        return None
    return f"{fields['voluntary_ctxt_switches']} {fields['nonvoluntary_ctxt_switches']}"


def descendants(pid: int) -> list[int]:
    """Return the processes that a process's main thread has started, and theirs; on Linux only."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    pids = list(children)
    for child in children:
        pids += descendants(child)
    return pids


def exists(pid: int) -> bool:
    """Tell whether a process with this id exists, even one of another user that /proc hides."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def status(pid: int) -> str:
    """Return psutil's word for the state of a process: running, stopped, zombie, … or unseen."""
    import psutil

    try:
        return str(psutil.Process(pid).status())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return UNSEEN


def started(pid: int) -> str | None:
    """Return when a process started, unaffected by changes of the clock; `None` if it is unseen."""
    if sys.platform == "linux":  # psutil adds the boot time, which moves with the clock
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return text.rpartition(")")[2].split()[19]
    import psutil

    try:
        return str(round(psutil.Process(pid).create_time(), 2))
    except psutil.NoSuchProcess:
        return None


def seconds_since_start() -> float:
    """Return for how long this process has run."""
    start = float(started(os.getpid()) or 0.0)
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.time() - start)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return an id of the machine's current boot and of the namespace of process ids."""
    if sys.platform == "linux":
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    command = ["sysctl", "-n", "kern.bootsessionuuid"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
