"""The test rows that two runs disagree on, as a table."""

from typing import Any

import numpy as np

from pipeline.findings.records import Array, TestRows
from pipeline.markup import TextTable
from pipeline.mistakes import called
from pipeline.reporting.against import Against
from pipeline.terminal import number

MOST_ROWS = 50
"""Test rows that are listed."""


def rows_sheet(against: Against) -> TextTable | None:
    """List the test rows that flipped, or whose error changed most, with both predictions."""
    if against.right is not None:
        return _flipped(against)
    if against.errors is not None:
        return _changed(against)
    return None


def _flipped(against: Against) -> TextTable:
    assert against.right is not None
    assert against.pair is not None
    one, other = against.findings
    before, after = against.pair
    answers = (
        called(before, threshold=one.threshold),
        called(after, threshold=other.threshold),
    )
    flipped = np.flatnonzero(against.right[0] != against.right[1])
    tests = zip((before, after), answers, strict=True)
    chances = [_probabilities(test, answer) for test, answer in tests]
    # The surest of both come first: where one says it is certain, and is wrong.
    order = flipped[np.argsort(-np.maximum(chances[0], chances[1])[flipped], kind="stable")]
    lines = [
        [
            str(before.rows[at]),
            one.classes[before.targets[at]],
            *(
                f"{one.classes[answer[at]]} ({chance[at]:.0%})"
                for answer, chance in zip(answers, chances, strict=True)
            ),
            "B" if against.right[1][at] else "A",
        ]
        for at in order[:MOST_ROWS]
    ]
    return TextTable(
        title=_first(len(order), "test rows that only one gets right, the surest answers first"),
        headings=["row", "truth", "A says", "B says", "right"],
        lines=lines,
        words=frozenset({1, 2, 3, 4}),
        notes=["in brackets the probability of what was said"],
    )


def _probabilities(test: TestRows, answers: Array) -> Array:
    """Return the probability of what was said of each row, (rows,)."""
    if test.outputs.ndim == 1:
        return np.where(answers == 1, test.outputs, 1 - test.outputs)
    return test.outputs[np.arange(len(answers)), answers]


def _changed(against: Against) -> TextTable:
    assert against.errors is not None
    assert against.pair is not None
    before, after = against.pair
    gains = against.errors[0] - against.errors[1]
    order = np.argsort(-np.abs(gains), kind="stable")
    units = against.findings[0].units
    lines = [
        [
            str(before.rows[at]),
            *(_values(values[at]) for values in (before.targets, before.outputs, after.outputs)),
            *(number(float(off[at])) for off in against.errors),
            "B" if gains[at] > 0 else "A" if gains[at] < 0 else "both alike",
        ]
        for at in order[:MOST_ROWS]
    ]
    return TextTable(
        title=_first(len(order), "test rows whose error differs most"),
        headings=["row", "truth", "A says", "B says", "A is off by", "B is off by", "nearer"],
        lines=lines,
        words=frozenset({6}),
        notes=[f"values in {units}"] if units else [],
    )


def _values(values: Any) -> str:
    few = [number(float(value)) for value in np.atleast_1d(values)[:4]]
    return ", ".join(few) + (", …" if np.size(values) > len(few) else "")


def _first(count: int, what: str) -> str:
    return f"{count:,} {what}" if count <= MOST_ROWS else f"{MOST_ROWS} of {count:,} {what}"
