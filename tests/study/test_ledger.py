"""One study in one process or several: who gets which trial, how it ends, and what is counted."""

import json
import multiprocessing
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from sqlalchemy import event
from study.ledgers import (
    COMPLETE,
    F1,
    GRID,
    Settings,
    act_before,
    assert_read_as_by_optuna,
    complete_all,
    database,
    dead_lease,
    failed,
    far_lease,
    open_ledger,
    read_taken_trials,
    space_of,
    start,
    take,
    take_all_in_turn,
)
from study.recorded_trials import assign_to_missing_process

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.lease import BEAT_SECONDS, Lease, LeaseWatch, own_lease
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.ledger import Ledger, LostTrial
from pipeline.study.ledger.rows import Row
from pipeline.tracking.folders import trial_folder
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.uri import sqlite_uri

GRACE = 60.0
PRUNED = TrialEnd(end=End.PRUNED)
OF_GRID: Settings = {"sampler": "grid", "n_trials": None}


def end_as(ledger: Ledger, end: TrialEnd = COMPLETE) -> int:
    """Take a trial and end it; return its number."""
    trial = take(ledger)
    assert ledger.finish(trial, end)
    return trial.number


def close_lost(ledger: Ledger, folder: Path = Path("nowhere")) -> list[LostTrial]:
    """Close the lost trials of a study, whose trials left nothing unless in a folder."""
    return ledger.close_lost(lambda _: folder)


# ── who gets which trial, and what is counted ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        (COMPLETE, True),
        (PRUNED, True),
        *((failed(reason), True) for reason in ("diverged", "oom", "error")),
        *((failed(reason), False) for reason in ("interrupted", "lost")),
    ],
)
def test_interrupted_and_lost_trials_do_not_count(end: TrialEnd, counts: bool, path: Path) -> None:
    """Other ends count."""
    ledger = open_ledger(path, n_trials=1, max_retry=0)
    end_as(ledger, end)
    assert (ledger.take(own_lease()) is None) == counts


def test_running_trial_is_reserved_until_its_end(path: Path) -> None:
    ledger = open_ledger(path, n_trials=2)
    first, _ = take(ledger), take(ledger)
    assert ledger.take(own_lease()) is None
    assert not ledger.progress().settled
    ledger.finish(first, failed("interrupted"))
    assert ledger.take(own_lease()) is not None


def test_start_points_come_first_and_once(path: Path) -> None:
    """This holds after a start that was killed half-way too."""
    settings: Settings = {
        "base_point": {"optimizer.lr": 0.01},
        "enqueue": [{"optimizer.lr": 0.02}, {"optimizer.lr": 0.03}],
        "n_trials": 4,
    }
    ledger = open_ledger(path, **settings)
    with ledger._store.engine.begin() as connection:  # as if killed before this note
        connection.exec_driver_sql("DELETE FROM study_user_attributes WHERE key = 'format'")
    end_as(open_ledger(path, **settings))
    complete_all(open_ledger(path, **settings))
    points = [row.overrides["optimizer.lr"] for row in ledger.trials()]
    assert points[:3] == ["0.01", "0.02", "0.03"]
    assert len(set(points)) == 4


def test_sampler_completes_a_partial_point(path: Path) -> None:
    space = space_of({"optimizer.lr": "interval(0, 1)", "model.dropout": "interval(0, 0.5)"})
    ledger = open_ledger(path, space=space, enqueue=[{"model.dropout": 0.25}])
    trial = take(ledger)
    assert trial.overrides["model.dropout"] == "0.25"
    assert 0 <= float(trial.overrides["optimizer.lr"]) <= 1


def test_retried_base_config_is_still_the_default(path: Path) -> None:
    ledger = open_ledger(path, base_point={"optimizer.lr": 0.01})
    end_as(ledger, failed("lost"))
    assert ledger.progress().base_row is None
    retried, other = end_as(ledger), end_as(ledger)
    assert (retried, other) == (1, 2)
    reopened = open_ledger(path, base_point={"optimizer.lr": 0.01})
    rows = [opened.progress().base_row for opened in (ledger, reopened)]
    assert [row and row.number for row in rows] == [1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_value_fails_the_trial(value: float, path: Path) -> None:
    """It is never the best."""
    ledger = open_ledger(path)
    end_as(ledger, TrialEnd(end=End.COMPLETE, values=(value,)))
    best = end_as(ledger)
    row = ledger.trials()[0]
    assert (row.state, row.values) == (End.DIVERGED, ())
    assert row.attributes["message"] == f"returned [{value}], which is not a valid result"
    assert ledger.progress().best == (best,)


@pytest.mark.parametrize("reason", ["interrupted", "lost"])
def test_interrupted_point_is_retried_max_retry_times(reason: str, path: Path) -> None:
    ledger = open_ledger(path, n_trials=1, max_retry=2)
    points, earlier = [], []
    for _ in range(4):
        trial = take(ledger)
        points.append(trial.overrides["optimizer.lr"])
        earlier.append(trial.retry_of)
        ledger.finish(trial, failed(reason))
    assert earlier == [None, 0, 1, None]
    assert len(set(points[:3])) == 1
    assert points[3] != points[0]


def test_reopened_ledger_has_trials_and_facts(path: Path) -> None:
    ledger = open_ledger(path)
    trial = take(ledger)
    end = TrialEnd(end=End.COMPLETE, values=(0.5,), attributes={"test/f1": 0.4, "epochs": 5})
    ledger.finish(trial, end)
    ledger.set_fact("mlflow_run", "abc")
    other = open_ledger(path)
    (row,) = other.trials()
    assert (row.values, row.attributes) == ((0.5,), {"test/f1": 0.4, "epochs": 5})
    assert row.params == {"optimizer.lr": float(trial.overrides["optimizer.lr"])}
    assert row.overrides == trial.overrides
    assert row.started is not None
    assert row.ended is not None
    assert row.ended >= row.started
    assert (other.uid, other.facts["mlflow_run"]) == (ledger.uid, "abc")
    stored_study = optuna.load_study(study_name=ledger.name, storage=sqlite_uri(path))
    assert stored_study.metric_names == ledger.names  # on the pages of optuna-dashboard


def test_optuna_and_ledger_read_the_same(path: Path) -> None:
    ledger = open_ledger(path, enqueue=[{"optimizer.lr": 0.01}], pruner="asha", max_retry=1)
    assert_read_as_by_optuna(ledger, sqlite_uri(path))


def asked_before(words: str, ledger: Ledger, path: Path) -> list[int]:
    """Let another program ask for a trial before a statement of the ledger; numbers of trials."""
    study = optuna.load_study(study_name=ledger.name, storage=sqlite_uri(path))
    return act_before(ledger, words, lambda: study.ask().number)


def test_trial_added_by_another_program_keeps_its_number(path: Path) -> None:
    """It is added just before the ledger adds its own."""
    ledger = open_ledger(path)
    numbers = asked_before("INSERT INTO trials", ledger, path)
    assert [take(ledger).number, take(ledger).number] == [1, 2]
    assert [row.number for row in ledger.trials()] == [0, 1, 2]
    assert numbers == [0]


def test_queued_trial_taken_by_another_program_is_left(path: Path) -> None:
    ledger = open_ledger(path, enqueue=[{"optimizer.lr": rate} for rate in (0.01, 0.02)])
    numbers = asked_before("UPDATE trials", ledger, path)
    assert (take(ledger).number, numbers) == (1, [0])


def test_trial_ending_while_read_has_its_retry(path: Path) -> None:
    ledger, other = open_ledger(path), open_ledger(path)
    trial = take(other)
    ended = act_before(ledger, "trials.number", lambda: other.finish(trial, failed("interrupted")))
    assert [row.stage for row in ledger.trials()] == ["failed", "waiting"]
    assert ended == [True]


def test_progress_counts_ends_and_consecutive_failures(path: Path) -> None:
    """Failures count since this process joined the study."""
    settings: Settings = {"n_trials": 8, "enqueue": [{"optimizer.lr": 0.01}], "max_retry": 0}
    ledger = open_ledger(path, **settings)
    ends = [failed("oom"), COMPLETE, PRUNED, *map(failed, ("error", "interrupted", "oom", "lost"))]
    for end in (TrialEnd(end=End.COMPLETE, values=(0.75,)), *ends):
        end_as(ledger, end)
    take(ledger)
    progress = ledger.progress()
    assert progress.words == (
        "2 complete, 1 pruned, 2 out of memory, 1 failed, 1 interrupted, 1 lost"
    )
    assert (progress.counted, progress.running, progress.left) == (6, 1, 1)
    assert progress.best_row is not None
    assert progress.best_row.values == (0.75,)
    assert progress.consecutive_failures == 3
    assert open_ledger(path, **settings).progress().consecutive_failures == 0


def test_two_objectives_keep_the_pareto_front(path: Path) -> None:
    objectives = (*F1, Objective(name="model/parameters", direction="min"))
    ledger = open_ledger(path, objectives=objectives, keep_best=2)
    for values in ((0.9, 50.0), (0.5, 10.0), (0.8, 40.0)):
        end_as(ledger, TrialEnd(end=End.COMPLETE, values=values))
    assert ledger.progress().best == (0, 2)
    end_as(ledger, TrialEnd(end=End.COMPLETE, values=(0.95, 30.0)))  # beats both of them
    assert ledger.progress().best == (3, 1)
    assert not ledger.report(take(ledger), step=5, value=0.0)


@pytest.mark.parametrize("n_trials", [None, 5])
def test_grid_tries_points_in_order_and_once(n_trials: int | None, path: Path) -> None:
    space = space_of(GRID)
    ledger = open_ledger(path, space=space, sampler="grid", n_trials=n_trials)
    expected = [space.overrides(point) for point in space.points()]
    assert complete_all(ledger) == expected[:n_trials]
    assert ledger.progress().settled


@pytest.mark.parametrize(("losses", "points"), [(1, 12), (2, 11)])
def test_lost_grid_point_is_retried_without_blocking_others(
    losses: int, points: int, path: Path
) -> None:
    ledger = open_ledger(path, space=space_of(GRID), max_retry=1, **OF_GRID)
    for _ in range(losses):
        ledger.take(dead_lease())
        close_lost(ledger)
    tried = complete_all(ledger)
    assert len(tried) == len(set(map(str, tried))) == points
    assert ledger.progress().settled


# ── several processes ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "several",
    [[OF_GRID, {"n_trials": 24}], pytest.param([{"n_trials": 3}] * 10, marks=pytest.mark.slow)],
    ids=["long", "short"],
)
def test_concurrent_processes_share_total_and_grid(several: list[Settings], tmp_path: Path) -> None:
    """They create the missing file together."""
    studies = {tmp_path / str(number): settings for number, settings in enumerate(several)}
    for folder in studies:
        folder.mkdir()
    together = multiprocessing.get_context("spawn").Barrier(3, timeout=300)
    processes = [start(take_all_in_turn, together, studies, which) for which in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for folder, settings in studies.items():
        count = settings["n_trials"] or 12
        pairs = read_taken_trials(folder.glob("*.txt"))
        assert sorted(number for number, _ in pairs) == list(range(count))
        assert len({json.dumps(point) for _, point in pairs}) == count
        space = space_of(GRID) if settings is OF_GRID else None
        ledger = open_ledger(folder / "optuna.db", space=space, **settings)
        assert Counter(row.state for row in ledger.trials()) == {"complete": count}
        assert ledger.progress().settled


# ── trials whose process is gone ────────────────────────────────────────────────────────────


STILL = [False] * 6 + [True] * 2
FAR = far_lease()


@pytest.mark.parametrize(
    ("leases", "seconds", "lost"),
    [
        ([dead_lease()], BEAT_SECONDS, [True]),
        ([own_lease()] * 20, BEAT_SECONDS, [False] * 20),
        ([FAR] * 8, BEAT_SECONDS, STILL),
        ([FAR] * 2, 100 * GRACE, [False] * 2),
        ([None] * 8, BEAT_SECONDS, STILL),
        ([replace(FAR, counter=beat // 4) for beat in range(30)], BEAT_SECONDS, [False] * 30),
    ],
    ids=["gone", "alive", "far and silent", "watcher stopped", "none", "far and moving"],
)
def test_trial_is_lost_with_its_process(
    leases: list[Lease | None], seconds: float, lost: list[bool]
) -> None:
    """A process of another machine is lost when its counter stands still while it is watched."""
    now = 1000.0
    watch = LeaseWatch(GRACE, lambda: now)
    verdicts = []
    for lease in leases:
        verdicts.append(watch.judge(0, lease) is True)
        now += seconds
    assert verdicts == lost


def test_lost_trial_is_reported_and_retried(path: Path) -> None:
    ledger = open_ledger(path, n_trials=1, max_retry=1)
    points, lines = [], []
    for _ in range(2):
        points.append(take(ledger, dead_lease()).overrides)
        lines += [lost.line for lost in close_lost(ledger)]
    assert points[0] == points[1]
    assert lines == [
        "trial 0 was lost because its process died; it is retried",
        "trial 1 was lost because its process died; it has no retries left",
    ]
    assert [row.state for row in ledger.trials()] == [End.LOST] * 2
    assert not ledger.progress().settled


def test_late_end_of_a_lost_trial_is_dropped(path: Path) -> None:
    holder, other = open_ledger(path, n_trials=1), open_ledger(path)
    trial = take(holder, dead_lease())
    close_lost(other)
    assert holder.report(trial, step=3, value=0.5)
    holder.beat([trial.number])
    assert not holder.finish(trial, COMPLETE)
    assert holder.report(trial, step=3, value=0.5)
    row = holder.trials()[trial.number]
    assert (row.state, row.values) == (End.LOST, ())


def test_trial_ending_while_closed_keeps_its_end(path: Path) -> None:
    """It is not repeated."""
    holder, other = open_ledger(path), open_ledger(path)
    trial = take(holder, dead_lease())
    ended = act_before(other, "UPDATE trials", lambda: holder.finish(trial, COMPLETE))
    assert close_lost(other) == []
    assert ended == [True]
    assert [row.state for row in other.trials()] == ["complete"]


def test_lost_trial_is_queued_only_once(path: Path) -> None:
    """This holds with several watchers, and after a write that failed half-way."""
    ledgers = [open_ledger(path) for _ in range(3)]
    ledgers[0].take(dead_lease())
    fault = "BEFORE INSERT ON trials BEGIN SELECT RAISE(ABORT, 'planted'); END"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TRIGGER fault {fault}")
    with pytest.raises(EnvironmentFaultError, match="planted"):
        close_lost(ledgers[0])
    assert ledgers[1].trials()[0].state == "running"
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER fault")
    assert [len(close_lost(ledger)) for ledger in ledgers] == [1, 0, 0]
    assert open_ledger(path).progress().counts["waiting"] == 1


def test_heartbeat_is_seen_by_other_processes(path: Path) -> None:
    ledger, watcher = open_ledger(path, grace=0.3), open_ledger(path, grace=0.3)
    trial = take(ledger, far_lease())
    for _ in range(6):
        ledger.beat([trial.number])
        assert close_lost(watcher) == []
        time.sleep(0.1)
    lost: list[LostTrial] = []
    for _ in range(6):
        lost += close_lost(watcher)
        time.sleep(0.15)
    assert [lost_trial.number for lost_trial in lost] == [trial.number]


def queries_of(ledger: Ledger, call: Callable[[], object]) -> list[str]:
    """Return the statements with which a ledger reads its database in a call."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(ledger._store.engine, "before_cursor_execute", note)
    call()
    event.remove(ledger._store.engine, "before_cursor_execute", note)
    return [statement for statement in statements if statement.startswith("SELECT")]


def test_driver_reads_only_leases_of_running_trials(path: Path) -> None:
    holder, looking = open_ledger(path), open_ledger(path)
    for _ in range(3):
        take(holder, far_lease())
    trial = take(looking)
    assert looking.progress().running == 4  # a trial is read once, when it begins
    for call in (lambda: close_lost(looking), lambda: looking.beat([trial.number])):
        (query,) = queries_of(looking, call)
        assert "trial_user_attributes" in query
        assert "trial_params" not in query


@pytest.mark.parametrize(("pruner", "reads"), [("median", False), ("asha", True)])
def test_only_comparing_pruners_read_running_trials(pruner: str, reads: bool, path: Path) -> None:
    holder, reporting = open_ledger(path, pruner=pruner), open_ledger(path, pruner=pruner)
    take(holder, far_lease())
    trial = take(reporting)
    assert reporting.progress().running == 2
    queries = queries_of(reporting, lambda: reporting.report(trial, step=4, value=0.5))
    assert any("trial_params" in query for query in queries) == reads


def closed_after(
    folder: Path, values: str | None, end: End | TrialEnd
) -> tuple[Ledger, LostTrial, Row]:
    """Close a trial whose process is gone after its journal had ended so, if it had."""
    ledger = open_ledger(database(folder))
    ledger.take(dead_lease())
    place = trial_folder(folder, ledger.uid, 0)
    place.mkdir(parents=True)
    journal = Journal(place)
    tags = {"pipeline.study": ledger.uid, "pipeline.trial": "0"}
    journal.begin(Header(name="lr-0", experiment="pipeline", uri="", tags=tags))
    journal.epoch(1, {"val/f1": 0.25})
    if values is not None:
        journal.tag("pipeline.values", values)
        journal.end(end)
    else:
        assign_to_missing_process(place)
    (lost,) = close_lost(ledger, place)
    return ledger, lost, ledger.trials()[0]


@pytest.mark.parametrize("end", End)
def test_ended_trial_is_adopted_with_values_and_reason(end: End, tmp_path: Path) -> None:
    ledger, lost, row = closed_after(tmp_path, "[0.75]", end)
    assert lost.adopted
    assert lost.line == f"trial 0 had ended ({end}) before its process died; it is recorded"
    assert (row.state, row.attributes["epochs"]) == (end, 1)
    assert row.values == ((0.75,) if end is End.COMPLETE else ())
    assert ledger.progress().counts["waiting"] == (end in (End.INTERRUPTED, End.LOST))


def test_journal_end_is_adopted_with_all_attributes(tmp_path: Path) -> None:
    attributes = {"seconds": 2.5, "epochs": 7, "threads": 2, "test/f1": 0.5}
    ended = TrialEnd(end=End.COMPLETE, values=(0.75,), attributes=attributes, data="d4")
    _, lost, row = closed_after(tmp_path, "[0.25]", ended)
    assert (lost.ended, lost.adopted) == (ended, True)
    assert (row.state, row.values, row.attributes) == (End.COMPLETE, (0.75,), attributes)


@pytest.mark.parametrize("values", [None, "[]", "[NaN]", "nonsense", '["a"]'])
def test_trial_without_valid_values_is_lost(values: str | None, tmp_path: Path) -> None:
    _, lost, row = closed_after(tmp_path, values, End.COMPLETE)
    assert not lost.adopted
    assert row.state is End.LOST
