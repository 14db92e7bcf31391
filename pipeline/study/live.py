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

from pipeline.ends import End, TrialEnd
from pipeline.errors import some
from pipeline.signals import stop
from pipeline.study.ledger.rows import Progress, Row
from pipeline.study.outcome.summary import point_words, value_words
from pipeline.study.plan import StudyPlan
from pipeline.terminal import (
    CAUTION,
    console,
    duration,
    folded,
    number,
    redrawing,
    say,
    shown_verbosity,
)

if TYPE_CHECKING:
    from pipeline.study.workers.pool import Worker

#: Most lines of running and of finished trials in a terminal.
RUNNING, LATEST = 8, 4
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
    many = "" if plan.workers == 1 else "s"
    ways = {"max": "maximizing", "min": "minimizing"}
    aims = " and ".join(f"{ways[one.direction]} {one.name}" for one in plan.objectives)
    total = "trials" if plan.total is None else f"{plan.total} trials"
    say(shown, f"{plan.name}: {total} on {plan.workers} worker{many}, {aims}")
    for one in plan.space.parameters:
        if plan.space.is_idle(one):
            continue
        where = f", where {one.when}" if one.when else ""
        say(shown, f"  {one.key}: {one.words}{where}")
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
    whole = list(ended) or [seconds / share for seconds, share in running if share]
    if not whole:
        return None
    usual = sum(whole) / len(whole)
    rests = [
        seconds * (1 - share) / share if share else max(0.0, usual - seconds)
        for seconds, share in running
    ]
    elsewhere = max(0, progress.running - len(running))
    work, last = usual * (progress.left + elsewhere / 2) + sum(rests), max(rests, default=0.0)
    return min(max(work / max(1, progress.running), last), max(0.0, timeout) + last)


class Live:
    """Shows a running study as `verbose` asks for: nothing, a bar, or a line per trial."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._verbose = shown_verbosity(plan.run.verbose)
        self._started_at = self._said_at = monotonic()
        self._progress: Progress | None = None
        self._running: Sequence[Worker] = ()
        self._seconds: list[float] = []
        self._latest: list[Text] = []
        self.screen = redrawing(self._drawn) if self._verbose == 1 else nullcontext()
        """Draws the bar while its body runs."""

    def warn(self, line: str) -> None:
        """Print a warning, above the bar if one is drawn."""
        print(f"warning: {line}", file=sys.stderr)

    def ended(self, taken: Row, ended: TrialEnd) -> None:
        """Show how a trial has ended, in one line."""
        end = ended.end
        if end.counts:
            self._seconds.append(ended.attributes.get("seconds", 0.0))
        came_to = str(end)
        if end is End.COMPLETE:
            came_to = value_words(ended.values, self._plan.names)
        words = f"{came_to}  {point_words(taken.overrides)}"
        if end.is_failure and ended.message not in (None, "", came_to):
            words += f"  {ended.message}"
        line = _line(f"trial {taken.number:>4}  {words}", "red" if end.is_failure else "dim")
        if self._verbose == 2:
            self._say(line.plain)
        self._latest = [*self._latest[1 - LATEST :], line]

    def show(self, progress: Progress, running: "Sequence[Worker]") -> None:
        """Take note of how far the study is, and say it in a pipe after a long silence."""
        if self._verbose == 2 and running and not (self._running or self._latest):
            self._say(f"trial {running[0].number:>4}  started")
        self._progress, self._running = progress, running
        if self._verbose == 2 and monotonic() - self._said_at > QUIET_SECONDS:
            self._say(f"{self._counts(progress)}; {self._time(progress)}")

    def stopping(self, running: "Sequence[Worker]") -> None:
        """Name the trials that are stopped before they have ended."""
        if self._verbose == 0 or not running:
            return
        trials = sorted(worker.number for worker in running)
        numbers = some([str(number) for number in trials], most=RUNNING)
        named = f"trials {numbers}" if len(trials) > 1 else f"trial {numbers}"
        by_hand = stop.signal_number == signal.SIGINT
        hint = "; a second Ctrl-C ends them at once" if by_hand else ""
        print(folded(f"stopping {named}{hint}", sys.stderr), file=sys.stderr, flush=True)

    def _say(self, line: str) -> None:
        self._said_at = monotonic()
        say(console(), line)

    def _counts(self, progress: Progress) -> str:
        total = "" if progress.total is None else f" of {progress.total}"
        return f"{progress.counted}{total} trials finished, {progress.running} running"

    def _time(self, progress: Progress) -> str:
        """Return the time that has passed and the time that is left, if it is known."""
        passed, timeout = monotonic() - self._started_at, self._plan.options.timeout or inf
        running = [(one.seconds, one.reached[0] / (one.epochs or inf)) for one in self._running]
        left = remaining(progress, self._seconds, running, timeout - passed)
        return duration(passed) + (f", eta {duration(left)}" if left is not None else "")

    def _drawn(self) -> Group:
        """Return what a terminal shows: a bar, the counts, the best, running and latest trials."""
        progress = self._progress
        if progress is None or not (progress.running or progress.counted or self._seconds):
            return Group(Text(f"{STARTING}  {duration(monotonic() - self._started_at)}"))
        bar, lines = Table.grid(padding=(0, 2)), list[Text]()
        done = ProgressBar(progress.total, progress.counted, width=18)
        bar.add_row(done, _line(self._counts(progress)), _line(self._time(progress)))
        if (best := progress.best_row) is not None:
            values = value_words(best.values, self._plan.names)
            words = f"best  {best.number:>4}  {values}  {point_words(best.overrides)}"
            lines += [_line(progress.words), _line(words, "bold")]
        for worker in self._running[:RUNNING]:
            epoch, value = worker.reached
            of = "" if worker.epochs is None else f"/{worker.epochs}"
            known = "" if value is None else f"{self._plan.names[0]} {number(value)}  "
            words = f"epoch {epoch}{of}  {known}{point_words(worker.taken.overrides)}"
            lines.append(_line(f"trial {worker.number:>4}  {words}"))
        return Group(bar, *lines, *self._latest)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
