"""Fault F5: a run whose process is killed, or that of its recorder."""

import signal
import time

import pytest
from helpers.fixture_types import Capture, Train

from faults.conftest import Start
from faults.processes import RECORDER, await_end, ending, listening, recorded_epochs
from faults.stores import FINISHED, only_run, outcome, recorded_steps
from faults.study_records import RUNNING

IRIS = ("model=mlp", "data=iris", "trainer.max_epochs=1")
ENDLESS = (*IRIS[:2], "trainer.max_epochs=100000", "scheduler=none")

pytestmark = pytest.mark.slow


def test_killed_run_resumes_from_its_last_epoch(fork: Start, database: str) -> None:
    """Its process listens on no port."""
    training = fork("model=mlp", "data=digits", "trainer.max_epochs=20", "data.batch_size=16")
    training.await_epoch(3)
    recorder = training.recorder()
    assert listening(training.pid) == set()
    training.send(signal.SIGKILL)
    assert training.end() == -9
    await_end(recorder)
    assert outcome(database) == ("FAILED", "lost")
    again = fork("resume=last")
    again.require_success()
    assert outcome(database) == FINISHED
    assert recorded_steps(database, "train/loss") == list(range(1, 21))


def test_next_run_closes_run_killed_with_recorder(fork: Start, database: str) -> None:
    training = fork(*ENDLESS)
    training.await_epoch(2)
    training.recorder().kill()
    training.send(signal.SIGKILL)
    training.end()
    assert outcome(database) == RUNNING
    killed = only_run(database).info.run_id
    other = fork(*IRIS, "tracking.experiment=next")
    other.require_success()
    assert outcome(database) == ("FAILED", "lost")
    assert only_run(database).info.run_id == killed


def test_recorder_killed_at_start_is_restarted(fork: Start, database: str) -> None:
    training = fork(*IRIS)
    training.recorder().kill()
    assert (training.end(), training.err) == (0, "")
    assert outcome(database) == FINISHED


@pytest.mark.parametrize("required", [True, False])
def test_repeatedly_killed_recorder_costs_only_the_record(
    fork: Start, database: str, required: bool
) -> None:
    """With tracking.required=true the run ends with exit code 3 instead."""
    training = fork(*IRIS, f"tracking.required={required}")
    while training.is_alive():
        for recorder in training.running(RECORDER):
            recorder.kill()
        time.sleep(0.01)
    first_line, *other_lines = training.err.splitlines()
    assert first_line.partition(": ")[2].startswith(
        f"the tracking database '{training.folder / 'mlflow.db'}': the recorder process has ended, "
        "twice; check what kills it (often the kernel, when memory runs out), then run the same "
        "command again; tracking=none records nothing"
    )
    assert training.end() == (3 if required else 0)
    if required:
        assert (first_line.partition(":")[0], other_lines) == ("error", [])
        assert not (training.folder / "runs").exists()
    else:
        assert first_line.startswith("warning: ")
        assert ending(training.run) == FINISHED
        assert recorded_epochs(training.run) == [1]


def test_run_in_training_cannot_be_resumed(fork: Start, train: Train, capsys: Capture) -> None:
    training = fork(*ENDLESS, "tracking=none")
    training.await_epoch(1)
    assert train("resume=last") == 3
    assert capsys.readouterr().err == (
        f"error: {training.run.relative_to(training.folder)} is being trained by process "
        f"{training.pid}; wait until it ends, or stop it with: kill {training.pid}\n"
    )
    training.send(signal.SIGTERM)
    assert training.end() == 143
