"""Faults F8 and F9: a sweep that is asked to stop at any moment."""

import random
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from faults.conftest import StartSweep
from faults.stores import FINISHED, STOPPED
from faults.study_records import COMPLETE, INTERRUPTED, LOST, RUNNING, WAITING, Records
from faults.sweeps import FORK_SERVER, behaving, grid, problems, require_whole
from pipeline.runs import main as runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def test_stopped_sweep_continues_by_the_same_command(sweep: StartSweep) -> None:
    """Interrupted trials are queued again."""
    rates = (0.02, 0.03, 0.04)
    words = (*grid(0.01, *rates, 0.05), *behaving("deaf", "wait", "wait", rates=rates))
    records = Records()
    hurried = sweep(*words)
    hurried.await_waiting()
    hurried.process.send(signal.SIGINT)
    hurried.process.await_file("deaf")
    hurried.process.send(signal.SIGINT)  # the second one ends it at once
    assert hurried.end() == 130
    assert records.ends() == [COMPLETE, RUNNING]  # nothing was done in between

    deaf = sweep(*words)
    deaf.await_waiting()
    deaf.process.send(signal.SIGTERM)  # a trial that minds no signal is ended with its process
    assert deaf.end() == 143
    assert records.ends() == [COMPLETE, LOST, LOST, WAITING]
    assert records.parent().end == STOPPED
    records.require_agreement()
    records.require_retries()

    Path("hear").touch()
    stopped = sweep(*words, "sweep.workers=2")
    other = stopped.await_waiting()
    stopped.await_waiting(other_than=other)
    stopped.process.send(signal.SIGTERM)
    assert stopped.end() == 143
    stopping, ended = stopped.err.splitlines()
    assert stopping == "stopping trials 4, 5"
    assert re.fullmatch(
        r"stopped: 2 complete; 2 interrupted trials will be repeated; "
        r"best trial \d, val/f1 [\d.]+; run the same command to continue",
        ended,
    )
    assert stopped.out.count("interrupted") == 2  # once a trial
    before = records.trials()[:6]
    ends = [COMPLETE, LOST, LOST, COMPLETE, INTERRUPTED, INTERRUPTED]
    assert records.ends() == [*ends, WAITING, WAITING]  # and none was begun since
    assert records.parent().end == STOPPED
    assert records.children()[5].end == STOPPED
    records.require_agreement()

    stopped.go_on()
    again = sweep(*words, "sweep.workers=2")
    again.require_success()
    assert again.err == ""
    assert records.trials()[:6] == before
    assert records.parent().end == FINISHED
    require_whole(records, 5)


def test_stop_at_any_phase_leaves_nothing_open(sweep: StartSweep) -> None:
    """While the sweep starts, prints its summary or confirms its best trial."""
    chance = random.Random(5)
    words = ("sweep.n_trials=3", "sweep.confirm_seeds=2", *behaving(delay=0.3))
    records = Records()
    for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        starting = sweep(*words, real=True)
        starting.process.wait_until(partial(starting.children, FORK_SERVER), what=FORK_SERVER)
        time.sleep(chance.uniform(0, 4))
        starting.process.send(number)
        assert starting.end() == code, starting.err
        assert "Traceback" not in starting.err
        assert not problems(starting.err)
        assert {state for state, _ in records.ends()} <= {"COMPLETE", "FAIL", "WAITING"}
        assert {run.status for run in records.runs()} <= {"FINISHED", "KILLED"}

    winner = Path("runs/study/conf/experiment/study.yaml")
    winner.unlink(missing_ok=True)
    telling = sweep(*words)
    telling.process.await_file(str(winner))
    telling.process.send(signal.SIGINT)
    assert telling.end() == 130
    assert not problems(telling.err)
    assert records.counted() == 3
    assert records.parent().end == STOPPED

    seeds = Records(f"study-confirm-{records.parent().tags['best.trial']}")
    confirming = sweep(*words)
    confirming.process.wait_until(lambda: RUNNING in seeds.ends(), what="a seed's trial")
    confirming.process.send(signal.SIGINT)
    assert confirming.end() == 130
    *_, line = confirming.err.splitlines()
    assert line.startswith("stopped: none finished; ")
    assert [study.parent().end for study in (records, seeds)] == [STOPPED] * 2

    last = sweep(*words)
    last.require_success()
    assert "test results of the best trial" in last.out
    for study, count in ((records, 3), (seeds, 2)):
        assert study.parent().end == FINISHED
        study.require_whole(count)


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["sweep.n_trials=2"], "or      "),
        ([*grid()[:2], "optimizer.lr=0.01", "seed=choice(1,2)"], "network  "),  # a comparison
    ],
)
def test_study_with_shown_summary_counts_as_finished(
    sweep: StartSweep, words: list[str], last: str
) -> None:
    records = Records()
    telling = sweep(*words, *behaving())
    telling.await_trials(1, records)
    recorder = telling.process.recorder()
    recorder.suspend()  # so that the study's run can't be sent
    telling.process.wait_until(lambda: f"\n{last}" in telling.out, what="its summary")
    telling.process.send(signal.SIGINT)
    recorder.kill()
    assert telling.end() == 130
    (line,) = telling.err.splitlines()
    assert re.fullmatch(
        r"stopped: 2 complete; best trial \d, val/f1 .*; run the same command to continue", line
    )
    assert telling.out.splitlines()[-1].startswith(last)
    assert runs(["action=sync"]) == 0
    assert records.parent().end == FINISHED
    assert "2 trials: 2 complete" in records.parent().tags["mlflow.note.content"]
    records.require_whole(2)
