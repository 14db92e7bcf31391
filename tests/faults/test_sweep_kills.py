"""Faults F10 to F12: workers and drivers that are killed, or stand still, at any moment."""

import os
import random
import signal
import time

import psutil
import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from faults.sweeps import WORKER, Sweeping, behaving, grid
from pipeline.runs import main as runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

LOST = ("FAIL", "lost")
COMPLETE = ("COMPLETE", None)


def test_a_killed_worker_costs_one_try_and_the_other_goes_on(sweep: StartSweep) -> None:
    records = Records()
    running = sweep("sweep.n_trials=4", "sweep.workers=2", *behaving("wait"))
    victim = running.await_waiting()
    other = running.await_waiting(other_than=victim)
    os.kill(victim, signal.SIGKILL)
    running.process.wait_until(lambda: LOST in records.ends(), what="the loss")
    assert psutil.pid_exists(other)
    assert records.ends().count(("RUNNING", None)) >= 1
    running.go_on()
    assert running.end() == 0, running.err
    (warning,) = running.err.splitlines()
    number = records.ends().index(LOST)
    assert warning == (
        f"warning: trial {number} was lost with its process; its point is tried again"
    )
    assert records.ends().count(LOST) == 1
    records.require_whole(4)


def test_a_point_that_kills_its_worker_is_tried_again_only_so_often(sweep: StartSweep) -> None:
    records = Records()
    running = sweep(*grid(0.01, 0.02, 0.03), *behaving("die", rates=[0.02]))
    assert running.end() == 0, running.err
    assert sorted(records.ends()) == [COMPLETE] * 2 + [LOST] * 3
    assert {t.attributes["retry_of"] for t in records.trials() if "retry_of" in t.attributes}
    records.require_whole(2)
    assert "2 trials: 2 complete; beside these 3 lost" in running.out


def test_a_study_whose_every_trial_kills_its_worker_is_ended(sweep: StartSweep) -> None:
    records = Records()
    running = sweep("sweep.n_trials=9", "sweep.max_consecutive_failures=4", *behaving("die"))
    assert running.end() == 3
    (problem,) = running.problems
    assert problem == (
        "error: 4 trials failed one after another, the last one: its process died (ended by "
        "SIGKILL); mend that, or allow more with sweep.max_consecutive_failures="
    )
    assert records.ends()[:4] == [LOST] * 4
    assert records.parent().end == ("FAILED", "error")
    records.require_agreement()


def test_a_worker_that_dies_before_its_trial_begins_leaves_that_on_record_too(
    sweep: StartSweep,
) -> None:
    records = Records()
    running = sweep("sweep.n_trials=2", "data._target_=sweep_parts.SlowIris")
    running.process.wait_until(running.workers, what=WORKER)
    (running.process.folder / "armed").touch()
    os.kill(running.await_waiting("reading"), signal.SIGKILL)
    running.process.wait_until(lambda: LOST in records.ends(), what="the loss")
    running.go_on()
    assert running.end() == 0, running.err
    assert records.ends() == [LOST, COMPLETE, COMPLETE]
    records.require_whole(2)


def test_a_sweep_killed_again_and_again_ends_with_exactly_its_trials(sweep: StartSweep) -> None:
    chance = random.Random(11)
    records = Records()
    words = ("sweep.n_trials=8", "sweep.workers=2", "sweep.max_retry=9", *behaving(delay=0.15))
    complete: dict[int, object] = {}
    killed: list[Sweeping] = []
    for number, victims in enumerate(("driver", "all", "driver", "all")):
        running = sweep(*words)
        running.process.wait_until(running.workers, what=WORKER)
        for earlier in killed:  # the workers of a killed driver end by themselves
            earlier.require_no_orphan()
        killed.append(running)
        if number:
            target = min(7, records.counted() + 1)
            running.await_trials(target, records)
        time.sleep(chance.uniform(0, 0.5 if number else 4))
        kill(running, victims)
        now = {trial.number: trial for trial in records.trials() if trial.end == COMPLETE}
        assert {number: now[number] for number in complete} == complete
        complete = dict(now)
    last = sweep(*words)
    assert last.end() == 0, last.err
    records.require_whole(8, max_retry=9)
    assert {run.status for run in records.runs()} <= {"FINISHED", "FAILED"}
    assert records.parent().end == ("FINISHED", None)
    now = {trial.number: trial for trial in records.trials()}
    assert {number: now[number] for number in complete} == complete
    assert runs(["action=check", "study=study"]) == 0


def kill(running: Sweeping, victims: str) -> None:
    """Kill the driver, and its workers and its recorder with it where all are meant."""
    others = [*running.workers(), *running.recorders()] if victims == "all" else []
    running.kill()
    for other in others:
        if other.is_running():
            other.kill()
    if victims == "all":
        running.require_no_orphan()


def test_the_late_result_of_a_worker_that_stood_still_is_dropped(sweep: StartSweep) -> None:
    records = Records()
    ways = behaving("wait", delay=0.2)
    running = sweep("sweep.n_trials=8", "sweep.grace=2", "sweep.workers=2", *ways)
    sleeper = running.await_waiting()
    os.kill(sleeper, signal.SIGSTOP)
    running.process.wait_until(lambda: LOST in records.ends(), what="the loss")
    running.await_waiting(other_than=sleeper)
    os.kill(sleeper, signal.SIGCONT)
    running.go_on()
    assert running.end() == 0, running.err
    assert records.ends().count(LOST) == 1
    number = records.ends().index(LOST)
    lost, late = running.err.splitlines()
    assert lost.startswith(f"warning: trial {number} was lost with its process")
    assert late.startswith(f"warning: trial {number} was given up while its process stood still")
    trained = [t.number for t in records.trials() if t.attributes["lease"]["pid"] == sleeper]
    assert len(trained) > 1  # it went on with others
    records.require_whole(8)
    assert runs(["action=check", "study=study"]) == 0
