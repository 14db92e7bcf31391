"""Errors that end a command: the lines that are printed, and the exit code."""

import errno
import logging
import sys
import time
import traceback as tracebacks
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.base.errors import (
    ConfigError,
    EnvironmentFaultError,
    Interrupted,
    PipelineError,
    unforeseen,
)
from pipeline.base.paths import shortage
from pipeline.base.ranks import ALONE, launched_rank
from pipeline.base.redaction import redact
from pipeline.base.signals import stop
from pipeline.base.terminal import folded
from pipeline.config.composer import composition_problem

BUG = 1
#: Time within which the first rank prints an error that all ranks have, and ends the others.
LEADER_SECONDS = 60.0
_ENVIRONMENT = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit of a file's size is reached",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}
_PLACE = {
    errno.ENAMETOOLONG: "is too long for a path",
    errno.ELOOP: "is a symbolic link loop",
}
#: Exit code of an error and the lines to print.
Outcome = tuple[int, Sequence[str]]


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error that ended a command."""
    return _outcome(error)[0]


def print_error(error: BaseException, *, traceback: bool) -> int:
    """Print an error, one line per problem, with its traceback if wanted; return its exit code."""
    if stop.signal_number is not None:  # a library may have replaced the exception
        error = Interrupted(stop.signal_number)
    code, lines = _outcome(error)
    if isinstance(error, ImportError) or (code == BUG and not isinstance(error, SystemExit)):
        log = logging.getLogger("pipeline")
        log.addHandler(logging.NullHandler())  # otherwise Python prints it if no log is open
        log.error("an unexpected error ended the command", exc_info=error)
    if traceback and not isinstance(error, SystemExit | Interrupted | KeyboardInterrupt):
        sys.stderr.write(redact("".join(tracebacks.format_exception(error))))
    if isinstance(error, Interrupted | KeyboardInterrupt) and not stop.is_reported:
        for line in _of_this_rank(["stopped"], code):
            stop.report(line)
    for line in _of_this_rank(lines, code):
        print(folded(f"error: {redact(line)}", sys.stderr), file=sys.stderr)
    sys.stderr.flush()
    return code


def _of_this_rank(lines: Sequence[str], code: int) -> Sequence[str]:
    """Return the lines to print; the first rank alone prints an error that all ranks have."""
    try:
        rank = launched_rank() or ALONE
    except ConfigError:  # the error itself is about the rank
        rank = ALONE
    if rank.leads:
        return lines
    if code == ConfigError.exit_code:
        # One rank that ends ends them all, perhaps before the first has printed. A rank that still
        # runs after this wait has its own error, such as data that its machine lacks.
        time.sleep(LEADER_SECONDS)
    return [f"rank {rank.number}: {line}" for line in lines]


def _outcome(error: BaseException) -> Outcome:
    """Return the exit code of an error, and its lines."""
    if isinstance(error, PipelineError):
        return error.exit_code, error.problems
    if isinstance(error, Interrupted):
        return error.exit_code, ()
    if isinstance(error, KeyboardInterrupt):
        return 130, ()
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return code, [error.code] if isinstance(error.code, str) else ()
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError.exit_code, [composition_problem(error)]
    return _of_environment(error) or _of_library(error)


def _of_environment(error: BaseException) -> Outcome | None:
    if isinstance(error, OSError) and error.errno in _PLACE:
        line = f"{str(error.filename)!r} {_PLACE[error.errno]}; choose another place."
        return ConfigError.exit_code, [line]
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT:
        where = "" if error.filename is None else f" at {str(error.filename)!r}"
        lack = getattr(error, "__notes__", None)  # added by `replace_file`
        if not lack:
            lack = shortage(Path(str(error.filename or ".")), error.errno)
        if lack:
            advice = " ({}); {}".format(*lack)
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "; choose another place or make room"
        else:
            advice = "; choose another place"
        line = f"{_ENVIRONMENT[error.errno]}{where}{advice}."
        return EnvironmentFaultError.exit_code, [line]
    # torch is not imported for an error that it may not have raised.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        line = "out of memory; try a smaller data.batch_size or a smaller network."
        return EnvironmentFaultError.exit_code, [line]
    return None


def _of_library(error: BaseException) -> Outcome:
    """Return the result for an error of Lightning's (which is not imported here) or for a bug."""
    if type(error).__name__ == "MisconfigurationException":  # options that exclude each other
        return ConfigError.exit_code, [" ".join(str(error).split())]
    code, line = unforeseen(error)
    return code, [line]
