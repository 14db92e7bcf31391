import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from real_processes import ROOT

from pipeline.processes.lease import Lease, own_lease, started
from pipeline.tracking.journal import Journal, Status
from pipeline.tracking.replay import Replay
from pipeline.tracking.store import Store
from pipeline.tracking.sync import reap

LOST, RUNNING = ("FAILED", "lost"), ("RUNNING", None)


@pytest.fixture
def store(database: str) -> Store:
    return Store(database)


def sleeping(words: tuple[str, ...] = ()) -> tuple[subprocess.Popen[bytes], Lease]:
    process = subprocess.Popen([*words, "sleep", "600"])
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"):
        time.sleep(0.01)
    return process, replace(own_lease(), pid=process.pid, started=started(process.pid) or "")


@pytest.fixture
def gone() -> Lease:
    """The lease of a process that has ended."""
    process, lease = sleeping()
    process.kill()
    process.wait()
    return lease


@pytest.fixture
def stopped() -> Iterator[Lease]:
    """The lease of a process that a signal has stopped."""
    process, lease = sleeping()
    process.send_signal(signal.SIGSTOP)
    yield lease
    process.kill()
    process.wait()


def add_run(store: Store, lease: Lease | None, key: str = "f") -> str:
    tags = {} if lease is None else lease.tags()
    experiment_id = store.experiment("pipeline")
    return store.create(experiment_id, name="lstm", key=key, tags=tags, start=1_000)[0]


def ending(store: Store, run_id: str) -> tuple[str, str | None]:
    run = MlflowClient(store.uri).get_run(run_id)
    return run.info.status, run.data.tags.get("end_reason")


def test_a_run_whose_process_is_gone_is_closed_as_lost_at_once(store: Store, gone: Lease) -> None:
    run_id = add_run(store, gone)
    started_at = time.monotonic()
    assert [run.info.run_id for run in reap(store, grace=60)] == [run_id]
    assert time.monotonic() - started_at < 10
    assert ending(store, run_id) == LOST
    assert reap(store, grace=60) == []


@pytest.mark.parametrize(
    ("status", "reason"), [("FINISHED", None), ("FINISHED", "pruned"), ("KILLED", "interrupted")]
)
def test_a_run_that_was_closed_as_lost_ends_as_it_says_itself(
    store: Store, begun: Callable[..., Journal], status: Status, reason: str | None
) -> None:
    journal = begun(store.uri)
    replay = Replay(journal.folder)
    replay.push(store)
    store.terminate(replay.state.run_id, "FAILED", reason="lost", end=2_000)
    journal.end(status, reason)
    replay.drain(store, is_over=False)
    replay.release()
    assert ending(store, replay.state.run_id) == (status, reason)


def test_a_silent_run_that_can_not_be_seen_to_work_is_lost_and_no_other_whatever_the_clock_says(
    store: Store, stopped: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(own_lease(), host="elsewhere")
    leases = {
        "silent": elsewhere,
        "stopped": stopped,
        "beating": elsewhere,
        "own": own_lease(),
        "of another program": None,
    }
    ids = {key: add_run(store, lease, key) for key, lease in leases.items()}

    def beat() -> None:
        time.sleep(0.5)
        store.log(ids["beating"], tags=replace(elsewhere, counter=1).tags())

    now, started_at = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    beating = threading.Thread(target=beat)
    beating.start()
    lost = {run.info.run_id for run in reap(store, grace=2)}
    assert time.monotonic() - started_at >= 2
    beating.join()
    assert lost == {ids["silent"], ids["stopped"]}
    assert [ending(store, one) for one in ids.values()] == [LOST, LOST, RUNNING, RUNNING, RUNNING]


def test_a_folder_name_with_a_quote_finds_no_run_of_another(store: Store) -> None:
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
    process, lease = sleeping(("setpriv", "--reuid=12345", "--clear-groups"))
    yield lease
    process.kill()
    process.wait()


@pytest.mark.slow
def test_another_users_process_that_is_hidden_is_judged_by_its_counter(
    store: Store, hidden: Lease, gone: Lease
) -> None:
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
