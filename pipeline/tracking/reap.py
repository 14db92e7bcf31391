"""Closes runs whose training process is lost; a live one is never touched."""

import time
from dataclasses import dataclass

from mlflow.entities import Run

from pipeline.processes.lease import Lease, alive, is_local, lease_of, working
from pipeline.tracking.store import Store

LOOKS = 10
"""How often a counter is read within the grace time."""


@dataclass(slots=True)
class Watch:
    """A run whose counter alone can tell whether it lives, and since when it has not moved."""

    counter: int
    still_since: float


def reap(store: Store, *, grace: float) -> list[Run]:
    """Close lost runs as FAILED, `end_reason=lost`, and return them.

    A run of this machine is lost when its process is gone. One that can't be judged so (another
    machine, a process stopped by a signal, or one of another user that /proc hides) is lost when
    its counter has not moved for `grace` seconds of this process's own monotonic clock, so this may
    take that long.

    Args:
        store: Where the runs are.
        grace: Seconds.
    """
    lost, doubtful = [], {}
    for run in store.running():
        lease = lease_of(run.data.tags)
        if lease is None or working_here(lease):
            continue
        if is_local(lease) and not alive(lease):
            lost.append(run)
        else:
            doubtful[run.info.run_id] = Watch(lease.counter, time.monotonic())
    lost += _watched(store, doubtful, grace)
    return [run for run in lost if _close(store, run.info.run_id)]


def _close(store: Store, run_id: str) -> bool:
    """Close a lost run, unless its own recorder has done so meanwhile."""
    run = store.run(run_id)
    if run is None or run.info.status != "RUNNING":
        return False
    now = time.time_ns() // 1_000_000
    store.terminate(run_id, "FAILED", reason="lost", end=max(now, run.info.start_time))
    return True


def working_here(lease: Lease) -> bool:
    """Tell whether the run's process works on this machine."""
    return is_local(lease) and working(lease)


def _watched(store: Store, doubtful: dict[str, Watch], grace: float) -> list[Run]:
    """Return those runs whose counter stays as it is for the whole grace time."""
    lost = []
    while doubtful:
        time.sleep(grace / LOOKS)
        for run_id, watch in list(doubtful.items()):
            run = store.run(run_id)
            lease = None if run is None else lease_of(run.data.tags)
            if run is None or lease is None or run.info.status != "RUNNING":
                del doubtful[run_id]
            elif lease.counter != watch.counter:
                del doubtful[run_id]  # it lives
            elif time.monotonic() - watch.still_since >= grace:
                del doubtful[run_id]
                lost.append(run)
    return lost
