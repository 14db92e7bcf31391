"""A worker: trials as single runs would train them, and failures without a trace in the next."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from records import checkpoint, epochs, final_values, only_run
from study_workers import (
    BASE,
    Conversation,
    callback,
    ending,
    job_of,
    journal,
    tags,
    worker_in,
)

from pipeline.errors import ConfigError
from pipeline.study.messages import Rung, TrialEnd
from pipeline.study.workers.trial import one_line
from pipeline.tracking.facts import command_line

Train = Callable[..., int]
DROPOUT = ("model.dropout=0.3", "data.batch_size=16")
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
def worker(shared: Conversation) -> Conversation:
    """The shared worker, idle and alive before each test."""
    assert shared.worker.is_ready
    assert not shared.worker.is_gone
    return shared


def untimed(folder: Path) -> dict[int, dict[str, float]]:
    return {
        epoch: {key: value for key, value in values.items() if not key.startswith("time/")}
        for epoch, values in epochs(folder).items()
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_trial_is_the_single_run_bit_for_bit_whatever_the_worker_did_before(
    worker: Conversation, train: Train, own_folder: Path
) -> None:
    first = job_of(*DROPOUT, number=0)
    assert worker.train(first).state == "complete"
    for number, words in enumerate(OTHER_WAYS, start=1):
        between = job_of(*words, number=number, objectives=["val/loss"])
        assert worker.train(between).state == "complete"
    again = job_of(*DROPOUT, number=4)
    assert worker.train(again).state == "complete"
    assert train(*BASE, *DROPOUT, "verbose=0") == 0
    single = only_run(own_folder / "runs")
    assert untimed(Path(first.folder)) == untimed(Path(again.folder)) == untimed(single)
    best, kept = checkpoint(single, "best"), checkpoint(Path(again.folder), "kept")
    weights = best["state_dict"]
    assert weights.keys() == kept["state_dict"].keys()
    assert all(torch.equal(weights[name], kept["state_dict"][name]) for name in weights)
    facts = ("schema", "data", "epoch", "format", "version")
    assert all(best["pipeline"][fact] == kept["pipeline"][fact] for fact in facts)


def test_a_worker_refuses_data_that_changed_after_an_earlier_trial(
    worker: Conversation, own_folder: Path
) -> None:
    table = own_folder / "rows.csv"
    words = ("data=table", f"data.path={table}", "data.target=y")
    write_rows(table, sign=1)
    job = job_of(*words, number=0)
    first = worker.train(job)
    assert first.data == tags(job)["data.hash"]
    assert worker.train(job_of(*words, number=1, data=first.data)).state == "complete"
    write_rows(table, sign=-1)
    other = job_of(*words, number=2, data=first.data)
    refused = worker.train(other)
    assert (refused.state, refused.reason, refused.exit_code) == ("failed", "interrupted", 2)
    assert ending(other) == ("KILLED", "interrupted")
    now = worker.train(job_of(*words, number=3)).data
    assert first.data is not None
    assert now is not None
    assert now != first.data
    assert refused.message is not None
    assert refused.message.startswith(f"data.path={table}: the data had the hash ")
    assert f"{first.data[:12]} in this study and have {now[:12]} now" in refused.message
    tested = worker.test(job, into=None, leave=".", data=first.data)
    assert (tested.problem, tested.exit_code) == (refused.message, 2)


def write_rows(path: Path, *, sign: int) -> None:
    """Write a table of two classes, which `sign` exchanges."""
    rows = [f"{x / 10},{'yes' if sign * x > 0 else 'no'}" for x in range(-40, 41)]
    path.write_text("\n".join(["x,y", *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "words", [("callbacks=ema", "callbacks.ema.decay=0.9"), ("keep=last",)], ids=" ".join
)
def test_the_kept_weights_are_tested_as_a_single_run_tests_them(
    worker: Conversation, train: Train, own_folder: Path, words: tuple[str, ...]
) -> None:
    job, tables = job_of(*words), own_folder / "tables"
    assert worker.train(job).state == "complete"
    tested = worker.test(job, into=str(tables))
    assert tested.problem is None
    assert tested.baselines == ("majority class", "logistic regression")
    assert train(*BASE, *words, "verbose=0") == 0
    run = only_run(own_folder / "runs")
    kinds = ("test/", "naive/", "linear/")
    single = {key: value for key, value in final_values(run).items() if key.startswith(kinds)}
    assert tested.metrics == single
    for name in ("test_predictions.csv", "classes.csv"):
        assert (tables / name).read_bytes() == (run / "artifacts" / name).read_bytes()
    assert files(tables) == {"test_predictions.csv", "classes.csv", "history.csv", "config.yaml"}


def test_weights_that_were_not_kept_cannot_be_tested(worker: Conversation) -> None:
    job = job_of(keep=False)
    assert worker.train(job).state == "complete"
    tested = worker.test(job, into="tables")
    kept = f"{job.folder}/checkpoints/kept.ckpt"
    assert tested.problem == f"{kept} does not exist; expected a checkpoint"
    assert (tested.exit_code, Path("tables").exists()) == (2, False)


def test_a_trial_leaves_its_journal_and_the_kept_weights_and_nothing_else(
    worker: Conversation,
) -> None:
    job = job_of("trainer.log_every_n_steps=1")
    ended = worker.train(job)
    assert files(Path(job.folder)) == {"journal.jsonl", "checkpoints/kept.ckpt"}
    begin = journal(job)[0]
    assert (begin["key"], begin["parent_folder"]) == (job.key, job.parent_folder)
    assert begin["name"] == "study-0"
    assert begin["lease"]["pid"] == worker.worker.lease.pid
    assert begin["lease"]["started"] == worker.worker.lease.started
    assert tags(job)["pipeline.values"] == f"[{ended.values[0]}]"
    assert tags(job)["pipeline.trial"] == "0"
    assert tags(job)["command"] == command_line(sys.orig_argv)  # the driver's own
    assert ending(job) == ("FINISHED", None)


def test_the_values_are_those_of_the_weights_that_a_trial_keeps(worker: Conversation) -> None:
    objectives = ["val/f1", "train/loss", "model/parameters", "time/fit"]
    for number, keep in enumerate(("best", "last")):
        words = (f"keep={keep}", "monitor=val/loss")
        job = job_of(*words, number=number, objectives=objectives, test=True)
        ended = worker.train(job)
        history = epochs(Path(job.folder))
        best = min(history, key=lambda epoch: history[epoch]["val/loss"])
        kept = history[best if keep == "best" else 3]
        assert ended.values[:2] == (kept["val/f1"], kept["train/loss"])
        assert ended.values[2] == sum(
            weights.numel()
            for name, weights in checkpoint(Path(job.folder), "kept")["state_dict"].items()
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        )
        assert ended.values[3] == ended.attributes["time/fit"]
        assert (ended.attributes["epochs"], ended.attributes["threads"]) == (3, 1)
        assert {"test/f1", "naive/f1", "linear/f1"} <= ended.attributes.keys()


def test_a_pruned_trial_is_finished_as_pruned_after_the_best_value_so_far(
    worker: Conversation,
) -> None:
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
    assert (ended.state, ended.reason, ended.values) == ("pruned", "pruned", ())
    assert ending(job) == ("FINISHED", "pruned")
    assert files(Path(job.folder)) == {"journal.jsonl"}


FAILURES = {
    "diverged": (
        ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=none", "trainer.gradient_clip_val=null"),
        "diverged",
        4,
        "training diverged; try a smaller optimizer.lr, or trainer.gradient_clip_val=1.0",
    ),
    "infinite": (
        callback("NotANumber", key="val/f1"),
        "diverged",
        4,
        "val/f1 is inf at the end of the trial: it diverged",
    ),
    "oom": (callback("Fail", how="oom"), "oom", 3, "out of memory (CUDA out of memory. Tried"),
    "memory": (callback("Fail", how="memory"), "oom", 3, "out of memory (MemoryError)"),
    "error": (
        callback("Fail", how="error"),
        "error",
        1,
        "RuntimeError: the reader has lost its place (trial_parts.py:",
    ),
    "value": (("model.dropout=1.5",), "error", 2, "model.dropout=1.5"),
    "network": (("model=cnn1d", "model.kernel_size=99"), "error", 2, "99"),
    "monitor": (("monitor=val/rmse",), "error", 2, "monitor='val/rmse' is not logged"),
    "objective": (
        ("test=false",),
        "error",
        2,
        "val/rmse has no value in the epoch that the trial keeps; expected one of "
        "best/epoch, best/val/accuracy, ",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_trial_says_why_in_one_line_and_the_next_one_is_as_ever(
    worker: Conversation, failure: str
) -> None:
    words, reason, exit_code, line = FAILURES[failure]
    job = job_of(*words, **({"objectives": ["val/rmse"]} if failure == "objective" else {}))
    ended = worker.train(job)
    assert (ended.state, ended.reason, ended.exit_code) == ("failed", reason, exit_code)
    assert ended.message is not None
    assert line in ended.message
    assert len(ended.message.splitlines()) == 1
    assert ended.values == ()
    assert ending(job) == ("FAILED", reason)
    assert journal(job)[0]["key"] == job.key
    assert "Traceback" in (Path(job.folder) / "run.log").read_text(encoding="utf-8")
    assert not (Path(job.folder) / "checkpoints").exists()
    assert worker.train(job_of(number=1)).state == "complete"


@pytest.mark.slow
def test_memory_that_cannot_be_had_fails_the_trial_and_not_the_worker(tmp_path: Path) -> None:
    with worker_in(tmp_path) as mortal:
        ended = mortal.train(job_of(*callback("Fail", how="allocate")))
        assert (ended.state, ended.reason) == ("failed", "oom")
        assert "try a smaller data.batch_size" in (ended.message or "")
        assert mortal.train(job_of(number=1)).state == "complete"


def test_a_disk_without_room_is_told_as_a_fault_of_the_environment(worker: Conversation) -> None:
    ended = worker.train(job_of(*callback("NoMoreBytes")))
    assert (ended.state, ended.reason, ended.exit_code) == ("failed", "error", 3)
    assert "journal.jsonl' can't be written" in (ended.message or "")
    assert worker.train(job_of(number=1)).state == "complete"


def test_data_are_read_once_for_all_trials_that_ask_for_the_same(worker: Conversation) -> None:
    own = ("data._target_=trial_parts.CountedIris",)
    reads = worker.folder / "reads"
    for number in range(3):
        assert worker.train(job_of(*own, f"data.batch_size={8 + number}", number=number)).values
    assert reads.read_text(encoding="utf-8") == "read\n"
    assert worker.train(job_of(*own, "data.split_seed=5", number=3)).values
    assert reads.read_text(encoding="utf-8") == "read\nread\n"


def test_data_that_a_trial_has_written_into_are_read_anew_for_the_next(
    worker: Conversation,
) -> None:
    jobs = [job_of(number=0), job_of(*callback("Poison"), number=1), job_of(number=2)]
    assert [worker.train(job).state for job in jobs] == ["complete"] * 3
    before, poisoned, after = (untimed(Path(job.folder)) for job in jobs)
    assert before == after
    assert before != poisoned


def test_code_that_prints_and_reads_never_disturbs_what_the_worker_says(
    worker: Conversation,
) -> None:
    worker.worker.verdict(prune=True)  # too late for any trial: it decides nothing
    job = job_of(rungs={1: 1}, tags={"command": "python -m pipeline.sweep sweeps=quick"})
    config = {**job.config, "model": {"_target_": "trial_parts.Chatty"}}
    ended = worker.train(replace(job, config=config), verdicts=[False])
    assert ended.state == "complete", ended.message
    assert tags(job)["command"] == "python -m pipeline.sweep sweeps=quick"


def test_every_problem_of_a_trial_stands_in_one_line_without_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert one_line(ConfigError("a=1 is wrong.", "b=2 is wrong.")) == "a=1 is wrong.; b=2 is wrong."
    assert one_line(ValueError()) == "ValueError: no further word"
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    assert one_line(ValueError("the password is correct horse")).endswith("the password is ***")
