"""Standard streams that survive a closed pipe, a full disk and a narrow encoding."""

import io
import os
import sys
from typing import TextIO


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
    """Let standard output and error survive a closed pipe, a full disk and a narrow encoding."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed before the process began
            # Otherwise a file of the run could get this number and receive what a C library
            # prints. `open` takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _tolerant(sys.stdout, sys.__stdout__)
    sys.stderr = _tolerant(sys.stderr, sys.__stderr__)


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
