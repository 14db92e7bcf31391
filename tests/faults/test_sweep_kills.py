"""Faults F10 to F12 and F50: workers and drivers that are killed, or stand still, at any moment."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from faults.conftest import StartSweep
from faults.processes import RECORDER
from faults.stores import FAILED, FINISHED
from faults.study_records import COMPLETE, INTERRUPTED, LOST, RUNNING, WAITING, Records
from faults.sweeps import FORK_SERVER, WORKER, Sweeping, behaving, grid, problems, require_whole
from pipeline.runs import main as runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def test_killed_or_stopped_worker_costs_one_try(sweep: StartSweep) -> None:
    records = Records()
    running = sweep("sweep.n_trials=8", "sweep.workers=2", *behaving("wait", delay=0.2))
    victim = running.await_waiting()
    sleeper = running.await_waiting(other_than=victim)
    os.kill(victim, signal.SIGKILL)
    running.process.wait_until(lambda: LOST in records.ends(), what="the loss")
    assert psutil.pid_exists(sleeper)
    assert records.ends().count(RUNNING) >= 1
    os.kill(sleeper, signal.SIGSTOP)
    # Sooner than its driver, for which it has 60 seconds.
    assert runs(["action=reap", "study=study", "grace=0.5"]) == 0
    assert records.ends().count(LOST) == 2
    os.kill(sleeper, signal.SIGCONT)
    running.go_on()
    running.require_success()
    lost = [number for number, end in enumerate(records.ends()) if end == LOST]
    first, *later = (t.number for t in records.trials() if t.attributes["lease"]["pid"] == sleeper)
    (killed,) = {*lost} - {first}
    assert running.err.splitlines() == [
        f"warning: trial {killed} was lost because its process died; it is retried",
        f"warning: trial {first} was closed as lost because its process did not respond; its later "
        "result is ignored",
    ]
    assert later  # it went on with others
    require_whole(records, 8)


def test_stuck_worker_is_replaced_and_its_trial_retried(sweep: StartSweep) -> None:
    """Time in which its driver was stopped as well does not count."""
    records, grace = Records(), 3
    running = sweep("sweep.n_trials=2", f"sweep.grace={grace}", *behaving("wait"))
    stuck = running.await_waiting()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        before = beats(records)
        running.process.send(number)
        os.kill(stuck, number)
        time.sleep(1.5 * grace if number == signal.SIGSTOP else 0)
    running.process.wait_until(lambda: beats(records) > before, what="a beat")
    os.kill(stuck, signal.SIGSTOP)
    running.await_waiting(other_than=stuck)
    assert not psutil.pid_exists(stuck)
    running.go_on()
    running.require_success()
    assert running.err.splitlines() == [
        f"warning: the worker process {stuck} gave no sign of life for {grace} s (sweep.grace); it "
        "is killed and replaced",
        "warning: trial 0 was lost because its process died; it is retried",
    ]
    require_whole(records, 2)


def beats(records: Records) -> int:
    """How often the driver has said that its first trial is being trained."""
    return int(records.trials()[0].attributes["lease"]["counter"])


def test_fork_server_death_counts_as_no_failure(sweep: StartSweep) -> None:
    records = Records()
    words = ("sweep.n_trials=4", "sweep.workers=2", "sweep.max_consecutive_failures=1")
    running = sweep(*words, *behaving("wait"))
    first = running.await_waiting()
    running.await_waiting(other_than=first)
    os.kill(psutil.Process(first).ppid(), signal.SIGKILL)
    running.process.wait_until(lambda: records.ends().count(INTERRUPTED) == 2, what="their ends")
    running.go_on()
    running.require_success()
    assert LOST not in records.ends()
    records.require_whole(4)


def test_trial_that_kills_workers_has_limited_retries(sweep: StartSweep) -> None:
    """Several such trials in a row end the study."""
    records, rates = Records(), (0.01, 0.03, 0.04)
    words = [*grid(0.01, 0.02, 0.03, 0.04), *behaving("die", "die", "die", rates=rates)]
    words += ["sweep.max_retry=1", "sweep.max_consecutive_failures=3"]
    words.append("data._target_=sweep_parts.SlowIris")
    running = sweep(*words)
    running.process.wait_until(running.children, what=WORKER)
    (running.process.folder / "armed").touch()
    os.kill(running.await_waiting("reading"), signal.SIGKILL)  # before its trial begins
    running.process.wait_until(lambda: LOST in records.ends(), what="the loss")
    running.go_on()
    assert running.end() == 3
    assert problems(running.err) == [
        "3 trials failed in a row, the last with: its process died (ended by SIGKILL); fix this, "
        "or raise sweep.max_consecutive_failures"
    ]
    assert records.ends() == [LOST, LOST, COMPLETE, LOST, LOST, LOST, WAITING]
    assert records.parent().end == FAILED
    records.require_agreement()
    records.require_retries(max_retry=1)

    last = sweep(*words)
    last.require_success()
    assert records.ends() == [LOST, LOST, COMPLETE, *[LOST] * 4]
    assert "1 trial: 1 complete; not counted: 6 lost" in last.out
    records.require_whole(1, max_retry=1)


def test_retried_default_keeps_scores_despite_late_kill(sweep: StartSweep) -> None:
    """The default is lost, tried again, and its worker killed before the database has its end."""
    records = Records()
    words = ["sweep.base_trial=true", "sweep.n_trials=3", "sweep.test_trials=true"]
    words += ["monitor=val/loss", "sweep.objective=val/loss", *behaving("wait")]
    running = sweep(*words)
    first = running.await_waiting()
    os.kill(first, signal.SIGKILL)
    again = running.await_waiting(other_than=first)
    psutil.Process(running.process.pid).suspend()  # so that the database does not get the end
    running.go_on()
    (journal,) = Path("runs/study/trials").glob("*-0001/journal.jsonl")
    running.process.wait_until(lambda: b'"event": "end"' in journal.read_bytes(), what="its end")
    os.kill(again, signal.SIGKILL)
    running.kill()

    last = sweep(*words)
    last.require_success()
    assert "trial 1 had ended (complete) before its process died; it is recorded" in last.err
    assert records.ends() == [LOST, COMPLETE, COMPLETE, COMPLETE]
    retried, other, _ = (trial.attributes["attributes"] for trial in records.trials()[1:])
    assert {"test/f1", "threads"} <= retried.keys() == other.keys()
    assert records.parent().tags["best.trial"] == "3"
    kept_trials = {int(path.name.rpartition("-")[2]) for path in journal.parents[1].iterdir()}
    assert kept_trials == {1, 3}
    assert "  default  " in last.out  # a column of the test results
    assert runs(["action=check", "study=study"]) == 0


def test_repeatedly_killed_sweep_ends_with_exact_total(sweep: StartSweep) -> None:
    chance = random.Random(11)
    records = Records()
    words = ("sweep.n_trials=8", "sweep.workers=2", "sweep.max_retry=9", *behaving(delay=0.15))
    complete: dict[int, object] = {}
    killed: list[Sweeping] = []
    for number, victims in enumerate(("driver", "all", "driver", "all")):
        running = sweep(*words, real=number > 1)
        running.process.wait_until(partial(running.children, FORK_SERVER), what=FORK_SERVER)
        for earlier in killed:  # the workers of a killed driver end by themselves
            earlier.require_no_orphan()
        killed.append(running)
        if number:
            running.await_trials(min(7, records.counted() + 1), records)
        time.sleep(chance.uniform(0, 0.5 if number else 4))
        kill(running, victims)
        now = {trial.number: trial for trial in records.trials() if trial.end == COMPLETE}
        assert {number: now[number] for number in complete} == complete
        complete = dict(now)
    last = sweep(*words)
    last.require_success()
    require_whole(records, 8, max_retry=9)
    assert {run.status for run in records.runs()} <= {"FINISHED", "FAILED"}
    assert records.parent().end == FINISHED
    trials = records.trials()
    assert {number: trials[number] for number in complete} == complete


def kill(running: Sweeping, victims: str) -> None:
    """Kill the driver, and its workers and its recorder with it where all are meant."""
    processes = [*running.children(FORK_SERVER), *running.children(RECORDER)]
    running.kill()
    for process in processes if victims == "all" else ():
        if process.is_running():
            process.kill()
    if victims == "all":
        running.require_no_orphan()
