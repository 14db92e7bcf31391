"""A terminal of 80 columns, real for the program and readable for a test."""

import os
import pty
import re
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from struct import pack
from unicodedata import combining, east_asian_width

ESCAPE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")
#: A title or the target of a link, of which a person sees nothing.
UNSEEN = re.compile(r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)")


class Terminal:
    """What was written to a terminal, and the lines that it ends up with."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.written = b""

    @property
    def text(self) -> str:
        """All that was written, control sequences included."""
        return self.written.decode("utf-8")

    @property
    def screen(self) -> list[str]:
        """The lines that a person sees at the end, scrolled ones included, none wrapped."""
        lines, row, column = [""], 0, 0
        for part in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r|\n)", UNSEEN.sub("", self.text)):
            found = ESCAPE.fullmatch(part)
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif found and found[2] == "A":
                row -= int(found[1] or 1)
            elif found and found[2] == "K":
                lines[row] = "" if found[1] == "2" else lines[row][:column]
            elif not found:
                lines[row] = (
                    lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                )
                column += len(part)
        return [line.rstrip() for line in lines]

    def frames(self) -> list[str]:
        """Every line that was ever shown, also those that were drawn over."""
        plain = ESCAPE.sub("", UNSEEN.sub("", self.text))
        return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def width(line: str) -> int:
    """Columns that a line takes."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in line)


@contextmanager
def terminal(*, columns: int = 80) -> Iterator[Terminal]:
    """Let standard output be a terminal while the body runs."""
    shown = Terminal(columns)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    before = sys.stdout
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            sys.stdout = stream
            yield shown
    finally:
        sys.stdout = before
        reader.join()
        os.close(ours)


def _read(descriptor: int, shown: Terminal) -> None:
    while True:
        try:
            content = os.read(descriptor, 1 << 16)
        except OSError:  # the other end was closed
            return
        if not content:
            return
        shown.written += content
