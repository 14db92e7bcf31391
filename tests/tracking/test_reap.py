import os
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


@pytest.fixture
def store(database: str) -> Store:
    return Store(database)


@pytest.fixture
def gone() -> Lease:
    """The lease of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease = replace(own_lease(), pid=process.pid, started=started(process.pid) or "")
    process.kill()
    process.wait()
    return lease


@pytest.fixture
def stopped() -> Iterator[Lease]:
    """The lease of a process that a signal has stopped."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.send_signal(19)
    yield replace(own_lease(), pid=process.pid, started=started(process.pid) or "")
    process.kill()
    process.wait()


def add_run(store: Store, lease: Lease | None) -> str:
    tags = {} if lease is None else lease.tags()
    run_id, _ = store.create(
        store.experiment("pipeline"), name="lstm", key="f", tags=tags, start=1_000
    )
    return run_id


def ending(store: Store, run_id: str) -> tuple[str, str | None]:
    run = MlflowClient(store.uri).get_run(run_id)
    return run.info.status, run.data.tags.get("end_reason")


def test_a_run_whose_process_is_gone_is_closed_as_lost_at_once(store: Store, gone: Lease) -> None:
    run_id = add_run(store, gone)
    started_at = time.monotonic()
    assert [run.info.run_id for run in reap(store, grace=60)] == [run_id]
    assert time.monotonic() - started_at < 10
    assert ending(store, run_id) == ("FAILED", "lost")
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


def test_a_run_of_another_program_is_never_touched(store: Store) -> None:
    run_id = add_run(store, None)
    assert reap(store, grace=0.1) == []
    assert ending(store, run_id) == ("RUNNING", None)


def test_a_run_of_another_machine_is_lost_when_its_counter_stands_still(store: Store) -> None:
    run_id = add_run(store, replace(own_lease(), host="elsewhere"))
    started_at = time.monotonic()
    assert [run.info.run_id for run in reap(store, grace=1)] == [run_id]
    assert time.monotonic() - started_at >= 1
    assert ending(store, run_id) == ("FAILED", "lost")


def test_a_run_of_another_machine_lives_while_its_counter_moves(store: Store) -> None:
    lease = replace(own_lease(), host="elsewhere")
    run_id = add_run(store, lease)

    def beat() -> None:
        time.sleep(0.5)
        store.log(run_id, tags=replace(lease, counter=1).tags())

    beating = threading.Thread(target=beat)
    beating.start()
    assert reap(store, grace=2) == []
    beating.join()
    assert ending(store, run_id) == ("RUNNING", None)


def test_a_run_whose_process_stays_stopped_is_lost_after_the_grace_time(
    store: Store, stopped: Lease
) -> None:
    run_id = add_run(store, stopped)
    assert [run.info.run_id for run in reap(store, grace=1)] == [run_id]
    assert ending(store, run_id) == ("FAILED", "lost")


def test_a_clock_that_steps_by_an_hour_makes_no_live_run_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add_run(store, own_lease())
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert reap(store, grace=0.1) == []
    assert ending(store, run_id) == ("RUNNING", None)


def test_a_folder_name_with_a_quote_finds_no_run_of_another(store: Store) -> None:
    experiment_id = store.experiment("pipeline")
    first = store.create(experiment_id, name="a", key="x", tags={}, start=0)
    second = store.create(experiment_id, name="a", key="x' or '1'='1", tags={}, start=0)
    assert first != second
    again = store.create(experiment_id, name="a", key="x", tags={}, start=0)
    assert again == (first[0], False)


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
    words = ["setpriv", "--reuid=12345", "--clear-groups", "sleep", "600"]
    process = subprocess.Popen(words)
    while "sleep" not in Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8")[:6]:
        time.sleep(0.01)
    yield replace(own_lease(), pid=process.pid, started=started(process.pid) or "")
    process.kill()
    process.wait()


@pytest.mark.slow
def test_another_users_process_that_is_hidden_is_judged_by_its_counter(
    store: Store, hidden: Lease, gone: Lease
) -> None:
    ids = [
        store.create(store.experiment("pipeline"), name="a", key=key, tags=lease.tags(), start=1)[0]
        for key, lease in (("live", hidden), ("silent", hidden), ("gone", gone))
    ]
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
    lost = ("FAILED", "lost")
    assert [ending(store, run_id) for run_id in ids] == [("RUNNING", None), lost, lost]
