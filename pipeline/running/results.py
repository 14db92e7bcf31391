"""What a run prints: an overview at the start, then its metrics beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.base.errors import shown
from pipeline.base.markup import BASELINES, TextTable, score_rows, show
from pipeline.base.streams import single_line
from pipeline.base.terminal import (
    CAUTION,
    GOOD,
    console,
    duration,
    headed,
    print_lines,
    rounded,
    say,
    shown_verbosity,
    waiting_for,
    wrapped,
)
from pipeline.config.values import TARGET
from pipeline.data.preparation.report_text import few_rows, lines, tables
from pipeline.data.preparation.schema import Schema
from pipeline.doctor.diagnosis import HEALTHY
from pipeline.networks.inspection import layers_text
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.run_document import class_table
from pipeline.running.scoring import metric_names
from pipeline.scoring.bootstrap import no_intervals_words
from pipeline.scoring.scores import ClassScores
from pipeline.serving.model import Decision

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
        fit_seconds: Time that this command trained; `time/fit` adds the parts before a resumption.
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
    fit_seconds: float
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
    """Print model, device and data of a run; with `details`, also its config and its layers."""
    if shown_verbosity(plan.options.verbose) == 0:
        return
    if plan.options.details:
        console().print(_config_table(plan.config))
        print_lines(layers_text(plan.layers).splitlines())
    trainer = plan.options.trainer
    is_limited = trainer.threads != plan.usual_threads and plan.config["trainer"]["threads"] is None
    limit = f" of {plan.usual_threads} (OMP_NUM_THREADS)" if is_limited else ""
    used, _, present = plan.devices.words.partition("; here: ")
    cores = present.rpartition(", ")[2].replace("CPU core", "core")
    noun = "thread" if trainer.threads == 1 else "threads"
    machine = f"{used}, {trainer.threads} {noun}{limit}, {cores}"
    print_header(plan, f"seed {plan.options.seed}", machine)
    print_data(plan, (*plan.start.notes, *plan.notes, *plan.prepared.notes), trains=True)


def print_header(plan: Plan, *facts: str) -> None:
    """Print the name of a run, the number of parameters and further facts."""
    words = (plan.name, f"{plan.parameters:,} parameters", *facts)
    say(console(), " · ".join(words), style="bold")


def print_data(plan: Plan, notes: Sequence[str], *, trains: bool = False) -> None:
    """Print the data in a line, what stands out in them, and notes; with `details`, tables."""
    report = plan.prepared.report
    details = plan.options.details
    printed_lines = [] if report is None else lines(report, details=details)
    if trains and report is not None and plan.options.loss.class_weights is None:
        printed_lines += [f"warning: {warning}" for warning in few_rows(report)]
    printed_lines += [f"note: {note}" for note in notes]
    for line in printed_lines:
        say(console(), line, style=CAUTION if line.startswith("warning: ") else None)
    if details and report is not None:
        for table in tables(report):
            show(console(), table)


def _config_table(config: Mapping[str, Any]) -> Table:
    """Return the configuration, a row for each group; null values are left out."""
    table = Table.grid(padding=(0, 2))
    ungrouped = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    for name, group in {"config": ungrouped, **config}.items():
        if not isinstance(group, Mapping) or not group:
            continue
        words = []
        class_name = str(group.get(TARGET, "")).rpartition(".")[2]
        if class_name:
            words.append(class_name)
        for key, value in group.items():
            if value is not None and key not in (TARGET, "format"):
                text = value if isinstance(value, str) else shown(value)
                words.append(f"{key}={text}")
        table.add_row(name, escape("  ".join(words)))
    return table


# ── after it ────────────────────────────────────────────────────────────────────────────────


def print_figures(schema: Schema, test: ScoredTest, *, part: str, details: bool) -> None:
    """Print the network's metrics, their intervals and the baselines' metrics.

    `part` names the rows; with `details`, the scores of each class follow. What the
    baselines are is said with `details`, or if steps or numbers of rows are part of it.
    """
    intervals = test.intervals
    kinds = dict(zip(BASELINES, test.baselines, strict=False))
    notes = []
    if intervals is not None and not intervals.draws:
        notes.append(no_intervals_words(intervals.units))
    if intervals is not None and intervals.note:
        notes.append(intervals.note)
    has_numbers = any(letter.isdigit() for letter in "".join(kinds.values()))
    if details or has_numbers:
        meanings = [f"{kind} = {name}" for kind, name in kinds.items()]
        notes.append("baselines: " + ", ".join(meanings))
    ends = {} if intervals is None else intervals.ends
    table = TextTable(
        title=f"{part} results on {test.words(schema)}",
        headings=["", "network", "95 % CI", *kinds],
        lines=score_rows(test.metrics, ends, metric_names(schema.task, test.metrics), kinds),
        notes=notes,
    )
    show(console(), table)
    if details and test.classes:
        show(console(), class_table(test.classes))


@contextmanager
def showing_results(*, details: bool) -> Iterator[Callable[[Result, str], None]]:
    """Return a function that prints the test results and the diagnosis.

    It takes the result and a description of the remaining work, which a terminal shows beside a
    spinner until the body ends. With `details`, the scores of each class are printed as well.
    """
    with ExitStack() as until_the_end:

        def show(result: Result, tasks: str) -> None:
            if result.test is not None:
                print_figures(result.schema, result.test, part="test", details=details)
            print_doctor(result.doctor)
            until_the_end.enter_context(waiting_for(tasks, verbose=1))

        yield show


def last_lines(result: Result, seconds: float) -> Iterator[str]:
    """Yield lines on the kept weights, the seconds that the command took, and where the run is."""
    metrics = result.metrics
    decision = result.decision
    if "best/epoch" in metrics:
        yield f"kept    weights of epoch {metrics['best/epoch']:.0f} of {result.epochs}"
    if decision.found:
        baselines = "; 0.5 for the baselines" if result.test else ""
        yield f"threshold {rounded(decision.threshold)} ({decision.found}){baselines}"
    yield f"took    {duration(seconds)}, {duration(result.fit_seconds)} of it training"
    yield f"run     {result.folder}"
    if result.record.report.is_file():
        yield f"report  {result.record.report}"
    if result.record.registered is not None:
        yield f"model   {result.record.registered}"
    yield from where_lines(result.record)


def print_doctor(lines: Sequence[str]) -> None:
    """Print the diagnosis; in a terminal, with coloured names and an indent before other lines."""
    terminal = console()
    for line in map(single_line, lines):
        text = Text(wrapped(line, terminal.width) if terminal.is_terminal else line)
        name = line[MARGIN:].partition(":")[0]
        style = f"bold {GOOD}" if name == HEALTHY else f"bold {CAUTION}"
        text.stylize(style, MARGIN, MARGIN + len(name))
        terminal.print(text, soft_wrap=True)


def where_lines(record: Record) -> Iterator[str]:
    """Yield lines that say how to view the run, and how many values are not sent yet."""
    yield from headed("see it", record.where_to_look)
    if record.unsent:
        yield (
            f"unsent  {record.unsent} values are kept in the run folder; the warning above "
            "shows how to send them"
        )
