"""Errors that end a command: the lines that are printed, and the exit code."""

import errno
import logging
import sys
import time
import traceback as tracebacks
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.compose import composition_problem
from pipeline.errors import ConfigError, EnvironmentFaultError, Interrupted, PipelineError
from pipeline.paths import shortage
from pipeline.ranks import ALONE, launched_rank
from pipeline.redaction import redact
from pipeline.signals import stop

BUG = 1
LEADER_SECONDS = 60.0
"""Longest time in which the first of several ranks prints an error of all and ends the others."""
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
    errno.ELOOP: "is a link that leads to itself",
}
_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Errors that free disk space would fix."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error that ended a command."""
    if isinstance(error, PipelineError | Interrupted):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    is_refused = isinstance(error, HydraException | OmegaConfBaseException) or _is_misuse(error)
    if is_refused or _is_impossible_place(error):
        return ConfigError.exit_code
    if _is_environment(error) or _is_out_of_memory(error):
        return EnvironmentFaultError.exit_code
    return BUG


def print_error(error: BaseException, *, traceback: bool) -> int:
    """Print an error to standard error, one line a problem, and return its exit code.

    Args:
        error: What ended the command.
        traceback: Whether the user asked for the traceback.
    """
    if stop.signal_number is not None:  # a library may have replaced the exception
        error = Interrupted(stop.signal_number)
    code = exit_code(error)
    if code == BUG and not isinstance(error, SystemExit):
        log = logging.getLogger("pipeline")
        log.addHandler(logging.NullHandler())  # else Python prints it where no log is open
        log.error("an unforeseen error ended the command", exc_info=error)
    if traceback and not isinstance(error, SystemExit | Interrupted | KeyboardInterrupt):
        sys.stderr.write(redact("".join(tracebacks.format_exception(error))))
    for line in _told_here(error, code):
        print(f"error: {redact(line)}", file=sys.stderr)
    sys.stderr.flush()
    return code


def _told_here(error: BaseException, code: int) -> tuple[str, ...]:
    """Return the lines to print; the first rank alone prints an error that all ranks have."""
    try:
        rank = launched_rank() or ALONE
    except ConfigError:  # what is wrong with the rank is what is told
        rank = ALONE
    if rank.leads:
        return _lines(error)
    if code == ConfigError.exit_code:
        # The end of one rank ends all, perhaps before the first has printed. A rank that still runs
        # after this wait has an error of its own, such as data that its machine lacks.
        time.sleep(LEADER_SECONDS)
    return tuple(f"rank {rank.number}: {line}" for line in _lines(error))


def _lines(error: BaseException) -> tuple[str, ...]:
    if isinstance(error, PipelineError):
        return tuple(line for problem in error.problems for line in problem.splitlines())
    if isinstance(error, SystemExit | Interrupted | KeyboardInterrupt):
        text = getattr(error, "code", None)
        return (text,) if isinstance(text, str) else ()
    if isinstance(error, HydraException | OmegaConfBaseException):
        return (composition_problem(error),)
    if isinstance(error, OSError) and (_is_environment(error) or _is_impossible_place(error)):
        return (_line_of(error),)
    if _is_out_of_memory(error):
        return ("out of memory; try a smaller data.batch_size or a smaller network.",)
    return (" ".join(str(error).split()) if _is_misuse(error) else _bug(error),)


def _line_of(error: OSError) -> str:
    if error.errno in _PLACE:
        return f"{str(error.filename)!r} {_PLACE[error.errno]}; choose another place."
    where = "" if error.filename is None else f" at {str(error.filename)!r}"
    return f"{_ENVIRONMENT[error.errno or 0]}{where}{_advice(error)}."


def _is_impossible_place(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _PLACE


def _advice(error: OSError) -> str:
    """Return what helps against an error at a path."""
    noted = getattr(error, "__notes__", None)  # of a file that was to be replaced
    lacking = noted or shortage(Path(str(error.filename or ".")), error.errno)
    if lacking:
        return " ({}); {}".format(*lacking)
    return "; choose another place" + (" or make room" if error.errno in _ROOM else "")


def _is_environment(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _ENVIRONMENT


def _is_misuse(error: BaseException) -> bool:
    # Raised by Lightning, which is not imported here, for options that exclude each other.
    return type(error).__name__ == "MisconfigurationException"


def _is_out_of_memory(error: BaseException) -> bool:
    # torch is not imported for an error that it may not have raised.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _bug(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no further word"
    frames = tracebacks.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return (
        f"{type(error).__name__}: {text}{where}. This is a bug of the program; "
        "traceback=true shows where it comes from."
    )
