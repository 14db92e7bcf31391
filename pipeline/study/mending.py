"""What killed processes left of a study: lost trials, folders that MLflow lacks, missing runs."""

from collections.abc import Iterable

from pipeline.config.record import flatten, plain
from pipeline.study.books import record_missing, repair
from pipeline.study.ledger import Ledger
from pipeline.study.lost import Lost
from pipeline.study.plan import StudyPlan
from pipeline.study.rows import Row
from pipeline.study.scribe import Scribe, leftovers
from pipeline.tracking.journal import JOURNAL, Journal, Scalar
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

    def mend(self) -> list[str]:
        """Mend all that earlier processes left; return a line for each lost trial."""
        lines = self.settle_lost()
        rows = self._ledger.trials()
        kept = {self._plan.trial_folder(number) for number in self._keepers()}
        for folder in leftovers(self._plan.folder):
            if not (folder in kept and is_finished(folder)):
                self._scribe.end(folder, lost=True, forget=folder not in kept)
        if self._plan.uri is not None:
            repair(rows, self._plan.place, self._scribe, self._params)
        return lines

    def settle_lost(self) -> list[str]:
        """Give up the trials whose process is gone or silent, in both stores; a line for each."""
        lost = self._ledger.sweep_lost(self._plan.trial_folder)
        self._record(lost)
        return [one.line for one in lost]

    def _record(self, lost: Iterable[Lost]) -> None:
        keepers = self._keepers() if lost else set()
        for one in lost:
            folder = self._plan.trial_folder(one.number)
            if not (folder / JOURNAL).exists():  # killed before its run began
                row = self._ledger.trials()[one.number]
                record_missing([row], self._plan.place, self._scribe, self._params)
                continue
            if not one.adopted:
                Journal(folder).end("FAILED", "lost")  # whatever it had written of its own
            self._scribe.end(folder, lost=not one.adopted, forget=one.number not in keepers)

    def _keepers(self) -> set[int]:
        return self._plan.keepers(self._ledger.progress())

    def _params(self, row: Row) -> dict[str, Scalar]:
        plan = self._plan
        return flatten(plain(plan.trees.config(plan.with_tuned(row.overrides))))
