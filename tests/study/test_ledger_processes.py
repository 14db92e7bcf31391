"""One study in several processes at once: nothing twice, nothing lost, one total."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ledgers import (
    GRID,
    complete_all,
    open_ledger,
    open_new,
    space_of,
    start,
    take_all,
    take_one,
    wait_for,
)

NOWHERE = Path("nowhere")


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
