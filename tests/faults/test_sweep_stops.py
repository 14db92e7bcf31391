"""Faults F8 and F9: a sweep that is asked to stop at any moment."""

import random
import signal
import time

import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from faults.sweeps import WORKER, behaving, grid
from pipeline.runs import main as runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

FOUR = grid(0.01, 0.02, 0.03, 0.04)
COMPLETE = ("COMPLETE", None)
INTERRUPTED = ("FAIL", "interrupted")


def test_a_stopped_sweep_queues_its_trial_again_and_goes_on_by_the_same_command(
    sweep: StartSweep,
) -> None:
    words = (*FOUR, *behaving("wait", rates=[0.03]))
    records = Records()
    stopped = sweep(*words)
    stopped.await_waiting()
    stopped.process.send(signal.SIGINT)
    assert stopped.end() == 130
    assert stopped.err == (
        "stopped after 2 trials (2 complete, 1 interrupted); the same command goes on\n"
    )
    assert records.ends() == [COMPLETE, COMPLETE, INTERRUPTED, ("WAITING", None)]
    assert records.parent().end == ("KILLED", "interrupted")
    assert records.children()[2].end == ("KILLED", "interrupted")
    records.require_agreement()
    before = records.trials()[:3]
    (stopped.process.folder / "go on").touch()
    again = sweep(*words)
    assert again.end() == 0, again.err
    assert again.err == ""
    assert records.trials()[:3] == before
    assert records.parent().end == ("FINISHED", None)
    records.require_whole(4)
    assert runs(["action=check", "study=study"]) == 0


def test_no_trial_starts_once_a_sweep_was_asked_to_end(sweep: StartSweep) -> None:
    stopped = sweep(*FOUR, "sweep.workers=2", *behaving("wait"))
    other = stopped.await_waiting()
    stopped.await_waiting(other_than=other)
    stopped.process.send(signal.SIGTERM)
    assert stopped.end() == 143
    records = Records()
    assert records.ends() == [INTERRUPTED] * 2 + [("WAITING", None)] * 2
    assert records.parent().end == ("KILLED", "interrupted")
    records.require_agreement()
    records.require_retries()


def test_a_second_signal_ends_a_sweep_at_once_and_leaves_no_process(sweep: StartSweep) -> None:
    words = (*FOUR, *behaving("deaf", rates=[0.02]))
    records = Records()
    stopped = sweep(*words)
    stopped.await_waiting()
    stopped.process.send(signal.SIGINT)
    stopped.process.await_file("deaf")
    stopped.process.send(signal.SIGINT)
    assert stopped.end() == 130
    assert records.ends() == [COMPLETE, ("RUNNING", None)]  # nothing was done in between
    (stopped.process.folder / "go on").touch()
    again = sweep(*words)
    assert again.end() == 0, again.err
    assert records.ends()[1] == ("FAIL", "lost")
    records.require_whole(4)


def test_a_trial_that_minds_no_signal_is_ended_with_its_process(sweep: StartSweep) -> None:
    stopped = sweep(*FOUR, *behaving("deaf", rates=[0.02]))
    stopped.await_waiting()
    stopped.process.send(signal.SIGTERM)
    assert stopped.end() == 143
    records = Records()
    assert records.ends() == [COMPLETE, ("FAIL", "lost"), ("WAITING", None)]
    assert records.parent().end == ("KILLED", "interrupted")
    records.require_agreement()
    records.require_retries()


def test_a_stop_while_a_sweep_starts_leaves_nothing_that_is_open(sweep: StartSweep) -> None:
    chance = random.Random(5)
    words = ("sweep.n_trials=3", *behaving(delay=0.1))
    records = Records()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        stopped = sweep(*words)
        stopped.process.wait_until(stopped.workers, what=WORKER)
        time.sleep(chance.uniform(0, 4))
        stopped.process.send(number)
        assert stopped.end() == code, stopped.err
        assert "Traceback" not in stopped.err
        assert not stopped.problems
        assert {state for state, _ in records.ends()} <= {"COMPLETE", "FAIL", "WAITING"}
        assert {run.status for run in records.runs()} <= {"FINISHED", "KILLED"}
    last = sweep(*words)
    assert last.end() == 0, last.err
    records.require_whole(3)


def test_a_stop_while_the_end_is_told_leaves_that_to_the_next_start(sweep: StartSweep) -> None:
    words = ("sweep.n_trials=2", *behaving())
    records = Records()
    stopped = sweep(*words)
    stopped.process.await_file("runs/study/conf/experiment/study.yaml")
    stopped.process.send(signal.SIGINT)
    assert stopped.end() == 130
    assert not stopped.problems
    assert records.ends() == [COMPLETE] * 2
    assert records.parent().end == ("KILLED", "interrupted")
    again = sweep(*words)
    assert again.end() == 0, again.err
    assert "the winner, tested once" in again.out
    assert records.ends() == [COMPLETE] * 2
    assert records.parent().end == ("FINISHED", None)
    records.require_whole(2)


def test_a_stop_while_the_winner_is_confirmed_ends_both_studies_and_is_told_once(
    sweep: StartSweep,
) -> None:
    words = ("sweep.n_trials=1", "sweep.confirm_seeds=2", *behaving(delay=0.5))
    studies = {"study": 1, "study-confirm-0": 2}
    inner = Records("study-confirm-0")
    stopped = sweep(*words)
    stopped.process.wait_until(lambda: ("RUNNING", None) in inner.ends(), what="a seed's trial")
    stopped.process.send(signal.SIGINT)
    assert stopped.end() == 130
    (line,) = stopped.err.splitlines()
    assert line.startswith("stopped after 0 trials (")
    for name in studies:
        assert Records(name).parent().end == ("KILLED", "interrupted")
    again = sweep(*words)
    assert again.end() == 0, again.err
    for name, trials in studies.items():
        assert Records(name).parent().end == ("FINISHED", None)
        Records(name).require_whole(trials)
