"""How points are chosen: none twice, the same ones again, and what is wrong told at once."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ledgers import COMPLETE, complete_all, database, open_ledger, options, space_of
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.errors import ConfigError
from pipeline.processes.lease import own_lease
from pipeline.study.ledger.search import MOST, judge_problems, visible
from pipeline.study.trial_end import TrialEnd

OPTUNAS = ("QMCSampler", "NSGAIISampler", "BruteForceSampler", "TPESampler", "RandomSampler")
MIXED = {
    "optimizer.lr": "tag(log, interval(1e-4, 1e-1))",
    "trainer.gradient_clip_val": "tag(off, log, interval(0.1, 10))",
    "trainer.max_epochs": "int(interval(5, 40))",
}


def target(name: str, **arguments: Any) -> dict[str, Any]:
    """A class of optuna.samplers as it stands in YAML."""
    return {"_target_": f"optuna.samplers.{name}", **arguments}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_is_stopped_tries_what_it_would_have_tried(
    sampler: str, tmp_path: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = open_ledger(database(tmp_path / "whole"), sampler=sampler, n_trials=15)
    expected = complete_all(whole)
    path = database(tmp_path / "parts")
    found: list[dict[str, str]] = []
    for n_trials in (4, 8, 15):
        found += complete_all(open_ledger(path, sampler=sampler, n_trials=n_trials))
    assert found == expected
    assert len({point["optimizer.lr"] for point in found}) == 15


def test_another_seed_tries_other_points(tmp_path: Path) -> None:
    points = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        ledger = open_ledger(database(tmp_path / str(seed)), seed=seed, n_trials=3)
        points += [point["optimizer.lr"] for point in complete_all(ledger)]
    assert len(set(points)) == 6


def test_workers_that_take_at_once_try_different_points(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledgers = [open_ledger(path, n_trials=24) for _ in range(3)]
    points = []
    for _ in range(8):
        taken = [ledger.take(own_lease()) for ledger in ledgers]
        for ledger, one in zip(ledgers, taken, strict=True):
            assert one is not None
            points.append(one.overrides["optimizer.lr"])
            ledger.finish(one, COMPLETE)
    assert len(set(points)) == 24


@pytest.mark.parametrize("name", OPTUNAS)
def test_every_other_sampler_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    space = space_of({"optimizer.lr": "interval(0, 1)", "seed": "range(0, 50)"})
    if name == "BruteForceSampler":
        space = space_of({"seed": "range(0, 50)"})
    path = database(tmp_path)
    given = {"space": space, "sampler": target(name)}
    points = complete_all(open_ledger(path, n_trials=6, **given))
    points += complete_all(open_ledger(path, n_trials=14, **given))
    assert len({str(point) for point in points}) == 14


def test_qmc_takes_the_points_of_one_sequence_one_after_another(tmp_path: Path) -> None:
    space = space_of({"optimizer.lr": "interval(0, 1)"})
    sampler = target("QMCSampler", qmc_type="halton")
    path = database(tmp_path)
    points: list[dict[str, str]] = []
    for n_trials in (3, 6, 9):
        points += complete_all(open_ledger(path, space=space, sampler=sampler, n_trials=n_trials))
    values = [float(point["optimizer.lr"]) for point in points[1:]]
    assert values == [0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]


def test_tpe_finds_the_better_half_of_a_space_with_conditions(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), space=space_of(MIXED), n_trials=60)
    offs = []
    while (taken := ledger.take(own_lease())) is not None:
        off = taken.overrides["trainer.gradient_clip_val"] == "null"
        offs.append(off)
        ledger.finish(taken, TrialEnd(state="complete", values=(float(off),)))
    assert sum(offs[-20:]) > 15


def ended(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial that came to a value."""
    complete = state == TrialState.COMPLETE
    trial = create_trial(state=state, value=value if complete else None)
    trial.number = number
    return trial


def test_all_trials_are_learned_from_while_they_are_few() -> None:
    trials = [ended(number, 0.5) for number in range(MOST)]
    assert visible(trials, [StudyDirection.MAXIMIZE]) == trials


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_of_many_trials_the_best_and_the_latest_are_learned_from(
    direction: StudyDirection,
) -> None:
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    values = [sign * ((number * 7919) % 2003) / 2003 for number in range(2000)]
    trials = [ended(number, value) for number, value in enumerate(values)]
    trials[3] = ended(3, 0.0, TrialState.RUNNING)
    trials[-1] = ended(1999, 0.0, TrialState.FAIL)
    seen = [trial.number for trial in visible(trials, [direction])]
    known = [n for n in range(1999) if n != 3]
    best = sorted(known, key=lambda number: -sign * values[number])[:25]
    assert len(seen) == MOST
    assert seen == sorted(seen)
    assert set(best) <= set(seen)
    assert {3, *range(1700, 1999)} <= set(seen)


@pytest.mark.parametrize(
    ("sampler", "line"),
    [
        (target("GridSampler", search_space={"x": [1]}), "GridSampler does not fit here; .* grid"),
        (target("TPESampler", n_startup_trial=3), "n_startup_trial is unknown. Did you mean"),
        (target("TPESampler", n_startup_trials="many"), "n_startup_trials='many' is not allowed"),
        (target("TPESampler", seed=3), r"sweep.sampler.seed is filled in by the program"),
        (target("QMCSampler", qmc_type="sobel"), "QMCSampler can't be made so: .*sobel"),
        (target("Nope"), r"sweep.sampler._target_: 'optuna.samplers.Nope' is not there"),
        (target("BaseSampler"), "'optuna.samplers.BaseSampler' is no BaseSampler of optuna.samp"),
        ({"_target_": "optuna.pruners.MedianPruner"}, "lies outside of"),
        ({"_target_": "optuna.samplers.nsgaii.BLXAlphaCrossover"}, "is no BaseSampler of optuna"),
        ({"_target_": "os.system", "command": "true"}, "'os.system' lies outside of"),
    ],
)
def test_a_sampler_that_cannot_work_is_told_before_a_study_begins(
    sampler: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        raise ConfigError(*judge_problems(options(sampler=sampler)))


def test_a_sampler_that_lacks_its_package_names_the_extra() -> None:
    problems = judge_problems(options(sampler=target("CmaEsSampler")))
    missing = find_spec("cmaes") is None
    expected = ["sweep.sampler: CmaEsSampler needs the package 'cmaes'; pip install cmaes"]
    assert problems == (expected if missing else [])


def test_a_sampler_that_fails_at_a_trial_says_so_and_leaves_no_trial(tmp_path: Path) -> None:
    space = space_of({"optimizer.lr": "interval(0, 1)"})
    ledger = open_ledger(database(tmp_path), space=space, sampler=target("BruteForceSampler"))
    with pytest.raises(
        ConfigError, match=r"sweep\.sampler: BruteForceSampler can't choose a point"
    ):
        ledger.take(own_lease())
    assert ledger.trials() == []


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"sampler": "grid", "n_trials": None}, []),
        (
            {"sampler": "grid", "base_trial": True, "enqueue": [{"a": 1}]},
            [
                "sweep.base_trial=true has no place in a grid, which tries its own points alone.",
                "sweep.enqueue has no place in a grid, which tries its own points alone.",
            ],
        ),
        (
            {"n_trials": None},
            [
                "sweep.n_trials=null would never end; expected a number, sweep.timeout=SECONDS, "
                "or sweep.sampler=grid, which ends with its points."
            ],
        ),
        ({"n_trials": None, "timeout": 60.0}, []),
    ],
)
def test_options_that_do_not_go_together_are_told_all_at_once(
    given: dict[str, Any], lines: list[str]
) -> None:
    assert judge_problems(options(**given)) == lines
