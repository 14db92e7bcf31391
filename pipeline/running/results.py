"""What a run comes to: its figures beside the naive and the linear baseline, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from torch import Tensor

from pipeline import metrics
from pipeline.baselines import Baseline
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.metrics import ClassScores, Scores
from pipeline.serving.decision import Decision
from pipeline.terminal import console, duration, number, say

SHOWN = {
    "binary": metrics.CLASSIFICATION,
    "multiclass": metrics.CLASSIFICATION,
    "regression": metrics.REGRESSION,
}


MARGIN = 8
"""Columns of the words before a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPart:
    """The final outputs of the network on the test rows, read once.

    Args:
        rows: Numbers of the rows in the source, (rows,).
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs) in units.
        targets: Classes (rows,), or values (rows, outputs) in units.
        baselines: What simpler predictors say about the same rows: the naive, then the linear.
        groups: Number of the group that each row belongs to, (rows,); `None` = there are none.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    rows: Sequence[int]
    outputs: Tensor
    targets: Tensor
    baselines: tuple[Baseline, ...]
    groups: Indices | None = None


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
        registered: What the registration of its model came to; `None` where none was asked for.
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


def predicted_classes(outputs: Tensor, *, threshold: float) -> Tensor:
    """Decide a class for each row from probabilities (rows,) or (rows, classes)."""
    if outputs.ndim == 1:
        return (outputs > threshold).long()
    return outputs.argmax(dim=1)


def baseline_metrics(test: TestPart, *, naive: Scores, linear: Scores) -> dict[str, float]:
    """Score the baselines by the metrics of the network: `naive/f1`, `linear/rmse`.

    Args:
        test: With the outputs of both.
        naive: The metrics; of a binary task at 0.5, which turns the shares of the classes into the
            most frequent one.
        linear: The metrics at the threshold of the network's training.
    """
    values: dict[str, float] = {}
    kinds = {"naive": naive, "linear": linear}
    for (kind, scores), baseline in zip(kinds.items(), test.baselines, strict=False):
        scored = scores(baseline.outputs, test.targets)
        values |= {f"{kind}/{key}": float(value) for key, value in scored.items()}
    return values


def scores_by_class(test: TestPart, schema: Schema, *, threshold: float) -> tuple[ClassScores, ...]:
    """Count TP, FP, TN and FN of each class on the test rows."""
    if schema.task == "regression":
        return ()
    predicted = predicted_classes(test.outputs, threshold=threshold)
    matrix = metrics.confusion(predicted, test.targets, classes=len(schema.classes))
    return tuple(metrics.class_scores(matrix, schema.classes))


def result_table(result: Result) -> Table:
    """Lay the network's test figures beside the baselines'."""
    return figures_table(
        result.schema, result.metrics, result.baselines, result.classes, heading="test"
    )


def figures_table(
    schema: Schema,
    values: Mapping[str, float],
    baselines: Sequence[str],
    classes: Sequence[ClassScores],
    *,
    heading: str,
) -> Table:
    """Lay the network's figures beside the baselines'.

    Args:
        schema: The meaning of what was predicted.
        values: Figures by name: `test/f1`, `naive/f1`, …
        baselines: Names of the naive and the linear baseline, as far as there are any.
        classes: Counts of each class on the rows.
        heading: The word for the rows that they speak of.
    """
    table = Table(title=title_of(schema, classes), title_justify="left", title_style="bold")
    table.add_column(heading)
    table.add_column("network", justify="right", style="bold")
    kinds = ("naive", "linear")[: len(baselines)]
    for kind, name in zip(kinds, baselines, strict=True):
        table.add_column(f"{kind}: {name}", justify="right")
    for key in metric_names(schema, values):
        cells = [values.get(f"{source}/{key}") for source in ("test", *kinds)]
        table.add_row(key, *("–" if cell is None else number(cell) for cell in cells))
    return table


def metric_names(schema: Schema, values: Mapping[str, float]) -> list[str]:
    """Return the metrics of the task, then those of one's own."""
    ours = SHOWN[schema.task]
    return [*ours, *(name for name in tested_names(schema.task, values) if name not in ours)]


def tested_names(task: str, values: Mapping[str, float]) -> list[str]:
    """Return the metrics of a task that were measured on test rows, then those of one's own."""
    tested = [key.removeprefix("test/") for key in values if key.startswith("test/")]
    ours = [name for name in SHOWN[task] if name in tested]
    return [*ours, *(name for name in tested if name not in (*ours, "loss"))]


def title_of(schema: Schema, classes: Sequence[ClassScores]) -> str:
    """Say what the figures of a table speak of: the positive class, all classes, or a unit."""
    if schema.task == "binary":
        return f"positive class: {escape(str(schema.positive))}"
    if schema.task == "multiclass":
        return mean_words(classes)
    return f"in {escape(schema.units)}" if schema.units else "in the target's units"


def mean_words(classes: Sequence[ClassScores]) -> str:
    """Say which classes the mean of a metric is over: those of the rows, or of the answers."""
    total, there = len(classes), sum(one.support > 0 for one in classes)
    counted = sum(one.support + one.false_positives > 0 for one in classes)
    if there == total:
        return f"mean over {total} classes"
    if counted == there:
        return f"mean over the {there} of {total} classes in these rows"
    which = f"{total} classes" if counted == total else f"{counted} of {total} classes"
    return f"mean over {which}, of which these rows have {there}; auroc over these"


def macro_footnote(values: Mapping[str, float]) -> str:
    """Say what 2PR/(P+R) of the mean precision and recall comes to, which some call macro F1."""
    precision, recall = values["test/precision"], values["test/recall"]
    combined = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return (
        "f1 is the mean of the classes' F1; 2PR/(P+R) of the mean precision and recall is "
        f"{number(combined)}; 0/0 counts as 0"
    )


def print_result(result: Result) -> None:
    """Print the test figures beside the baselines', the classes, and where everything lies."""
    shown = console()
    if result.baselines:
        shown.print(result_table(result))
    if result.classes:
        shown.print(class_table(result.classes))
    if len(result.classes) > 2:
        say(shown, macro_footnote(result.metrics), style="dim")
    print_doctor(result.doctor)
    shown.print("\n".join(_last_lines(result)), soft_wrap=True, markup=False)


def print_doctor(lines: Sequence[str]) -> None:
    """Print what the doctor says; in a terminal its words stay beside the heading."""
    shown = console()
    for line in lines:
        if not shown.is_terminal:
            say(shown, line)
            continue
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"{line[:MARGIN].rstrip():{MARGIN - 1}}", escape(line[MARGIN:]))
        shown.print(grid)


def class_table(classes: Sequence[ClassScores]) -> Table:
    """List each class with its counts, precision, recall, F1 and support."""
    table = Table(title="by class", title_justify="left", title_style="bold")
    table.add_column("class")
    for heading in ("TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"):
        table.add_column(heading, justify="right")
    for scores in classes:
        shares = (scores.precision, scores.recall, scores.f1)
        cells = [*map(str, scores.counts), *map(number, shares), str(scores.support)]
        table.add_row(escape(scores.name), *cells)
    return table


def _threshold(result: Result) -> str:
    chosen = f"{number(result.decision.threshold)} ({result.decision.found})"
    return f"threshold {chosen}{'; the baselines keep 0.5' if result.baselines else ''}"


def _last_lines(result: Result) -> list[str]:
    lines = []
    if "best/epoch" in result.metrics:
        lines.append(f"kept    epoch {result.metrics['best/epoch']:.0f} of {result.epochs}")
    if result.decision.found:
        lines.append(_threshold(result))
    took = f"{duration(result.seconds)}, {duration(result.metrics['time/fit'])} of it training"
    lines.append(f"took    {took}")
    lines.append(f"run     {result.folder}")
    if result.registered is not None:
        lines.append(f"model   {result.registered}")
    return [*lines, *where_lines(result.where_to_look, unsent=result.unsent)]


def where_lines(where_to_look: Sequence[str], *, unsent: int) -> list[str]:
    """Say what shows the runs, and how many values do not show yet."""
    headed = zip(("see it", ""), where_to_look, strict=False)
    lines = [f"{heading:8}{line}" for heading, line in headed]
    if unsent:
        lines.append(
            f"unsent  {unsent} values wait in the run folder; the warning names the command that "
            "sends them"
        )
    return lines
