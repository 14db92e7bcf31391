"""Result of a run: its figures beside the naive and the linear baseline, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from pipeline.data.schema import Schema
from pipeline.markup import figure_text
from pipeline.metrics import CLASSIFICATION, REGRESSION, ClassScores
from pipeline.serving.model import Decision
from pipeline.terminal import console, duration, number, say

MARGIN = 8
"""Width of the heading before a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a finished run leaves.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run; `None` where nothing is tracked.
        name: Name of the run.
        metrics: Final values by name: `test/f1`, `best/epoch`, `best/val/f1`, `naive/f1`, …
        kept: Values of training and validation that belong to the weights the run keeps.
        history: Values of each epoch, counted from 1.
        classes: Counts and scores of each class on the test rows; empty for a regression.
        schema: The meaning of inputs and outputs.
        decision: What turns outputs into answers.
        baselines: Names of the naive and the linear baseline; empty where nothing was tested.
        epochs: Epochs trained.
        parameters: Weights of the network.
        pruned: Training was ended because others did better.
        seconds: Time from the start of the command's work to its end.
        unsent: Values that the tracking server has not got yet.
        registered: Result of the registration of its model; `None` where none was asked for.
        doctor: What the doctor says, in lines for the terminal.
        where_to_look: Command and address that show the runs; empty where nothing is tracked.
    """

    folder: Path
    run_id: str | None
    name: str
    metrics: Mapping[str, float]
    kept: Mapping[str, float]
    history: Mapping[int, Mapping[str, float]]
    classes: tuple[ClassScores, ...]
    schema: Schema
    decision: Decision = field(default_factory=Decision)
    baselines: tuple[str, ...]
    epochs: int
    parameters: int
    pruned: bool
    seconds: float
    unsent: int
    where_to_look: tuple[str, ...]
    registered: str | None = None
    doctor: tuple[str, ...] = ()


def tested_names(task: str, values: Mapping[str, float]) -> list[str]:
    """Return the metrics of a task that were measured on test rows, then the user's own."""
    tested = [key.removeprefix("test/") for key in values if key.startswith("test/")]
    ours = [name for name in _names(task) if name in tested]
    return [*ours, *(name for name in tested if name not in (*ours, "loss"))]


def metric_names(schema: Schema, values: Mapping[str, float]) -> list[str]:
    """Return all metrics of the task, then the user's own."""
    return list(dict.fromkeys([*_names(schema.task), *tested_names(schema.task, values)]))


def _names(task: str) -> tuple[str, ...]:
    return REGRESSION if task == "regression" else CLASSIFICATION


def mean_words(classes: Sequence[ClassScores]) -> str:
    """Return in words over which classes a metric is averaged."""
    total, there = len(classes), sum(one.support > 0 for one in classes)
    counted = sum(one.support + one.false_positives > 0 for one in classes)
    if there == total:
        return f"mean over {total} classes"
    if counted == there:
        return f"mean over the {there} of {total} classes in these rows"
    which = f"{total} classes" if counted == total else f"{counted} of {total} classes"
    return f"mean over {which}, of which these rows have {there}; auroc over these"


def print_figures(
    schema: Schema,
    values: Mapping[str, float],
    baselines: Sequence[str],
    classes: Sequence[ClassScores],
    *,
    heading: str,
) -> None:
    """Print the network's figures beside the baselines', then those of each class.

    Args:
        schema: The meaning of what was predicted.
        values: Figures by name: `test/f1`, `naive/f1`, …
        baselines: Names of the naive and the linear baseline, as far as there are any.
        classes: Counts of each class on the rows; empty for a regression.
        heading: The word for the rows.
    """
    if schema.task == "binary":
        title = f"positive class: {escape(str(schema.positive))}"
    elif schema.task == "multiclass":
        title = mean_words(classes)
    else:
        title = f"in {escape(schema.units)}" if schema.units else "in the target's units"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(heading)
    table.add_column("network", justify="right", style="bold")
    kinds = ("naive", "linear")[: len(baselines)]
    for kind, name in zip(kinds, baselines, strict=True):
        table.add_column(f"{kind}: {name}", justify="right")
    for key in metric_names(schema, values):
        table.add_row(key, *(figure_text(values, f"{kind}/{key}") for kind in ("test", *kinds)))
    console().print(table)
    if classes:
        _print_classes(classes, values)


def _print_classes(classes: Sequence[ClassScores], values: Mapping[str, float]) -> None:
    table = Table(title="by class", title_justify="left", title_style="bold")
    table.add_column("class")
    for heading in ("TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"):
        table.add_column(heading, justify="right")
    for scores in classes:
        shares = (scores.precision, scores.recall, scores.f1)
        cells = [*map(str, scores.counts), *map(number, shares), str(scores.support)]
        table.add_row(escape(scores.name), *cells)
    console().print(table)
    if len(classes) <= 2:
        return
    precision, recall = values["test/precision"], values["test/recall"]
    combined = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    say(
        console(),
        "f1 is the mean of the classes' F1; 2PR/(P+R) of the mean precision and recall is "
        f"{number(combined)}; 0/0 counts as 0",
        style="dim",
    )


def print_result(result: Result) -> None:
    """Print the test figures beside the baselines', the diagnosis, and where everything lies."""
    if result.baselines:
        print_figures(
            result.schema, result.metrics, result.baselines, result.classes, heading="test"
        )
    print_doctor(result.doctor)
    lines = []
    if "best/epoch" in result.metrics:
        lines.append(f"kept    epoch {result.metrics['best/epoch']:.0f} of {result.epochs}")
    if result.decision.found:
        chosen = f"{number(result.decision.threshold)} ({result.decision.found})"
        kept = "; the baselines keep 0.5" if result.baselines else ""
        lines.append(f"threshold {chosen}{kept}")
    fit = duration(result.metrics["time/fit"])
    lines.append(f"took    {duration(result.seconds)}, {fit} of it training")
    lines.append(f"run     {result.folder}")
    if result.registered is not None:
        lines.append(f"model   {result.registered}")
    lines += where_lines(result.where_to_look, unsent=result.unsent)
    console().print("\n".join(lines), soft_wrap=True, markup=False)


def print_doctor(lines: Sequence[str]) -> None:
    """Print the diagnosis; in a terminal its words stay beside the heading."""
    shown = console()
    for line in lines:
        if not shown.is_terminal:
            say(shown, line)
            continue
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"{line[:MARGIN].rstrip():{MARGIN - 1}}", escape(line[MARGIN:]))
        shown.print(grid)


def where_lines(where_to_look: Sequence[str], *, unsent: int) -> list[str]:
    """Return in lines what shows the runs, and how many values do not show yet."""
    headed = zip(("see it", ""), where_to_look, strict=False)
    lines = [f"{heading:8}{line}" for heading, line in headed]
    if unsent:
        lines.append(
            f"unsent  {unsent} values wait in the run folder; the warning names the command that "
            "sends them"
        )
    return lines
