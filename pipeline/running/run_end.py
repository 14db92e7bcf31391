"""How a run ends that raises an error, and what the user is told of it."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from pipeline.base.ends import End, TrialEnd, end_of
from pipeline.base.errors import (
    ChangedDataError,
    EnvironmentFaultError,
    Interrupted,
    OutOfMemoryFaultError,
    PipelineError,
    named,
)
from pipeline.base.redaction import redact
from pipeline.base.signals import stop
from pipeline.running.failures import exit_code


def failed_end(error: BaseException, seconds: float) -> TrialEnd:
    """Return how a run ended that raised an error so many seconds after its start.

    A run that found other data than its study has counts as interrupted, since it is tried again.
    """
    explained = explain(error)
    is_retried = isinstance(explained, ChangedDataError)
    return TrialEnd(
        end=End.INTERRUPTED if is_retried else end_of(explained),
        message=one_line(explained),
        attributes={"seconds": seconds},
        exit_code=exit_code(explained),
    )


def one_line(error: BaseException) -> str:
    """Return a message of one line, which any file can hold, about the error that ended a run."""
    if isinstance(error, Interrupted):
        return "interrupted"
    message = named(error)
    if isinstance(error, PipelineError):
        lines: list[str] = []
        for problem in error.problems:
            lines += problem.splitlines()
        message = "; ".join(lines)
    return redact(message).encode(errors="backslashreplace").decode()


def explain(error: BaseException) -> BaseException:
    """Return an error of torch as a one-line error for the user; return others unchanged."""
    if stop.signal_number is not None and not isinstance(error, Interrupted):
        # After a signal, the data loader or Lightning may raise another error.
        return Interrupted(stop.signal_number)
    is_memory_error = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory_error or "can't allocate memory" in str(error):
        return OutOfMemoryFaultError(
            f"out of memory ({_first_line(error)}); try a smaller data.batch_size"
        )
    # The death of a process that loads data is raised in whatever this one does at that moment,
    # such as writing a checkpoint, which takes it for an error of the disk.
    for raised in (error, error.__cause__):
        if raised is None:
            continue
        is_named = isinstance(raised, RuntimeError) and "DataLoader worker" in str(raised)
        if is_named or _fetches_from_dead_reader(raised):
            return EnvironmentFaultError(
                f"a data loading process died ({_first_line(raised)}); try data.num_workers=0, or "
                "more shared memory"
            )
    return error


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message; without a message, the name of its class."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _fetches_from_dead_reader(error: BaseException) -> bool:
    """Return whether the memory of a batch was asked for from a process that has died."""
    if not isinstance(error, OSError | EOFError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).name == "resource_sharer.py" for frame in frames)
