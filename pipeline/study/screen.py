"""A part of the terminal that is drawn anew in its place."""

from collections.abc import Callable
from time import monotonic
from typing import Self

from rich.console import RenderableType
from rich.live import Live

from pipeline.terminal import console


class Screen:
    """Draws at the bottom of a terminal while it is open; in a pipe it draws nothing.

    Args:
        wanted: Whether anything is to be drawn.
        seconds: Shortest time from one drawing to the next.
    """

    def __init__(self, *, wanted: bool, seconds: float) -> None:
        shown = console()
        is_drawn = wanted and shown.is_terminal
        self._live = Live(console=shown, auto_refresh=False, transient=True) if is_drawn else None
        self._seconds = seconds
        self._drawn_at = 0.0

    @property
    def is_drawn(self) -> bool:
        """Whether there is a terminal to draw in."""
        return self._live is not None

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

    def say(self, line: str) -> None:
        """Print a line above what is drawn."""
        assert self._live is not None
        self._live.console.print(line, markup=False, soft_wrap=True)
