"""Standard streams that survive a closed pipe, a full disk, a narrow encoding and any text."""

import io
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

#: All control characters but newline and tab, the separators of lines and paragraphs, and what
#: changes the direction of the text that follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return a text with its control characters as escapes such as `\x1b`.

    Names of classes, columns, runs and studies come from files and servers, and a terminal obeys
    the control characters in them.
    """
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def single_line(text: str) -> str:
    r"""Return a text as `visible` does, with line breaks and tabs as escapes as well.

    A name that is put into a line could otherwise begin a line or a column of its own.
    """
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


class VisibleText:
    """A stream of text that passes `visible` on; `rich_proxied_file` takes text as it is.

    Rich writes its own escape sequences to the attribute of that name if a stream has it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, its control characters as escapes."""
        self._stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    @property
    def rich_proxied_file(self) -> TextIO:
        """The innermost stream."""
        return unfiltered(self._stream)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream, such as `buffer`, which takes bytes as they are."""
        return getattr(self._stream, name)


def filtered(stream: TextIO) -> TextIO:
    """Return a stream that shows the control characters in what is written to it."""
    return cast("TextIO", VisibleText(stream))


def unfiltered(stream: TextIO) -> TextIO:
    """Return the stream behind a filtered one, for escape sequences of the program itself."""
    inner: TextIO = getattr(stream, "rich_proxied_file", stream)
    return stream if inner is stream else unfiltered(inner)


class _Tolerant(io.FileIO):
    """Writes to a descriptor until a write fails, then to the null device."""

    def write(self, data: object, /) -> int:
        """Write the bytes, or discard them if writing fails."""
        try:
            return super().write(data)  # type: ignore[arg-type] # bytes, as the buffer hands them on
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)  # type: ignore[arg-type] # as above


def make_tolerant() -> None:
    """Let standard output and error survive a closed pipe, a full disk and a narrow encoding.

    Control characters in printed text become visible escapes.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed before the process began
            # Otherwise a file of the run could get this number and receive what a C library
            # prints. `open` takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _tolerant(sys.stdout, sys.__stdout__)
    sys.stderr = _tolerant(sys.stderr, sys.__stderr__)


def _tolerant(stream: TextIO | None, original: TextIO | None) -> TextIO:
    if stream is None:  # closed before the process began
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the whole process
    if stream is not original:
        return stream
    stream.flush()
    raw = _Tolerant(stream.fileno(), "w", closefd=False)
    return filtered(
        io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
    )
