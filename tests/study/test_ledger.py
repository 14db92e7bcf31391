"""One study in one process or several: who gets which trial, how it ends, and what is counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ledgers import (
    COMPLETE,
    GRID,
    complete_all,
    database,
    dead_lease,
    open_ledger,
    open_new,
    space_of,
    start,
    take,
    take_all,
    take_one,
    wait_for,
)

from pipeline.processes.lease import own_lease
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.trial_end import TrialEnd

NOWHERE = Path("nowhere")
LR_01 = {"optimizer.lr": "0.01"}


def end_as(ledger: Ledger, end: TrialEnd) -> int:
    """Take a trial and end it; return its number."""
    taken = take(ledger)
    assert ledger.finish(taken, end)
    return taken.number


def failed(reason: str) -> TrialEnd:
    """The end of a trial that failed."""
    return TrialEnd(state="failed", reason=reason)


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        (COMPLETE, True),
        (TrialEnd(state="pruned", reason="pruned"), True),
        (failed("diverged"), True),
        (failed("oom"), True),
        (failed("error"), True),
        (failed("interrupted"), False),
        (failed("lost"), False),
    ],
)
def test_the_total_counts_what_a_trial_did_itself_and_not_what_befell_it(
    end: TrialEnd, counts: bool, tmp_path: Path
) -> None:
    ledger = open_ledger(database(tmp_path), n_trials=1, max_retry=0)
    end_as(ledger, end)
    assert (ledger.take(own_lease()) is None) == counts


def test_a_running_trial_is_reserved_until_it_has_ended(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), n_trials=2)
    first, second = ledger.take(own_lease()), ledger.take(own_lease())
    assert first is not None
    assert second is not None
    assert ledger.take(own_lease()) is None
    assert not ledger.progress().settled
    ledger.finish(first, failed("interrupted"))
    assert ledger.take(own_lease()) is not None


def test_the_config_as_it_stands_is_trial_0_and_given_points_follow(tmp_path: Path) -> None:
    ledger = open_ledger(
        database(tmp_path),
        base_point={"optimizer.lr": 0.01},
        base_trial=None,
        enqueue=[{"optimizer.lr": 0.02}, {"optimizer.lr": 0.03}],
        n_trials=4,
    )
    points = [point["optimizer.lr"] for point in complete_all(ledger)]
    assert points[:3] == ["0.01", "0.02", "0.03"]
    assert len(set(points)) == 4


def test_start_points_are_queued_once_however_often_a_study_is_gone_on_with(
    tmp_path: Path,
) -> None:
    path = database(tmp_path)
    given = {"base_point": {"optimizer.lr": 0.01}, "base_trial": None, "n_trials": 3}
    open_ledger(path, enqueue=[{"optimizer.lr": 0.02}], **given)
    end_as(open_ledger(path, enqueue=[{"optimizer.lr": 0.02}], **given), COMPLETE)
    ledger = open_ledger(path, enqueue=[{"optimizer.lr": 0.02}], **given)
    complete_all(ledger)
    points = [row.overrides["optimizer.lr"] for row in ledger.trials()]
    assert points[:2] == ["0.01", "0.02"]
    assert points.count("0.01") == points.count("0.02") == 1


def test_a_start_that_was_killed_half_way_is_completed_by_the_next(tmp_path: Path) -> None:
    path = database(tmp_path)
    given = {"base_point": {"optimizer.lr": 0.01}, "base_trial": None, "n_trials": 2}
    ledger = open_ledger(path, enqueue=[{"optimizer.lr": 0.02}], **given)
    del_fact(ledger, "format")
    again = open_ledger(path, enqueue=[{"optimizer.lr": 0.02}], **given)
    assert complete_all(again) == [LR_01, {"optimizer.lr": "0.02"}]


def del_fact(ledger: Ledger, key: str) -> None:
    """Undo the last note of a start, as if it had been killed before."""
    with ledger._store.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM study_user_attributes WHERE key = '{key}'")


def test_a_part_of_a_point_leaves_the_rest_to_the_sampler(tmp_path: Path) -> None:
    space = space_of({"optimizer.lr": "interval(0, 1)", "model.dropout": "interval(0, 0.5)"})
    ledger = open_ledger(database(tmp_path), space=space, enqueue=[{"model.dropout": 0.25}])
    taken = take(ledger)
    assert taken.overrides["model.dropout"] == "0.25"
    assert 0 <= float(taken.overrides["optimizer.lr"]) <= 1


def test_the_base_trial_is_left_out_where_it_was_not_asked_for(tmp_path: Path) -> None:
    given = {"base_point": {"optimizer.lr": 0.01}, "base_trial": False}
    ledger = open_ledger(database(tmp_path), **given)
    assert ledger.progress().counts["waiting"] == 0


def test_a_late_end_of_a_trial_that_was_given_up_is_dropped(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), n_trials=1)
    taken = take(ledger, dead_lease())
    ledger.close_lost(lambda _: NOWHERE)
    assert not ledger.finish(taken, COMPLETE)
    assert ledger.report(taken, step=3, value=0.5)
    ledger.beat([taken.number])
    row = ledger.trials()[taken.number]
    assert (row.state, row.reason, row.values) == ("failed", "lost", ())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_fails_and_is_never_the_best(
    value: float, tmp_path: Path
) -> None:
    ledger = open_ledger(database(tmp_path))
    end_as(ledger, TrialEnd(state="complete", values=(value,)))
    best = end_as(ledger, COMPLETE)
    row = ledger.trials()[0]
    assert (row.state, row.reason, row.values) == ("failed", "diverged", ())
    assert row.attributes["message"] == f"came to [{value}], which is no result"
    assert ledger.progress().best == (best,)


@pytest.mark.parametrize("reason", ["interrupted", "lost"])
def test_the_point_of_an_interrupted_trial_is_tried_again_max_retry_times(
    reason: str, tmp_path: Path
) -> None:
    ledger = open_ledger(database(tmp_path), n_trials=1, max_retry=2)
    points, earlier = [], []
    for _ in range(4):
        taken = take(ledger)
        points.append(taken.overrides["optimizer.lr"])
        earlier.append(taken.retry_of)
        ledger.finish(taken, failed(reason))
    assert earlier == [None, 0, 1, None]
    assert len(set(points[:3])) == 1
    assert points[3] != points[0]


def test_what_a_trial_leaves_is_found_again_in_its_row(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger = open_ledger(path)
    taken = take(ledger)
    end = TrialEnd(state="complete", values=(0.5,), attributes={"test/f1": 0.4, "epochs": 5})
    ledger.finish(taken, end)
    row = open_ledger(path).trials()[0]
    assert row.values == (0.5,)
    assert row.attributes == {"test/f1": 0.4, "epochs": 5}
    assert row.params == {"optimizer.lr": float(taken.overrides["optimizer.lr"])}
    assert row.overrides == taken.overrides
    assert row.started is not None
    assert row.ended is not None
    assert row.ended >= row.started


def test_a_larger_total_goes_on_where_a_smaller_one_ended(tmp_path: Path) -> None:
    path = database(tmp_path)
    complete_all(open_ledger(path, n_trials=2))
    ledger = open_ledger(path, n_trials=5)
    assert ledger.progress().left == 3
    assert len(complete_all(ledger)) == 3


def test_progress_tells_how_trials_ended_and_the_best_point(tmp_path: Path) -> None:
    ledger = open_ledger(
        database(tmp_path), n_trials=6, enqueue=[{"optimizer.lr": 0.01}], max_retry=0
    )
    end_as(ledger, TrialEnd(state="complete", values=(0.75,)))
    for end in (COMPLETE, TrialEnd(state="pruned", reason="pruned"), failed("oom"), failed("lost")):
        end_as(ledger, end)
    ledger.take(own_lease())
    progress = ledger.progress()
    assert progress.words == "2 complete, 1 pruned, 1 out of memory, 1 lost"
    assert (progress.counted, progress.running, progress.left) == (4, 1, 1)
    assert progress.best_row is not None
    assert progress.best_row.values == (0.75,)


def test_failures_in_a_row_are_those_since_this_process_joined(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger = open_ledger(path)
    for end in (COMPLETE, failed("error"), failed("interrupted"), failed("oom")):
        end_as(ledger, end)
    assert ledger.progress().consecutive_failures == 2
    assert open_ledger(path).progress().consecutive_failures == 0


def test_two_objectives_keep_those_that_no_other_beats(tmp_path: Path) -> None:
    objectives = (
        Objective(name="val/f1", direction="max"),
        Objective(name="model/parameters", direction="min"),
    )
    ledger = open_ledger(database(tmp_path), objectives=objectives, keep_best=3)
    for values in ((0.9, 100.0), (0.8, 50.0), (0.7, 80.0)):
        end_as(ledger, TrialEnd(state="complete", values=values))
    assert ledger.progress().best[:2] == (0, 1)
    taken = take(ledger)
    assert not ledger.report(taken, step=5, value=0.0)


def test_a_fact_that_is_noted_is_there_for_whoever_opens_the_study(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger = open_ledger(path)
    ledger.set_fact("mlflow_run", "abc")
    other = open_ledger(path)
    assert other.facts["mlflow_run"] == "abc"
    assert other.uid == ledger.uid


def test_the_importance_of_what_decides_is_larger_and_rare_parameters_are_told(
    tmp_path: Path,
) -> None:
    space = space_of(
        {"optimizer.lr": "interval(0, 1)", "trainer.gradient_clip_val": "tag(off, interval(0, 1))"}
    )
    ledger = open_ledger(database(tmp_path), space=space, n_trials=30, sampler="random")
    (before,) = ledger.importances()
    assert (before.shares, before.trials) == ({}, 0)
    while (taken := ledger.take(own_lease())) is not None:
        ledger.finish(
            taken, TrialEnd(state="complete", values=(float(taken.overrides["optimizer.lr"]),))
        )
    (found,) = ledger.importances()
    clip = "trainer.gradient_clip_val"
    assert list(found.shares) == ["optimizer.lr"]
    assert set(found.hidden) == {clip, f"{clip} on"}
    assert found.shares["optimizer.lr"] > found.chance["optimizer.lr"] > 0


def test_a_grid_tries_its_points_in_order_and_each_once(tmp_path: Path) -> None:
    space = space_of(GRID)
    ledger = open_ledger(database(tmp_path), space=space, sampler="grid", n_trials=None)
    points = complete_all(ledger)
    assert points == [space.overrides(point) for point in space.points()]
    assert ledger.progress().settled


def test_a_point_of_a_grid_that_was_lost_is_tried_again(tmp_path: Path) -> None:
    space = space_of(GRID)
    given = {"space": space, "sampler": "grid", "n_trials": None}
    ledger = open_ledger(database(tmp_path), max_retry=1, **given)
    ledger.take(dead_lease())
    ledger.close_lost(lambda _: NOWHERE)
    points = complete_all(ledger)
    assert sorted(map(str, points)) == sorted(str(space.overrides(p)) for p in space.points())


def test_a_point_of_a_grid_that_kills_every_process_does_not_hold_up_the_rest(
    tmp_path: Path,
) -> None:
    given = {"space": space_of(GRID), "sampler": "grid", "n_trials": None, "max_retry": 1}
    ledger = open_ledger(database(tmp_path), **given)
    for _ in range(2):
        ledger.take(dead_lease())
        ledger.close_lost(lambda _: NOWHERE)
    assert len(complete_all(ledger)) == 11
    assert ledger.progress().settled


def test_a_grid_may_be_cut_short(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), space=space_of(GRID), sampler="grid", n_trials=5)
    assert len(complete_all(ledger)) == 5
    assert ledger.progress().settled


def take_all_at_once(folder: Path, **given: Any) -> list[tuple[int, dict[str, str]]]:
    """Let three processes begin at a missing file and take all there is; return what each took."""
    said = [folder / f"{index}.json" for index in range(3)]
    processes = [start(take_all, folder / "optuna.db", one, given) for one in said]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    return [(n, point) for one in said for n, point in json.loads(one.read_text("utf-8"))]


def test_three_processes_that_begin_at_once_have_one_total_and_no_point_twice(
    tmp_path: Path,
) -> None:
    taken = take_all_at_once(tmp_path, n_trials=30)
    assert sorted(number for number, _ in taken) == list(range(30))
    assert len({point["optimizer.lr"] for _, point in taken}) == 30
    ledger = open_ledger(tmp_path / "optuna.db", n_trials=30)
    assert Counter(row.state for row in ledger.trials()) == {"complete": 30}
    assert ledger.progress().settled


@pytest.mark.slow
def test_three_processes_on_a_grid_try_each_point_once(tmp_path: Path) -> None:
    taken = take_all_at_once(tmp_path, sampler="grid", n_trials=None)
    space = space_of(GRID)
    expected = [json.dumps(space.overrides(point)) for point in space.points()]
    assert sorted(json.dumps(point) for _, point in taken) == sorted(expected)


@pytest.mark.slow
def test_a_killed_process_loses_no_trial_and_the_total_stays(tmp_path: Path) -> None:
    path, said = tmp_path / "optuna.db", tmp_path / "said.txt"
    ledger = open_ledger(path, n_trials=3, max_retry=2)
    process = start(take_one, path, said)
    number = int(wait_for(said).split()[0])
    assert ledger.close_lost(lambda _: NOWHERE) == []
    process.kill()
    process.join()
    assert [lost.number for lost in ledger.close_lost(lambda _: NOWHERE)] == [number]
    complete_all(ledger)
    rows = ledger.trials()
    assert Counter(row.state for row in rows) == {"complete": 3, "failed": 1}
    assert rows[number].overrides in [row.overrides for row in rows if row.state == "complete"]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_no_start_fails_however_often_three_begin_at_a_missing_file(
    attempt: int, tmp_path: Path
) -> None:
    said = [tmp_path / f"{index}.txt" for index in range(3)]
    processes = [start(open_new, tmp_path / "optuna.db", one) for one in said]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len({one.read_text(encoding="utf-8") for one in said}) == 1
