"""Standard output and error that survive a closed pipe, a full disk and a narrow encoding."""

import io
import os
import sys
from typing import TextIO


class _Tolerant(io.FileIO):
    """Writes to a descriptor until that fails; from then on to nowhere."""

    def write(self, data: object, /) -> int:
        """Write the bytes; pretend to have where nobody can take them."""
        try:
            return super().write(data)  # type: ignore[arg-type] # bytes, as the buffer hands them on
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)  # type: ignore[arg-type] # as above


def make_tolerant() -> None:
    """Let what a person can't read any more never end or change a run.

    A stream that a notebook or a test has put in place is left alone.
    """
    _fill_gaps()
    sys.stdout = _tolerant(sys.stdout, sys.__stdout__)
    sys.stderr = _tolerant(sys.stderr, sys.__stderr__)


def _fill_gaps() -> None:
    """Open what was closed before the process began, lest a run's file get such a number.

    What a library written in C prints would end up in that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _tolerant(stream: TextIO | None, own: TextIO | None) -> TextIO:
    if stream is None:  # closed before the process began
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the whole process
    if stream is not own:
        return stream
    stream.flush()
    raw = _Tolerant(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
