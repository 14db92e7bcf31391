import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.server_processes import ROOT
from mlflow.tracking import MlflowClient

from pipeline.base.ends import End
from pipeline.base.processes.lease import Lease, lease_of_process, own_lease
from pipeline.tracking.journal import Journal
from pipeline.tracking.mlflow_store import Store
from pipeline.tracking.replay import Replay
from pipeline.tracking.sync import reap

LOST, RUNNING = ("FAILED", "lost"), ("RUNNING", None)


@pytest.fixture
def store(database: str) -> Store:
    return Store(database)


@contextmanager
def sleeping(*words: str) -> Iterator[tuple[Lease, subprocess.Popen[bytes]]]:
    """Give the lease of a process that sleeps, and the process, which ends with the body."""
    process = subprocess.Popen([*words, "sleep", "600"])
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"):
        time.sleep(0.01)
    try:
        yield lease_of_process(process.pid), process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def gone() -> Lease:
    """The lease of a process that has ended."""
    with sleeping() as (lease, _):
        return lease


def add_run(store: Store, lease: Lease | None, key: str = "f") -> str:
    tags = {} if lease is None else lease.tags()
    experiment_id = store.experiment("pipeline")
    return store.create(experiment_id, name="lstm", key=key, tags=tags, start=1_000)[0]


def ending(store: Store, run_id: str) -> tuple[str, str | None]:
    run = MlflowClient(store.uri).get_run(run_id)
    return run.info.status, run.data.tags.get("end_reason")


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (End.COMPLETE, "FINISHED", None),
        (End.PRUNED, "FINISHED", "pruned"),
        (End.INTERRUPTED, "KILLED", "interrupted"),
    ],
)
def test_late_end_replaces_lost_status(
    store: Store, begun: Callable[..., Journal], end: End, status: str, reason: str | None
) -> None:
    journal = begun(store.uri)
    replay = Replay(journal.folder)
    replay.push(store)
    store.terminate(replay.state.run_id, "FAILED", reason="lost", end=2_000)
    journal.end(end)
    replay.drain(store, is_over=False)
    replay.release()
    assert ending(store, replay.state.run_id) == (status, reason)


def test_only_silent_runs_are_lost(store: Store, monkeypatch: Patch) -> None:
    """Live processes, rising counters and runs of other programs stay, at any clock time."""
    elsewhere = replace(own_lease(), host="elsewhere")
    with sleeping() as (stopped, process):
        process.send_signal(signal.SIGSTOP)
        leases = [elsewhere, stopped, elsewhere, own_lease(), None]  # None: of another program
        ids = [add_run(store, lease, str(key)) for key, lease in enumerate(leases)]
        now, started_at = time.time(), time.monotonic()
        monkeypatch.setattr(time, "time", lambda: now + 3600)
        beaten = {"tags": replace(elsewhere, counter=1).tags()}
        beating = threading.Timer(0.5, store.log, [ids[2]], beaten)
        beating.start()
        lost = {run.info.run_id for run in reap(store, grace=2)}
        assert time.monotonic() - started_at >= 2
        beating.join()
    assert lost == set(ids[:2])
    assert [ending(store, one) for one in ids] == [LOST, LOST, RUNNING, RUNNING, RUNNING]


def test_folder_name_with_quote_matches_exactly(store: Store) -> None:
    first = add_run(store, None, "x")
    assert add_run(store, None, "x' or '1'='1") != first
    assert add_run(store, None, "x") == first


HIDING = (
    *("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"),
    *("setpriv", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--"),
)
"""Words before a command that sees no process of another user, as on a machine for many."""


@pytest.fixture
def hidden() -> Iterator[Lease]:
    """The lease of another user's process."""
    if os.geteuid() != 0 or subprocess.run([*HIDING, "true"], check=False).returncode:
        pytest.skip("only root may hide processes, and become another user")
    with sleeping("setpriv", "--reuid=12345", "--clear-groups") as (lease, _):
        yield lease


@pytest.mark.slow
def test_hidden_process_is_judged_by_its_counter(store: Store, hidden: Lease, gone: Lease) -> None:
    """It belongs to another user."""
    leases = {"live": hidden, "silent": hidden, "gone": gone}
    ids = [add_run(store, lease, key) for key, lease in leases.items()]
    words = ["action=reap", "grace=10", f"tracking.uri={store.uri}"]
    command = subprocess.Popen(
        [*HIDING, sys.executable, "-m", "pipeline.runs", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    counter = 0
    while command.poll() is None:
        counter += 1
        store.log(ids[0], tags=replace(hidden, counter=counter).tags())
        time.sleep(0.5)
    assert command.returncode == 0
    assert [ending(store, run_id) for run_id in ids] == [RUNNING, LOST, LOST]
