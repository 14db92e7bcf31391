"""Puts the ends of trials on record, so that both stores tell the same of each."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from pipeline.config.record import plain
from pipeline.errors import ChangedDataError
from pipeline.study.assignment import Assignment
from pipeline.study.ledger.ledger import Ledger, Lost
from pipeline.study.ledger.rows import Row
from pipeline.study.live import Live
from pipeline.study.mending import Mender, tell_journal
from pipeline.study.plan import StudyPlan
from pipeline.study.recording.scribe import Scribe
from pipeline.study.trial_end import TrialEnd, changed_data_line, has_begun

OOMS = 3
"""Trials out of memory, one after another, after which a person is told what to lower."""


class Closing:
    """Closes trials in the study and in MLflow, and remembers what the last failure was.

    Args:
        plan: The study, opened.
        ledger: What is on record of it.
        scribe: Brings the record into MLflow.
        mender: Finds the trials that are lost.
        live: Tells of it.
    """

    def __init__(
        self, plan: StudyPlan, ledger: Ledger, scribe: Scribe, *, mender: Mender, live: Live
    ) -> None:
        self.failure: TrialEnd | None = None
        self._plan = plan
        self._ledger = ledger
        self._scribe = scribe
        self._mender = mender
        self._live = live
        self._kept = plan.keepers(ledger.progress())
        self._ooms = 0

    def end(self, assignment: Assignment, ended: TrialEnd) -> TrialEnd:
        """Close a trial whose worker has told how it ended, or was ended for being too slow.

        Returns:
            How it ended, which is as its worker says unless it took too long or trained on other
            data than a trial of the same config beside it.
        """
        ended = self._on_its_data(assignment, ended)
        if assignment.overdue and ended.reason == "interrupted":
            ended = _too_slow(ended, self._plan.options.trial_timeout)
        if ended.state == "failed" and not tell_journal(assignment.folder, ended):
            ended = replace(ended, reason="lost")
        if self._ledger.finish(assignment.taken, ended):
            self._note(assignment, ended)
            self._record(assignment.number, ended)
        else:
            self._drop(assignment)
        return ended

    def _on_its_data(self, assignment: Assignment, ended: TrialEnd) -> TrialEnd:
        """Note the data of a config that is new to the study."""
        if ended.data is None or assignment.job.data is not None:
            return ended
        config = plain(assignment.job.config)
        noted = self._ledger.note_data(config, ended.data)
        if noted == ended.data:
            return ended
        return TrialEnd(
            state="failed",
            reason="interrupted",
            message=changed_data_line(config, noted, ended.data),
            exit_code=ChangedDataError.exit_code,
        )

    def settle_lost(self, died: Collection[int] = (), *, why: str = "its process is gone") -> None:
        """Give up the trials whose process is gone or silent, and tell of each.

        Args:
            died: Trials whose process was seen to die, maybe on another machine.
            why: What is known of it.
        """
        lost = self._mender.settle_lost(died)
        self.tell_lost(lost)
        is_known = bool(died) and self.failure is not None and self.failure.reason == "lost"
        if is_known or any(not one.adopted for one in lost):
            self.failure = TrialEnd(state="failed", reason="lost", message=why, exit_code=3)

    def tell_lost(self, lost: Iterable[Lost]) -> None:
        """Tell of trials that were given up."""
        for one in lost:
            self._live.warn(one.line)

    def _drop(self, assignment: Assignment) -> None:
        """Let MLflow have a trial as somebody else has put it on record."""
        row = self._ledger.trials()[assignment.number]
        if row.reason == "lost":
            self._live.warn(
                f"trial {row.number} was given up while its process stood still; its late result "
                "is dropped"
            )
        if has_begun(assignment.folder):
            tell_journal(assignment.folder, row)
            self._record(row.number, row)
        else:
            self._scribe.forget(assignment.folder)

    def _note(self, assignment: Assignment, ended: TrialEnd) -> None:
        self._live.ended(assignment, ended)
        if ended.state == "failed" and ended.reason != "interrupted":
            self.failure = ended
        self._ooms = self._ooms + 1 if ended.reason == "oom" else 0
        if self._ooms == OOMS:
            self._live.warn(f"{OOMS} trials in a row ran out of memory; lower data.batch_size")

    def _record(self, number: int, end: TrialEnd | Row) -> None:
        """Let MLflow have a trial; the files of all but the best go then."""
        keepers = self._plan.keepers(self._ledger.progress())
        self._mender.record(number, end, keepers=keepers)
        for other in self._kept - keepers - {number}:
            self._scribe.forget(self._plan.trial_folder(other))
        self._kept = keepers


def _too_slow(ended: TrialEnd, seconds: float | None) -> TrialEnd:
    message = f"took longer than sweep.trial_timeout={seconds:g}"
    return replace(ended, reason="error", message=message, exit_code=1)
