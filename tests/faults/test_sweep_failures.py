"""Faults F22 and F29 to F31: trials that fail or take too long, and a disk that fills up."""

import shutil
from pathlib import Path

import pytest
from helpers.fixture_types import Capture

from faults.conftest import Mount, StartSweep, SweepHere
from faults.processes import crowding
from faults.stores import FAILED, FINISHED
from faults.study_records import COMPLETE, Records
from faults.sweeps import behaving, grid, problems, require_whole

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

WAYS = {
    "poison": "diverged",
    "infinite": "diverged",
    "oom": "oom",
    "error": "error",
    "wait": "error",
    "deaf": "error",
}
"""Ways to fail, and the reasons; the last two take too long, and one of them minds no signal."""
FOUR = (0.01, 0.02, 0.03, 0.04)


def test_each_kind_of_trial_failure_is_recorded(sweep_here: SweepHere, capsys: Capture) -> None:
    """The study continues after each."""
    rates = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07)
    limit = f"sweep.trial_timeout={round(4 * crowding())}"
    assert sweep_here(*grid(0.01, *rates, 0.08), limit, *behaving(*WAYS, rates=rates)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "8 trials: 2 complete, 2 diverged, 1 out of memory, 3 failed" in out
    records = Records()
    failed = [("FAIL", reason) for reason in WAYS.values()]
    assert records.ends() == [COMPLETE, *failed, COMPLETE]
    trials = records.trials()
    for trial in trials[5:7]:
        assert trial.attributes["attributes"]["message"] == f"took longer than {limit}"
    records.require_whole(8)
    parent = records.parent()
    assert parent.end == FINISHED
    best = max((trials[0], trials[7]), key=lambda trial: trial.values[0] or 0)
    assert parent.tags["best.trial"] == str(best.number)
    assert parent.metrics["best/val/f1"] == best.values[0]


def test_all_diverged_study_has_exit_code_4(sweep_here: SweepHere, capsys: Capture) -> None:
    assert sweep_here("sweep.n_trials=2", *behaving("poison")) == 4
    assert problems(capsys.readouterr().err) == ["no trial completed: 2 diverged"]
    records = Records()
    assert records.parent().end == ("FAILED", "diverged")
    records.require_whole(2)


def test_consecutive_failures_end_the_study(sweep_here: SweepHere, capsys: Capture) -> None:
    """The exit code is that of the last one."""
    most, rates = "sweep.max_consecutive_failures", (*FOUR, 0.05)
    words = (*grid(*rates, 0.06), *behaving("error", "oom", "oom", "oom", "error", rates=rates))
    assert sweep_here(*words, f"{most}=4") == 3
    hint, problem = capsys.readouterr().err.splitlines()
    assert hint == "warning: 3 trials in a row ran out of memory; lower data.batch_size"
    expected = "error: 4 trials failed in a row, the last with: out of memory ("
    assert problem.startswith(expected)
    records = Records()
    assert records.ends() == [("FAIL", "error")] + [("FAIL", "oom")] * 3
    assert records.parent().end == FAILED
    records.require_agreement()
    assert sweep_here(*words, f"{most}=1") == 2
    assert "the last with: sweep_parts._behave raised RuntimeError: the " in capsys.readouterr().err


@pytest.mark.parametrize("removed", ["trial", "study"])
def test_trial_is_closed_when_its_folder_disappears(
    sweep: StartSweep, own_folder: Path, removed: str
) -> None:
    running = sweep("sweep.n_trials=9", *behaving("wait"))
    running.await_waiting()
    (trial,) = own_folder.glob("runs/study/trials/*")
    shutil.rmtree(trial if removed == "trial" else trial.parents[1])
    running.go_on()
    assert running.end() == 3
    (problem,) = problems(running.err)
    assert problem.startswith(f"{trial.relative_to(own_folder)}/checkpoints/")
    assert "its folder was removed during the run); do not remove it" in problem
    records = Records()
    assert records.ends() == [("FAIL", "error")]
    assert records.parent().end == FAILED
    records.require_agreement()


def test_sweep_continues_after_a_full_disk(
    sweep: StartSweep, sweep_here: SweepHere, mount: Mount
) -> None:
    """The same command continues it when there is room again."""
    disk = mount("disk", size="4m")
    records = Records()
    words = (f"output={disk}", *behaving(delay=0.1))
    running = sweep("sweep.n_trials=100", *words)
    running.await_trials(1, records)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2**22 + 1))
    assert running.end() == 3, running.err
    (problem,) = problems(running.err)
    assert str(disk) in problem
    assert "No space left on device" in problem
    completed = records.counted()
    assert completed < 20
    assert {state for state, _ in records.ends()} <= {"COMPLETE", "FAIL", "WAITING"}
    assert {run.status for run in records.runs()} <= {"FINISHED", "FAILED"}
    ballast.unlink()
    assert sweep_here(f"sweep.n_trials={completed + 2}", *words) == 0
    require_whole(records, completed + 2)


def test_no_trial_starts_after_the_study_timeout(sweep_here: SweepHere, capsys: Capture) -> None:
    seconds = round(3 * crowding())  # on a busy machine workers take longer to be ready
    words = ("sweep.n_trials=1000", f"sweep.timeout={seconds}", *behaving(delay=0.1))
    assert sweep_here(*words) == 0
    heading = "test results of the best trial on 38 rows, mean over 3 classes"
    assert heading in capsys.readouterr().out.splitlines()
    records = Records()
    assert 1 <= len(records.ends()) < 1000
    records.require_whole(len(records.ends()))
