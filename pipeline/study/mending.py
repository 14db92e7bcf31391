"""What killed processes left of a study: folders that MLflow lacks, trials without a run."""

from pipeline.config.record import flatten, plain
from pipeline.study.books import repair
from pipeline.study.ledger import Ledger
from pipeline.study.plan import StudyPlan
from pipeline.study.rows import Row
from pipeline.study.scribe import Scribe, leftovers
from pipeline.tracking.journal import Scalar
from pipeline.tracking.state import is_finished


def mend(plan: StudyPlan, ledger: Ledger, scribe: Scribe) -> list[str]:
    """Close lost trials and complete the record in MLflow; return a line for each lost one.

    Args:
        plan: The study, opened.
        ledger: What is on record of it.
        scribe: Brings runs into MLflow.
    """
    lost = ledger.sweep_lost(plan.trial_folder)
    rows = ledger.trials()
    kept = {plan.trial_folder(number) for number in plan.keepers(ledger.progress())}
    for folder in leftovers(plan.folder):
        if not (folder in kept and is_finished(folder)):
            scribe.end(folder, lost=True, forget=folder not in kept)
    if plan.uri is not None:
        repair(rows, plan.place, scribe, lambda row: _params(plan, row))
    return [one.line for one in lost]


def _params(plan: StudyPlan, row: Row) -> dict[str, Scalar]:
    return flatten(plain(plan.trees.config(plan.with_tuned(row.overrides))))
