"""What a run prints: an overview at the start, then its metrics beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pipeline.config.values import TARGET
from pipeline.data.report_text import lines as report_lines
from pipeline.data.schema import Schema
from pipeline.markup import MISSING, figure_text
from pipeline.metrics import ClassScores, mean_words
from pipeline.networks.inspection import LayerRow
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.scoring import metric_names
from pipeline.serving.model import Decision
from pipeline.terminal import console, duration, headed, number, say, shown_verbosity, waiting_for

if TYPE_CHECKING:
    from pipeline.running.kept_weights import ScoredTest

#: Width of the heading in front of a line.
MARGIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a finished run leaves.

    Args:
        record: Folder, journal and MLflow id of the run, and the number of unsent values.
        metrics: Final values by name: `test/f1`, `best/epoch`, `best/val/f1`, `naive/f1`, …
        kept: Training and validation values of the kept weights.
        history: Values of each epoch, counted from 1.
        schema: The meaning of inputs and outputs.
        decision: The threshold or the intervals that turn outputs into answers.
        test: Predictions and metrics of the test; `None` = there was no test.
        epochs: Number of epochs trained.
        parameters: Number of weights of the network.
        pruned: Whether training was ended because other trials were better.
        seconds: Time from the start of the command's work to its end.
        doctor: The diagnosis, in lines for the terminal.
    """

    record: Record
    metrics: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, float]
    history: Mapping[int, Mapping[str, float]]
    schema: Schema
    decision: Decision = field(default_factory=Decision)
    test: ScoredTest | None = None
    epochs: int
    parameters: int
    pruned: bool
    seconds: float
    doctor: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[ClassScores, ...]:
        """Counts and scores of each class on the test rows; empty for a regression."""
        return () if self.test is None else self.test.classes

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.record.folder

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; `None` if nothing is tracked."""
        return self.record.run_id


# ── before a run ────────────────────────────────────────────────────────────────────────────


def print_overview(plan: Plan) -> None:
    """Print data and devices of a run; with `verbose=1`, its config and its layers as well."""
    verbose, shown = shown_verbosity(plan.options.verbose), console()
    if verbose == 1:
        shown.print(Group(_config_tree(plan.config), _layer_table(plan.layers, plan.parameters)))
    if verbose == 0:
        return
    prepared, usual = plan.prepared, plan.usual_threads
    threads = plan.options.trainer.threads
    limited = threads != usual and plan.config["trainer"]["threads"] is None
    validation = 0 if prepared.validation is None else len(prepared.validation)
    say(
        shown,
        f"{plan.options.name}: {plan.parameters:,} parameters; {len(prepared.train)} training, "
        f"{validation} validation, {len(prepared.test)} test rows; on {plan.devices.words}; "
        f"{threads} thread{'' if threads == 1 else 's'}"
        f"{f' of {usual} (OMP_NUM_THREADS)' if limited else ''}; seed {plan.options.seed}",
    )
    print_data(plan, (*plan.start.notes, *plan.notes, *prepared.notes))


def print_data(plan: Plan, notes: Sequence[str]) -> None:
    """Print the data report of a run, and notes."""
    report = plan.prepared.report
    lines = [] if report is None else report_lines(report)
    for line in (*lines, *(f"note: {note}" for note in notes)):
        say(console(), line)


def _config_tree(config: Mapping[str, Any]) -> Tree:
    """Draw the configuration, one branch per group; null values are left out."""
    root = Tree("config")
    root.add(_values({k: v for k, v in config.items() if not isinstance(v, Mapping)}))
    for name, group in config.items():
        if isinstance(group, Mapping) and group:
            root.add(Text.assemble((name, "bold"), "  ", _values(group)))
    return root


def _values(values: Mapping[str, Any]) -> Text:
    """Return the values of a group as words between which a line may break."""
    target = values.get(TARGET)
    words = [Text(target.rpartition(".")[2])] if isinstance(target, str) else []
    words += [
        Text.assemble((f"{key}=", "dim"), _typed(value))
        for key, value in values.items()
        if value is not None and key not in (TARGET, "format")
    ]
    return Text("  ").join(words)


def _typed(value: Any) -> str:
    """Return a value as it can be typed on the command line."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_plain(one)}' for name, one in value.items())}}}"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(title: str, **more: Any) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", **more)


def _layer_table(layers: Sequence[LayerRow], parameters: int) -> Table:
    """Return a table of the layers with their output shapes for one row and their parameters."""
    table = _table(f"{parameters:,} parameters", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output", justify="right", overflow="fold")
    table.add_column("Ci→Co, kernel", justify="right")
    table.add_column("parameters", justify="right")
    for layer in layers:
        kernel = ""
        if layer.kernel is not None:
            kernel = f"{layer.channels_in}→{layer.channels_out}, {'×'.join(map(str, layer.kernel))}"
        shape = "×".join(map(str, layer.output_shape))
        table.add_row(escape(layer.name), layer.kind, shape, kernel, f"{layer.parameters:,}")
    return table


# ── after it ────────────────────────────────────────────────────────────────────────────────


def print_figures(schema: Schema, test: ScoredTest, *, heading: str) -> None:
    """Print the network's metrics, their intervals and the baselines' metrics, then each class."""
    if schema.task == "binary":
        title = f"positive class: {escape(str(schema.positive))}"
    elif schema.task == "multiclass":
        title = mean_words(test.classes)
    else:
        title = f"in {escape(schema.units)}" if schema.units else "in the target's units"
    table = _table(title)
    table.add_column(heading)
    table.add_column("network", justify="right", style="bold")
    ends = {} if test.intervals is None else test.intervals.ends
    if ends:
        table.add_column("95 % interval", justify="right")
    kinds = dict(zip(("naive", "linear"), test.baselines, strict=False))
    for kind, name in kinds.items():
        table.add_column(f"{kind}: {name}", justify="right")
    for key in metric_names(schema.task, test.metrics):
        own, *others = (figure_text(test.metrics, f"{kind}/{key}") for kind in ("test", *kinds))
        reach = [" … ".join(map(number, ends[key])) if key in ends else MISSING] if ends else []
        table.add_row(key, own, *reach, *others)
    console().print(table)
    if test.classes:
        _print_classes(test.classes, test.metrics)


def _print_classes(classes: Sequence[ClassScores], values: Mapping[str, float]) -> None:
    table = _table("by class")
    table.add_column("class")
    for heading in ("TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"):
        table.add_column(heading, justify="right")
    for scores in classes:
        shares = (scores.precision, scores.recall, scores.f1)
        cells = [*map(str, scores.counts), *map(number, shares), str(scores.support)]
        table.add_row(escape(scores.name), *cells)
    console().print(table)
    if len(classes) > 2:
        precision, recall = values["test/precision"], values["test/recall"]
        combined = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        say(
            console(),
            "f1 is the mean of the classes' F1; 2PR/(P+R) of the mean precision and recall is "
            f"{number(combined)}; 0/0 counts as 0",
            style="dim",
        )


@contextmanager
def showing_results() -> Iterator[Callable[[Result, str], None]]:
    """Return a function that prints the test results and the diagnosis.

    It takes the result and a description of the remaining work, which a terminal shows beside a
    spinner until the body ends.
    """
    with ExitStack() as until_the_end:

        def show(result: Result, tasks: str) -> None:
            if result.test is not None:
                print_figures(result.schema, result.test, heading="test")
            print_doctor(result.doctor)
            until_the_end.enter_context(waiting_for(tasks))

        yield show


def last_lines(result: Result, seconds: float) -> Iterator[str]:
    """Yield lines on the kept weights, the seconds that the command took, and where the run is."""
    metrics, decision = result.metrics, result.decision
    if "best/epoch" in metrics:
        yield f"kept    epoch {metrics['best/epoch']:.0f} of {result.epochs}"
    if decision.found:
        kept = "; the baselines keep 0.5" if result.test else ""
        yield f"threshold {number(decision.threshold)} ({decision.found}){kept}"
    fit = duration(metrics["time/fit"])
    yield f"took    {duration(seconds)}, {fit} of it training"
    yield f"run     {result.folder}"
    if result.record.registered is not None:
        yield f"model   {result.record.registered}"
    yield from where_lines(result.record)


def print_doctor(lines: Sequence[str]) -> None:
    """Print the diagnosis; in a terminal, wrapped lines stay indented behind the heading."""
    shown = console()
    for line in lines:
        if not shown.is_terminal:
            say(shown, line)
            continue
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"{line[:MARGIN].rstrip():{MARGIN - 1}}", escape(line[MARGIN:]))
        shown.print(grid)


def where_lines(record: Record) -> Iterator[str]:
    """Yield lines that say how to view the runs, and how many values are not sent yet."""
    yield from headed("see it", record.where_to_look)
    if record.unsent:
        yield (
            f"unsent  {record.unsent} values wait in the run folder; the warning names the command "
            "that sends them"
        )


def print_lines(lines: Iterable[str]) -> None:
    """Print the last lines of a command without wrapping."""
    console().print("\n".join(lines), soft_wrap=True, markup=False)
