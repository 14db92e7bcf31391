"""Random command lines, tables, rows and folders, always the same: all end as they should."""

from collections.abc import Iterator

import pytest

from benchmarks.fuzz import KINDS, Tally, fuzz, prepared

CASES = {"overrides": 8, "runs": 4, "tables": 5, "predictions": 8, "folders": 6}


@pytest.fixture(scope="module")
def ready() -> Iterator[None]:
    with prepared():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_random_input_ends_with_lines_and_whole_files(ready: None, kind: str) -> None:
    """No command ends in a traceback or leaves a half-written file."""
    tally = Tally()
    fuzz(kind, tally, number=0, cases=CASES[kind])
    assert tally.failures == []
    assert tally.ends[kind].total() >= CASES[kind] // 2  # the same case is not tried twice
    assert len(tally.ends[kind]) > 1 or kind == "overrides"  # some work, some are refused
