"""The report of two runs, A and B: whether B is better than A, and what differs between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.bootstrap import Flips, PairedDifference, flips, paired_differences, units_of_test
from pipeline.config.options import ReportOptions
from pipeline.config.record import differences, flatten
from pipeline.config.values import TARGET
from pipeline.errors import ConfigError, shown
from pipeline.findings import Array, Findings, TestRows
from pipeline.markup import MISSING, TextTable, interval_text
from pipeline.metrics import direction, metric_label, of_task
from pipeline.pictures import style
from pipeline.pictures.style import Picture
from pipeline.pictures.training import draw_curve, known_values, mark_kept
from pipeline.reporting.page import drawn, rendered
from pipeline.reporting.run_page import size_words, summary
from pipeline.reporting.subject import SHORT_ID, Subject, found_subject
from pipeline.running.run_document import main_metric, rows_words
from pipeline.running.scoring import no_interval_notes, tested_names
from pipeline.terminal import duration, number, rounded

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
        configs = [findings.config for findings in self.findings]
        flat, found = [flatten(config) for config in configs], []
        for one in differences(*configs):
            if one.key.partition(".")[0] not in IGNORED:
                texts = [
                    MISSING if one.key not in config else x if isinstance(x, str) else shown(x)
                    for config, x in zip(flat, (one.old, one.new), strict=True)
                ]
                found.append([one.key, *texts])
        return found

    @cached_property
    def obstacle(self) -> str:
        """Why the test rows of A and B can't be compared; empty if they can."""
        one, other = self.findings
        if one.test is None or other.test is None:
            lacking = [x for x, run in zip("AB", self.findings, strict=True) if run.test is None]
            return f"no test predictions recorded for {' and '.join(lacking)}"
        if (one.task, one.classes) != (other.task, other.classes):
            words = [f"{run.task} task of {len(run.classes)} classes" for run in self.findings]
            told = (text if "regression" not in text else "regression" for text in words)
            return "A is a {}, B is a {}".format(*told)
        before, after = one.test, other.test
        if len(before.rows) != len(after.rows):
            return f"A was tested on {rows_words(len(before.rows))}, B on {len(after.rows):,}"
        if not np.array_equal(before.rows, after.rows):
            shared = len(np.intersect1d(before.rows, after.rows))
            return f"{shared:,} of the {len(before.rows):,} test rows of A are test rows of B"
        # Older runs kept targets that float32 had rounded, relative to their spread.
        rounding = 1e-6 * np.fmax.reduce(np.abs(before.targets), axis=None, initial=0.0)
        if before.targets.shape != after.targets.shape or not np.allclose(
            before.targets, after.targets, rtol=1e-5, atol=rounding, equal_nan=True
        ):
            return "their test rows have the same numbers but different targets"
        return "" if len(before.rows) else "there are no test rows"

    @cached_property
    def tests(self) -> tuple[TestRows, TestRows] | None:
        """The test rows with the outputs of A, and of B; `None` if there is an obstacle."""
        one, other = (findings.test for findings in self.findings)
        if self.obstacle or one is None or other is None:
            return None
        groups = one.groups if one.groups is not None else other.groups  # an older run has none
        return replace(one, groups=groups), replace(other, groups=groups)

    @cached_property
    def answers(self) -> tuple[Array, Array] | None:
        """Answers of A and of B for every test row, (rows,); `None` if there is an obstacle.

        An answer is the predicted class (int), or the error in a regression.
        """
        if self.tests is None:
            return None
        (first, second), (one, other) = self.findings, self.tests
        if first.task == "regression":
            return one.errors, other.errors
        return one.called(first.threshold), other.called(second.threshold)

    @cached_property
    def flips(self) -> Flips | None:
        """How many rows A, B, both or neither get right; `None` for a regression or an obstacle."""
        if self.tests is None or self.answers is None or self.findings[0].task == "regression":
            return None
        one, other = (answer == self.tests[0].targets for answer in self.answers)
        return flips(one, other, groups=self.tests[0].groups)

    @cached_property
    def rows(self) -> tuple[str, TextTable | None]:
        """A sentence on how the test rows split, and a table of rows in which A and B differ."""
        if self.tests is None or self.answers is None:
            return "", None
        before, after = self.answers
        total, one = rows_words(len(before), "test row"), self.flips
        if one is not None:
            return (
                f"{total}: {one.second:,} correct only in B, {one.first:,} only in A, "
                f"{one.both:,} in both, {one.neither:,} in neither; "
                f"McNemar's exact p {'< 0.001' if one.p < 0.001 else f'= {number(one.p)}'}"
            ), _flipped_rows(self.findings[0], self.tests, self.answers)
        return (
            f"{total}: the error of B is smaller in {(after < before).sum():,}, "
            f"that of A in {(before < after).sum():,}"
        ), _changed_rows(self.findings[0], self.tests, self.answers)

    @cached_property
    def figures(self) -> Mapping[str, PairedDifference]:
        """Each metric that both have on the test rows, with the interval of its difference.

        The interval is missing if the rows can't be paired, and for a user's own metrics.
        """
        one, other = self.findings
        theirs = tested_names(other.task, other.metrics)
        shared = [name for name in tested_names(one.task, one.metrics) if name in theirs]
        paired: dict[str, PairedDifference] = {}
        if self.tests is not None:
            units = units_of_test(replace(one, test=self.tests[0]))
            thresholds = (one.threshold, other.threshold)
            more = [metric for name, metric in of_task(one.task).items() if name in shared]
            paired |= paired_differences(
                *self.tests,
                thresholds=thresholds,
                units=units,
                more=[metric for metric in more if not metric.is_main],
            )
        figures = {}
        for name in shared:
            first, second = (run.metrics[f"test/{name}"] for run in self.findings)
            unpaired = PairedDifference(first=first, second=second, interval=None)
            figures[name] = paired.get(name, unpaired)
        return figures

    def better(self, name: str) -> str:
        """Return the better run, `A` or `B`; empty if the test rows do not show which it is."""
        ends = self.figures[name].interval
        if ends is None or ends[0] <= 0 <= ends[1]:
            return ""
        return "B" if (ends[0] > 0) == (direction(name) == "max") else "A"


def report_pair(references: Sequence[str], options: ReportOptions) -> list[str]:
    """Write the report of two runs against each other, and return what the terminal shows."""
    first, second = (found_subject(reference, options) for reference in references)
    for subject, reference in zip((first, second), references, strict=True):
        if subject.is_range_test:
            raise ConfigError(
                f"run {reference!r} is a learning rate range test; expected trained runs"
            )
    pair = RunPair(first=first, second=second)
    run_id = first.findings.run_id[:SHORT_ID]
    word = run_id if first.folder is None else first.folder.name[-LONGEST_WORD:]
    text = rendered("comparison.html", pair_page(pair))
    return [*lines(pair), second.publish(text, options, f"report-against-{word}.html")]


def pair_page(pair: RunPair) -> dict[str, Any]:
    """Return the values for the template of a comparison."""
    names = [findings.name for findings in pair.findings]
    runs = {"A": pair.first, "B": pair.second}
    costs = [_costs(run) for run in runs.values()]
    flips, rows = pair.rows
    return {
        "title": f"{names[1]} against {names[0]}",
        "summary": f"{verdict(pair)}.",
        "subjects": [(x, run.findings.name, summary(run), run.lacks) for x, run in runs.items()],
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
        "pictures": drawn(_pictures(pair)),
        "costs": TextTable(
            title="time and size",
            headings=["", "A", "B"],
            lines=[[key, text, costs[1][key]] for key, text in costs[0].items()],
            words=frozenset({0, 1, 2}),
        ),
        "is_other_data": pair.findings[0].data_hash != pair.findings[1].data_hash,
    }


def lines(pair: RunPair) -> list[str]:
    """Return the lines for the terminal, at most five."""
    one, other = pair.findings
    rows = f"not compared: {pair.obstacle}" if pair.obstacle else pair.rows[0]
    sizes = [f"{run.parameters:,}" if run.parameters else MISSING for run in pair.findings]
    took = (duration(run.seconds) for run in (other, one))
    times = f"; {' against '.join(took)}" if one.seconds and other.seconds else ""
    return [
        f"B {other.name} against A {one.name}",
        f"result  {verdict(pair)}",
        *([f"rows    {rows}"] if rows else []),
        f"config  {_changes_words(pair)}",
        f"cost    {sizes[1]} parameters against {sizes[0]}{times}",
    ]


def verdict(pair: RunPair) -> str:
    """Say which run is better, by how much, and how certain that is.

    The better run is named first, and the difference is counted in its favour.
    """
    name = main_metric(pair.findings[1])
    if name not in pair.figures:
        name = next(iter(pair.figures), None)
    if name is None:
        return _not_compared(pair)
    found, better = pair.figures[name], pair.better(name)
    own = tuple(findings.name for findings in pair.findings)
    names = own if own[0] != own[1] else ("A", "B")
    order = (1, 0) if better != "A" else (0, 1)
    values = (found.first, found.second)
    ends = found.interval
    first, second = (rounded(values[at], ends) for at in order)
    if ends is None:
        told = f"{names[1]} {first}, {names[0]} {second}"
        return f"{metric_label(name)}: {told}; the difference has no confidence interval"
    sizes = sorted(abs(end) for end in ends) if better else ends
    size = abs(found.value) if better else found.value
    reach = f"difference {rounded(size, ends)}"
    if (interval := interval_text(sizes)) != MISSING:
        reach += f", 95 % CI {interval}"
    if better:
        figures = f"{metric_label(name)} {first} against {second}"
        return f"{names[order[0]]} is better: {figures} ({reach})"
    figures = f"{names[1]} {first} against {names[0]} {second}"
    return f"no significant difference in {metric_label(name)}: {figures} ({reach})"


def _not_compared(pair: RunPair) -> str:
    told = []
    for letter, findings in zip("AB", pair.findings, strict=True):
        name = main_metric(findings)
        state = "diverged" if findings.has_diverged else "not tested"
        if name is not None:
            state = f"test {metric_label(name)} {rounded(findings.metrics[f'test/{name}'])}"
        told.append(f"{letter}: {state}")
    return f"no common test metric ({', '.join(told)})"


def _figures_table(pair: RunPair) -> TextTable:
    lines, notes, unsure = [], [DIFFERENCE] if pair.tests else [], list[str]()
    for name, found in pair.figures.items():
        ends, better = interval_text(found.interval), pair.better(name) or MISSING
        if ends == MISSING and pair.tests:
            unsure.append(name)
        values = (found.first, found.second, found.value)
        figures = (rounded(value, found.interval) for value in values)
        lines.append([name, *figures, ends, better])
    return TextTable(
        title="test metrics",
        headings=["metric", "A", "B", "B − A", "95 % CI", "better"],
        lines=lines,
        words=frozenset({0, 5}),
        notes=[*notes, *no_interval_notes(pair.findings[0].task, unsure, own_reason=OWN_REASON)],
    )


def _costs(run: Subject) -> dict[str, str]:
    found, took = run.findings, run.findings.seconds
    return {
        "network": found.model,
        "parameters": f"{found.parameters:,}" if found.parameters else MISSING,
        "model file": MISSING if run.size is None else size_words(run.size),
        "training time": duration(took) if took else MISSING,
        "epochs": found.epochs_words if found.epochs else MISSING,
        "seconds per epoch": rounded(took / len(found.history)) if found.history else MISSING,
        "device": found.device or MISSING,
    }


def _changes_words(pair: RunPair) -> str:
    """Return a line with the first differences of the configs, of keys that both have."""
    if not pair.changes:
        return "equal except for names and paths"
    told = []
    for key, *values in [one for one in pair.changes if MISSING not in one[1:]][:MOST_CHANGES]:
        name = key.removesuffix(f".{TARGET}")
        # The name of a class is enough, since its group says what it is.
        texts = values if name == key else (value.rpartition(".")[2] for value in values)
        told.append(f"{name} {' → '.join(texts)}")
    more = len(pair.changes) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _flipped_rows(
    findings: Findings, tests: Sequence[TestRows], answers: Sequence[Array]
) -> TextTable:
    rows, targets, classes = tests[0].rows, tests[0].targets, findings.classes
    right = [answer == targets for answer in answers]
    flipped = np.flatnonzero(right[0] != right[1])
    chances = [
        one.probabilities.astype(one.outputs.dtype)[np.arange(len(rows)), said]
        for said, one in zip(answers, tests, strict=True)
    ]
    # The most certain predictions come first: one of the two is certain and wrong.
    order = flipped[np.argsort(-np.maximum(*chances)[flipped], kind="stable")]
    lines = []
    for at in order[:MOST_ROWS]:
        both = zip(answers, chances, strict=True)
        told = [f"{classes[said[at]]} ({100 * chance[at]:.0f} %)" for said, chance in both]
        lines.append([str(rows[at]), classes[targets[at]], *told, "B" if right[1][at] else "A"])
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
    before, after = tests
    gains = errors[0] - errors[1]
    order = np.argsort(-np.abs(gains), kind="stable")
    lines = []
    for at in order[:MOST_ROWS]:
        values = (_values(one[at]) for one in (before.targets, before.outputs, after.outputs))
        off = (number(float(one[at])) for one in errors)
        nearer = "B" if gains[at] > 0 else "A" if gains[at] < 0 else "equal"
        lines.append([str(before.rows[at]), *values, *off, nearer])
    return TextTable(
        title=_first(len(order), "test rows with the largest difference of errors"),
        headings=["row", "true", "A", "B", "error of A", "error of B", "smaller error"],
        lines=lines,
        words=frozenset({6}),
        notes=[f"values in {findings.units}"] if findings.units else [],
    )


def _values(values: Any) -> str:
    few = [number(float(value)) for value in np.atleast_1d(values)[:4]]
    return ", ".join(few) + (", …" if np.size(values) > len(few) else "")


def _first(count: int, what: str) -> str:
    return f"{count:,} {what}" if count <= MOST_ROWS else f"{MOST_ROWS} of {count:,} {what}"


def _pictures(pair: RunPair) -> Iterator[Picture]:
    """Yield the losses of both, then the metrics that chose the kept epochs."""
    judged = [findings.monitor.rpartition("/")[2] for findings in pair.findings]
    for name in dict.fromkeys(["loss", *judged]):
        courses = []
        for part, look in style.PARTS.items():
            for letter, findings in zip("AB", pair.findings, strict=True):
                values = known_values(findings, f"{part}/{name}")
                if len(values):
                    first, last = rounded(values[0]), rounded(values[-1])
                    courses.append(f"{look['label']} of {letter} from {first} to {last}")
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
