"""Fault F22 for sweeps: a disk that fills up."""

import pytest

from faults.conftest import Mount, StartSweep
from faults.study_records import Records
from faults.sweeps import behaving
from pipeline.runs import main as runs


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_and_the_same_command_goes_on_when_there_is_room(
    sweep: StartSweep, database: str, mount: Mount
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
