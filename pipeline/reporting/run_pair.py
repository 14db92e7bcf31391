"""Two runs compared: their configs, their test figures, and their answers row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.bootstrap import (
    Flips,
    PairedDifference,
    flips,
    paired_differences,
    units_of_test,
)
from pipeline.config.record import ConfigDifference, differences
from pipeline.findings.records import Array, Findings, TestRows
from pipeline.metrics import direction
from pipeline.mistakes import called, errors
from pipeline.reporting.run_page import main_metric, rows_words
from pipeline.reporting.subject import Subject
from pipeline.running.results import tested_names

UNTOLD = ("format", "name", "output", "tags", "verbose", "traceback", "tracking", "register")
"""Groups of the config that say nothing of why a run is better."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPair:
    """Two runs, the second of which is asked about.

    Args:
        first: The run A.
        second: The run B.
    """

    first: Subject
    second: Subject

    @property
    def findings(self) -> tuple[Findings, Findings]:
        """What both have found out."""
        return self.first.findings, self.second.findings

    @cached_property
    def changes(self) -> Sequence[ConfigDifference]:
        """What differs in their configs, but for names and places."""
        one, other = self.findings
        found = differences(one.config, other.config)
        return [change for change in found if change.key.partition(".")[0] not in UNTOLD]

    @cached_property
    def obstacle(self) -> str:
        """Why their test rows can't be laid beside each other; empty where they can."""
        one, other = self.findings
        if one.test is None or other.test is None:
            lacking = " and ".join(
                name for name, run in (("A", one), ("B", other)) if run.test is None
            )
            return f"what {lacking} said about its test rows is not on record"
        if (one.task, one.classes) != (other.task, other.classes):
            return f"A is a {_what(one)}, B is a {_what(other)}"
        return _rows_problem(one.test, other.test)

    @cached_property
    def tests(self) -> tuple[TestRows, TestRows] | None:
        """The same test rows, as both saw them; `None` where there is an obstacle."""
        one, other = (findings.test for findings in self.findings)
        return None if self.obstacle or one is None or other is None else (one, other)

    def answers(self, tests: tuple[TestRows, TestRows]) -> tuple[Array, Array]:
        """Return the class that each gives every row, int (rows,)."""
        one, other = (
            called(test, threshold=findings.threshold)
            for findings, test in zip(self.findings, tests, strict=True)
        )
        return one, other

    @cached_property
    def flips(self) -> Flips | None:
        """How the rows split that only one gets right; `None` for a regression."""
        if self.tests is None or self.findings[0].task == "regression":
            return None
        one, other = (answer == self.tests[0].targets for answer in self.answers(self.tests))
        return flips(one, other, groups=_groups(self.tests))

    @cached_property
    def errors(self) -> tuple[Array, Array] | None:
        """How far each is off in each row, (rows,); `None` for a classification."""
        if self.tests is None or self.findings[0].task != "regression":
            return None
        one, other = map(errors, self.tests)
        return one, other

    @cached_property
    def figures(self) -> dict[str, PairedDifference]:
        """Each metric of both on the test rows, with the interval of its difference.

        Where the rows can't be paired, and for metrics of one's own, there is no interval.
        """
        one, other = self.findings
        theirs = tested_names(other.task, other.metrics)
        both = [name for name in tested_names(one.task, one.metrics) if name in theirs]
        plain = {
            name: PairedDifference(
                first=one.metrics[f"test/{name}"],
                second=other.metrics[f"test/{name}"],
                interval=None,
            )
            for name in both
        }
        if self.tests is None:
            return plain
        found = paired_differences(
            *self.tests,
            thresholds=(one.threshold, other.threshold),
            units=units_of_test(
                replace(one, test=replace(self.tests[0], groups=_groups(self.tests)))
            ),
        )
        return plain | {name: found[name] for name in both if name in found}

    @property
    def main_metric(self) -> str | None:
        """The metric that the two are judged by."""
        name = main_metric(self.findings[1])
        return name if name in self.figures else next(iter(self.figures), None)

    def better(self, name: str) -> str:
        """Return `A`, `B`, or an empty text where these rows do not tell the two apart."""
        ends = self.figures[name].interval
        if ends is None or ends[0] <= 0 <= ends[1]:
            return ""
        return "B" if (ends[0] > 0) == (direction(name) == "max") else "A"


def _groups(pair: tuple[TestRows, TestRows]) -> Array | None:
    """Return the groups of the rows, which one of the runs may not know."""
    one, other = (test.groups for test in pair)
    return other if one is None else one


def _what(findings: Findings) -> str:
    if findings.task == "regression":
        return "regression"
    return f"{findings.task} task of {len(findings.classes)} classes"


def _rows_problem(one: TestRows, other: TestRows) -> str:
    if len(one.rows) != len(other.rows):
        return f"A was tested on {rows_words(len(one.rows))}, B on {len(other.rows):,}"
    if not np.array_equal(one.rows, other.rows):
        shared = len(np.intersect1d(one.rows, other.rows))
        return f"only {shared:,} of the {len(one.rows):,} test rows of A are among those of B"
    if one.targets.shape != other.targets.shape or not np.allclose(
        one.targets, other.targets, rtol=1e-5, atol=0, equal_nan=True
    ):
        return "their test rows have the same numbers but other targets: the data are others"
    if not len(one.rows):
        return "there are no test rows"
    return ""
