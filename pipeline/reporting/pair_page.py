"""The report of two runs, A and B: whether B is better than A, and what differs between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import ConfigError, shown
from pipeline.base.findings import Array, Findings, TestRows
from pipeline.base.markup import MISSING, TextTable, interval_text
from pipeline.base.terminal import counted, duration, number, rounded
from pipeline.config.options import ReportOptions
from pipeline.config.plain import differences, flatten
from pipeline.config.targets import TARGET
from pipeline.metrics import direction, metric_label, of_task
from pipeline.pictures import style
from pipeline.pictures.style import Picture
from pipeline.pictures.training import draw_curve, known_values, mark_kept
from pipeline.reporting.page import draw_pictures, render
from pipeline.reporting.run_page import size_words, summary
from pipeline.reporting.subject import SHORT_ID, Subject, find_subject
from pipeline.running.run_document import main_metric
from pipeline.running.scoring import no_interval_notes, tested_names
from pipeline.scoring.bootstrap import (
    Flips,
    PairedDifference,
    flips,
    paired_differences,
    units_of_test,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Groups of the config that can't make a run better.
IGNORED = (
    *("format", "name", "output", "tags", "verbose", "details"),
    *("traceback", "tracking", "register"),
)
#: Most differences of the configs that a line names.
MOST_CHANGES = 3
#: Why the difference of a user's own metric has no interval: its class may not be trusted here.
OWN_REASON = "only built-in metrics have one"
#: Most test rows that are listed.
MOST_ROWS = 50
LONGEST_WORD = 40
DIFFERENCE = (
    "B − A: difference, with its 95 % CI from a paired bootstrap over the test rows. If the "
    f"interval contains 0 or is missing, the test rows do not show which run is better ({MISSING})"
)


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


def report_pair(references: Sequence[str], options: ReportOptions) -> list[str]:
    """Write the report of two runs against each other, and return what the terminal shows."""
    first, second = (find_subject(reference, options) for reference in references)
    for subject, reference in zip((first, second), references, strict=True):
        if subject.is_range_test:
            raise ConfigError(
                f"run {reference!r} is a learning rate range test; expected trained runs"
            )
    pair = RunPair(first=first, second=second)
    if first.folder is None:
        name = first.findings.run_id[:SHORT_ID]
    else:
        name = first.folder.name[-LONGEST_WORD:]
    text = render("comparison.html", pair_page(pair))
    return [*lines(pair), second.publish(text, options, f"report-against-{name}.html")]


def pair_page(pair: RunPair) -> dict[str, Any]:
    """Return the values for the template of a comparison."""
    names = [findings.name for findings in pair.findings]
    runs = (("A", pair.first), ("B", pair.second))
    first_costs = _costs(pair.first)
    second_costs = _costs(pair.second)
    flips, rows = pair.rows
    return {
        "title": f"{names[1]} against {names[0]}",
        "summary": f"{verdict(pair)}.",
        "subjects": [(letter, run.findings.name, summary(run), run.lacks) for letter, run in runs],
        "obstacle": pair.obstacle,
        "figures": _figures_table(pair) if pair.figures else None,
        "changes": TextTable(
            title="different configuration values (without names and paths)",
            headings=["key", "A", "B"],
            lines=pair.changes,
            words=frozenset({0, 1, 2}),
        ),
        "flips": flips,
        "rows": rows,
        "pictures": draw_pictures(_pictures(pair)),
        "costs": TextTable(
            title="time and size",
            headings=["", "A", "B"],
            lines=[[key, text, second_costs[key]] for key, text in first_costs.items()],
            words=frozenset({0, 1, 2}),
        ),
        "is_other_data": pair.findings[0].data_hash != pair.findings[1].data_hash,
    }


def lines(pair: RunPair) -> list[str]:
    """Return the lines for the terminal, at most five."""
    first, second = pair.findings
    lines = [f"B {second.name} against A {first.name}", f"result  {verdict(pair)}"]
    rows = f"not compared: {pair.obstacle}" if pair.obstacle else pair.rows[0]
    if rows:
        lines.append(f"rows    {rows}")
    lines.append(f"config  {_changes_words(pair)}")
    cost = f"{_parameters_text(second)} parameters against {_parameters_text(first)}"
    if first.seconds and second.seconds:
        cost += f"; {duration(second.seconds)} against {duration(first.seconds)}"
    lines.append(f"cost    {cost}")
    return lines


def _parameters_text(findings: Findings) -> str:
    return f"{findings.parameters:,}" if findings.parameters else MISSING


def verdict(pair: RunPair) -> str:
    """Say which run is better, by how much, and how certain that is.

    The better run is named first, and the difference is counted in its favour.
    """
    name = main_metric(pair.findings[1])
    if name not in pair.figures:
        name = next(iter(pair.figures), None)
    if name is None:
        return _not_compared(pair)
    metric = metric_label(name)
    figure = pair.figures[name]
    ends = figure.interval
    first_value = rounded(figure.first, ends)
    second_value = rounded(figure.second, ends)
    first_name, second_name = (findings.name for findings in pair.findings)
    if first_name == second_name:
        first_name = "A"
        second_name = "B"
    if ends is None:
        values = f"{second_name} {second_value}, {first_name} {first_value}"
        return f"{metric}: {values}; the difference has no confidence interval"
    better = pair.better(name)
    if not better:
        difference = _difference_words(figure.value, ends, ends)
        values = f"{second_name} {second_value} against {first_name} {first_value}"
        return f"no significant difference in {metric}: {values} ({difference})"
    difference = _difference_words(abs(figure.value), sorted(abs(end) for end in ends), ends)
    if better == "A":
        winner = first_name
        values = f"{first_value} against {second_value}"
    else:
        winner = second_name
        values = f"{second_value} against {first_value}"
    return f"{winner} is better: {metric} {values} ({difference})"


def _difference_words(size: float, interval: Sequence[float], ends: tuple[float, float]) -> str:
    """Return a difference, rounded to the precision of `ends`, and its interval if it has one."""
    words = f"difference {rounded(size, ends)}"
    text = interval_text(interval)
    return words if text == MISSING else f"{words}, 95 % CI {text}"


def _not_compared(pair: RunPair) -> str:
    states = []
    for letter, findings in zip("AB", pair.findings, strict=True):
        name = main_metric(findings)
        state = "diverged" if findings.has_diverged else "not tested"
        if name is not None:
            state = f"test {metric_label(name)} {rounded(findings.metrics[f'test/{name}'])}"
        states.append(f"{letter}: {state}")
    return f"no common test metric ({', '.join(states)})"


def _figures_table(pair: RunPair) -> TextTable:
    lines = []
    without_interval = []
    for name, figure in pair.figures.items():
        interval = interval_text(figure.interval)
        if interval == MISSING:
            without_interval.append(name)
        values = (figure.first, figure.second, figure.value)
        texts = [rounded(value, figure.interval) for value in values]
        lines.append([name, *texts, interval, pair.better(name) or MISSING])
    notes = []
    if pair.tests:
        task = pair.findings[0].task
        notes = [DIFFERENCE, *no_interval_notes(task, without_interval, own_reason=OWN_REASON)]
    return TextTable(
        title="test metrics",
        headings=["metric", "A", "B", "B − A", "95 % CI", "better"],
        lines=lines,
        words=frozenset({0, 5}),
        notes=notes,
    )


def _costs(run: Subject) -> dict[str, str]:
    findings = run.findings
    seconds = findings.seconds
    epochs = len(findings.history)
    return {
        "network": findings.model,
        "parameters": _parameters_text(findings),
        "model file": MISSING if run.size is None else size_words(run.size),
        "training time": duration(seconds) if seconds else MISSING,
        "epochs": findings.epochs_words if findings.epochs else MISSING,
        "seconds per epoch": rounded(seconds / epochs) if epochs else MISSING,
        "device": findings.device or MISSING,
    }


def _changes_words(pair: RunPair) -> str:
    """Return a line with the first differences of the configs, of keys that both have."""
    if not pair.changes:
        return "equal except for names and paths"
    changes: list[str] = []
    for key, old, new in pair.changes:
        if MISSING in (old, new) or len(changes) == MOST_CHANGES:
            continue
        if key.endswith(f".{TARGET}"):
            # The name of a class is enough, since its group says what it is.
            group = key.removesuffix(f".{TARGET}")
            changes.append(f"{group} {old.rpartition('.')[2]} → {new.rpartition('.')[2]}")
        else:
            changes.append(f"{key} {old} → {new}")
    words = ", ".join(changes)
    unnamed = len(pair.changes) - len(changes)
    return f"{words} and {unnamed} more" if unnamed else words


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


def _pictures(pair: RunPair) -> Iterator[Picture]:
    """Yield the losses of both, then the metrics that chose the kept epochs."""
    monitored = [findings.monitor.rpartition("/")[2] for findings in pair.findings]
    for name in dict.fromkeys(["loss", *monitored]):
        courses = []
        for part, look in style.PARTS.items():
            for letter, findings in zip("AB", pair.findings, strict=True):
                values = known_values(findings, f"{part}/{name}")
                if len(values):
                    ends = f"from {rounded(values[0])} to {rounded(values[-1])}"
                    courses.append(f"{look['label']} of {letter} {ends}")
        if courses:
            title = f"{metric_label(name)} by epoch"
            draw = partial(_draw, pair, name)
            yield Picture(f"curves/{name}", title, ", ".join(courses), draw)


def _draw(pair: RunPair, name: str) -> "Figure":
    """Draw the values by epoch of each run, A on the left and B on the right, on one scale."""
    figure, axes = style.panels(2, 2, sharey=True)
    drawn_values = [np.zeros(0)]
    for panel, letter, findings in zip(axes[0], "AB", pair.findings, strict=True):
        for part, look in style.PARTS.items():
            values = known_values(findings, f"{part}/{name}")
            if len(values):
                draw_curve(panel, findings, f"{part}/{name}", **look)
            drawn_values.append(values)
        mark_kept(panel, findings)
        panel.set_title(f"{letter}: {style.label(findings.name)}")
    if name == "loss":
        style.log_scale_if_wide(axes[0, 0], np.concatenate(drawn_values))
    axes[0, 0].set_ylabel(name)
    style.below(figure, *axes[0], columns=3)
    return figure
