"""Faults F22 and F29 to F31: trials that fail or take too long, and a disk that fills up."""

import shutil
from pathlib import Path

import pytest

from faults.conftest import Mount, StartSweep
from faults.processes import crowding
from faults.study_records import Records
from faults.sweeps import Sweeping, behaving, grid
from pipeline.runs import main as runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

WAYS = ("poison", "infinite", "oom", "error")


def test_a_trial_that_fails_in_any_way_is_told_apart_and_the_study_goes_on(
    sweep: StartSweep,
) -> None:
    rates = (0.02, 0.03, 0.04, 0.05)
    running = sweep(*grid(0.01, *rates), *behaving(*WAYS, rates=rates))
    assert running.end() == 0, running.err
    assert running.err == ""
    records = Records()
    first, *others = records.ends()
    assert first == ("COMPLETE", None)
    reasons = ("diverged", "diverged", "oom", "error")
    assert dict(zip(WAYS, others, strict=True)) == {
        way: ("FAIL", reason) for way, reason in zip(WAYS, reasons, strict=True)
    }
    assert "5 trials: 1 complete, 2 diverged, 1 out of memory, 1 failed" in running.out
    records.require_whole(5)
    parent = records.parent()
    assert parent.end == ("FINISHED", None)
    assert parent.tags["best.trial"] == "0"
    assert parent.metrics["best/val/f1"] == records.trials()[0].values[0]


def ended(running: Sweeping, code: int) -> str:
    """Return the only line about the failure of a study that ends with a code."""
    assert running.end() == code, running.err
    (problem,) = running.problems
    return problem.removeprefix("error: ")


def test_a_study_of_which_nothing_converges_says_so_by_its_exit_code(sweep: StartSweep) -> None:
    problem = ended(sweep("sweep.n_trials=2", *behaving("poison")), 4)
    assert problem == "no trial completed: 2 diverged"
    records = Records()
    assert records.parent().end == ("FAILED", "diverged")
    records.require_whole(2)


def test_failure_after_failure_ends_the_study_with_the_code_of_the_last(sweep: StartSweep) -> None:
    most = "sweep.max_consecutive_failures=2"
    problem = ended(sweep("sweep.n_trials=9", most, *behaving("error")), 1)
    assert problem.startswith("2 trials failed one after another, the last one: RuntimeError: the ")
    records = Records()
    assert records.ends() == [("FAIL", "error")] * 2
    assert records.parent().end == ("FAILED", "error")
    records.require_agreement()


@pytest.mark.parametrize("what", ["trial", "study"])
def test_a_trial_whose_folder_is_removed_in_mid_training_is_closed_in_both_stores(
    sweep: StartSweep, own_folder: Path, what: str
) -> None:
    running = sweep("sweep.n_trials=9", *behaving("wait"))
    running.await_waiting()
    (trial,) = own_folder.glob("runs/study/trials/*")
    shutil.rmtree(trial if what == "trial" else trial.parents[1])
    running.go_on()
    problem = ended(running, 3)
    assert problem.startswith(f"{trial.relative_to(own_folder)}/checkpoints/")
    assert "its folder is gone); leave the folder of a run in place until it ends" in problem
    records = Records()
    assert records.ends() == [("FAIL", "error")]
    assert records.parent().end == ("FAILED", "error")
    records.require_agreement()


def test_memory_that_never_suffices_is_told_with_what_to_lower(sweep: StartSweep) -> None:
    running = sweep("sweep.n_trials=9", "sweep.max_consecutive_failures=4", *behaving("oom"))
    problem = ended(running, 3)
    assert problem.startswith("4 trials failed one after another, the last one: out of memory (")
    (hint,) = running.warnings
    assert hint == "warning: 3 trials in a row ran out of memory; lower data.batch_size"
    Records().require_agreement()


def test_a_full_disk_stops_the_sweep_and_the_same_command_goes_on_when_there_is_room(
    sweep: StartSweep, mount: Mount
) -> None:
    disk = mount("disk", size="4m")
    records = Records()
    words = ("sweep.n_trials=100", f"output={disk}", *behaving(delay=0.1))
    running = sweep(*words)
    running.await_trials(1, records)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2**22 + 1))
    assert running.end() == 3, running.err
    (problem,) = running.problems
    assert str(disk) in problem
    assert "No space left on device" in problem
    done = records.counted()
    assert done < 20
    assert {state for state, _ in records.ends()} <= {"COMPLETE", "FAIL", "WAITING"}
    assert {run.status for run in records.runs()} <= {"FINISHED", "FAILED"}
    ballast.unlink()
    again = sweep(f"sweep.n_trials={done + 2}", *words[1:])
    assert again.end() == 0, again.err
    records.require_whole(done + 2)
    assert runs(["action=check", "study=study"]) == 0


def test_no_trial_starts_after_the_time_of_the_study(sweep: StartSweep) -> None:
    seconds = round(3 * crowding())  # on a busy machine workers take longer to be ready
    running = sweep("sweep.n_trials=1000", f"sweep.timeout={seconds}", *behaving(delay=0.1))
    assert running.end() == 0, running.err
    records = Records()
    assert 1 <= len(records.ends()) < 1000
    assert "the winner, tested once" in running.out
    records.require_whole(len(records.ends()))


def test_a_trial_that_takes_too_long_counts_as_failed_even_if_it_minds_no_signal(
    sweep: StartSweep,
) -> None:
    ways = behaving("wait", "deaf", rates=(0.02, 0.03))
    limit = f"sweep.trial_timeout={round(4 * crowding())}"
    running = sweep(*grid(0.01, 0.02, 0.03, 0.04), limit, *ways)
    assert running.end() == 0, running.err
    assert running.err == ""
    records = Records()
    complete, too_slow = ("COMPLETE", None), ("FAIL", "error")
    assert records.ends() == [complete, too_slow, too_slow, complete]
    for trial in records.trials()[1:3]:
        message = trial.attributes["attributes"]["message"]
        assert message == f"took longer than {limit}"
    records.require_whole(4)
