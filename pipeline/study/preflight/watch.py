"""How far a preflight is: a line that stays in its place, or a line for all that was tried."""

from collections.abc import Sequence
from typing import Self

from rich.text import Text

from pipeline.study.live import Screen
from pipeline.study.preflight.rehearsals import Found
from pipeline.study.preflight.report import SHOWN, Report
from pipeline.terminal import console, say

REFRESH_SECONDS = 0.25


class Watch:
    """Shows a preflight in a terminal; in a pipe the tables at the end say it all.

    Args:
        report: What is known so far.
        verbose: 0 shows nothing, 2 a line for each run; otherwise a line that changes.
    """

    def __init__(self, report: Report, verbose: object) -> None:
        self._report = report
        self._verbose = verbose
        self._console = console()
        self._tried = 0
        self._screen = Screen(wanted=verbose in (None, 1), seconds=REFRESH_SECONDS)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.__exit__()

    def told(self, found: Found) -> None:
        """Tell what came of a run."""
        self._tried += 1
        if self._verbose == 2:
            say(self._console, f"{SHOWN[found.verdict]:7}{found.cell.words}")

    def show(self, running: Sequence[str]) -> None:
        """Draw the line anew, four times a second at most."""
        self._screen.draw(lambda: self._line(running))

    def _line(self, running: Sequence[str]) -> Text:
        words = f"preflight  {self._tried} tried, {len(self._report.failing)} would fail"
        now = f"   now {', '.join(running)}" if running else ""
        return Text(words + now, overflow="ellipsis", no_wrap=True)
