"""Fault F5 and promise N1: a run whose process is killed at any moment."""

import random
import signal
import time

import pytest
from fixture_types import Capture, Train

from faults.conftest import Start
from faults.processes import RECORDER, await_end, checkpoint_epoch, ending, recorded_epochs
from faults.stores import only_run, outcome, recorded_steps
from pipeline.runs import main as runs

IRIS = ("model=mlp", "data=iris", "trainer.max_epochs=1")
ENDLESS = (*IRIS[:2], "trainer.max_epochs=100000", "scheduler=none")

pytestmark = pytest.mark.slow


def test_the_run_of_a_killed_process_is_lost_and_goes_on_from_its_last_epoch(
    fork: Start, database: str
) -> None:
    training = fork("model=mlp", "data=digits", "trainer.max_epochs=20", "data.batch_size=16")
    training.await_epoch(3)
    recorder = training.recorder()
    training.send(signal.SIGKILL)
    assert training.end() == -9
    await_end(recorder)
    assert outcome(database) == ("FAILED", "lost")
    again = fork("resume=last")
    assert again.end() == 0, again.err
    assert outcome(database) == ("FINISHED", None)
    assert recorded_steps(database, "train/loss") == list(range(1, 21))


@pytest.mark.parametrize("mended_by", ["reap", "the next start"])
def test_a_run_killed_with_its_recorder_is_closed_later(
    fork: Start, database: str, mended_by: str
) -> None:
    training = fork(*ENDLESS)
    training.await_epoch(2)
    training.recorder().kill()
    training.send(signal.SIGKILL)
    training.end()
    assert outcome(database) == ("RUNNING", None)
    killed = only_run(database).info.run_id
    if mended_by == "reap":
        assert runs(["action=reap"]) == 0
    else:
        other = fork(*IRIS, "tracking.experiment=next")
        assert other.end() == 0, other.err
    assert outcome(database) == ("FAILED", "lost")
    assert only_run(database).info.run_id == killed


def test_a_recorder_that_is_killed_while_it_starts_is_started_again(
    fork: Start, database: str
) -> None:
    training = fork(*IRIS)
    training.recorder().kill()
    assert (training.end(), training.err) == (0, "")
    assert outcome(database) == ("FINISHED", None)


@pytest.mark.parametrize("required", [True, False])
def test_a_recorder_that_is_always_killed_costs_the_record_alone(
    fork: Start, database: str, required: bool
) -> None:
    training = fork(*IRIS, f"tracking.required={required}")
    while training.is_alive():
        for recorder in training.running(RECORDER):
            recorder.kill()
        time.sleep(0.01)
    told, *more = training.err.splitlines()
    assert told.partition(": ")[2].startswith(
        f"the tracking database '{training.folder / 'mlflow.db'}': the recorder process has ended, "
        "twice; check what kills it (often the kernel, when memory runs out), then run the same "
        "command again; tracking=none records nothing"
    )
    assert training.end() == (3 if required else 0)
    if required:
        assert (told.partition(":")[0], more) == ("error", [])
        assert not (training.folder / "runs").exists()
    else:
        assert told.startswith("warning: ")
        assert ending(training.run) == ("FINISHED", None)
        assert recorded_epochs(training.run) == [1]


def test_killed_at_twenty_moments_a_run_loses_at_most_the_epoch_in_progress(fork: Start) -> None:
    chance, epochs = random.Random(4), [0]
    words = (*IRIS[:2], "trainer.max_epochs=600", "tracking=none", "resume=auto")
    words = (*words, "model.hidden=[300,300]")
    for kill in range(20):
        training = fork(*words)
        if kill == 0:
            training.await_epoch(2)  # a run without any checkpoint is begun anew
        training.wait_until(lambda: training.out, what="its first words")  # noqa: B023
        time.sleep(chance.uniform(0.05, 0.6))
        training.send(signal.SIGKILL)
        assert training.end() == -9, "too few epochs for twenty kills"
        epochs.append(recorded_epochs(training.run)[-1])
        assert checkpoint_epoch(training.run) >= epochs[-1] - 1
        checkpoint_epoch(training.run, "best")
    assert epochs == sorted(epochs)
    last = fork(*words)
    assert last.end() == 0, last.err
    assert recorded_epochs(last.run) == list(range(1, 601))


def test_a_run_that_is_being_trained_is_not_gone_on_with(
    fork: Start, train: Train, capsys: Capture
) -> None:
    training = fork(*ENDLESS, "tracking=none")
    training.await_epoch(1)
    assert train("resume=last") == 3
    assert capsys.readouterr().err == (
        f"error: {training.run.relative_to(training.folder)} is being trained by process "
        f"{training.pid}; wait until it ends, or stop it with: kill {training.pid}\n"
    )
    training.send(signal.SIGTERM)
    assert training.end() == 143
