"""What killed processes left of a study: lost trials, folders that MLflow lacks, missing runs."""

from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from pipeline.config.record import flatten, plain
from pipeline.errors import EnvironmentFaultError
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.lost import Lost
from pipeline.study.ledger.rows import Row
from pipeline.study.plan import StudyPlan
from pipeline.study.recording.books import record_missing, repair
from pipeline.study.recording.scribe import Scribe, leftovers
from pipeline.study.trial_end import TrialEnd, end_in_journal, has_begun, run_end
from pipeline.tracking.journal import Journal, Scalar
from pipeline.tracking.state import is_finished


class Mender:
    """Brings the records of a study together again.

    Args:
        plan: The study, opened.
        ledger: What is on record of it in Optuna.
        scribe: Brings runs into MLflow.
    """

    def __init__(self, plan: StudyPlan, ledger: Ledger, scribe: Scribe) -> None:
        self._plan = plan
        self._ledger = ledger
        self._scribe = scribe

    def mend(self) -> list[Lost]:
        """Mend all that earlier processes left; return the trials that were lost with them."""
        lost = self.settle_lost()
        rows = self._ledger.trials()
        kept = {self._plan.trial_folder(number) for number in self._keepers()}
        for folder in leftovers(self._plan.folder):
            if has_begun(folder) and not (folder in kept and is_finished(folder)):
                self._scribe.end(folder, lost=True, forget=folder not in kept)
        if self._plan.uri is not None:
            repair(rows, self._plan.place, self._scribe, self._params)
        return lost

    def settle_lost(self, died: Collection[int] = ()) -> list[Lost]:
        """Give up the trials whose process is gone or silent, in both stores.

        Args:
            died: Trials whose process was seen to die, maybe on another machine.
        """
        lost = self._ledger.sweep_lost(self._plan.trial_folder, died)
        keepers = self._keepers() if lost else set()
        for one in lost:
            tell_journal(self._plan.trial_folder(one.number), one.end)
            self.record(one.number, one.end, keepers=keepers)
        return lost

    def record(self, number: int, end: TrialEnd | Row, *, keepers: Collection[int]) -> None:
        """Let MLflow have a trial that has ended, also one killed before its run began.

        Args:
            number: The trial's.
            end: How it ended, by the study.
            keepers: The trials whose folders stay.
        """
        folder = self._plan.trial_folder(number)
        if self._plan.uri is None or has_begun(folder):
            self._scribe.end(folder, lost=end.reason == "lost", forget=number not in keepers)
            return
        row = self._ledger.trials()[number]
        with suppress(EnvironmentFaultError):  # on a full disk, the next start does it
            record_missing([row], self._plan.place, self._scribe, self._params)

    def _keepers(self) -> set[int]:
        return self._plan.keepers(self._ledger.progress())

    def _params(self, row: Row) -> dict[str, Scalar]:
        plan = self._plan
        return flatten(plain(plan.trees.config(plan.with_tuned(row.overrides))))


def tell_journal(folder: Path, end: TrialEnd | Row) -> bool:
    """Let a trial's journal, where it has begun, end as the study says; tell whether it does."""
    known, wanted = end_in_journal(folder), run_end(end)
    if not has_begun(folder) or wanted is None:
        return True
    if known is not None and run_end(known) == wanted:
        return True
    try:
        with closing(Journal(folder)) as journal:
            journal.end(*wanted)
    except EnvironmentFaultError:
        return False
    return True
