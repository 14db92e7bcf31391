"""Two runs, A and B: what differs between their configs, test figures and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.base.errors import shown
from pipeline.base.findings import Array, Findings, TestRows
from pipeline.base.markup import MISSING, TextTable
from pipeline.base.terminal import counted, number
from pipeline.config.plain import differences, flatten
from pipeline.metrics import direction, of_task
from pipeline.reporting.subject import Subject
from pipeline.running.scoring import tested_names
from pipeline.scoring.bootstrap import PairedDifference, paired_differences, units_of_test
from pipeline.scoring.mcnemar import Flips, flips

#: Groups of the config that can't make a run better.
IGNORED = (
    *("format", "name", "output", "tags", "verbose", "details"),
    *("traceback", "tracking", "register"),
)
#: Most test rows that are listed.
MOST_ROWS = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPair:
    """Two runs, A and B, compared: their configs, test figures, and predictions row by row."""

    first: Subject
    second: Subject

    @property
    def findings(self) -> tuple[Findings, Findings]:
        """The findings of A and of B."""
        return self.first.findings, self.second.findings

    @cached_property
    def changes(self) -> Sequence[Sequence[str]]:
        """Key, value in A and value in B where their configs differ, without names and places.

        A missing key is shown differently from a key that is null.
        """
        first, second = self.findings
        first_keys = flatten(first.config).keys()
        second_keys = flatten(second.config).keys()
        changes = []
        for change in differences(first.config, second.config):
            key = change.key
            if key.partition(".")[0] not in IGNORED:
                old = _text_of(change.old) if key in first_keys else MISSING
                new = _text_of(change.new) if key in second_keys else MISSING
                changes.append([key, old, new])
        return changes

    @cached_property
    def obstacle(self) -> str:
        """Why the test rows of A and B can't be compared; empty if they can."""
        first, second = self.findings
        if first.test is None or second.test is None:
            tests = {"A": first.test, "B": second.test}
            letters = [letter for letter, test in tests.items() if test is None]
            return f"no test predictions recorded for {' and '.join(letters)}"
        if (first.task, first.classes) != (second.task, second.classes):
            return f"A is a {_task_words(first)}, B is a {_task_words(second)}"
        return _rows_obstacle(first.test, second.test)

    @cached_property
    def tests(self) -> tuple[TestRows, TestRows] | None:
        """The test rows with the outputs of A, and of B; `None` if there is an obstacle."""
        first, second = (findings.test for findings in self.findings)
        if self.obstacle or first is None or second is None:
            return None
        # An older run has no groups.
        groups = first.groups if first.groups is not None else second.groups
        return replace(first, groups=groups), replace(second, groups=groups)

    @cached_property
    def answers(self) -> tuple[Array, Array] | None:
        """Answers of A and of B for every test row, (rows,); `None` if there is an obstacle.

        An answer is the predicted class (int), or the error in a regression.
        """
        if self.tests is None:
            return None
        first, second = self.findings
        first_test, second_test = self.tests
        if first.task == "regression":
            return first_test.errors, second_test.errors
        return first_test.called(first.threshold), second_test.called(second.threshold)

    @cached_property
    def flips(self) -> Flips | None:
        """How many rows A, B, both or neither get right; `None` for a regression or an obstacle."""
        if self.tests is None or self.answers is None or self.findings[0].task == "regression":
            return None
        test = self.tests[0]
        first, second = self.answers
        return flips(first == test.targets, second == test.targets, groups=test.groups)

    @cached_property
    def rows(self) -> tuple[str, TextTable | None]:
        """A sentence on how the test rows split, and a table of rows in which A and B differ."""
        if self.tests is None or self.answers is None:
            return "", None
        first, second = self.answers
        total = counted(len(first), "test row")
        flips = self.flips
        if flips is None:
            sentence = (
                f"{total}: the error of B is smaller in {(second < first).sum():,}, "
                f"that of A in {(first < second).sum():,}"
            )
            return sentence, _changed_rows(self.findings[0], self.tests, self.answers)
        p_value = "< 0.001" if flips.p < 0.001 else f"= {number(flips.p)}"
        sentence = (
            f"{total}: {flips.second:,} correct only in B, {flips.first:,} only in A, "
            f"{flips.both:,} in both, {flips.neither:,} in neither; "
            f"McNemar's exact p {p_value}"
        )
        return sentence, _flipped_rows(self.findings[0], self.tests, self.answers)

    @cached_property
    def figures(self) -> Mapping[str, PairedDifference]:
        """Each metric that both have on the test rows, with the interval of its difference.

        The interval is missing if the rows can't be paired, and for a user's own metrics.
        """
        first, second = self.findings
        second_names = tested_names(second.task, second.metrics)
        shared = [name for name in tested_names(first.task, first.metrics) if name in second_names]
        figures = {}
        for name in shared:
            key = f"test/{name}"
            figures[name] = PairedDifference(
                first=first.metrics[key], second=second.metrics[key], interval=None
            )
        if self.tests is not None:
            extra_metrics = []
            for name, metric in of_task(first.task).items():
                if name in shared and not metric.is_main:
                    extra_metrics.append(metric)
            paired = paired_differences(
                *self.tests,
                thresholds=(first.threshold, second.threshold),
                units=units_of_test(replace(first, test=self.tests[0])),
                more=extra_metrics,
            )
            figures |= {name: paired[name] for name in shared if name in paired}
        return figures

    def better(self, name: str) -> str:
        """Return the better run, `A` or `B`; empty if the test rows do not show which it is."""
        ends = self.figures[name].interval
        if ends is None or ends[0] <= 0 <= ends[1]:
            return ""
        return "B" if (ends[0] > 0) == (direction(name) == "max") else "A"


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _task_words(findings: Findings) -> str:
    if findings.task == "regression":
        return "regression"
    return f"{findings.task} task of {len(findings.classes)} classes"


def _rows_obstacle(first: TestRows, second: TestRows) -> str:
    """Return why the rows of two tests can't be compared; empty if they can."""
    if len(first.rows) != len(second.rows):
        return f"A was tested on {counted(len(first.rows), 'row')}, B on {len(second.rows):,}"
    if not np.array_equal(first.rows, second.rows):
        shared = len(np.intersect1d(first.rows, second.rows))
        return f"{shared:,} of the {len(first.rows):,} test rows of A are test rows of B"
    # Older runs kept targets that float32 had rounded, relative to their spread.
    rounding = 1e-6 * np.fmax.reduce(np.abs(first.targets), axis=None, initial=0.0)
    if first.targets.shape != second.targets.shape or not np.allclose(
        first.targets, second.targets, rtol=1e-5, atol=rounding, equal_nan=True
    ):
        return "their test rows have the same numbers but different targets"
    return "" if len(first.rows) else "there are no test rows"


def _flipped_rows(
    findings: Findings, tests: Sequence[TestRows], answers: Sequence[Array]
) -> TextTable:
    rows = tests[0].rows
    targets = tests[0].targets
    classes = findings.classes
    first_correct, second_correct = (answer == targets for answer in answers)
    flipped = np.flatnonzero(first_correct != second_correct)
    probabilities = []  # of the predicted class, for each run
    for predicted, test in zip(answers, tests, strict=True):
        by_class = test.probabilities.astype(test.outputs.dtype)
        probabilities.append(by_class[np.arange(len(rows)), predicted])
    # The most certain predictions come first: one of the two is certain and wrong.
    order = flipped[np.argsort(-np.maximum(*probabilities)[flipped], kind="stable")]
    lines = []
    for row in order[:MOST_ROWS]:
        line = [str(rows[row]), classes[targets[row]]]
        for predicted, probability in zip(answers, probabilities, strict=True):
            line.append(f"{classes[predicted[row]]} ({100 * probability[row]:.0f} %)")
        line.append("B" if second_correct[row] else "A")
        lines.append(line)
    return TextTable(
        title=_first(len(order), "test rows that one run classifies correctly, by probability"),
        headings=["row", "true", "A", "B", "correct"],
        lines=lines,
        words=frozenset({1, 2, 3, 4}),
        notes=["in parentheses: probability of the predicted class"],
    )


def _changed_rows(
    findings: Findings, tests: Sequence[TestRows], errors: Sequence[Array]
) -> TextTable:
    first, second = tests
    gains = errors[0] - errors[1]
    order = np.argsort(-np.abs(gains), kind="stable")
    lines = []
    for row in order[:MOST_ROWS]:
        line = [str(first.rows[row])]
        line += [_values(values[row]) for values in (first.targets, first.outputs, second.outputs)]
        line += [number(float(error[row])) for error in errors]
        if gains[row] > 0:
            line.append("B")
        elif gains[row] < 0:
            line.append("A")
        else:
            line.append("equal")
        lines.append(line)
    return TextTable(
        title=_first(len(order), "test rows with the largest difference of errors"),
        headings=["row", "true", "A", "B", "error of A", "error of B", "smaller error"],
        lines=lines,
        words=frozenset({6}),
        notes=[f"values in {findings.units}"] if findings.units else [],
    )


def _values(values: Any) -> str:
    text = ", ".join(number(float(value)) for value in np.atleast_1d(values)[:4])
    return f"{text}, …" if np.size(values) > 4 else text


def _first(count: int, rows: str) -> str:
    return f"{count:,} {rows}" if count <= MOST_ROWS else f"{MOST_ROWS} of {count:,} {rows}"
