"""A worker: trials as single runs would train them, failures without a trace, and its own end."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from faults.processes import await_end, is_running, wait_until
from faults.sweeps import behaving
from helpers.fixture_types import Capture, Patch, Train
from helpers.run_files import checkpoint, epochs, events, final_values, only_run
from study.study_workers import BASE, Conversation, ending, job_of, tags, worker_in

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.child import Child
from pipeline.base.processes.fork_server import ForkServer
from pipeline.running.run_end import one_line
from pipeline.running.training import train as train_on_record
from pipeline.study.messages import Answer, Job, Rung, WorkerDied, end_in_journal
from pipeline.study.workers.pool import Worker, WorkerPool
from pipeline.study.workers.trial import TrialTrainer
from pipeline.study.workers.worker import worker_process
from pipeline.tracking.facts import command_line

OWN = "+callbacks.own._target_=trial_parts"
ROOT = Path(__file__).parents[2]
DROPOUT = ("model.dropout=0.3", "data.batch_size=16")
ENDLESS = ("trainer.max_epochs=100000", "scheduler=none")
OTHER_WAYS = (
    ("model.dropout=0.1", "trainer.threads=2", "trainer.precision=64-true", "seed=7"),
    ("model=lstm", "data=sunspots"),
    ("trainer.deterministic=true", "trainer.matmul_precision=medium", "trainer.benchmark=true"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """A worker that all tests of this file share, in a folder with the tests' own code."""
    with worker_in(tmp_path_factory.mktemp("worker")) as conversation:
        yield conversation


@pytest.fixture
def worker(shared: Conversation) -> Iterator[Conversation]:
    """The shared worker, which trains after each test as it did before."""
    yield shared
    assert not shared.said
    assert shared.train(job_of()).end is End.COMPLETE


def untimed(job: Job | Path) -> dict[int, dict[str, float]]:
    folder = Path(job.folder) if isinstance(job, Job) else job
    return {
        epoch: {key: value for key, value in values.items() if not key.startswith("time/")}
        for epoch, values in epochs(folder).items()
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def await_epochs(job: Job) -> None:
    path = Path(job.folder, "journal.jsonl")
    wait_until(lambda: path.exists() and b'"epoch"' in path.read_bytes(), what="an epoch")


# ── trials as single runs train them ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 2])
def test_trial_equals_the_single_run_bit_for_bit(
    worker: Conversation, train: Train, threads: int
) -> None:
    """What the worker trained before does not matter."""
    words = (*DROPOUT, f"trainer.threads={threads}")
    first = job_of(*words)
    assert worker.train(first).end is End.COMPLETE
    for other in OTHER_WAYS:
        assert worker.train(job_of(*other, objectives=["val/loss"])).end is End.COMPLETE
    again = job_of(*words)
    assert worker.train(again).end is End.COMPLETE
    assert train(*BASE, *words, "verbose=0") == 0
    single = only_run(Path("runs"))
    assert untimed(first) == untimed(again) == untimed(single)
    best, kept_content = checkpoint(single, "best"), checkpoint(Path(again.folder), "kept")
    weights = best["state_dict"]
    assert weights.keys() == kept_content["state_dict"].keys()
    assert all(torch.equal(weights[name], kept_content["state_dict"][name]) for name in weights)
    facts = ("schema", "data", "epoch", "format", "version")
    assert all(best["pipeline"][fact] == kept_content["pipeline"][fact] for fact in facts)


@pytest.mark.parametrize(
    "words", [("callbacks=ema", "callbacks.ema.decay=0.9"), ("keep=last",)], ids=" ".join
)
def test_kept_weights_are_tested_like_a_single_run(
    worker: Conversation, train: Train, words: tuple[str, ...]
) -> None:
    job, tables = job_of(*words), Path("tables").absolute()
    assert worker.train(job).end is End.COMPLETE
    tested = worker.test(job, tables_folder=str(tables))
    assert tested.problem is None
    assert tested.baselines == {
        "naive": "majority class",
        "linear": "logistic regression",
        "trees": "boosted trees",
    }
    assert train(*BASE, *words, "verbose=0") == 0
    run = only_run(Path("runs"))
    kinds = ("test/", "naive/", "linear/", "trees/")
    single = {key: value for key, value in final_values(run).items() if key.startswith(kinds)}
    assert tested.metrics == single
    same = {"test_predictions.csv", "classes.csv", "intervals.json"}
    for name in same:
        assert (tables / name).read_bytes() == (run / "artifacts" / name).read_bytes()
    assert files(tables) == {*same, "history.csv", "config.yaml"}
    ends = json.loads((tables / "intervals.json").read_text(encoding="utf-8"))["ends"]
    assert {name: list(pair) for name, pair in tested.intervals.items()} == ends


def test_weights_not_kept_cannot_be_tested(worker: Conversation) -> None:
    job = job_of(keep=False)
    assert worker.train(job).end is End.COMPLETE
    tables = Path("tables").absolute()
    tested = worker.test(job, tables_folder=str(tables))
    path = f"{job.folder}/checkpoints/kept.ckpt"
    assert tested.problem == f"{path} does not exist; expected a checkpoint"
    assert (tested.exit_code, tables.exists()) == (2, False)


def test_model_of_other_data_is_not_saved(worker: Conversation) -> None:
    model = Path("model").absolute()
    tested = worker.test(job_of(), tables_folder=None, model_folder=str(model), data="0" * 64)
    assert tested.problem is not None
    assert "the data had the hash 000000000000 in this study" in tested.problem
    assert (tested.exit_code, model.exists()) == (2, False)


def test_trial_leaves_only_journal_and_kept_weights(worker: Conversation) -> None:
    job = job_of("trainer.log_every_n_steps=1")
    ended = worker.train(job)
    assert files(Path(job.folder)) == {"journal.jsonl", "checkpoints/kept.ckpt"}
    begin, lease = events(Path(job.folder))[0], worker.worker.lease
    assert (begin["key"], begin["parent_folder"]) == (job.key, job.parent_folder)
    assert begin["name"] == "study-0"
    assert (begin["lease"]["pid"], begin["lease"]["started"]) == (lease.pid, lease.started)
    assert end_in_journal(Path(job.folder)) == ended
    assert tags(job)["pipeline.trial"] == "0"
    assert tags(job)["command"] == command_line(sys.orig_argv)  # the driver's own
    assert ending(job) == ("FINISHED", None)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_values_are_those_of_the_kept_weights(worker: Conversation, keep: str) -> None:
    objectives = ["val/f1", "train/loss", "model/parameters", "time/fit"]
    job = job_of(f"keep={keep}", "monitor=val/loss", objectives=objectives, test=True)
    ended = worker.train(job)
    history = epochs(Path(job.folder))
    best = min(history, key=lambda epoch: history[epoch]["val/loss"])
    kept_values = history[best if keep == "best" else 3]
    assert ended.values[:2] == (kept_values["val/f1"], kept_values["train/loss"])
    assert ended.values[2] == sum(
        weights.numel()
        for name, weights in checkpoint(Path(job.folder), "kept")["state_dict"].items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert ended.values[3] == ended.attributes["time/fit"]
    assert (ended.attributes["epochs"], ended.attributes["threads"]) == (3, 1)
    assert {"test/f1", "naive/f1", "linear/f1"} <= ended.attributes.keys()
    assert end_in_journal(Path(job.folder)) == ended


def test_pruned_trial_reports_best_values_so_far(worker: Conversation) -> None:
    """It is recorded as finished, with pruned as its reason."""
    job = job_of("trainer.max_epochs=30", "trainer.min_epochs=20", rungs={2: 1, 4: 2})
    worker.worker.train(job)
    first = worker.hear(Rung)
    worker.worker.verdict(prune=False)
    second = worker.hear(Rung)
    worker.worker.verdict(prune=True)
    ended = worker.hear(TrialEnd)
    assert [(rung.step, rung.epoch) for rung in (first, second)] == [(1, 2), (2, 4)]
    values = [epoch["val/f1"] for epoch in epochs(Path(job.folder)).values()]
    assert (first.value, second.value) == (max(values[:2]), max(values))
    assert len(values) == ended.attributes["epochs"] == 4
    assert (ended.end, ended.values) == (End.PRUNED, ())
    assert ending(job) == ("FINISHED", "pruned")
    assert files(Path(job.folder)) == {"journal.jsonl"}
    assert end_in_journal(Path(job.folder)) == ended


def test_same_data_are_read_once_for_all_trials(worker: Conversation) -> None:
    data_words = ("data._target_=trial_parts.CountedIris",)
    reads = worker.folder / "reads"
    for size in (8, 9, 10):
        assert worker.train(job_of(*data_words, f"data.batch_size={size}")).values
    assert reads.read_text(encoding="utf-8") == "read\n"
    assert worker.train(job_of(*data_words, "data.split_seed=5")).values
    assert reads.read_text(encoding="utf-8") == "read\nread\n"


def test_data_changed_by_a_trial_are_read_again(worker: Conversation) -> None:
    jobs = [job_of(), job_of(f"{OWN}.Poison"), job_of()]
    assert [worker.train(job).end for job in jobs] == [End.COMPLETE] * 3
    before, poisoned, after = map(untimed, jobs)
    assert before == after
    assert before != poisoned


def test_printing_code_does_not_disturb_the_worker(worker: Conversation) -> None:
    worker.worker.verdict(prune=True)  # too late for any trial: it decides nothing
    job = job_of(rungs={1: 1}, tags={"command": "pipeline sweep sweeps=quick"})
    config = {**job.config, "model": {"_target_": "trial_parts.Chatty"}}
    ended = worker.train(replace(job, config=config), verdicts=[False])
    assert ended.end is End.COMPLETE, ended.message
    assert tags(job)["command"] == "pipeline sweep sweeps=quick"
    loaded = (worker.folder / "loaded").read_text(encoding="utf-8").split()
    assert "pytorch_lightning" in loaded
    assert not {"optuna", "mlflow"} & {*loaded}


# ── failures ────────────────────────────────────────────────────────────────────────────────────

DIVERGING = ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=none")
FAILURES = {
    "diverged": (
        (*DIVERGING, "trainer.gradient_clip_val=null"),
        ("diverged", 4),
        "training diverged; try a smaller optimizer.lr, or trainer.gradient_clip_val=1.0",
    ),
    "infinite": (
        behaving("infinite"),
        ("diverged", 4),
        "val/f1 is inf at the end of the trial: training diverged",
    ),
    "oom": (behaving("oom"), ("oom", 3), "out of memory (CUDA out of memory. Tried"),
    "memory": (behaving("memory"), ("oom", 3), "out of memory (MemoryError)"),
    "error": (
        behaving("error"),
        ("error", 2),
        "sweep_parts._behave raised RuntimeError: the reader has lost its place (sweep_parts.py:",
    ),
    "value": (
        ("model.dropout=1.5", "seed=-1"),
        ("error", 2),
        "seed=-1 is not allowed; expected a whole number ≥ 0 and < 4294967296.; model.dropout=1.5",
    ),
    "network": (("model=cnn1d", "model.kernel_size=99"), ("error", 2), "99"),
    "objective": (
        ("test=false",),
        ("error", 2),
        "val/rmse has no value in the trial's best epoch; expected one of "
        "best/epoch, best/val/accuracy, ",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_trial_gives_its_reason_in_one_line(worker: Conversation, failure: str) -> None:
    words, (reason, exit_code), line = FAILURES[failure]
    job = job_of(*words, **({"objectives": ["val/rmse"]} if failure == "objective" else {}))
    ended = worker.train(job)
    assert (ended.end, ended.code) == (reason, exit_code)
    assert ended.message is not None
    assert line in ended.message
    recorded = end_in_journal(Path(job.folder))
    assert recorded is not None
    assert replace(recorded, attributes=ended.attributes) == ended
    assert len(ended.message.splitlines()) == 1
    assert ended.values == ()
    assert ending(job) == ("FAILED", reason)
    folder = Path(job.folder)
    assert events(folder)[0]["key"] == job.key
    assert "Traceback" in (folder / "run.log").read_text(encoding="utf-8")
    assert not (folder / "checkpoints").exists()


def test_full_disk_is_an_environment_fault(worker: Conversation) -> None:
    ended = worker.train(job_of(f"{OWN}.NoMoreBytes"))
    assert (ended.end, ended.code) == (End.ERROR, 3)
    assert "journal.jsonl' can't be written" in (ended.message or "")


def test_message_of_failed_trial_holds_no_secret(monkeypatch: Patch) -> None:
    assert one_line(ValueError()) == "ValueError: no message"
    assert one_line(ValueError("caf\udce9")) == r"ValueError: caf\udce9"  # a journal is UTF-8
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    assert one_line(ValueError("the password is correct horse")).endswith("the password is ***")


# ── how a worker is stopped, and how it dies ────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_trial_but_not_the_worker(
    worker: Conversation, number: signal.Signals
) -> None:
    job = job_of(*ENDLESS)
    worker.worker.train(job)
    await_epochs(job)
    os.kill(worker.worker.lease.pid, number)
    ended = worker.hear(TrialEnd)
    assert (ended.end, ended.message) == (End.INTERRUPTED, "interrupted")
    assert ended.exit_code == 128 + number
    assert ending(job) == ("KILLED", "interrupted")


def test_trial_waiting_for_a_verdict_can_be_interrupted(worker: Conversation) -> None:
    job = job_of(rungs={1: 1})
    worker.worker.train(job)
    worker.hear(Rung)
    worker.worker.interrupt()
    assert worker.hear(TrialEnd).end is End.INTERRUPTED
    assert ending(job) == ("KILLED", "interrupted")
    assert len(epochs(Path(job.folder))) == 1


def test_second_interrupt_changes_nothing(worker: Conversation) -> None:
    worker.worker.train(job_of(*behaving("wait")))
    pid = worker.worker.lease.pid
    wait_until((worker.folder / f"waiting-{pid}").exists, what="a trial that waits")
    for number in (signal.SIGINT, signal.SIGTERM):  # two of one number would come as one
        os.kill(pid, number)
    ended = worker.hear(TrialEnd)
    assert (ended.end, ended.code) == (End.INTERRUPTED, 130)


def test_error_after_the_end_fails_the_trial(monkeypatch: Patch) -> None:
    """No code of a user's runs at that time, and a stop keeps the result."""

    def train_and_raise(*words: Any, **options: Any) -> None:
        train_on_record(*words, **options)
        raise RuntimeError

    job = job_of("trainer.max_epochs=1", trust=[])
    monkeypatch.setattr("pipeline.study.workers.trial.train", train_and_raise)
    ended = TrialTrainer().train(job, lambda _: False)
    assert (ended.end, ended.values) == (End.ERROR, ())
    assert ending(job) == ("FINISHED", None)


def test_stop_after_the_end_keeps_the_result(worker: Conversation) -> None:
    job = job_of(f"{OWN}.StopAfterwards")
    ended = worker.train(job)
    assert (ended.end, len(ended.values)) == (End.COMPLETE, 1)
    assert ending(job) == ("FINISHED", None)


def test_signals_between_trials_stop_nothing(worker: Conversation) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.worker.lease.pid, number)
    assert worker.train(job_of()).end is End.COMPLETE


def test_worker_without_libraries_names_what_is_missing() -> None:
    broken = Path("broken").absolute()
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('libtorch.so: no such file')\n")
    path = {"PYTHONPATH": f"{broken}{os.pathsep}{ROOT}"}
    worker = Worker(worker_process(path))
    gone = Conversation(worker).hear(WorkerDied)
    assert gone.message == "ImportError: libtorch.so: no such file"
    worker.quit()


def await_worker(pool: WorkerPool) -> None:
    while not pool.idle():
        pool.start(1)
        list(pool.listen(1.0))


def test_failing_fork_server_ends_the_study() -> None:
    with (
        ForkServer("pipeline.nowhere", environment={}) as server,
        WorkerPool(server=server) as pool,
        pytest.raises(EnvironmentFaultError) as failed,
    ):
        await_worker(pool)
    assert failed.value.problems == (
        "3 workers in a row died before they were ready (ModuleNotFoundError: No module "
        "named 'pipeline.nowhere'); check that a single run works: pipeline train",
    )


SPEAKS = """
import ctypes, os, signal, subprocess, time
from pipeline.base.processes.parent import Parent
parent = Parent.claim()
parent.heartbeat = {'say': 'beat'}
parent.listen()
parent.say({'say': 'ready'})
"""
WAITS_FOR_DISK = """
os.mkfifo('disk')  # the call returns once the child has opened it, and no signal interrupts it
libc, actions = ctypes.CDLL(None), ctypes.create_string_buffer(256)
libc.posix_spawn_file_actions_init(actions)
libc.posix_spawn_file_actions_addopen(actions, 0, b'disk', os.O_RDONLY, 0)
words = (ctypes.c_char_p * 2)(b'true', None)
libc.posix_spawnp(ctypes.byref(ctypes.c_int()), b'true', actions, None, words, None)
"""
STOPS_ITSELF = "os.kill(os.getpid(), signal.SIGSTOP)"
STOPS_ITS_CHILD = "subprocess.Popen(['sleep', '60']).send_signal(signal.SIGSTOP); time.sleep(60)"
COMPUTES = "sum(range(10**15))"  # lets no other thread run


def test_stuck_worker_is_killed_and_named(capsys: Capture) -> None:
    """A worker that computes for longer than the grace time is not taken for stuck."""
    programs = [SPEAKS + then for then in (COMPUTES, STOPS_ITSELF, STOPS_ITS_CHILD, WAITS_FOR_DISK)]
    gone: dict[Worker, Answer] = {}
    computing: Worker | None = None
    with WorkerPool(lambda slot: Child(("-c", programs[slot])), grace=2) as pool:
        pool.start(len(programs))
        deadline = time.monotonic()
        while computing is None or len(gone) < 3 or time.monotonic() < deadline:
            gone |= dict(pool.listen(0.1))
            if computing is None:
                computing = next((worker for worker in pool.idle() if worker.slot == 0), None)
                deadline = time.monotonic() + 4
        assert is_running(psutil.Process(computing.lease.pid))
        assert computing not in gone
        for worker in gone:
            worker.verdict(prune=True)  # too late: nobody reads it
            assert worker.answers() == []
        computing.kill()
    assert list(gone.values()) == [WorkerDied(message="ended by SIGKILL")] * 3
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(map(killed_line, gone))


def killed_line(worker: Worker, grace: int = 2) -> str:
    return (
        f"warning: the worker process {worker.lease.pid} gave no sign of life for {grace} s "
        "(sweep.grace); it is killed and replaced"
    )


def test_unkillable_worker_is_abandoned(monkeypatch: Patch, capsys: Capture) -> None:
    """Once it continues, it finds its driver gone and ends."""
    # As in the kernel, where the signal waits for the disk.
    monkeypatch.setattr("pipeline.base.processes.child.kill_session", lambda _: None)
    monkeypatch.setattr("pipeline.study.workers.pool.KILL_SECONDS", 0.5)
    program = f"{SPEAKS}{STOPS_ITSELF}; time.sleep(600)"
    with WorkerPool(lambda _: Child(("-c", program)), grace=1) as pool:
        pool.start(1)
        answers: list[tuple[Worker, Answer]] = []
        while not answers:
            answers += pool.listen(0.1)
        ((worker, gone),) = answers
        assert gone == WorkerDied(message="does not end, not even by SIGKILL")
        process = psutil.Process(worker.lease.pid)
        pool.dismiss(worker, gone)
        assert not pool.idle()
        assert is_running(process)
    process.send_signal(signal.SIGCONT)
    await_end(process)
    assert capsys.readouterr().err.splitlines() == [
        killed_line(worker, grace=1),
        f"warning: the worker process {worker.lease.pid} does not end, not even by SIGKILL, and is "
        "left; the disk, the mount or the machine that it uses does not answer",
    ]


@pytest.mark.slow
def test_worker_survives_many_trials_without_growing(tmp_path: Path) -> None:
    """It survives a lack of memory too, and ends when it is dismissed."""
    with worker_in(tmp_path) as mortal:
        process = psutil.Process(mortal.worker.lease.pid)
        sizes, opened = [], []
        for _ in range(45):
            assert mortal.train(job_of("trainer.max_epochs=1")).end is End.COMPLETE
            sizes.append(process.memory_info().rss)
            opened.append(process.num_fds())
        assert max(sizes[-15:]) - max(sizes[:15]) < 8 * 2**20
        assert len(set(opened[5:])) == 1

        ended = mortal.train(job_of(*behaving("allocate")))
        assert ended.end is End.OOM
        assert "try a smaller data.batch_size" in (ended.message or "")
        assert mortal.train(job_of()).end is End.COMPLETE

        job = job_of(*ENDLESS)
        mortal.worker.train(job)
        await_epochs(job)
    assert not is_running(process)
    assert "end" not in {event["event"] for event in events(Path(job.folder))}
