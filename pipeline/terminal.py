"""What a person reads: one console, and how numbers are written."""

import sys

from rich.console import Console


def console() -> Console:
    """Return a console on standard output: colours in a terminal, plain text in a pipe.

    In a pipe lines are as long as they need to be, since nothing folds them well afterwards.
    """
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, emoji=False)


def shown_verbosity(verbose: int | None) -> int:
    """Return 0, 1 or 2; `None` is 1 in a terminal and 2 in a file or a pipe."""
    if verbose is not None:
        return verbose
    return 1 if console().is_terminal else 2


def number(value: float) -> str:
    """Write a metric so that it can be compared at a glance: four significant digits or more."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if size >= 0.001 or size == 0 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """Write seconds as `0.4 s`, `12 s`, `3:05` or `2:03:05`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
