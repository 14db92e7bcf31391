"""What a training leaves on record once it is over: findings, diagnosis, tables, model, card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.running.artifacts import write_history
from pipeline.running.carding import leave_card
from pipeline.running.certainty import intervals_of, write_intervals
from pipeline.running.closer import with_importances
from pipeline.running.diagnosing import put_down
from pipeline.running.finding import Trained, findings_of, steps_of
from pipeline.running.leaving import leave_model
from pipeline.running.showing import shown
from pipeline.running.summary import print_doctor
from pipeline.terminal import shown_verbosity

if TYPE_CHECKING:
    from pipeline.bootstrap import Intervals
    from pipeline.callbacks.vitals import VitalSigns
    from pipeline.running.participant import Participant
    from pipeline.running.plan import Plan
    from pipeline.running.recording import Record
    from pipeline.running.results import Result
    from pipeline.running.testing import Tested


class Account:
    """Writes down what a training came to.

    Args:
        plan: The run.
        record: Where it is on record.
        participant: What has trained.
        vitals: What has watched its layers.
    """

    def __init__(
        self, plan: Plan, record: Record, participant: Participant, vitals: VitalSigns
    ) -> None:
        self._plan = plan
        self._record = record
        self._participant = participant
        self._vitals = vitals

    def of_finished(self, result: Result, test: Tested | None, *, seconds: float) -> Result:
        """Write down what a finished run has found out, its model among it.

        Args:
            result: What the run came to.
            test: What its test came to; `None` = there was none.
            seconds: Time of training.

        Returns:
            The result with what the doctor says.
        """
        plan, record, lean = self._plan, self._record, self._plan.occasion.lean
        network = self._participant.task.network
        found = None if test is None or lean else intervals_of(plan, test)
        findings = findings_of(plan, self._trained(result, test, found, seconds))
        if not lean:
            findings = with_importances(findings, plan, network)
        result = replace(result, doctor=put_down(findings, record, lean=lean))
        if lean:
            return result
        write_history(record.artifacts, result.history)
        if test is not None and found is not None:
            test.write(record.artifacts, plan)
            write_intervals(record.artifacts, found)
        with shown(plan, record, self._participant.task, findings, result.doctor):
            leave_model(plan, record, network, result.decision, result)
            leave_card(plan, record, result, test, found)
        return result

    def of_diverged(self, *, seconds: float) -> None:
        """Write down what a diverged run has found out; the doctor says why it has no numbers.

        Args:
            seconds: Time of training.
        """
        plan, record = self._plan, self._record
        findings = findings_of(plan, self._trained(None, None, None, seconds))
        lines = put_down(findings, record, lean=plan.occasion.lean)
        if plan.occasion.lean:
            return
        write_history(record.artifacts, record.journal.epochs())
        with shown(plan, record, None, findings, lines):
            if shown_verbosity(plan.options.verbose) > 0:
                print_doctor(lines)

    def _trained(
        self, result: Result | None, test: Tested | None, found: Intervals | None, seconds: float
    ) -> Trained:
        history = self._record.journal.epochs() if result is None else result.history
        return Trained(
            run_id=self._record.run_id,
            end="diverged" if result is None else "finished",
            task=None if result is None else self._participant.task,
            kept=self._participant.keeper.best_epoch,
            epochs=len(history) if result is None else result.epochs,
            steps=steps_of(self._participant.trainer),
            seconds=seconds,
            history=history,
            metrics={} if result is None else result.metrics,
            vitals=self._vitals.vitals(),
            test=test,
            intervals=found,
            threshold=0.5 if result is None else result.decision.threshold,
        )
