"""The report of two runs, A and B: whether B is better than A, and what differs between them."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import ConfigError
from pipeline.base.findings import Findings
from pipeline.base.markup import MISSING, TextTable, interval_text
from pipeline.base.terminal import duration, rounded
from pipeline.config.options import ReportOptions
from pipeline.config.targets import TARGET
from pipeline.metrics import metric_label
from pipeline.pictures import style
from pipeline.pictures.style import Picture
from pipeline.pictures.training import draw_curve, known_values, mark_kept
from pipeline.reporting.page import draw_pictures, render
from pipeline.reporting.run_page import size_words, summary
from pipeline.reporting.run_pair import RunPair
from pipeline.reporting.subject import SHORT_ID, Subject, find_subject
from pipeline.running.run_document import main_metric
from pipeline.running.scoring import no_interval_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Most differences of the configs that a line names.
MOST_CHANGES = 3
#: Why the difference of a user's own metric has no interval: its class may not be trusted here.
OWN_REASON = "only built-in metrics have one"
LONGEST_WORD = 40
DIFFERENCE = (
    "B − A: difference, with its 95 % CI from a paired bootstrap over the test rows. If the "
    f"interval contains 0 or is missing, the test rows do not show which run is better ({MISSING})"
)


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
