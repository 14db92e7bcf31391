"""Real runs: what ails them is told, and is not told once they are cured; healthy ones are let be.

The cases are of sets that no threshold was found on; `python -m benchmarks.doctor_cases` trains all
of them, with several seeds. Runs with equal configurations are trained once.
"""

from collections import Counter
from pathlib import Path

import pytest
from doctor.sick_findings import SICK
from helpers.fixture_types import Patch

from benchmarks.doctor_cases import Asked, asked, said_of
from benchmarks.doctor_tables import write_tables

CASES = [one for one in asked(("B", "C", "D", "healthy")) if one.tested]
ARCHITECTURES = ("mlp", "cnn1d", "cnn2d", "rnn", "gru", "lstm")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables, in which each run is kept for all tests."""
    folder = tmp_path_factory.mktemp("runs")
    write_tables(folder)
    return folder


def test_cases_cover_verdicts_and_architectures() -> None:
    """Each verdict has two sick cases and a cured one, and each architecture is healthy once."""
    found = Counter((one.verdict, one.state) for one in CASES)
    for name in SICK:
        assert found[name, "sick"] >= 2, name
        # Nothing helps a network that is to learn noise.
        assert found[name, "cured"] >= (name != "no_better_than_naive"), name
    assert {one.name.split()[0] for one in CASES if not one.verdict} == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.verdict}-{one.name}-{one.state}")
def test_real_runs_get_the_expected_verdict(one: Asked, runs: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(runs)  # the tables are named by relative paths
    said = said_of(one, seed=0, folder=runs)
    assert not one.is_wrong(said), f"expected {one.expected}, found {said}"
