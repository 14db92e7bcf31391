"""Trials whose process is gone are found, once, and tried again; live ones are left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from ledgers import COMPLETE, database, dead_lease, far_lease, open_ledger, take
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.processes.lease import Lease, own_lease, started
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.trial_end import LEASE, TICK_SECONDS, LeaseWatch
from pipeline.tracking.journal import Header, Journal, Status

NOWHERE = Path("nowhere")
GRACE = 60.0


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def running(lease: Lease | None, number: int = 0) -> FrozenTrial:
    """A trial that somebody trains."""
    marks = {} if lease is None else {LEASE: asdict(lease)}
    trial = create_trial(state=TrialState.RUNNING, user_attrs=marks)
    trial.number = number
    return trial


def numbers(trials: list[FrozenTrial]) -> list[int]:
    """Which trials these are."""
    return [trial.number for trial in trials]


def looks(lease: Lease | None) -> list[bool]:
    """Look at a trial eight times, a tick apart; return each time whether it is lost."""
    clock = Clock()
    watch = LeaseWatch(GRACE, clock)
    found = []
    for _ in range(8):
        found.append(bool(watch.lost_among([running(lease)])))
        clock.now += TICK_SECONDS
    return found


def test_a_trial_whose_process_is_gone_is_lost_at_once() -> None:
    trials = [running(own_lease(), 0), running(dead_lease(), 1)]
    assert numbers(LeaseWatch(GRACE).lost_among(trials)) == [1]


def test_a_live_process_of_this_machine_is_never_lost_however_still_its_counter() -> None:
    clock = Clock()
    watch = LeaseWatch(GRACE, clock)
    for _ in range(100):
        assert watch.lost_among([running(own_lease())]) == []
        clock.now += TICK_SECONDS


@pytest.mark.parametrize("lease", [far_lease(), None])
def test_a_counter_far_away_that_stands_still_for_the_grace_time_is_lost(
    lease: Lease | None,
) -> None:
    assert looks(lease) == [False] * 6 + [True] * 2


def test_a_counter_far_away_that_moves_is_alive() -> None:
    clock = Clock()
    watch = LeaseWatch(GRACE, clock)
    for beat in range(30):
        assert watch.lost_among([running(far_lease(counter=beat // 4))]) == []
        clock.now += TICK_SECONDS


def test_the_time_that_the_watcher_itself_stood_still_does_not_count() -> None:
    clock = Clock()
    watch = LeaseWatch(GRACE, clock)
    lease = far_lease()
    assert watch.lost_among([running(lease)]) == []
    clock.now += 100 * GRACE
    assert watch.lost_among([running(lease)]) == []
    for _ in range(10):
        clock.now += TICK_SECONDS
        lease = replace(lease, counter=lease.counter + 1)
        assert watch.lost_among([running(lease)]) == []


def test_a_stopped_process_of_this_machine_is_judged_by_its_counter() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease = replace(own_lease(), pid=child.pid, started=started(child.pid) or "")
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    found = looks(lease)
    child.send_signal(signal.SIGCONT)
    child.kill()
    child.wait()
    assert found == [False] * 6 + [True] * 2


def test_a_lost_trial_is_told_and_its_point_tried_again(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), n_trials=1, max_retry=1)
    points, lines = [], []
    for _ in range(2):
        taken = take(ledger, dead_lease())
        points.append(taken.overrides)
        lines += [lost.line for lost in ledger.close_lost(lambda _: NOWHERE)]
    assert points[0] == points[1]
    assert lines == [
        "trial 0 was lost with its process; its point is tried again",
        "trial 1 was lost with its process; its point was tried often enough",
    ]
    assert [(row.state, row.reason) for row in ledger.trials()] == [("failed", "lost")] * 2
    assert not ledger.progress().settled


def test_however_many_look_a_lost_trial_is_queued_once(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledgers = [open_ledger(path) for _ in range(3)]
    ledgers[0].take(dead_lease())
    found = [ledger.close_lost(lambda _: NOWHERE) for ledger in ledgers]
    assert [len(lost) for lost in found] == [1, 0, 0]
    assert ledgers[2].progress().counts["waiting"] == 1


def test_a_kill_between_queueing_and_failing_queues_no_second_time(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger = open_ledger(path)
    ledger.take(dead_lease())
    ledger.close_lost(lambda _: NOWHERE)
    with ledger._store.engine.begin() as connection:  # as if the kill came before the last write
        connection.exec_driver_sql("UPDATE trials SET state = 'RUNNING' WHERE number = 0")
    after = open_ledger(path)
    assert [lost.queued_again for lost in after.close_lost(lambda _: NOWHERE)] == [True]
    assert after.progress().counts["waiting"] == 1


def test_a_live_trial_stays_in_its_holders_hands(tmp_path: Path) -> None:
    path = database(tmp_path)
    taken = take(open_ledger(path))
    other = open_ledger(path)
    assert other.close_lost(lambda _: NOWHERE) == []
    assert other.finish(taken, COMPLETE)


def test_a_beat_is_seen_by_whoever_watches(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger, watcher = open_ledger(path, grace=0.3), open_ledger(path, grace=0.3)
    taken = take(ledger, far_lease())
    for _ in range(6):
        ledger.beat([taken.number])
        assert watcher.close_lost(lambda _: NOWHERE) == []
        time.sleep(0.1)
    for _ in range(6):
        lost = watcher.close_lost(lambda _: NOWHERE)
        time.sleep(0.15)
        if lost:
            break
    assert [one.number for one in lost] == [taken.number]


def dead_trial(folder: Path) -> tuple[Ledger, Journal]:
    """A study with one trial whose process is gone, and the journal that it left."""
    ledger = open_ledger(database(folder))
    ledger.take(dead_lease())
    journal = Journal(folder)
    journal.begin(Header(name="lr-0", experiment="pipeline", uri=""))
    journal.epoch(1, {"val/f1": 0.25})
    return ledger, journal


def test_a_trial_that_had_completed_is_taken_over_with_its_values(tmp_path: Path) -> None:
    ledger, journal = dead_trial(tmp_path)
    journal.tag("pipeline.values", json.dumps([0.75]))
    journal.end("FINISHED")
    (lost,) = ledger.close_lost(lambda _: tmp_path)
    assert lost.adopted
    assert lost.line == "trial 0 had ended (complete) when its process died; it is on record"
    row = ledger.trials()[0]
    assert (row.state, row.values) == ("complete", (0.75,))
    assert row.attributes["epochs"] == 1
    assert ledger.progress().counts["waiting"] == 0


@pytest.mark.parametrize(
    ("status", "reason", "state", "again"),
    [
        ("FINISHED", "pruned", "pruned", 0),
        ("FAILED", "diverged", "failed", 0),
        ("FAILED", "oom", "failed", 0),
        ("FAILED", "error", "failed", 0),
        ("KILLED", "interrupted", "failed", 1),
        ("FAILED", "lost", "failed", 1),
    ],
)
def test_a_trial_that_had_ended_otherwise_is_taken_over_with_its_reason(
    status: Status, reason: str, state: str, again: int, tmp_path: Path
) -> None:
    ledger, journal = dead_trial(tmp_path)
    journal.end(status, reason)
    (lost,) = ledger.close_lost(lambda _: tmp_path)
    row = ledger.trials()[0]
    assert lost.adopted
    assert (row.state, row.reason) == (state, reason)
    assert ledger.progress().counts["waiting"] == again


@pytest.mark.parametrize("values", ["not ended", "[]", "[NaN]", "nonsense", '["a"]'])
def test_a_trial_that_left_no_number_is_lost(values: str, tmp_path: Path) -> None:
    ledger, journal = dead_trial(tmp_path)
    if values != "not ended":
        journal.tag("pipeline.values", values)
        journal.end("FINISHED")
    (lost,) = ledger.close_lost(lambda _: tmp_path)
    assert not lost.adopted
    assert ledger.trials()[0].reason == "lost"
