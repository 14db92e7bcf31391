"""Faults F1 to F4 and F7: a run that is stopped at any moment."""

import random
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers.run_files import is_whole

from faults.conftest import Start, Words
from faults.processes import await_end, checkpoint_epoch, ending, lines_of, recorded_epochs
from faults.stores import FINISHED, STOPPED, outcome, recorded_steps
from pipeline.runs import main as sync

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
IRIS = ("model=mlp", "data=iris")
ENDLESS = (*IRIS, "trainer.max_epochs=100000", "scheduler=none")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.slow
def test_stopped_run_resumes_by_the_printed_command(fork: Start, database: str) -> None:
    """It is recorded as killed."""
    Path("mlflow.db").rename("elsewhere.db")
    database = database.replace("mlflow.db", "elsewhere.db")
    words = (f"tracking.uri={database}", "tracking.required=false")
    training = fork(
        "model=mlp", "data=digits", "trainer.max_epochs=30", "data.batch_size=16", *words
    )
    for number, code in STOPS:
        training.await_epoch()
        training.send(number)
        assert training.end() == code
        assert outcome(database) == STOPPED
        assert "Traceback" not in training.err
        (line,) = training.err.splitlines()
        message, _, command = line.partition("; continue with: ")
        epoch = int(message.removeprefix("stopped after epoch "))
        assert checkpoint_epoch(training.run) in (epoch, epoch - 1)  # the journal is written first
        assert recorded_epochs(training.run) == list(range(1, epoch + 1))
        assert shlex.split(command) == [
            *("pipeline", "train", f"resume={training.run.relative_to(training.folder)}"),
            f"tracking.uri={database}",
        ]
        training = fork(*shlex.split(command)[2:])
    training.require_success()
    assert outcome(database) == FINISHED
    assert recorded_steps(database, "train/loss") == list(range(1, 31))
    assert leftovers(training.folder) == []
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGHUP])
def test_second_signal_ends_an_orderly_stop(
    fork: Start, own_code: Words, first: signal.Signals
) -> None:
    """A repeated SIGHUP, as from a terminal that closes, does not."""
    slow = "+callbacks.slow._target_=slow_parts.SlowEnd"
    training = fork(*ENDLESS, *own_code, "tracking=none", slow)
    training.await_epoch(2)
    training.send(first)
    training.await_file("paused")
    if first == signal.SIGHUP:
        training.send(signal.SIGHUP)
        training.send(signal.SIGHUP)
        time.sleep(0.2)  # nothing happens, which no event tells
        assert psutil.pid_exists(training.pid)
    signalled_at, last = time.monotonic(), {signal.SIGINT: 130}.get(first, 143)
    training.send(last - 128)
    assert training.end() == last
    assert time.monotonic() - signalled_at < 5
    assert checkpoint_epoch(training.run) >= 2
    assert training.err == ""


def pause(hook: str) -> tuple[str, ...]:
    """Words for a run that pauses in a hook of Lightning's."""
    callback = "+callbacks.pause._target_=slow_parts.Pause"
    return (*IRIS, "trainer.max_epochs=2", callback, f"+callbacks.pause.hook={hook}")


WORDS = {
    **{hook: pause(hook) for hook in ("on_validation_end", "on_test_start", "on_fit_start")},
    "a callback that swallows it": (*ENDLESS, "+callbacks.swallow._target_=slow_parts.Swallow"),
    "a thread that begins": (*ENDLESS, "+callbacks.slow._target_=slow_parts.SlowThread"),
    "reading": (*IRIS, "data._target_=slow_parts.SlowIris"),
    "a stubborn import": (*IRIS, "data._target_=stubborn_import.Source"),
}
BEFORE = ("reading", "a stubborn import")
"""Where nothing is created yet."""


@pytest.mark.parametrize("moment", WORDS)
@pytest.mark.parametrize(("number", "code"), STOPS[:2])
def test_stop_at_any_moment_is_recorded(
    fork: Start, own_code: Words, moment: str, number: int, code: int
) -> None:
    """A stop before the training leaves nothing."""
    training = fork(*WORDS[moment], *own_code, "tracking=none")
    training.await_file("paused")
    training.send(number)
    assert training.end() == code
    assert "Traceback" not in training.err
    if moment in BEFORE:
        expected = "stopped before the training began; nothing was recorded\n"
        assert (training.out, training.err) == ("", expected)
        assert not (training.folder / "runs").exists()
    else:
        assert ending(training.run) == STOPPED
        if moment == "on_fit_start":
            expected = (
                "stopped before the end of the first epoch; run the same command to start again"
            )
            assert training.err == f"{expected}\n"
        # A swallowed one holds at the end of the epoch, and Lightning itself minds a SIGTERM.
        assert "swallow" not in moment or recorded_epochs(training.run) in ([1], [])


@pytest.mark.slow
def test_stop_does_not_wait_for_the_recorder(fork: Start) -> None:
    training = fork(*IRIS)
    recorder = training.recorder()
    recorder.suspend()  # while it loads its libraries
    training.wait_until(lambda: training.out, what="its first words")
    training.send(signal.SIGTERM)
    expected = "stopped before the training began; nothing was recorded\n"
    assert (training.end(), training.err) == (143, expected)
    assert not (training.folder / "runs").exists()
    with suppress(psutil.NoSuchProcess):  # killed, if it was not to connect yet
        recorder.resume()
    await_end(recorder)


@pytest.mark.slow
def test_stop_while_sending_artifacts_leaves_run_finished(
    fork: Start, database: str, own_code: Words
) -> None:
    training = fork(*pause("on_test_end"), *own_code, "verbose=0")
    training.await_file("paused")
    recorder = training.recorder()
    recorder.suspend()
    (training.folder / "go on").touch()
    training.wait_until(lambda: ending(training.run), what="the end of training")
    time.sleep(0.2)
    training.send(signal.SIGTERM)
    recorder.resume()
    assert training.end() == 143
    assert outcome(database) == FINISHED


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_run_with_shown_result_counts_as_finished(
    fork: Start, database: str, number: int, code: int
) -> None:
    """Values that are not sent yet can be sent later."""
    training = fork(*IRIS, "trainer.max_epochs=2", "pictures=true")
    recorder = training.recorder()
    training.wait_until(lambda: "doctor" in training.out, what="its result")
    half = training.run / "artifacts" / "pictures" / "curves" / ".loss.png.1.tmp"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.touch()
    recorder.kill()
    training.send(number)
    assert training.end() == code
    assert ending(training.run) == FINISHED
    assert "test/f1" in training.run.joinpath("model", "card.md").read_text(encoding="utf-8")
    assert "took" not in training.out
    if number == signal.SIGINT:
        run = training.run.relative_to(training.folder)
        assert training.err == f"stopped after the test; the run has finished: {run}\n"
    assert sync(["action=sync"]) == 0
    assert outcome(database) == FINISHED
    assert recorded_steps(database, "test/f1") == [0]
    leftover_files = leftovers(training.folder)  # none was sent
    assert all(number == signal.SIGKILL and training.run in path.parents for path in leftover_files)


@pytest.mark.slow
def test_stop_at_random_moment_leaves_whole_files(fork: Start) -> None:
    chance = random.Random(2)
    for _ in range(12):
        number, code = chance.choice(STOPS)
        training = fork(*ENDLESS, "model.hidden=[600,600]", "tracking=none", "resume=auto")
        training.wait_until(lambda: training.out, what="its first words")  # noqa: B023
        time.sleep(chance.uniform(0, 0.6))
        training.send(number)
        assert training.end() == code, training.err
        assert "Traceback" not in training.err
        assert leftovers(training.folder) == []
        assert all(is_whole(path) for path in training.folder.rglob("*.ckpt"))
        for run in (training.folder / "runs").glob("*"):
            assert ending(run) == STOPPED


def test_stopped_data_loader_prints_one_line(fork: Start) -> None:
    training = fork(*ENDLESS, "data.memory_budget=0", "data.num_workers=2", "tracking=none")
    training.await_epoch(2)
    for process in training.children():
        process.send_signal(signal.SIGINT)  # a terminal sends it to all of them
    training.send(signal.SIGINT)
    assert training.end() == 130
    assert list(lines_of(training.err, start="stopped after epoch")) == training.err.splitlines()
    assert len(training.err.splitlines()) == 1
