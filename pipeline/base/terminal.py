"""Text in a terminal: the console, and the format of numbers and durations."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from decimal import Decimal
from math import floor, isfinite, isnan, log10
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from pipeline.base.streams import filtered, single_line, unfiltered, visible

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.live import Live
    from rich.text import Text

_BETWEEN_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}
#: The heading of a line of `headed`, of one that continues below it, of a note or of a warning.
_HEADING = re.compile(r"[a-z ]{6}  (?=\S)|(note|warning): ")
#: Colours with a contrast of 4.5:1 (WCAG AA) on white and on black, unlike yellow and green.
CAUTION = "#bf5900"
GOOD = "#008800"
#: Commands in messages begin with one of these words.
_PROGRAMS = ("pipeline ", "mlflow ")
_ADDRESSES = ("http://", "https://")
#: A word for a shell, with its quotes.
_SHELL_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
#: End of a line of a command that goes on in the next one.
_CONTINUES = " \\"
_ANNOUNCING = ContextVar("announcing", default=False)


class VisibleConsole(Console):
    """A console that shows the control characters in its text as escapes."""

    @property
    def file(self) -> IO[str]:
        """The stream behind all filters, also while a bar or a table is redrawn."""
        return unfiltered(cast("TextIO", super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render_str(self, text: str, **options: Any) -> "Text":
        """Return a text with its styles; its width is that of what is shown."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
    ) -> Iterable[Segment]:
        """Return the parts of what is shown; only Rich's own have control codes."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)


def console() -> Console:
    """Return a console on standard output: coloured in a terminal, plain and unfolded in a pipe."""
    streams = sys.modules.get("ipykernel.iostream")
    # In a notebook, standard output claims to be a terminal.
    notebook = streams is not None and isinstance(sys.stdout, streams.OutStream)
    return VisibleConsole(
        width=None if sys.stdout.isatty() and not notebook else 160,
        force_terminal=False if notebook else None,
        force_jupyter=False,
        highlight=False,
        emoji=False,
    )


def say(output: Console, text: str, *, style: str | None = None) -> None:
    """Print a sentence: wrapped between words in a terminal, on one line elsewhere."""
    text = single_line(text)
    is_laid_out = not output.is_terminal
    is_longer = max(map(cell_len, text.split()), default=0) > output.width
    if not is_laid_out and (is_longer or _indent(text)):
        # Rich would break a path that is longer than a line, and indent no further lines.
        text = wrapped(text, output.width)
        is_laid_out = True
    output.print(text, style=style, markup=False, soft_wrap=is_laid_out)


def wrapped(text: str, width: int) -> str:
    """Return a line wrapped between words; the lines after the first have a hanging indent."""
    # For textwrap, a character that takes two cells, such as a Chinese one, takes one.
    cells = "".join(character + "\0" * (cell_len(character) - 1) for character in text)
    lines = textwrap.fill(cells, width, subsequent_indent=_indent(text), **_BETWEEN_WORDS)
    return lines.replace("\0", "")


def _indent(text: str) -> str:
    if heading := _HEADING.match(text):
        return " " * len(heading[0])
    spaces = len(text) - len(text.lstrip())
    if spaces or " · " in text:  # · is in a run's first line
        return " " * (spaces + 2)
    return ""


def folded(text: str, stream: TextIO) -> str:
    """Return a sentence, and a command in it, wrapped between words if a stream is a terminal."""
    text = single_line(text)
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    sentence, colon, words = text.partition(": pipeline ")
    if not colon or cell_len(text) <= width:
        return wrapped(text, width)
    command = wrapped_command(f"pipeline {words}", width, indent=2)
    return f"{wrapped(sentence + ':', width)}\n  {command}"


def wrapped_command(command: str, width: int, *, indent: int) -> str:
    """Return a command wrapped between its words, as a shell reads it on several lines.

    `indent` is the number of columns before its first line.
    """
    words = _SHELL_WORD.findall(command)
    if " ".join(words) != command:
        return command  # a quotation without an end
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and indent + cell_len(longer) + len(_CONTINUES) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return f"{_CONTINUES}\n{' ' * (indent + 2)}".join(lines)


def print_lines(lines: Iterable[str]) -> None:
    """Print the last lines of a command; a terminal wraps those with a heading between words."""
    output = console()
    for line in lines:
        text = single_line(line)
        heading = _HEADING.match(text)
        if output.is_terminal and heading is not None and cell_len(text) > output.width:
            indent = len(heading[0])
            content = text[indent:]
            if content.startswith(_PROGRAMS):
                text = heading[0] + wrapped_command(content, output.width, indent=indent)
            elif content.startswith(_ADDRESSES):
                # The further parameters of a page are in the link, for terminals that open one.
                output.print(heading[0], end="")
                output.print(content.partition("&")[0], style=Style(link=content), soft_wrap=True)
                continue
            else:
                text = wrapped(text, output.width)
        output.print(text, soft_wrap=True, markup=False)


def waiting_for(tasks: str, verbose: int | None) -> AbstractContextManager[object]:
    """Return a context that shows `tasks` with a spinner in a terminal, unless `verbose` is 0."""
    if verbose == 0 or not (tasks and console().is_terminal):
        return nullcontext()
    from rich.spinner import Spinner

    spinner = Spinner("dots", tasks)
    return redrawing(lambda: spinner, times=5)


@contextmanager
def showing(tasks: str, verbose: int | None) -> Iterator[None]:
    """Show `tasks` as `waiting_for` does, but still: without its thread, the body may fork."""
    output = console()
    if verbose == 0 or not output.is_terminal or output.is_dumb_terminal:
        yield
        return
    draw_over(sys.stdout, f"⠋ {visible(tasks)}\r")
    try:
        yield
    finally:
        draw_over(sys.stdout, "\x1b[2K")


def draw_over(stream: TextIO, text: str) -> None:
    """Write a text with control characters of the program itself, such as a carriage return."""
    print(text, end="", file=unfiltered(stream), flush=True)


def redrawing(
    draw: Callable[[], "RenderableType"], *, times: float = 2
) -> AbstractContextManager[object]:
    """Return a context that draws at the bottom of a terminal, some `times` a second.

    A thread calls `draw`, so that it shows the time even while this process is busy.
    """
    output = console()
    if not output.is_terminal:
        return nullcontext()
    from rich.live import Live

    output.soft_wrap = True  # a warning may end with a command to copy
    look: dict[str, Any] = {"refresh_per_second": times, "transient": True}
    redirects_errors = sys.stderr.isatty()  # elsewhere, warnings don't pass through the terminal
    return _filtered_while(
        Live(get_renderable=draw, console=output, redirect_stderr=redirects_errors, **look)
    )


@contextmanager
def _filtered_while(live: "Live") -> Iterator[object]:
    """Show a live display; what is printed meanwhile, which Rich reads for codes, is filtered."""
    with live:
        output = sys.stdout
        errors = sys.stderr
        sys.stdout = filtered(output)
        sys.stderr = filtered(errors)
        try:
            yield live
        finally:
            sys.stdout = output
            sys.stderr = errors


@contextmanager
def announcing(is_on: bool) -> Iterator[None]:
    """Let `announce` print while the body runs, or silence it."""
    token = _ANNOUNCING.set(is_on)
    try:
        yield
    finally:
        _ANNOUNCING.reset(token)


def announce(text: str) -> None:
    """Print on standard error why the user has to wait, if `announcing(True)` is active."""
    if _ANNOUNCING.get():
        print(text, file=sys.stderr, flush=True)


def shown_verbosity(verbose: int | None) -> int:
    """Return 0, 1 or 2; `None` means 1 in a terminal and 2 in a file or a pipe."""
    if verbose is not None:
        return verbose
    return 1 if console().is_terminal else 2


def number(value: float) -> str:
    """Return a metric as text: four decimals, fewer if it is large, three digits if it is tiny."""
    if isnan(value):  # a ratio without a denominator
        return "undefined"
    size = abs(value)
    if size >= 1e15 or 0 < size < 0.001:
        return significant(value, 3)
    if size >= 1000 or (size >= 100 and value == round(value)):
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:z.4f}"


def counted(count: int, noun: str) -> str:
    """Return a number of things, such as `1 row` or `1,000 rows`."""
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def significant(value: float, digits: int = 2) -> str:
    """Return a number with at most so many significant digits: `0.00016`, `850`, `2e13`."""
    text = f"{value:.{digits}g}"
    if value == 0 or 1e-6 <= abs(value) < 1e6:
        return f"{Decimal(text):,f}"
    return re.sub(r"e\+?(-?)0*", r"e\1", text)


def rounded(value: float, ends: tuple[float, float] | None = None) -> str:
    """Return a metric with three significant digits, or as many as its interval carries.

    With the `ends` of its interval, all decimals are shown that make up two digits of its width.
    """
    width = 0.0 if ends is None else ends[1] - ends[0]
    size = (width if width > 0 else abs(value)) or 1.0
    if not isfinite(value) or not 1e-6 < size < 1e15:
        return number(value)
    decimals = (1 if width > 0 else 2) - floor(log10(size))
    if width <= 0 and size < 10:
        decimals = max(3, decimals)  # so that a column of losses has one width
    return f"{value:z,.{max(0, decimals)}f}"  # z: a score that rounds to zero has no sign


def duration(seconds: float) -> str:
    """Return seconds as `0.4 s`, `12 s`, `3:05` or `2:03:05`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"


def ago(seconds: float) -> str:
    """Return the time since an event as `30 s ago`, `40 min ago`, `5 h ago` or `3 days ago`."""
    units = {"days": 86400, "h": 3600, "min": 60}
    for word, size in units.items():
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {word} ago"
    return f"{seconds:.0f} s ago"


def headed(heading: str, lines: Iterable[str]) -> list[str]:
    """Return lines with a heading before the first one."""
    headed_lines = []
    for line in lines:
        headed_lines.append(f"{heading:8}{line}")
        heading = ""
    return headed_lines
