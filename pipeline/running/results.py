"""The result of a run, and how it is printed: its metrics beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from pipeline.base.markup import TextTable, score_rows, show
from pipeline.base.streams import single_line
from pipeline.base.terminal import (
    CAUTION,
    GOOD,
    console,
    duration,
    headed,
    rounded,
    waiting_for,
    wrapped,
)
from pipeline.data.preparation.schema import Schema
from pipeline.doctor.diagnosis import HEALTHY
from pipeline.running.recording import RunJournal
from pipeline.running.run_document import class_table
from pipeline.running.scoring import metric_names
from pipeline.scoring.baselines import baselines_note
from pipeline.scoring.bootstrap import no_intervals_words
from pipeline.scoring.scores import ClassScores
from pipeline.serving.model import Decision

if TYPE_CHECKING:
    from pipeline.running.final_test import ScoredTest

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

    record: RunJournal
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


def print_figures(schema: Schema, test: ScoredTest, *, part: str, details: bool) -> None:
    """Print the network's metrics, their intervals and the baselines' metrics.

    `part` names the rows; with `details`, the scores of each class follow. What the
    baselines are is said with `details`, or if steps or numbers of rows are part of it.
    """
    intervals = test.intervals
    notes = [test.comparison] if test.comparison else []
    fitted = {}
    for name, words in test.baselines.items():
        if name in test.rows.baselines:
            fitted[name] = words
        else:
            notes.append(f"{name}: {words}")  # why it was not fitted
    if intervals is not None and not intervals.draws:
        notes.append(no_intervals_words(intervals.units))
    if intervals is not None and intervals.note:
        notes.append(intervals.note)
    has_numbers = any(letter.isdigit() for letter in "".join(fitted.values()))
    if details or has_numbers:
        notes.append(baselines_note(fitted))
    ends = {} if intervals is None else intervals.ends
    table = TextTable(
        title=f"{part} results on {test.words(schema)}",
        headings=["", "network", "95 % CI", *test.baselines],
        lines=score_rows(
            test.metrics, ends, metric_names(schema.task, test.metrics), test.baselines
        ),
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


def where_lines(record: RunJournal) -> Iterator[str]:
    """Yield lines that say how to view the run, and how many values are not sent yet."""
    yield from headed("see it", record.where_to_look)
    if record.unsent:
        yield (
            f"unsent  {record.unsent} values are kept in the run folder; the warning above "
            "shows how to send them"
        )
