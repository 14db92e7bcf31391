"""Fault F27, `resume=RUN`: which run, under which config, and what another config takes from it."""

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from helpers.fixture_types import Capture, Train
from helpers.run_files import (
    checkpoint,
    epochs,
    events,
    final_values,
    findings_of,
    mlflow_id,
    only_run,
    runs,
    set_mlflow_id,
)
from mlflow import MlflowClient

WORDS = ("model=mlp", "data=iris", "scheduler=none", "verbose=0", "trainer.max_epochs=3")
MORE = ("trainer.max_epochs=4", "tracking=none", "verbose=0")
RUN_ID = "5c0ffee1" * 4


@pytest.fixture(autouse=True)
def recorded_as(run: Path) -> None:
    """Give the finished run a made-up MLflow id."""
    set_mlflow_id(run, RUN_ID)


def write_journal(run: Path, journal_events: Iterable[dict[str, object]]) -> None:
    lines = "".join(f"{json.dumps(event)}\n" for event in journal_events)
    (run / "journal.jsonl").write_text(lines, encoding="utf-8")


def interrupt(run: Path, epoch: int) -> None:
    """Let a finished run look as if it had been stopped while a later epoch was trained."""
    recorded = events(run)
    remaining = takewhile(
        lambda event: event["event"] != "end" and event.get("epoch", 0) <= epoch, recorded
    )
    write_journal(run, [*remaining, {**recorded[-1], "status": "KILLED", "reason": "interrupted"}])


def only_problem(capsys: Capture) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def contents_of(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def child_of(train: Train, run: Path, *words: str) -> Path:
    """Go on from a run under another config; return the new run."""
    earlier_runs = set(runs(run.parent))
    assert train(f"resume={run}", "resume_allow_change=true", "verbose=0", *words) == 0
    (child,) = set(runs(run.parent)) - earlier_runs
    return child


@pytest.mark.slow
def test_mlflow_records_resumed_run_and_child_run(train: Train) -> None:
    """With another config, the resumed run becomes a child of the first."""
    assert train(*WORDS, "output=recorded") == 0
    run = only_run(Path("recorded"))
    run_id = mlflow_id(run)
    assert train(f"resume={run}", "trainer.max_epochs=5", "verbose=0") == 0
    assert mlflow_id(run) == run_id
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    assert [p.step for p in client.get_metric_history(run_id, "val/loss")] == [1, 2, 3, 4, 5]
    assert client.get_run(run_id).info.status == "FINISHED"
    child = child_of(train, run, "trainer.max_epochs=6", "optimizer.lr=0.1")
    stored = client.get_run(mlflow_id(child)).data
    assert stored.tags["mlflow.parentRunId"] == run_id
    assert stored.params["optimizer.lr"] == "0.1"


# tests/tracking/test_runs_command.py finds runs by all their names.
@pytest.mark.parametrize("name", [RUN_ID[:6], "last"])
def test_finished_run_resumes_in_place(train: Train, run: Path, name: str) -> None:
    before = epochs(run)
    # No weight depends on these keys.
    free = ("tags=[late]", "name=other", "trainer.accelerator=cpu", "data.num_workers=0")
    assert train(f"resume={name}", *MORE, *free) == 0
    assert runs(run.parent) == [run]
    assert list(epochs(run)) == [1, 2, 3, 4]
    assert {epoch: epochs(run)[epoch] for epoch in before} == before
    assert events(run)[-1]["status"] == "FINISHED"


@pytest.mark.parametrize(("has_ended", "earlier"), [(False, 600.0), (True, 900.0)])
def test_training_time_of_resumed_run_is_total(
    train: Train, run: Path, capsys: Capture, *, has_ended: bool, earlier: float
) -> None:
    changed = {"time/epoch": 200.0, "time/fit": 900.0}
    changed_events = [
        {**event, "values": {k: changed.get(k, v) for k, v in event["values"].items()}}
        if event["event"] == "epoch"
        else event
        for event in events(run)
        if has_ended or "time/fit" not in event.get("values", {})
    ]
    write_journal(run, changed_events)
    assert train(f"resume={run}", *MORE[:2], "verbose=2") == 0
    assert earlier < final_values(run)["time/fit"] < earlier + 60
    took = re.search(r"took    .*, (.+) s of it training", capsys.readouterr().out)
    assert took is not None
    assert float(took[1]) < 60
    findings = findings_of(run)
    assert findings.seconds == final_values(run)["time/fit"]
    assert findings.epochs_words == "4 of 4"


@pytest.mark.parametrize("prefix", ["12e45678", "0x1f", "007", "true"])
def test_numeric_looking_run_id_is_read_as_text(
    train: Train, run: Path, capsys: Capture, prefix: str
) -> None:
    set_mlflow_id(run, f"{prefix}9abc")
    assert train(f"resume={prefix}") == 2
    assert only_problem(capsys).startswith(f"{run.relative_to(Path.cwd())} has finished; continue")


@pytest.mark.parametrize("resume_word", ["auto", "last"])
def test_resume_takes_the_run_that_began_last(train: Train, run: Path, resume_word: str) -> None:
    """The time in its name does not matter."""
    interrupt(run, 2)
    older = run.with_name("29991231-235959-run-ffffff")  # a machine whose local time is ahead
    shutil.copytree(run, older)
    begin, *later_events = events(run)
    write_journal(older, [{**begin, "order": begin["order"] - 1}, *later_events])
    assert train(*WORDS, "tracking=none", f"resume={resume_word}") == 0
    assert list(epochs(older)) == [1, 2]
    assert list(epochs(run)) == [1, 2, 3]
    assert events(run)[-1]["status"] == "FINISHED"


def test_resume_auto_without_unfinished_run_starts_new(
    train: Train, run: Path, capsys: Capture
) -> None:
    words = (*WORDS[:3], "trainer.max_epochs=1", "tracking=none", "verbose=2", "resume=auto")
    assert train(*words, "optimizer.lr=0.5") == 0
    assert len(runs(run.parent)) == 2
    assert "note: resume=auto: no unfinished run of this config" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            "",
            "{run} has finished; continue with more epochs, such as trainer.max_epochs=6, or with "
            "another config and resume_allow_change=true.",
        ),
        ("optimizer.lr=0.1", "optimizer.lr was 0.01 and is 0.1 now; restore it, or continue as a"),
        ("model.hidden=[8]", "model.hidden was '[64, 128, 64]' and is '[8]' now; another"),
        ("data.split_seed=1", "data.split_seed was 0 and is 1 now; another model or data"),
        ("seed=7", "seed was 0 and is 7 now; restore it, or continue as a child run with"),
        ("trainer.precision=64-true", "trainer.precision was '32-true' and is '64-true' now;"),
        (
            "optimizer.lr=0.1 resume_allow_change=true",
            "{run}/checkpoints/last.ckpt was saved after epoch 3, so trainer.max_epochs=3 "
            "is reached; try trainer.max_epochs=6.",
        ),
        (
            "model.hidden=[8] resume_allow_change=true",
            "model.hidden was '[64, 128, 64]' and is '[8]' now; another model or data set",
        ),
        (
            "data.split_seed=3 resume_allow_change=true",
            "data.split_seed was 0 and is 3 now; another model or data set needs a new run",
        ),
    ],
)
def test_changed_config_is_refused_in_one_line(
    train: Train, run: Path, capsys: Capture, words: str, problem: str
) -> None:
    """So is a config that leaves no epoch to train."""
    before = events(run)
    assert train(f"resume={run}", "verbose=0", *words.split()) == 2
    assert only_problem(capsys).startswith(problem.format(run=run))
    assert events(run) == before
    assert runs(run.parent) == [run]


def test_longer_cosine_schedule_is_refused(train: Train, capsys: Capture) -> None:
    assert train(*WORDS[:2], "tracking=none", "verbose=0", "trainer.max_epochs=2", "output=a") == 0
    assert train(f"resume={only_run(Path('a'))}", "trainer.max_epochs=4") == 2
    assert only_problem(capsys).startswith("scheduler.T_max was 2 and is 4 now; restore it, or")


def test_child_run_leaves_its_parent_unchanged(train: Train, run: Path) -> None:
    """It can be resumed itself."""
    before = contents_of(run)
    child, uninterrupted = (
        child_of(train, run, f"trainer.max_epochs={last}", "optimizer.lr=0.1", "tracking=none")
        for last in (5, 6)
    )
    assert contents_of(run) == before
    begin = events(child)[0]
    assert begin["parent"] == RUN_ID
    assert begin["params"]["optimizer.lr"] == 0.1
    assert list(epochs(child)) == [4, 5]
    assert final_values(child)["best/epoch"] in (4, 5)
    assert findings_of(child).epochs_words == "4–5 of 5"
    assert (child / "checkpoints" / "best.ckpt").exists()
    assert train(f"resume={child}", "trainer.max_epochs=6", "verbose=0") == 0
    assert epochs(child) == epochs(uninterrupted)


def rates_of_onecycle() -> Iterator[float]:
    """Yield the rate after each of 15 steps, three of which are an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=15, pct_start=0.3, cycle_momentum=False
    )
    for _ in range(15):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_child_run_follows_its_own_schedule(train: Train, run: Path, scheduler: str) -> None:
    words = ("trainer.max_epochs=5", "optimizer.lr=0.1", f"scheduler={scheduler}")
    child = child_of(train, run, "tracking=none", *words)
    expected = list(rates_of_onecycle())[11::3]
    if scheduler == "cosine":
        expected = [0.05 * (1 + math.cos(math.pi * epoch / 5)) for epoch in (3, 4)]
    assert [v["lr"] for v in epochs(child).values()] == pytest.approx(expected, rel=1e-5)


def test_child_run_starts_from_its_parents_weights(train: Train, run: Path) -> None:
    """Its optimizer is another one."""
    child = child_of(train, run, *MORE[:2], "optimizer=sgd", "optimizer.lr=1e-30")
    child_weights = checkpoint(child, "last")["state_dict"]
    for name, weight in checkpoint(run, "last")["state_dict"].items():
        if "running" not in name and "batches" not in name:  # what batch norm has counted
            assert torch.equal(child_weights[name], weight), name


def test_child_run_has_its_own_patience(train: Train, run: Path) -> None:
    stopping = ("callbacks=early_stopping", "optimizer.lr=1e-30", "model.norm=batch")
    words = (*stopping, "tracking=none", "callbacks.early_stopping.min_delta=9")
    first = child_of(train, run, *words, "trainer.max_epochs=5")
    second = child_of(train, first, "trainer.max_epochs=50", "callbacks.early_stopping.patience=2")
    assert list(epochs(second)) == [6, 7, 8]


def test_kill_between_two_checkpoints_is_repaired(train: Train, run: Path) -> None:
    """The best checkpoint is written again from the last one."""
    last, checkpoints = checkpoint(run, "last"), run / "checkpoints"
    key = next(key for key in last["callbacks"] if key.startswith("Checkpoints"))
    last["callbacks"][key] |= {"best_value": 2.0, "best_epoch": 3}
    last["pipeline"]["config"]["trainer"]["max_epochs"] = 4
    torch.save(last, checkpoints / "new.ckpt")
    (checkpoints / "new.ckpt").replace(checkpoints / "last.ckpt")
    (checkpoints / "best.ckpt").write_bytes(b"an older epoch")
    interrupt(run, 3)
    assert train(f"resume={run}", *MORE) == 0
    best = checkpoint(run, "best")
    assert best["pipeline"]["epoch"] == 3
    assert all(torch.equal(best["state_dict"][k], v) for k, v in last["state_dict"].items())
