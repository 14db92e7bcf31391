"""Fault F27, `resume=RUN`: which run, under which config, and what another config takes from it."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from fixture_types import Capture, Train
from mlflow import MlflowClient
from records import checkpoint, epochs, events, final_values, only_run, runs

from pipeline.tracking.folders import State, read_state, write_state

WORDS = ("model=mlp", "data=iris", "scheduler=none", "verbose=0", "trainer.max_epochs=3")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of three epochs, with a made-up MLflow id."""
    from pipeline.train import main

    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*WORDS, "tracking=none"]) == 0
    run = only_run(folder / "runs")
    write_state(run, State(uri="", run_id="5c0ffee1" * 4, experiment_id="1", sent=0))
    return folder


@pytest.fixture
def run(ended: Path, own_folder: Path) -> Path:
    """That run, below `runs` in the current folder."""
    shutil.copytree(ended, own_folder, dirs_exist_ok=True)
    return only_run(own_folder / "runs")


def interrupt(run: Path, epoch: int) -> None:
    """Let a finished run look as if it had been stopped while a later epoch was trained."""
    kept = []
    for event in events(run):
        if event["event"] == "end" or event.get("epoch", 0) > epoch:
            break
        kept.append(json.dumps(event))
    kept.append(json.dumps({**events(run)[-1], "status": "KILLED", "reason": "interrupted"}))
    (run / "journal.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


def only_problem(capsys: Capture) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.slow
def test_in_mlflow_a_run_goes_on_as_itself_and_a_changed_one_as_its_child(
    train: Train, own_folder: Path
) -> None:
    assert train(*WORDS) == 0
    run = only_run(own_folder / "runs")
    run_id = read_state(run).run_id
    assert train(f"resume={run}", "trainer.max_epochs=5", "verbose=0") == 0
    assert read_state(run).run_id == run_id
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    assert [p.step for p in client.get_metric_history(run_id, "val/loss")] == [1, 2, 3, 4, 5]
    assert client.get_run(run_id).info.status == "FINISHED"
    child = child_of(train, run, "trainer.max_epochs=6", "optimizer.lr=0.1")
    stored = client.get_run(read_state(child).run_id).data
    assert stored.tags["mlflow.parentRunId"] == run_id
    assert stored.params["optimizer.lr"] == "0.1"


MORE = ("trainer.max_epochs=4", "verbose=0", "tracking=none")


@pytest.mark.parametrize("way", ["folder", "name", "id", "prefix", "last"])
def test_a_finished_run_found_by_any_of_its_names_goes_on_in_place(
    train: Train, run: Path, way: str
) -> None:
    before, run_id = epochs(run), read_state(run).run_id
    names = {"folder": str(run.absolute()), "name": run.name, "id": run_id, "prefix": run_id[:6]}
    # No weight depends on these keys.
    free = ("tags=[late]", "name=other", "trainer.accelerator=cpu", "data.num_workers=0")
    assert train(f"resume={names.get(way, way)}", *MORE, *free) == 0
    assert runs(run.parent) == [run]
    assert list(epochs(run)) == [1, 2, 3, 4]
    assert {epoch: epochs(run)[epoch] for epoch in before} == before
    assert events(run)[-1]["status"] == "FINISHED"


def test_a_run_id_that_looks_like_a_number_is_read_as_text(
    train: Train, run: Path, capsys: Capture
) -> None:
    state = read_state(run)
    for number, prefix in enumerate(["12e45678", "1_000", "0x1f", "007", "1e5", "true"]):
        write_state(run, State(uri=state.uri, run_id=f"{prefix}9abc", experiment_id="1", sent=0))
        more = (f"trainer.max_epochs={4 + number}", "tracking=none")
        assert train(f"resume={prefix}", *more) == 0, capsys.readouterr().err
        assert max(epochs(run)) == 4 + number


@pytest.mark.parametrize("way", ["auto", "last"])
def test_the_newest_run_is_the_one_that_began_last_whatever_time_its_name_tells(
    train: Train, run: Path, way: str
) -> None:
    interrupt(run, 2)
    older = run.with_name("29991231-235959-run-ffffff")  # a machine whose local time is ahead
    shutil.copytree(run, older)
    earlier = [json.dumps({**one, "time": one["time"] - 1}) + "\n" for one in events(run)]
    (older / "journal.jsonl").write_text("".join(earlier), encoding="utf-8")
    assert train(*WORDS, "tracking=none", f"resume={way}") == 0
    assert list(epochs(older)) == [1, 2]
    assert list(epochs(run)) == [1, 2, 3]
    assert events(run)[-1]["status"] == "FINISHED"


def test_without_an_unfinished_run_of_the_config_a_new_one_begins(
    train: Train, run: Path, own_folder: Path, capsys: Capture
) -> None:
    words = (*WORDS[:3], "trainer.max_epochs=1", "tracking=none", "verbose=2", "resume=auto")
    assert train(*words, "optimizer.lr=0.5") == 0
    assert len(runs(own_folder / "runs")) == 2
    assert "note: resume=auto: no unfinished run of this config" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            (),
            "{run} has finished; go on with more epochs, such as trainer.max_epochs=6, or with "
            "another config and resume_allow_change=true.",
        ),
        (("optimizer.lr=0.1",), "optimizer.lr was 0.01 and is 0.1 now; put it back, or go on as a"),
        (("model.hidden=[8]",), "model.hidden was '[64, 128, 64]' and is '[8]' now; a run with"),
        (("data.split_seed=1",), "data.split_seed was 0 and is 1 now; a run with another model or"),
        (("seed=7",), "seed was 0 and is 7 now; put it back, or go on as a new child run with"),
        (("trainer.precision=64-true",), "trainer.precision was '32-true' and is '64-true' now;"),
        (
            ("optimizer.lr=0.1", "resume_allow_change=true"),
            "{run}/checkpoints/last.ckpt has 3 epochs behind it and trainer.max_epochs=3 leaves "
            "none; give more, such as trainer.max_epochs=6.",
        ),
        (
            ("model.hidden=[8]", "resume_allow_change=true"),
            "model.hidden was '[64, 128, 64]' and is '[8]' now; a run with another model",
        ),
        (
            ("data.split_seed=3", "resume_allow_change=true"),
            "data.split_seed was 0 and is 3 now; a run with another model or other data is a new ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_changed_config_or_one_that_leaves_nothing_is_refused_in_one_line(
    train: Train, run: Path, own_folder: Path, capsys: Capture, words: tuple[str, ...], problem: str
) -> None:
    before = events(run)
    assert train(f"resume={run}", "verbose=0", *words) == 2
    assert only_problem(capsys).startswith(problem.format(run=run))
    assert events(run) == before
    assert len(runs(own_folder / "runs")) == 1


def test_a_longer_cosine_changes_the_schedule_and_is_refused(
    train: Train, own_folder: Path, capsys: Capture
) -> None:
    assert train(*WORDS[:2], "tracking=none", "verbose=0", "trainer.max_epochs=2") == 0
    words = (f"resume={only_run(own_folder / 'runs')}", "trainer.max_epochs=4")
    assert train(*words) == 2
    assert only_problem(capsys).startswith("scheduler.T_max was 2 and is 4 now; put it back, or")


def child_of(train: Train, run: Path, *words: str) -> Path:
    """Go on from a run under another config; return the new run."""
    known = set(runs(run.parent))
    assert train(f"resume={run}", "resume_allow_change=true", "verbose=0", *words) == 0
    (child,) = set(runs(run.parent)) - known
    return child


def test_another_config_makes_a_child_run_and_leaves_the_parent_alone(
    train: Train, run: Path
) -> None:
    before = {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    child = child_of(train, run, "trainer.max_epochs=5", "optimizer.lr=0.1", "tracking=none")
    assert {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()} == before
    begin = events(child)[0]
    assert begin["parent"] == read_state(run).run_id
    assert begin["params"]["optimizer.lr"] == 0.1
    assert list(epochs(child)) == [4, 5]
    assert final_values(child)["best/epoch"] in (4, 5)
    assert (child / "checkpoints" / "best.ckpt").exists()


def rates_of_onecycle() -> list[float]:
    """The rates after the fourth and the fifth epoch, of three steps each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=15, pct_start=0.3, cycle_momentum=False
    )
    used = [optimizer.param_groups[0]["lr"]]
    for _ in range(14):
        optimizer.step()
        schedule.step()
        used.append(optimizer.param_groups[0]["lr"])
    return [used[11], used[14]]


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_a_child_run_trains_with_the_learning_rate_and_schedule_of_its_own_config(
    train: Train, run: Path, scheduler: str
) -> None:
    words = ("trainer.max_epochs=5", "optimizer.lr=0.1", f"scheduler={scheduler}")
    child = child_of(train, run, "tracking=none", *words)
    cosine = [0.05 * (1 + math.cos(math.pi * epoch / 5)) for epoch in (3, 4)]
    expected = cosine if scheduler == "cosine" else rates_of_onecycle()
    assert [v["lr"] for v in epochs(child).values()] == pytest.approx(expected, rel=1e-5)


def test_a_child_run_may_have_another_optimizer_and_begins_with_the_parents_weights(
    train: Train, run: Path
) -> None:
    words = ("trainer.max_epochs=4", "optimizer=sgd", "optimizer.lr=1e-30", "tracking=none")
    child = child_of(train, run, *words)
    found = checkpoint(child, "last")["state_dict"]
    for name, weight in checkpoint(run, "last")["state_dict"].items():
        if "running" not in name and "batches" not in name:  # what batch norm has counted
            assert torch.equal(found[name], weight), name


def test_a_child_run_has_the_patience_of_its_own_config(train: Train, run: Path) -> None:
    stopping = ("callbacks=early_stopping", "optimizer.lr=1e-30", "model.norm=batch")
    words = (*stopping, "tracking=none", "callbacks.early_stopping.min_delta=9")
    first = child_of(train, run, *words, "trainer.max_epochs=5")
    second = child_of(train, first, "trainer.max_epochs=50", "callbacks.early_stopping.patience=2")
    assert list(epochs(second)) == [6, 7, 8]


def test_a_child_run_can_itself_be_gone_on_with(train: Train, run: Path) -> None:
    child = child_of(train, run, "trainer.max_epochs=5", "optimizer.lr=0.1", "tracking=none")
    whole = child_of(train, run, "trainer.max_epochs=6", "optimizer.lr=0.1", "tracking=none")
    assert train(f"resume={child}", "trainer.max_epochs=6", "verbose=0") == 0
    assert epochs(child) == epochs(whole)


def test_a_kill_between_the_last_and_the_best_checkpoint_is_mended(train: Train, run: Path) -> None:
    last = checkpoint(run, "last")
    key = next(key for key in last["callbacks"] if key.startswith("Checkpoints"))
    last["callbacks"][key] |= {"best_value": 2.0, "best_epoch": 3}
    last["pipeline"]["config"]["trainer"]["max_epochs"] = 4
    torch.save(last, run / "checkpoints" / "new.ckpt")
    (run / "checkpoints" / "new.ckpt").replace(run / "checkpoints" / "last.ckpt")
    (run / "checkpoints" / "best.ckpt").write_bytes(b"an older epoch")
    interrupt(run, 3)
    assert train(f"resume={run}", "trainer.max_epochs=4", "tracking=none", "verbose=0") == 0
    best = checkpoint(run, "best")
    assert best["pipeline"]["epoch"] == 3
    assert all(torch.equal(best["state_dict"][k], v) for k, v in last["state_dict"].items())
