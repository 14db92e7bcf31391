"""How a run or a trial of a study ends: a row for each way, with all that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pipeline.base.errors import DivergedError, Interrupted, OutOfMemoryFaultError, PipelineError

#: Status of an ended run in MLflow.
Status = Literal["FINISHED", "FAILED", "KILLED"]


class End(StrEnum):
    """A way to end; its value is the reason on record.

    Attributes:
        word: The end in tables and lines.
        status: Status of the run in MLflow.
        trial_state: State of the trial in Optuna.
        is_retried: Whether the trial did not cause it, so that its point is tried again.
        exit_code: Exit code of a command whose run ends like this; another fault has its own.
    """

    word: str
    status: Status
    trial_state: Literal["COMPLETE", "PRUNED", "FAIL"]
    is_retried: bool
    exit_code: int

    COMPLETE = "complete", "complete", "FINISHED", "COMPLETE", False, 0
    PRUNED = "pruned", "pruned", "FINISHED", "PRUNED", False, 0
    DIVERGED = "diverged", "diverged", "FAILED", "FAIL", False, DivergedError.exit_code
    OOM = "oom", "out of memory", "FAILED", "FAIL", False, OutOfMemoryFaultError.exit_code
    ERROR = "error", "failed", "FAILED", "FAIL", False, PipelineError.exit_code
    INTERRUPTED = "interrupted", "interrupted", "KILLED", "FAIL", True, 130
    LOST = "lost", "lost", "FAILED", "FAIL", True, 3

    def __new__(  # noqa: PLR0917 - the columns of a row
        cls,
        reason: str,
        word: str,
        status: Status,
        trial_state: Literal["COMPLETE", "PRUNED", "FAIL"],
        is_retried: bool,
        exit_code: int,
    ) -> "End":
        """Return the end with the columns of its row."""
        end = str.__new__(cls, reason)
        end._value_ = reason
        end.word = word
        end.status = status
        end.trial_state = trial_state
        end.is_retried = is_retried
        end.exit_code = exit_code
        return end

    @property
    def counts(self) -> bool:
        """Whether the trial counts towards the total of its study."""
        return not self.is_retried

    @property
    def is_failure(self) -> bool:
        """Whether the trial has failed."""
        return self.trial_state == "FAIL"

    @property
    def reason(self) -> str | None:
        """The tag `end_reason` of the run; `None` = it was not ended early."""
        return None if self is End.COMPLETE else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How a trial ended.

    Args:
        end: The way in which it ended.
        message: What went wrong, in one line; `None` = nothing to report.
        values: One value per objective; empty unless the trial completed.
        attributes: `seconds`, `epochs`, `threads`, and final values such as `test/f1`.
        exit_code: Exit code of the error that ended it; `None` = that of `end`.
        data: Hash of the data that the trial trained on; `None` if it failed.
    """

    end: End
    message: str | None = None
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    data: str | None = None

    @property
    def code(self) -> int:
        """Exit code of a single run that ends like this."""
        return self.end.exit_code if self.exit_code is None else self.exit_code


def end_on_record(status: str, reason: str | None) -> End | None:
    """Return the end with this status and `end_reason`; `None` = no version wrote both."""
    return next((end for end in End if (end.status, end.reason) == (status, reason)), None)


def end_of(error: BaseException) -> End:
    """Return how a run ends that raises this error, which `explain` has returned."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return End.INTERRUPTED
    if isinstance(error, OutOfMemoryFaultError):
        return End.OOM
    if isinstance(error, PipelineError) and error.exit_code == End.DIVERGED.exit_code:
        return End.DIVERGED
    return End.ERROR
