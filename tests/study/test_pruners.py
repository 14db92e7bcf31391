"""Trials are compared at equal shares of their own epochs, and hopeless ones are ended."""

from pathlib import Path
from typing import Any

import pytest
from ledgers import database, open_ledger, options, take

from pipeline.errors import ConfigError
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.search import RUNGS, judge_problems, rung_epochs
from pipeline.study.trial_end import TrialEnd


def target(name: str, **arguments: Any) -> dict[str, Any]:
    """A class of optuna.pruners as it stands in YAML."""
    return {"_target_": f"optuna.pruners.{name}", **arguments}


def run(ledger: Ledger, value: float, steps: int = RUNGS - 1) -> int | None:
    """Run a trial that has this value at each rung; return the rung at which it was ended."""
    taken = take(ledger)
    for step in range(3, steps + 1):
        if ledger.report(taken, step=step, value=value):
            ledger.finish(taken, TrialEnd(state="pruned", reason="pruned"))
            return step
    ledger.finish(taken, TrialEnd(state="complete", values=(value,)))
    return None


@pytest.mark.parametrize("max_epochs", [10, 11, 17, 20, 40, 100, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.3, 0.7])
def test_a_rung_is_the_first_epoch_at_which_its_share_is_done(
    max_epochs: int, warmup: float
) -> None:
    rungs = rung_epochs(max_epochs, warmup)
    assert all(
        (epoch - 1) / max_epochs < rung / RUNGS <= epoch / max_epochs < 1
        for epoch, rung in rungs.items()
    )
    assert list(rungs.values()) == [rung for rung in range(1, 10) if rung / RUNGS >= warmup]


@pytest.mark.parametrize(
    ("max_epochs", "warmup", "rungs"),
    [
        (20, 0.25, {6: 3, 8: 4, 10: 5, 12: 6, 14: 7, 16: 8, 18: 9}),
        (40, 0.25, {12: 3, 16: 4, 20: 5, 24: 6, 28: 7, 32: 8, 36: 9}),
        (10, 0.0, {epoch: epoch for epoch in range(1, 10)}),
        (20, 0.95, {}),
        (4, 0.25, {2: 5, 3: 7}),
        (1, 0.0, {}),
    ],
)
def test_nobody_is_compared_before_the_warmup_nor_at_the_last_epoch(
    max_epochs: int, warmup: float, rungs: dict[int, int]
) -> None:
    assert rung_epochs(max_epochs, warmup) == rungs


@pytest.mark.parametrize(
    ("objective", "worse", "better"),
    [
        (Objective(name="val/f1", direction="max"), 0.4, 0.6),
        (Objective(name="val/loss", direction="min"), 0.6, 0.4),
    ],
)
def test_the_median_pruner_ends_what_is_worse_than_half_of_those_before(
    objective: Objective, worse: float, better: float, tmp_path: Path
) -> None:
    ledger = open_ledger(database(tmp_path), objectives=(objective,), n_trials=20)
    for value in (0.1, 0.9, 0.2, 0.8, 0.5):
        assert run(ledger, value) is None
    assert run(ledger, worse) == 3
    assert run(ledger, better) is None


def test_a_trial_is_compared_with_those_that_another_process_completed(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger, other = open_ledger(path), open_ledger(path)
    for value in (0.1, 0.9, 0.2, 0.8, 0.5):
        run(other, value)
    assert run(ledger, 0.4) == 3
    ledger.close()
    assert run(open_ledger(path), 0.4) == 3


def test_nobody_is_ended_before_five_trials_have_completed(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path))
    assert [run(ledger, value) for value in (0.9, 0.8, 0.7, 0.6, 0.5)] == [None] * 5


def test_a_study_without_pruning_ends_nobody_and_stores_no_reports(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), pruner="none")
    assert not ledger.prunes
    assert [run(ledger, 1 / (number + 1)) for number in range(8)] == [None] * 8


@pytest.mark.parametrize(("pruner", "fewest"), [("asha", 18), ("hyperband", 9)])
def test_halving_ends_trials_that_are_worse_than_all_before(
    pruner: str, fewest: int, tmp_path: Path
) -> None:
    ledger = open_ledger(database(tmp_path), pruner=pruner, n_trials=40)
    ended = [run(ledger, value) for value in (0.5, 0.9, *(0.4 - n / 100 for n in range(18)))]
    assert ended[1] is None
    assert sum(rung is not None for rung in ended[2:]) >= fewest


def test_asha_sees_the_trials_that_run_beside(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path), pruner="asha")
    good, bad = take(ledger), take(ledger)
    assert not ledger.report(good, step=3, value=0.9)
    assert ledger.report(bad, step=3, value=0.1)


def test_asha_sees_the_rungs_of_trials_of_another_process(tmp_path: Path) -> None:
    path = database(tmp_path)
    here, there = open_ledger(path, pruner="asha"), open_ledger(path, pruner="asha")
    good, bad = take(there), take(here)
    assert not there.report(good, step=3, value=0.9)
    assert here.report(bad, step=3, value=0.1)


def test_another_pruner_of_optuna_decides_by_its_own_rule(tmp_path: Path) -> None:
    pruner = target("ThresholdPruner", lower=0.3)
    ledger = open_ledger(database(tmp_path), pruner=pruner)
    assert run(ledger, 0.2) == 3
    assert run(ledger, 0.4) is None


def test_a_pruner_around_another_is_built_with_it(tmp_path: Path) -> None:
    pruner = target("PatientPruner", patience=2, wrapped_pruner=target("ThresholdPruner", lower=1))
    ledger = open_ledger(database(tmp_path), pruner=pruner)
    taken = take(ledger)
    assert [ledger.report(taken, step=step, value=-step) for step in range(3, 7)] == [
        False,
        False,
        False,
        True,
    ]


TWO = 2


@pytest.mark.parametrize(
    ("given", "objectives", "max_epochs", "line"),
    [
        ({"pruner": "hyperband"}, TWO, 20, "hyperband can't compare trials with two objectives"),
        ({"pruner": "asha"}, 1, 1, "asha compares trials .* trainer.max_epochs=1 and"),
        ({"pruner": "asha", "pruner_warmup": 0.95}, 1, 20, "pruner_warmup=0.95 leave no room"),
        (
            {"pruner": target("PercentilePruner", percentile=150.0)},
            1,
            20,
            "PercentilePruner can't be made so: Percentile must be between 0 and 100",
        ),
        ({"pruner": target("PercentilePruner")}, 1, 20, "sweep.pruner.percentile is missing"),
        (
            {
                "pruner": target(
                    "PatientPruner", patience=1, wrapped_pruner={"_target_": "os.system"}
                )
            },
            1,
            20,
            "sweep.pruner.wrapped_pruner._target_: 'os.system' lies outside",
        ),
        ({"pruner": {"_target_": "optuna.samplers.TPESampler"}}, 1, 20, "lies outside of"),
    ],
)
def test_a_pruner_that_cannot_work_is_told_before_a_study_begins(
    given: dict[str, Any], objectives: int, max_epochs: int, line: str
) -> None:
    problems = judge_problems(options(**given), objectives=objectives, max_epochs=max_epochs)
    with pytest.raises(ConfigError, match=line):
        raise ConfigError(*problems)


@pytest.mark.parametrize(("objectives", "max_epochs"), [(TWO, 20), (1, 1)])
def test_the_default_pruner_steps_aside_where_nothing_can_be_compared(
    objectives: int, max_epochs: int
) -> None:
    assert judge_problems(options(), objectives=objectives, max_epochs=max_epochs) == []
