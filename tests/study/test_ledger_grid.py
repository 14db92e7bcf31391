"""A grid tries its own points, in order, each once."""

from pathlib import Path

from ledger_processes import complete_all
from ledgers import GRID, database, dead_lease, open_ledger, space_of

NOWHERE = Path("nowhere")


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
