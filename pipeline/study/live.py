"""Progress of a study: a bar and a line per running trial in a terminal, plain lines in a pipe."""

import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import some
from pipeline.base.signals import stop
from pipeline.base.terminal import (
    CAUTION,
    console,
    duration,
    folded,
    number,
    redrawing,
    say,
    shown_verbosity,
)
from pipeline.study.ledger.rows import Progress, Row
from pipeline.study.outcome.summary import point_words, value_words
from pipeline.study.study_plan import StudyPlan

if TYPE_CHECKING:
    from pipeline.study.workers.pool import Worker

#: Most lines of running and of finished trials in a terminal.
RUNNING = 8
LATEST = 4
#: Number of ended trials from which the time of those to come is estimated.
FEWEST_ENDED = 3
#: What a study waits for before its first trial.
STARTING = "starting workers"
#: Silence in a pipe after which a line tells how far the study is.
QUIET_SECONDS = 60.0


def print_opening(plan: StudyPlan) -> None:
    """Print the number of trials, the objectives, the ranges, and warnings and notes on a study."""
    shown = console()
    if shown_verbosity(plan.run.verbose) == 0:
        return
    verbs = {"max": "maximizing", "min": "minimizing"}
    aims = [f"{verbs[objective.direction]} {objective.name}" for objective in plan.objectives]
    total = "trials" if plan.total is None else f"{plan.total} trials"
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    say(shown, f"{plan.name}: {total} on {workers}, {' and '.join(aims)}")
    for parameter in plan.space.parameters:
        if plan.space.is_idle(parameter):
            continue
        condition = f", where {parameter.when}" if parameter.when else ""
        say(shown, f"  {parameter.key}: {parameter.words}{condition}")
    for line in plan.notes:
        say(shown, line, style=CAUTION if line.startswith("warning: ") else None)


def remaining(
    progress: Progress,
    ended: Sequence[float],
    running: Sequence[tuple[float, float]],
    timeout: float = inf,
) -> float | None:
    """Return the seconds until the last trial of a study ends; `None` = not known yet.

    Args:
        progress: How far the study is.
        ended: Seconds that each trial took which has ended here.
        running: Seconds of each trial that runs here so far, and its share of its epochs.
        timeout: Seconds after which no further trial starts.
    """
    if progress.left and len(ended) < FEWEST_ENDED:
        return None  # trials differ, and the first ones of a worker load libraries
    durations = list(ended) or [seconds / share for seconds, share in running if share]
    if not durations:
        return None
    mean_duration = sum(durations) / len(durations)
    running_seconds = []
    for seconds, share in running:
        if share:
            running_seconds.append(seconds * (1 - share) / share)
        else:
            running_seconds.append(max(0.0, mean_duration - seconds))
    elsewhere = max(0, progress.running - len(running))
    # A trial that another process trains counts as half done.
    total_seconds = mean_duration * (progress.left + elsewhere / 2) + sum(running_seconds)
    last = max(running_seconds, default=0.0)
    return min(max(total_seconds / max(1, progress.running), last), max(0.0, timeout) + last)


class Live:
    """Shows a running study as `verbose` asks for: nothing, a bar, or a line per trial."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._verbose = shown_verbosity(plan.run.verbose)
        self._started_at = self._printed_at = monotonic()
        self._progress: Progress | None = None
        self._running: Sequence[Worker] = ()
        self._seconds: list[float] = []
        self._latest: list[Text] = []
        self.screen = redrawing(self._render) if self._verbose == 1 else nullcontext()
        """Draws the bar while its body runs."""

    def warn(self, line: str) -> None:
        """Print a warning, above the bar if one is drawn."""
        print(f"warning: {line}", file=sys.stderr)

    def ended(self, taken: Row, ended: TrialEnd) -> None:
        """Show how a trial has ended, in one line."""
        end = ended.end
        if end.counts:
            self._seconds.append(ended.attributes.get("seconds", 0.0))
        outcome = str(end)
        if end is End.COMPLETE:
            outcome = value_words(ended.values, self._plan.names)
        words = f"{outcome}  {point_words(taken.overrides)}"
        if end.is_failure and ended.message not in (None, "", outcome):
            words += f"  {ended.message}"
        line = _line(f"trial {taken.number:>4}  {words}", "red" if end.is_failure else "dim")
        if self._verbose == 2:
            self._print(line.plain)
        self._latest = [*self._latest[1 - LATEST :], line]

    def show(self, progress: Progress, running: "Sequence[Worker]") -> None:
        """Take note of how far the study is, and say it in a pipe after a long silence."""
        if self._verbose == 2 and running and not (self._running or self._latest):
            self._print(f"trial {running[0].number:>4}  started")
        self._progress = progress
        self._running = running
        if self._verbose == 2 and monotonic() - self._printed_at > QUIET_SECONDS:
            self._print(f"{self._counts(progress)}; {self._time(progress)}")

    def stopping(self, running: "Sequence[Worker]") -> None:
        """Name the trials that are stopped before they have ended."""
        if self._verbose == 0 or not running:
            return
        trials = sorted(worker.number for worker in running)
        numbers = some(list(map(str, trials)), most=RUNNING)
        line = f"stopping trials {numbers}" if len(trials) > 1 else f"stopping trial {numbers}"
        if stop.signal_number == signal.SIGINT:
            line += "; a second Ctrl-C ends them at once"
        print(folded(line, sys.stderr), file=sys.stderr, flush=True)

    def _print(self, line: str) -> None:
        self._printed_at = monotonic()
        say(console(), line)

    def _counts(self, progress: Progress) -> str:
        total = "" if progress.total is None else f" of {progress.total}"
        return f"{progress.counted}{total} trials finished, {progress.running} running"

    def _time(self, progress: Progress) -> str:
        """Return the time that has passed and the time that is left, if it is known."""
        passed = monotonic() - self._started_at
        timeout = self._plan.options.timeout or inf
        running = []
        for worker in self._running:
            epoch, _ = worker.reached
            running.append((worker.seconds, epoch / (worker.epochs or inf)))
        left = remaining(progress, self._seconds, running, timeout - passed)
        if left is None:
            return duration(passed)
        return f"{duration(passed)}, eta {duration(left)}"

    def _render(self) -> Group:
        """Return what a terminal shows: a bar, the counts, the best, running and latest trials."""
        progress = self._progress
        if progress is None or not (progress.running or progress.counted or self._seconds):
            return Group(Text(f"{STARTING}  {duration(monotonic() - self._started_at)}"))
        table = Table.grid(padding=(0, 2))
        bar = ProgressBar(progress.total, progress.counted, width=18)
        table.add_row(bar, _line(self._counts(progress)), _line(self._time(progress)))
        lines: list[Text] = []
        best = progress.best_row
        if best is not None:
            values = value_words(best.values, self._plan.names)
            words = f"best  {best.number:>4}  {values}  {point_words(best.overrides)}"
            lines += [_line(progress.words), _line(words, "bold")]
        for worker in self._running[:RUNNING]:
            epoch, value = worker.reached
            words = f"trial {worker.number:>4}  epoch {epoch}"
            if worker.epochs is not None:
                words += f"/{worker.epochs}"
            if value is not None:
                words += f"  {self._plan.names[0]} {number(value)}"
            lines.append(_line(f"{words}  {point_words(worker.taken.overrides)}"))
        return Group(table, *lines, *self._latest)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
