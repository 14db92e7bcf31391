"""What can go wrong, each kind with its exit code, and the nearest name for a mistyped one."""

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class PipelineError(Exception):
    """Problems that a person can read: one line each, saying what, where and how to mend it.

    Args:
        problems: One line a problem, without the word "error".
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(PipelineError):
    """The command can never work as it stands: a wrong name, value, space or checkpoint."""

    exit_code = 2


class DataError(PipelineError):
    """The data can never work as they stand: a missing column, a hole, one class only."""

    exit_code = 2


class ChangedDataError(DataError):
    """The data are no longer those that a study began with."""


class EnvironmentFaultError(PipelineError):
    """The same command may work later or elsewhere: a server down, a disk full, no accelerator."""

    exit_code = 3


class DivergedError(PipelineError):
    """The loss became NaN or infinite."""

    exit_code = 4


class RecordsDifferError(PipelineError):
    """What two stores say about the same runs differs."""

    exit_code = 5


class Interrupted(BaseException):
    """A signal asked for an orderly stop; no `except Exception` on the way may swallow it.

    Args:
        signal_number: SIGINT, SIGTERM or SIGHUP.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def some(words: Sequence[str], *, most: int) -> str:
    """Return the first few words as `a, b, …`, the mark only where there are more."""
    return ", ".join(words[:most]) + ", …" * (len(words) > most)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'lstm'?` for the choice nearest to `name`, or an empty string."""
    nearest = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
