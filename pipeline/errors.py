"""Kinds of errors with their exit codes, and the nearest name for a mistyped one."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import ClassVar


class PipelineError(Exception):
    """One or more problems of one line each: what is wrong, where, and how to fix it.

    Args:
        problems: One line a problem, without the word "error".
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(PipelineError):
    """The command is wrong: a name, a value, a search space or a checkpoint."""

    exit_code = 2


class DataError(PipelineError):
    """The data are wrong: a missing column, an empty cell, a single class."""

    exit_code = 2


class ChangedDataError(DataError):
    """The data are no longer those that a study began with."""


class EnvironmentFaultError(PipelineError):
    """The environment is at fault: a server is down, the disk full, an accelerator missing."""

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


def did_you_mean(name: str, choices: Iterable[str], *, by_leaf: bool = False) -> str:
    """Return ` Did you mean 'lstm'?` for the choice nearest to `name`, or an empty string.

    Args:
        name: What is unknown.
        choices: What is known; of equally near ones the first is taken.
        by_leaf: Where a choice has the same parent as the name, such as `val/` or `trainer.`,
            compare only what follows the parent.
    """
    nearest, likeness = "", 0.6
    whole = SequenceMatcher(b=name)
    for choice in choices:
        if by_leaf and (parent := _shared_parent(choice, name)):
            matcher = SequenceMatcher(a=choice[len(parent) :], b=name[len(parent) :])
        else:
            matcher = whole
            matcher.set_seq1(choice)
        # The two quick ratios are upper bounds, which spare most choices the slow one.
        if matcher.real_quick_ratio() < likeness or matcher.quick_ratio() < likeness:
            continue
        ratio = matcher.ratio()
        if ratio > likeness or (ratio == likeness and not nearest):
            nearest, likeness = choice, ratio
    return f" Did you mean '{nearest}'?" if nearest else ""


def _shared_parent(choice: str, name: str) -> str:
    """Return the parent of a choice with its separator, if the name has the same; else nothing."""
    for separator in "./":
        parent = choice[: choice.rfind(separator) + 1]
        if len(parent) > 1 and name.startswith(parent):
            return parent
    return ""
