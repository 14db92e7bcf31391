"""How a study searches: points are chosen, trials compared, and what can't work told at once."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.fixture_types import Patch
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from study.ledgers import F1, Settings, complete_all, database, open_ledger, options, space_of, take

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import ConfigError
from pipeline.base.processes.lease import own_lease
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.search import MOST, RUNGS, rung_epochs, search_problems, visible

OPTUNAS = ("QMCSampler", "NSGAIISampler", "BruteForceSampler", "TPESampler", "RandomSampler")
MIXED = {
    "optimizer.lr": "tag(log, interval(1e-4, 1e-1))",
    "trainer.gradient_clip_val": "tag(off, log, interval(0.1, 10))",
    "trainer.max_epochs": "int(interval(5, 40))",
}
UNIT = {"optimizer.lr": "interval(0, 1)"}


def target(name: str, **arguments: Any) -> Settings:
    """A class of Optuna's as it stands in YAML, such as `samplers.TPESampler`."""
    return {"_target_": f"optuna.{name}", **arguments}


def sampler(name: str, **arguments: Any) -> Settings:
    return {"sampler": target(f"samplers.{name}", **arguments)}


def pruner(name: str, **arguments: Any) -> Settings:
    return {"pruner": target(f"pruners.{name}", **arguments)}


# ── samplers ────────────────────────────────────────────────────────────────────────────────


def in_parts(path: Path, totals: tuple[int, ...], **settings: Any) -> list[dict[str, str]]:
    """Complete a study by commands with ever larger totals; return its points in order."""
    return [
        point
        for n_trials in totals
        for point in complete_all(open_ledger(path, n_trials=n_trials, **settings))
    ]


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_stopped_study_tries_the_same_points(name: str, tmp_path: Path) -> None:
    """Another seed tries others."""
    tried = []
    for index, (totals, seed) in enumerate((((15,), 0), ((4, 8, 15), 0), ((3,), 1))):
        (tmp_path / str(index)).mkdir()
        path = database(tmp_path / str(index))
        tried.append(in_parts(path, totals, sampler=name, seed=seed))
    unstopped, parts, other = tried
    assert parts == unstopped
    assert len({point["optimizer.lr"] for point in [*unstopped, *other]}) == 18


@pytest.mark.parametrize("name", OPTUNAS)
def test_every_other_sampler_continues_its_sequence(name: str, path: Path) -> None:
    space = {"seed": "range(0, 50)", **({} if name == "BruteForceSampler" else UNIT)}
    points = in_parts(path, (6, 14), space=space_of(space), **sampler(name))
    assert len({str(point) for point in points}) == 14


def test_qmc_takes_points_of_one_sequence_in_order(path: Path) -> None:
    settings = {"space": space_of(UNIT), **sampler("QMCSampler", qmc_type="halton")}
    points = in_parts(path, (3, 6, 9), **settings)
    values = [float(point["optimizer.lr"]) for point in points[1:]]
    assert values == [0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]


def test_tpe_finds_better_half_of_conditional_space(path: Path) -> None:
    ledger = open_ledger(path, space=space_of(MIXED), n_trials=60)
    offs = []
    while (trial := ledger.take(own_lease())) is not None:
        off = trial.overrides["trainer.gradient_clip_val"] == "null"
        offs.append(off)
        ledger.finish(trial, TrialEnd(end=End.COMPLETE, values=(float(off),)))
    assert sum(offs[-20:]) > 15


def ended(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial that came to a value."""
    trial = create_trial(state=state, value=value if state == TrialState.COMPLETE else None)
    trial.number = number
    return trial


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_tpe_learns_from_best_and_latest_trials(direction: StudyDirection) -> None:
    """If they are few, it learns from all of them."""
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    values = [sign * ((number * 7919) % 2003) / 2003 for number in range(2000)]
    trials = [ended(number, value) for number, value in enumerate(values)]
    assert visible(trials[:MOST], [direction]) == trials[:MOST]
    trials[3] = ended(3, 0.0, TrialState.RUNNING)
    trials[-1] = ended(1999, 0.0, TrialState.FAIL)
    visible_numbers = [trial.number for trial in visible(trials, [direction])]
    ended_numbers = [n for n in range(1999) if n != 3]
    best = sorted(ended_numbers, key=lambda number: -sign * values[number])[:25]
    assert len(visible_numbers) == MOST
    assert visible_numbers == sorted(visible_numbers)
    assert {3, *best, *range(1700, 1999)} <= set(visible_numbers)


def test_tpe_sees_best_and_latest_of_many_running() -> None:
    complete = [ended(number, number / 200) for number in range(200)]
    running = [ended(number, 0.0, TrialState.RUNNING) for number in range(200, 1200)]
    visible_numbers = [
        trial.number for trial in visible([*complete, *running], [StudyDirection.MAXIMIZE])
    ]
    assert visible_numbers == [*range(100, 200), *range(800, 1200)]


def test_failing_sampler_leaves_no_trial(path: Path) -> None:
    """The message names the sampler."""
    settings = {"space": space_of(UNIT), **sampler("BruteForceSampler")}
    ledger = open_ledger(path, **settings)
    line = r"sweep\.sampler: BruteForceSampler can't suggest a point"
    with pytest.raises(ConfigError, match=line):
        ledger.take(own_lease())
    assert ledger.trials() == []


# ── pruners ─────────────────────────────────────────────────────────────────────────────────


def run(ledger: Ledger, value: float) -> int | None:
    """Run a trial that has this value at each rung; return the rung at which it was ended."""
    trial = take(ledger)
    for step in range(3, RUNGS):
        if ledger.report(trial, step=step, value=value):
            ledger.finish(trial, TrialEnd(end=End.PRUNED))
            return step
    ledger.finish(trial, TrialEnd(end=End.COMPLETE, values=(value,)))
    return None


@pytest.mark.parametrize("max_epochs", [1, 4, 10, 11, 17, 20, 40, 100, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.3, 0.7, 0.95])
def test_rung_is_first_epoch_with_its_share_done(max_epochs: int, warmup: float) -> None:
    """The last epoch is never a rung."""
    firsts = {-(-rung * max_epochs // RUNGS): rung for rung in range(1, 10) if rung / 10 >= warmup}
    expected = {epoch: rung for epoch, rung in firsts.items() if epoch < max_epochs}
    assert rung_epochs(max_epochs, warmup) == expected


@pytest.mark.parametrize(
    ("objective", "worse", "better"),
    [
        (Objective(name="val/f1", direction="max"), 0.4, 0.6),
        (Objective(name="val/loss", direction="min"), 0.6, 0.4),
    ],
)
def test_median_pruner_ends_worse_than_median_trials(
    objective: Objective, worse: float, better: float, tmp_path: Path
) -> None:
    """Trials of other processes count too."""
    path = database(tmp_path)
    settings: Settings = {"objectives": (objective,), "n_trials": 20}
    ledger, other = open_ledger(path, **settings), open_ledger(path, **settings)
    values = sorted((0.1, 0.9, 0.2, 0.8, 0.5), reverse=objective.direction == "max")
    assert [run(other, value) for value in values] == [None] * 5  # nobody before five are complete
    assert [
        run(used_ledger, worse) for used_ledger in (other, ledger, open_ledger(path, **settings))
    ] == [3] * 3
    assert run(ledger, better) is None


SIZE = Objective(name="model/parameters", direction="min")


@pytest.mark.parametrize(
    "settings",
    [{"pruner": "none"}, {"objectives": (*F1, SIZE)}],
    ids=["no pruner", "two objectives"],
)
def test_study_without_pruning_prunes_no_trial(settings: Settings, path: Path) -> None:
    ledger = open_ledger(path, **settings)
    assert not ledger.prunes
    trials = [take(ledger) for _ in range(8)]
    for step in range(3, RUNGS):
        assert not any(
            ledger.report(trial, step=step, value=1 / (1 + trial.number)) for trial in trials
        )


@pytest.mark.parametrize(("name", "fewest"), [("asha", 18), ("hyperband", 9)])
def test_halving_ends_trials_worse_than_all_before(name: str, fewest: int, path: Path) -> None:
    ledger = open_ledger(path, pruner=name, n_trials=40)
    rungs = [run(ledger, value) for value in (0.5, 0.9, *(0.4 - n / 100 for n in range(18)))]
    assert rungs[1] is None
    assert sum(rung is not None for rung in rungs[2:]) >= fewest


@pytest.mark.parametrize("elsewhere", [False, True])
def test_asha_sees_rungs_of_concurrent_trials(elsewhere: bool, path: Path) -> None:
    """They may run in another process."""
    own_ledger = open_ledger(path, pruner="asha")
    other_ledger = open_ledger(path, pruner="asha") if elsewhere else own_ledger
    good, bad = take(other_ledger), take(own_ledger)
    assert not other_ledger.report(good, step=3, value=0.9)
    assert own_ledger.report(bad, step=3, value=0.1)


def test_other_optuna_pruners_follow_their_own_rule(path: Path) -> None:
    """One may wrap another."""
    ledger = open_ledger(path, **pruner("ThresholdPruner", lower=0.3))
    assert [run(ledger, value) for value in (0.2, 0.4)] == [3, None]
    wrapped = target("pruners.ThresholdPruner", lower=1)
    around = pruner("PatientPruner", patience=2, wrapped_pruner=wrapped)
    other = open_ledger(path, name="around", **around)
    trial = take(other)
    ends = [other.report(trial, step=step, value=-step) for step in range(3, 7)]
    assert ends == [False, False, False, True]


# ── what can't work ─────────────────────────────────────────────────────────────────────────

OUTSIDE = {"_target_": "os.system", "command": "true"}


def problems_of(*, objectives: int = 1, max_epochs: int = 20, **settings: Any) -> list[str]:
    return search_problems(options(**settings), objectives=objectives, max_epochs=max_epochs)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (sampler("GridSampler", search_space={"x": [1]}), "GridSampler is not supported; .* grid"),
        (sampler("TPESampler", n_startup_trial=3), "n_startup_trial is unknown. Did you mean"),
        (sampler("TPESampler", n_startup_trials="many"), "n_startup_trials='many' is not allowed"),
        (sampler("TPESampler", seed=3), r"sweep.sampler.seed is set by the program"),
        (sampler("QMCSampler", qmc_type="sobel"), "QMCSampler can't be created: .*sobel"),
        (sampler("Nope"), r"sweep.sampler._target_: 'optuna.samplers.Nope' does not exist"),
        (
            sampler("BaseSampler"),
            "'optuna.samplers.BaseSampler' is not a BaseSampler of optuna.samp",
        ),
        (sampler("nsgaii.BLXAlphaCrossover"), "is not a BaseSampler of optuna"),
        ({"sampler": target("pruners.MedianPruner")}, "is outside of"),
        ({"sampler": OUTSIDE}, "'os.system' is outside of"),
        ({"pruner": "hyperband", "objectives": 2}, "hyperband can't compare trials with two obj"),
        ({"pruner": "asha", "max_epochs": 1}, "asha compares trials .* trainer.max_epochs=1 and"),
        ({"pruner": "asha", "pruner_warmup": 0.95}, "pruner_warmup=0.95 leave no epochs"),
        (
            pruner("PercentilePruner", percentile=150.0),
            "PercentilePruner can't be created: Percentile must be between 0 and 100",
        ),
        (pruner("PercentilePruner"), "sweep.pruner.percentile is missing"),
        (
            pruner("PatientPruner", patience=1, wrapped_pruner=OUTSIDE),
            "sweep.pruner.wrapped_pruner._target_: 'os.system' is outside",
        ),
        ({"pruner": target("samplers.TPESampler")}, "is outside of"),
    ],
)
def test_invalid_search_options_are_refused_at_start(
    settings: Mapping[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        raise ConfigError(*problems_of(**settings))


def test_sampler_without_package_names_what_to_install(monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)  # as where it is not installed
    problems = search_problems(options(**sampler("CmaEsSampler")))
    assert problems == [
        "sweep.sampler: CmaEsSampler needs the package 'cmaes'; pip install 'cmaes>=0.11'"
    ]


NO_PLACE = "does not apply to a grid, which tries only its own points."


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"sampler": "grid", "n_trials": None}, []),
        ({"objectives": 2}, []),  # the default pruner steps aside
        ({"max_epochs": 1}, []),
        (
            {"sampler": "grid", "base_trial": True, "enqueue": [{"a": 1}]},
            [f"sweep.base_trial=true {NO_PLACE}", f"sweep.enqueue {NO_PLACE}"],
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
def test_conflicting_options_are_reported_all_at_once(settings: Settings, lines: list[str]) -> None:
    assert problems_of(**settings) == lines
