"""Progress of a study in the terminal: a table that is redrawn in place, or a line per trial."""

import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from pipeline.study.ledger.rows import Progress, Row
from pipeline.study.messages import TrialEnd
from pipeline.study.outcome.summary import point_words, value_words
from pipeline.study.plan import StudyPlan
from pipeline.terminal import console, duration, say, shown_verbosity

REFRESH_SECONDS = 0.5
LATEST = 8


def print_opening(plan: StudyPlan) -> None:
    """Print the number of trials, the objectives, the ranges and the notes of a study."""
    shown = console()
    if shown_verbosity(plan.run.verbose) == 0:
        return
    many = "" if plan.workers == 1 else "s"
    about = " and ".join(map(str, plan.objectives))
    total = "trials" if plan.total is None else f"{plan.total} trials"
    say(shown, f"{plan.name}: {total} about {about} on {plan.workers} worker{many}")
    for one in plan.space.parameters:
        if plan.space.is_idle(one):
            continue
        where = f" where {one.when}" if one.when else ""
        say(shown, f"  {one.key}={one}{where}")
    for note in plan.notes:
        say(shown, f"note: {note}")


class Screen:
    """Draws at the bottom of a terminal, at most once in `seconds`; draws nothing in a pipe."""

    def __init__(self, *, wanted: bool, seconds: float) -> None:
        self._live: RichLive | None = None
        if wanted and (shown := console()).is_terminal:
            self._live = RichLive(console=shown, auto_refresh=False, transient=True)
        self._seconds = seconds
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def draw(self, make: Callable[[], RenderableType]) -> None:
        """Draw what `make` returns, unless something was drawn a moment ago."""
        if self._live is None or monotonic() - self._drawn_at < self._seconds:
            return
        self._drawn_at = monotonic()
        self._live.update(make(), refresh=True)


class Live(Screen):
    """Shows a running study as `verbose` asks for: nothing, a table, or a line per trial."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._verbose = shown_verbosity(plan.run.verbose)
        super().__init__(wanted=self._verbose == 1, seconds=REFRESH_SECONDS)
        self._started_at = monotonic()
        self._ended = 0
        self._latest: list[Text] = []

    def warn(self, line: str) -> None:
        """Print a warning, above the table if one is drawn."""
        if self._live is None:
            print(f"warning: {line}", file=sys.stderr)
        else:
            self._live.console.print(f"warning: {line}", markup=False, soft_wrap=True)

    def ended(self, taken: Row, ended: TrialEnd) -> None:
        """Show how a trial has ended, in one line."""
        self._ended += 1
        came_to = ended.reason or ended.state
        if ended.state == "complete":
            came_to = value_words(ended.values, self._plan.names)
        style = {"complete": "", "pruned": "dim", "failed": "red"}[ended.state]
        words = point_words(taken.overrides)
        reason = f"  {ended.message}" if ended.state == "failed" and ended.message else ""
        line = Text(f"trial {taken.number:>4}  {came_to}  {words}{reason}", style=style)
        if self._verbose == 2:
            say(console(), line.plain)
        self._latest = [*self._latest[1 - LATEST :], line]

    def show(self, progress: Progress, running: Sequence[int]) -> None:
        """Redraw the table, at most twice a second."""
        self.draw(lambda: self._table(progress, running))

    def _table(self, progress: Progress, running: Sequence[int]) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        counts = f"{progress.counted}/{progress.total} trials: {progress.words}"
        table.add_row("study", f"{self._plan.name}   {counts}; {len(running)} running here")
        if (best := progress.best_row) is not None:
            values = value_words(best.values, self._plan.names)
            table.add_row("best", f"{values}  {point_words(best.overrides)}")
        passed = monotonic() - self._started_at
        time = duration(passed)
        if self._ended:
            time += f", eta {duration(passed / self._ended * progress.left)}"
        table.add_row("time", time)
        return Group(table, *self._latest)
