"""Real runs: what ails them is told, and is not told once they are cured; healthy ones are let be.

The cases are of sets that no threshold was found on; `python -m benchmarks.doctor_cases` runs all
of them. Runs with equal configurations are trained once.
"""

from pathlib import Path

import pytest

from benchmarks.doctor_cases import Asked, asked, said_of
from benchmarks.doctor_tables import write_tables
from pipeline.doctor.diagnosis import RULES

SEEDS = {"sick": (0, 1), "cured": (0,), "healthy": (0,)}
CASES = [one for one in asked(("B", "C")) if one.tested]
HEALTHY = list(asked(("healthy",)))
ARCHITECTURES = ("mlp", "cnn1d", "cnn2d", "rnn", "gru", "lstm")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables, in which each run is kept for all tests."""
    folder = tmp_path_factory.mktemp("runs")
    write_tables(folder)
    return folder


def expect(one: Asked, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)  # the tables are named by relative paths
    for seed in SEEDS[one.state]:
        said = said_of(one, seed=seed, folder=runs)
        assert not one.is_wrong(said), f"seed {seed}: expected {one.expected}, found {said}"


def test_each_verdict_has_two_sick_cases_that_its_thresholds_were_not_found_on() -> None:
    for name in RULES:
        of_it = [one for one in CASES if one.verdict == name and one.state == "sick"]
        assert len(of_it) >= 2, name


def test_healthy_runs_of_all_architectures_are_asked_about() -> None:
    assert {one.name.split()[0] for one in HEALTHY} == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.verdict}-{one.name}-{one.state}")
def test_a_sick_run_has_its_verdict_and_the_cured_one_has_not(
    one: Asked, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(one, runs, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("one", HEALTHY, ids=lambda one: one.name)
def test_a_healthy_run_has_no_verdict(
    one: Asked, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(one, runs, monkeypatch)
