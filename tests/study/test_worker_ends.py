"""How a worker is stopped, and how it dies: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from study_workers import Conversation, callback, ending, job_of, journal, started, worker_in

from pipeline.study.messages import Gone, Rung, TrialEnd
from pipeline.study.workers.worker import Worker, worker_command, worker_process

ROOT = Path(__file__).parents[2]
ENDLESS = ("trainer.max_epochs=100000", "scheduler=none")

DRIVER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from study_workers import job_of, started
conversation = started()
conversation.worker.train(job_of("trainer.max_epochs=100000", "scheduler=none"))
print(conversation.worker.lease.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """A worker that outlives what this file's tests do to its trials."""
    with worker_in(tmp_path_factory.mktemp("worker")) as conversation:
        yield conversation


@pytest.fixture
def mortal() -> Iterator[Conversation]:
    """A worker of a test's own."""
    conversation = started()
    yield conversation
    if not conversation.worker.is_gone:
        conversation.worker.kill()
    conversation.worker.quit()


def await_that(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90 * max(1.0, os.getloadavg()[0])
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_epochs(folder: str) -> bool:
    path = Path(folder) / "journal.jsonl"
    return path.exists() and b'"epoch"' in path.read_bytes()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_trial_in_hand_and_the_worker_stays(
    shared: Conversation, number: signal.Signals
) -> None:
    job = job_of(*ENDLESS)
    shared.worker.train(job)
    await_that(lambda: has_epochs(job.folder))
    os.kill(shared.worker.lease.pid, number)
    ended = shared.hear(TrialEnd)
    assert (ended.state, ended.reason, ended.message) == ("failed", "interrupted", "interrupted")
    assert ended.exit_code == 128 + number
    assert ending(job) == ("KILLED", "interrupted")
    assert shared.train(job_of(number=1)).state == "complete"


def test_a_trial_that_waits_for_a_verdict_can_be_interrupted(shared: Conversation) -> None:
    job = job_of(rungs={1: 1})
    shared.worker.train(job)
    shared.hear(Rung)
    shared.worker.interrupt()
    assert shared.hear(TrialEnd).reason == "interrupted"
    assert ending(job) == ("KILLED", "interrupted")
    assert len([event for event in journal(job) if event["event"] == "epoch"]) == 1
    assert shared.train(job_of(number=1)).state == "complete"


def test_a_second_interrupt_hurries_nobody(shared: Conversation) -> None:
    shared.worker.train(job_of(*callback("Pause", epoch=1)))
    await_that((shared.folder / "paused").exists)
    shared.worker.interrupt()
    shared.worker.interrupt()
    assert shared.hear(TrialEnd).reason == "interrupted"
    assert shared.train(job_of(number=1)).state == "complete"


def test_signals_between_trials_stop_nothing(shared: Conversation) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(shared.worker.lease.pid, number)
    assert shared.train(job_of()).state == "complete"


def test_a_worker_that_is_killed_is_gone_and_says_by_what(mortal: Conversation) -> None:
    mortal.worker.train(job_of(*ENDLESS))
    mortal.worker.kill()
    assert mortal.hear(Gone).message == "ended by SIGKILL"
    assert mortal.worker.is_gone
    assert mortal.worker.answers() == []
    mortal.worker.interrupt()
    mortal.worker.verdict(prune=True)


@pytest.mark.slow
def test_a_worker_ends_at_once_when_its_driver_lets_go_of_it(mortal: Conversation) -> None:
    job = job_of(*ENDLESS)
    mortal.worker.train(job)
    await_that(lambda: has_epochs(job.folder))
    pid = mortal.worker.lease.pid
    mortal.worker.quit()
    assert is_gone(pid)
    assert "end" not in {event["event"] for event in journal(job)}


def test_a_worker_dies_with_a_driver_that_is_killed() -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    await_that(lambda: has_epochs("trials/0"))
    driver.kill()
    driver.wait()
    driver.stdout.close()
    await_that(lambda: is_gone(worker))


def test_a_worker_without_its_libraries_says_what_is_missing() -> None:
    broken = Path("broken")
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('libtorch.so: no such file')\n")
    path = {"PYTHONPATH": f"{broken.absolute()}{os.pathsep}{ROOT}"}
    worker = Worker(worker_process(path, worker_command()))
    worker.start()
    gone = Conversation(worker).hear(Gone)
    assert gone.message == "ImportError: libtorch.so: no such file"
    worker.quit()


@pytest.mark.parametrize(
    ("modules", "needed", "left_out"),
    [
        (
            "pipeline.study.workers.trial, pipeline.study.workers.worker",
            "pytorch_lightning",
            {"optuna", "mlflow"},
        ),
        (
            "pipeline.study.plan, pipeline.study.sweeping",
            "optuna",
            {"pytorch_lightning", "mlflow", "torchmetrics"},
        ),
    ],
    ids=["worker", "driver"],
)
def test_workers_and_drivers_load_what_they_need_alone(
    modules: str, needed: str, left_out: set[str]
) -> None:
    script = f"import json, sys, {modules}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert needed in loaded
    assert not loaded & left_out


@pytest.mark.slow
def test_the_memory_of_a_worker_does_not_grow_with_its_trials(mortal: Conversation) -> None:
    process = psutil.Process(mortal.worker.lease.pid)
    sizes, files = [], []
    for number in range(45):
        assert mortal.train(job_of("trainer.max_epochs=1", number=number)).state == "complete"
        sizes.append(process.memory_info().rss)
        files.append(process.num_fds())
    assert max(sizes[-15:]) - max(sizes[:15]) < 8 * 2**20
    assert len(set(files[5:])) == 1
